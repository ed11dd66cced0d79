"""Word vectors (word2vec, GloVe, fastText) from their published files, read without pickle.

Read are the text format (``.txt``, ``.vec``; with or without word2vec's header line) and word2vec's binary format
(``.bin``), also gzipped.
"""

from __future__ import annotations

import gzip
import os
import zlib
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from wernicke.core.checks import check_file, check_option, check_range
from wernicke.core.errors import InputError
from wernicke.core.features import Features
from wernicke.features.windows import TextWindows
from wernicke.store.files import describe_start, sha256_file
from wernicke.store.fingerprint import code_fingerprint, fingerprint

_MAX_DIM = 4096
_MAX_WORDS = 20_000_000
_LINE = 2**20


@dataclass(frozen=True)
class WordVectors:
    """Vectors by word.

    Parameters
    ----------
    words : dict of str to int
        Row by word.
    values : array, shape (n_words, dim)
        float32, finite.
    name, fingerprint : str
        Of the file.
    """

    words: dict[str, int]
    values: np.ndarray
    name: str
    fingerprint: str

    @property
    def dim(self) -> int:
        return int(self.values.shape[1])


def read_word_vectors(path: str | os.PathLike[str], *, words: Collection[str] | None = None) -> WordVectors:
    """Read word vectors; of a file of millions of words only those asked for are kept.

    Parameters
    ----------
    path : path-like
        ``.txt`` or ``.vec`` (text), ``.bin`` (word2vec's binary), each also with ``.gz``.
    words : collection of str, optional
        Which to keep.

    Raises
    ------
    InputError
        E-FMT, E-HDR (a header that cannot be right), E-TRUNC, E-NONFIN, E-SHAPE (a line of another length), E-META (no
        word, or none that was asked for).
    """
    path = check_file(path)
    stem = path.name.removesuffix(".gz")
    if Path(stem).suffix not in (".txt", ".vec", ".bin"):
        raise InputError("E-FMT", f"found {path.name!r}, expected .txt, .vec or .bin, also with .gz", path=path)
    wanted = None if words is None else set(words)
    kept: dict[str, int] = {}
    rows: list[np.ndarray] = []
    try:
        with gzip.open(path, "rb") if path.suffix == ".gz" else open(path, "rb") as file:
            for word, row in _read_binary(file, path) if stem.endswith(".bin") else _read_text(file, path):
                if word not in kept and (wanted is None or word in wanted):  # as gensim: the first of two counts
                    kept[word] = len(rows)
                    rows.append(row)
    except (gzip.BadGzipFile, zlib.error):
        raise InputError("E-FMT", "not a gzip file, or a damaged one", path=path) from None
    except EOFError:
        raise InputError("E-TRUNC", "the gzip file ends too early", path=path) from None
    if not rows:
        raise InputError("E-META", "holds no word" if wanted is None else "holds none of the words", path=path)
    values = np.array(rows, np.float32)
    if not np.isfinite(values).all():
        bad = int(np.flatnonzero(~np.isfinite(values).all(1))[0])
        raise InputError("E-NONFIN", f"the vector of {list(kept)[bad]!r} is not finite", path=path)
    return WordVectors(kept, values, path.name, sha256_file(path))


def _read_text(file: Any, path: Path) -> Iterator[tuple[str, np.ndarray]]:
    dim = declared = None
    n_read, parted_by = 0, " "
    for number, line in enumerate(_lines(file, path)):
        counts = line.split()
        if number == 0 and len(counts) == 2 and all(c.isdigit() for c in counts):
            declared, dim = _check_header(int(counts[0]), int(counts[1]), path)
            continue
        if n_read == 0 and "\t" in line and " " not in line:
            parted_by = "\t"
        # GloVe's 840B file holds a few "words" with blanks inside: the last `dim` entries are the vector.
        parts = line.split(parted_by)
        dim = len(parts) - 1 if dim is None else dim
        if len(parts) <= dim or dim < 1:
            raise InputError("E-SHAPE", f"line {number + 1} has {len(parts) - 1} numbers, expected {dim}", path=path)
        try:
            row = np.array(parts[-dim:], np.float32)
        except ValueError:
            found = describe_start(line.encode()) if number == 0 else f"line {number + 1}: {line[:40]!r}"
            raise InputError("E-FMT", f"expected a word and numbers, found {found}", path=path) from None
        word = parted_by.join(parts[:-dim])
        if "\t" in word:
            raise InputError(
                "E-FMT", f"line {number + 1} is parted by tabs and by blanks, expected one of them", path=path
            )
        n_read += 1
        yield word, row
    if declared is not None and n_read < declared:
        raise InputError("E-TRUNC", f"holds {n_read} words, its first line declares {declared}", path=path)


def _lines(file: Any, path: Path) -> Iterator[str]:
    number = 0
    while line := file.readline(_LINE):
        number += 1
        if len(line) == _LINE and not line.endswith(b"\n"):
            raise InputError("E-SIZE", f"line {number} has more than {_LINE} bytes", path=path)
        try:
            text = line.decode("utf-8").rstrip("\r\n").rstrip(" ")
        except UnicodeDecodeError:
            raise InputError("E-FMT", f"line {number} is not UTF-8 text", path=path) from None
        if text:
            yield text


def _read_binary(file: Any, path: Path) -> Iterator[tuple[str, np.ndarray]]:
    parts = file.readline(100).split()
    if len(parts) != 2 or not all(p.isdigit() for p in parts):
        raise InputError("E-HDR", "expected a first line with the number of words and their length", path=path)
    n_words, dim = _check_header(int(parts[0]), int(parts[1]), path)
    for _ in range(n_words):
        letters = bytearray()
        while (byte := file.read(1)) != b" ":
            if not byte:
                raise InputError("E-TRUNC", f"ends before its {n_words} words", path=path)
            if byte != b"\n":
                letters += byte
            if len(letters) > 10_000:
                raise InputError("E-FMT", "a word of more than 10,000 bytes: not word2vec's binary format", path=path)
        content = file.read(4 * dim)
        if len(content) < 4 * dim:
            raise InputError("E-TRUNC", f"ends before its {n_words} words", path=path)
        yield letters.decode("utf-8", "replace"), np.frombuffer(content, "<f4")


def _check_header(n_words: int, dim: int, path: Path) -> tuple[int, int]:
    if not (0 < n_words <= _MAX_WORDS and 0 < dim <= _MAX_DIM):
        raise InputError("E-HDR", f"declares {n_words} words of {dim} numbers", path=path)
    return n_words, dim


def split_words(text: str) -> list[str]:
    """Return the words of a text as drama2brain does: lower case, between blanks, punctuation kept."""
    return text.lower().split()


def words_of(windows: TextWindows) -> set[str]:
    """Return all words that the vectors of `windows` could be asked for; see `word_features`."""
    tokens = {token for text in windows.unique for token in split_words(text)}
    return tokens | {part for token in tokens for part in _bare(token)}


def word_features(
    windows: TextWindows,
    vectors: WordVectors,
    *,
    pool: Literal["mean", "flat"] = "mean",
    n_words: int | None = None,
    mode: str = "corrected",
) -> Features:
    """Return the mean vector of each window's words, averaged over annotators.

    Parameters
    ----------
    windows : TextWindows
    vectors : WordVectors
        `words_of` says which words to read.
    pool : str
        ``"mean"`` over a text's known words, or ``"flat"``: side by side, with zeros behind.
    n_words : int, optional
        Width of ``"flat"`` in words; default: the longest text's. See `longest_words`.
    mode : str
        ``"faithful"``: lower-case words between blanks, so that ``"door,"`` is out of vocabulary, as in drama2brain.
        ``"corrected"``: a word that is not found is looked up without the punctuation around and the commas inside.

    Returns
    -------
    Features
        Band ``words``, float32 (n_samples, dim), or (n_samples, n_words * dim) for ``"flat"``. A text without a known
        word counts as none (drama2brain's code stops being defined there); a sample without any is zeros. The
        provenance counts words, unknown words, empty samples.

    Raises
    ------
    InputError
        E-META (no window holds a known word).
    """
    check_option(mode, ("corrected", "faithful"), "mode")
    check_option(pool, ("mean", "flat"), "pool")
    n_all = n_unknown = 0
    unknown: dict[str, int] = {}
    rows: dict[str, list[int]] = {}
    for text in windows.unique:
        found = _lookup(text, vectors, mode)
        n_all += len(found)
        for part, row in found:
            if row is None:
                n_unknown += 1
                unknown[part] = unknown.get(part, 0) + 1
            else:
                rows.setdefault(text, []).append(row)
    if not rows:
        raise InputError("E-META", f"none of {n_all} words has a vector", field="vectors",
                         hint=f"such as {', '.join(map(repr, list(unknown)[:5]))}")  # fmt: skip
    longest = max(map(len, rows.values()))
    width = longest if n_words is None else int(check_range(n_words, "n_words", low=longest))
    means = {text: _pooled(vectors.values[own], pool, width) for text, own in rows.items()}
    known = tuple(tuple(text if text in means else None for text in row) for row in windows.texts)
    spoken = TextWindows(windows.index, known, windows.annotators, windows.window_s)
    values = np.array([means[text] for text in spoken.unique])
    provenance: dict[str, Any] = {
        "kind": "word vectors",
        "model": vectors.name,
        "model_fingerprint": vectors.fingerprint,
        "texts_fingerprint": fingerprint(windows.unique),
        "pool": pool,
        "mode": mode,
        "window_s": windows.window_s,
        "annotators": list(windows.annotators),
        "n_words": n_all,
        "n_unknown_words": n_unknown,
        "unknown_words": sorted(unknown, key=lambda w: (-unknown[w], w))[:20],
        "n_empty": spoken.n_empty,
        "code": code_fingerprint("wernicke.features.words"),
    }
    return Features({"words": spoken.average(values)}, windows.index, provenance)


def longest_words(windows: TextWindows, vectors: WordVectors, *, mode: str = "corrected") -> int:
    """Return the number of known words in the longest text; 0 if there is none."""
    return max((sum(row is not None for _, row in _lookup(t, vectors, mode)) for t in windows.unique), default=0)


def _lookup(text: str, vectors: WordVectors, mode: str) -> list[tuple[str, int | None]]:
    """Return each word with its row of the vectors, None where it is unknown."""
    found: list[tuple[str, int | None]] = []
    for token in split_words(text):
        parts = [token] if token in vectors.words or mode == "faithful" else _bare(token) or [token]
        found += [(part, vectors.words.get(part)) for part in parts]
    return found


def _pooled(rows: np.ndarray, pool: str, width: int) -> np.ndarray:
    if pool == "mean":
        return rows.mean(0, dtype=np.float64).astype(np.float32)
    return np.pad(rows, ((0, width - len(rows)), (0, 0))).ravel()


def _bare(token: str) -> list[str]:
    """Split at commas (captions are joined by them) and drop punctuation around the parts."""
    return [bare for part in token.split(",") if (bare := part.strip(".,;:!?\"'()[]{}…“”‘’«»-"))]

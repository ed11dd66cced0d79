"""Timed texts of any origin: BIDS events, tables with onset and word, Praat TextGrids -> Events.

- ``.tsv`` and ``.csv`` with a header line: `onset` (or `onset_s`, `start`), `duration` (or `duration_s`; or `offset`,
  `end`, `stop`), and the text (`text`, `word`, `caption`, or a column that is named); optionally `run` and `annotator`.
  All in seconds; ``n/a`` and empty cells are missing.
- ``.TextGrid`` (long and short text format): the tier `words`, or one that is named; empty intervals say nothing.

In each of them, aligners' marks of silence (``sp``, ``sil``, ``<sil>``, ...) say nothing.
"""

from __future__ import annotations

import csv
import io
import os
import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from wernicke.core.errors import InputError
from wernicke.core.study import Events
from wernicke.data.tsv import MAX_BYTES, MISSING, numbers, read_tsv
from wernicke.store.files import read_bytes

ENDINGS = (".tsv", ".csv", ".textgrid")
_ONSET, _DURATION, _END = ("onset", "onset_s", "start"), ("duration", "duration_s"), ("offset", "end", "stop")
_TEXT = ("text", "word", "caption")
_SILENCE = (*MISSING, "sp", "sil", "{sl}", "{LG}", "<sil>")


def read_transcripts(path: str | os.PathLike[str], *, text: str | None = None) -> Events:
    """Read one file, or all files of a folder.

    Parameters
    ----------
    path : path-like
        A file, or a folder whose ``.tsv``, ``.csv`` and ``.TextGrid`` files are a run each.
    text : str, optional
        The column, or the tier, that holds the text.

    Returns
    -------
    Events
        `run` (the table's column, else the file's name without ``_events``), `onset_s`, `duration_s`, `text`, and
        `annotator` where the table has one.

    Raises
    ------
    InputError
        E-REF (no such file, no such files in the folder), E-FMT, E-META (a missing column or tier, times that are no
        numbers, an end before its onset, no text at all), E-SIZE, E-TRUNC.
    """
    path = Path(path)
    files = sorted(p for p in path.iterdir() if p.suffix.lower() in ENDINGS) if path.is_dir() else [path]
    if not files:
        raise InputError("E-REF", f"no {', '.join(ENDINGS)} file in this folder", path=path, field="events")
    tables = [_read(file, text) for file in files]
    table = pd.concat(tables, ignore_index=True)
    if not table["text"].notna().any():
        raise InputError("E-META", "no event says anything", path=path)
    return Events(table)


def _read(path: Path, text: str | None) -> pd.DataFrame:
    kind = path.suffix.lower()
    if kind not in ENDINGS:
        raise InputError("E-FMT", f"found {path.name!r}, expected .tsv, .csv or .TextGrid", path=path)
    if kind == ".textgrid":
        return _read_textgrid(path, text or "words")
    table = read_tsv(path) if kind == ".tsv" else _read_csv(path)
    onset_name = _column(table, _ONSET, path)
    onset = numbers(table, onset_name, path)
    if any(name in table.columns for name in _DURATION):
        duration = numbers(table, _column(table, _DURATION, path), path, missing=0.0)
    elif any(name in table.columns for name in _END):
        duration = numbers(table, _column(table, _END, path), path) - onset
    else:
        duration = np.zeros(len(table))
    if (duration < 0).any():
        raise InputError("E-META", f"line {int((duration < 0).argmax()) + 2} ends before its onset", path=path)
    said = _column(table, (text,) if text is not None else _TEXT, path)
    run = path.stem.removesuffix("_events")
    texts = table[said].mask(table[said].isin(_SILENCE), None)
    found = pd.DataFrame({"onset_s": onset, "duration_s": duration, "text": texts})
    found.insert(0, "run", table["run"].fillna(run) if "run" in table.columns else run)
    if "annotator" in table.columns:
        found["annotator"] = table["annotator"]
    return found


def _column(table: pd.DataFrame, names: Sequence[str], path: Path) -> str:
    for name in names:
        if name in table.columns:
            return name
    raise InputError("E-META", f"found columns {', '.join(table.columns)}, expected `{names[0]}`", path=path,
                     field=names[0])  # fmt: skip


def _read_csv(path: Path) -> pd.DataFrame:
    content = _text(path)
    rows = list(csv.reader(io.StringIO(content, newline="")))
    rows = [row for row in rows if row]
    if not rows:
        raise InputError("E-TRUNC", "file is empty", path=path)
    for number, row in enumerate(rows, start=1):
        if len(row) != len(rows[0]):
            raise InputError("E-FMT", f"row {number} has {len(row)} cells, the header has {len(rows[0])}", path=path)
    header = [name.strip() for name in rows[0]]
    if len(set(header)) < len(header):
        raise InputError("E-META", "a column occurs twice", path=path)
    cells = [[None if cell.strip() in MISSING else cell.strip() for cell in row] for row in rows[1:]]
    return pd.DataFrame({name: pd.Series([row[i] for row in cells], dtype=object) for i, name in enumerate(header)})


def _text(path: Path) -> str:
    content = read_bytes(path)
    if len(content) > MAX_BYTES:
        raise InputError("E-SIZE", f"file has {len(content):,} bytes, at most {MAX_BYTES:,} are read", path=path)
    encoding = "utf-16" if content[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig"  # Praat writes either
    try:
        return content.decode(encoding)
    except UnicodeDecodeError as error:
        raise InputError("E-FMT", f"not text in UTF-8 (byte {error.start})", path=path) from None


def _read_textgrid(path: Path, tier: str) -> pd.DataFrame:
    """Read one interval tier. Both formats hold the same values in the same order; the long one names them besides."""
    content = _text(path)
    if "ooTextFile" not in content[:200] or "TextGrid" not in content[:400]:
        raise InputError("E-FMT", "not a TextGrid in text format", path=path)
    # A number or flag stands at a line's end, after `name =` in the long format; `intervals [3]:` holds neither.
    tokens = re.findall(r'"(?:[^"]|"")*"|(?m:(?<![\[\w.])-?\d[\d.eE+-]*(?=\s*$))', content)
    values = [t[1:-1].replace('""', '"') if t.startswith('"') else float(t) for t in tokens]
    names, at = [], 0
    while at < len(values):
        if values[at] not in ("IntervalTier", "TextTier"):
            at += 1
            continue
        try:
            kind, name, n = values[at], str(values[at + 1]), int(values[at + 4])
            width = 3 if kind == "IntervalTier" else 2
            rows = values[at + 5 : at + 5 + width * n]
            if len(rows) != width * n or n < 0:
                raise ValueError
            names.append(name)
            if kind == "IntervalTier" and name.strip().lower() == tier.lower():
                table = [(float(rows[i]), float(rows[i + 1]), str(rows[i + 2]).strip()) for i in range(0, 3 * n, 3)]
                break
        except (ValueError, IndexError, TypeError):
            raise InputError("E-TRUNC", f"tier {len(names) + 1} is not whole", path=path) from None
        at += 5 + width * n
    else:
        raise InputError("E-META", f"found tiers {', '.join(map(repr, names)) or 'none'}, expected {tier!r}", path=path,
                         field="text")  # fmt: skip
    spoken = [(start, end, text) for start, end, text in table if text not in _SILENCE]
    if any(end < start for start, end, _ in spoken):
        raise InputError("E-META", "an interval ends before it begins", path=path)
    found = pd.DataFrame(spoken, columns=["onset_s", "end_s", "text"])
    return pd.DataFrame({"run": path.stem, "onset_s": found["onset_s"], "duration_s": found["end_s"] - found["onset_s"],
                         "text": found["text"].astype(object)})  # fmt: skip

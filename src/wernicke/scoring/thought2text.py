"""Text metrics as Thought2Text's published table has them (arXiv 2410.07507, evaluation notebook of the authors).

BLEU is NLTK's sentence BLEU with smoothing method 4, averaged; ROUGE is that of the PyPI package ``rouge`` 1.0.1, which
works on *sets* of n-grams and words. Both are case-sensitive on whitespace tokens. The generated text is cleaned and
cut to its first sentence, the reference is taken as it stands: published references keep a trailing space, which makes
an empty word of its own. Scores of this preset compare with that table only.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np

_UNWANTED = re.compile(r"[^a-zA-Z0-9.,!?;:'\"()\[\]{}\-\s]")
_SENTENCE_END = re.compile(r"(?<=[.!?]) +")


def clean(text: str) -> str:
    """First sentence of a generated text without unusual characters; "No response." where nothing is left."""
    first = _SENTENCE_END.split(_UNWANTED.sub("", text))[0]
    first = re.sub(r"\s+", " ", first).strip()
    if not first:
        return "No response."
    return first if len(first) > 1 else "No response"


def sentence_bleu(texts: Sequence[str], references: Sequence[Sequence[str]]) -> dict[str, np.ndarray]:
    """BLEU-1 to -4 of each item, NLTK method 4; shapes (n_items,)."""
    from nltk.translate.bleu_score import SmoothingFunction, corpus_bleu

    weights = [tuple(1 / n if k < n else 0.0 for k in range(4)) for n in (1, 2, 3, 4)]
    smooth = SmoothingFunction().method4
    rows = []
    for text, several in zip(texts, references, strict=True):
        scores = corpus_bleu([[r.split() for r in several]], [clean(text).split()], weights, smoothing_function=smooth)
        rows.append([float(score) for score in scores])
    columns = np.array(rows, dtype=np.float64).reshape(-1, 4)
    return {f"bleu{n}": columns[:, n - 1] for n in (1, 2, 3, 4)}


def set_rouge(texts: Sequence[str], references: Sequence[Sequence[str]]) -> dict[str, np.ndarray]:
    """ROUGE-1, -2 and -L F1 of each item on sets of n-grams, the largest over references; shapes (n_items,)."""
    cleaned = [_sentences(clean(text)) for text in texts]
    best = np.array(
        [np.max([_rouge(text, _sentences(r)) for r in several], axis=0)
         for text, several in zip(cleaned, references, strict=True)]
    ).reshape(-1, 3)  # fmt: skip
    return {"rouge1": best[:, 0], "rouge2": best[:, 1], "rougeL": best[:, 2]}


def _sentences(text: str) -> list[list[str]]:
    # A piece of blanks only counts as one empty word, as in the package.
    return [" ".join(piece.split()).split(" ") for piece in text.split(".") if piece]


def _rouge(text: list[list[str]], reference: list[list[str]]) -> tuple[float, float, float]:
    if not text or not reference:
        return 0.0, 0.0, 0.0
    hypothesis, wanted = sum(text, []), sum(reference, [])
    by_order = []
    for n in (1, 2):
        ours, theirs = _gram_set(hypothesis, n), _gram_set(wanted, n)
        by_order.append(_f1(len(ours & theirs), len(ours), len(theirs)))
    common: set[str] = set()
    for one in reference:
        for other in text:
            common |= _common_words(one, other)
    return by_order[0], by_order[1], _f1(len(common), len(set(hypothesis)), len(set(wanted)))


def _gram_set(words: Sequence[str], n: int) -> set[tuple[str, ...]]:
    return {tuple(words[i : i + n]) for i in range(len(words) - n + 1)}


def _f1(shared: int, n_text: int, n_reference: int) -> float:
    precision = shared / n_text if n_text else 0.0
    recall = shared / n_reference if n_reference else 0.0
    return 2 * precision * recall / (precision + recall + 1e-8)


def _common_words(x: Sequence[str], y: Sequence[str]) -> set[str]:
    """The words of one longest common subsequence; of several, the one found by giving up words of `y` first."""
    table = [[0] * (len(y) + 1)]
    for a in x:
        above, row = table[-1], [0]
        for j, b in enumerate(y):
            row.append(above[j] + 1 if a == b else max(above[j + 1], row[j]))
        table.append(row)
    words: set[str] = set()
    i, j = len(x), len(y)
    while i and j:
        if x[i - 1] == y[j - 1]:
            words.add(x[i - 1])
            i, j = i - 1, j - 1
        elif table[i - 1][j] > table[i][j - 1]:
            i -= 1
        else:
            j -= 1
    return words

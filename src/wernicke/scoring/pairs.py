"""Scores of any text with any item's references, fast enough to re-pair a whole file a thousand times.

ROUGE-1 (rouge-score's) and CIDEr (pycocoevalcap's) are sums over shared n-grams of clipped counts. A clipped count is a
product of two 0/1 vectors when the k-th occurrence of an n-gram is a feature of its own, so that all pairs are one
sparse matrix product.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy import sparse

from wernicke.core.errors import InputError
from wernicke.scoring.tokens import coco_tokens

MAX_PAIRS = 50_000_000
ORDERS = (1, 2, 3, 4)
SIGMA = 6.0  # of CIDEr's penalty of length differences
_WORD = re.compile(r"[a-z0-9]+")

Gram = tuple[str, ...]


def rouge_tokens(text: str) -> list[str]:
    """Words as rouge-score cuts them, without stemming."""
    return _WORD.findall(text.lower())


@dataclass(frozen=True)
class PairScores:
    """Score of every distinct text with every distinct set of references.

    Parameters
    ----------
    matrix : array, shape (n_distinct_texts, n_distinct_sets)
    rows, columns : dict
        Row of a text, column of a set of references.
    text : array of int, shape (n_items,)
        Row of each item's text.
    reference : array of int, shape (n_items,)
        Column of each item's references.
    """

    matrix: np.ndarray
    rows: Mapping[str, int]
    columns: Mapping[tuple[str, ...], int]
    text: np.ndarray
    reference: np.ndarray

    @property
    def own(self) -> np.ndarray:
        """Score of each item's text with its own references, shape (n_items,)."""
        return self.matrix[self.text, self.reference]


def rouge1_pairs(texts: Sequence[str], references: Sequence[tuple[str, ...]], extra: Sequence[str] = ()) -> PairScores:
    """ROUGE-1 F1 of all pairs, the largest over an item's references; equal to rouge-score's without stemming.

    Parameters
    ----------
    texts : sequence of str, length n_items
    references : sequence of tuples of str, length n_items
    extra : sequence of str
        Further texts (baselines) that get a row.

    Raises
    ------
    InputError
        E-SIZE above `MAX_PAIRS` pairs.
    """
    rows, columns, flat, starts = _distinct(texts, references, extra)
    lists = [rouge_tokens(text) for text in (*rows, *flat)]
    features, _, _ = _encode(lists, 1)
    lengths = np.array([len(tokens) for tokens in lists], dtype=np.float64)
    n = len(rows)
    wanted = features[n:].T.tocsc()
    matrix = np.empty((n, len(columns)))
    for part in _parts(n, len(flat)):
        shared = (features[:n][part] @ wanted).toarray()
        total = lengths[:n][part][:, None] + lengths[n:][None, :]
        matrix[part] = np.maximum.reduceat(_ratio(2 * shared, total), starts, axis=1)
    return _pair_scores(matrix, rows, columns, texts, references)


def cider_pairs(texts: Sequence[str], references: Sequence[tuple[str, ...]], extra: Sequence[str] = ()) -> PairScores:
    """CIDEr of all pairs on `coco_tokens`; parameters and errors as `rouge1_pairs`."""
    rows, columns, flat, starts = _distinct(texts, references, extra)
    lists = [coco_tokens(text) for text in (*rows, *flat)]
    n = len(rows)
    frequency, log_items = document_frequency([[coco_tokens(t) for t in texts_] for texts_ in references])
    encoded = [_encode(lists, order, frequency, log_items) for order in ORDERS]
    wanted = [weights[n:].T.tocsc() for _, weights, _ in encoded]
    lengths = _n_bigrams(lists)
    counts = np.diff([*starts, len(flat)])
    matrix = np.empty((n, len(columns)))
    for part in _parts(n, len(flat)):
        total = np.zeros((part.stop - part.start, len(flat)))
        for (features, _, norms), weights in zip(encoded, wanted, strict=True):
            total += _ratio((features[:n][part] @ weights).toarray(), np.outer(norms[:n][part], norms[n:]))
        total *= _length_factor(lengths[:n][part][:, None] - lengths[n:][None, :]) * 10 / len(ORDERS)
        matrix[part] = np.add.reduceat(total, starts, axis=1) / counts
    return _pair_scores(matrix, rows, columns, texts, references)


def cider(tokens: Sequence[Sequence[str]], references: Sequence[Sequence[Sequence[str]]]) -> np.ndarray:
    """CIDEr of each item, as pycocoevalcap's `Cider` gives it: 1- to 4-grams, clipped, length penalty, times 10.

    Parameters
    ----------
    tokens : sequence over items of token lists
    references : sequence over items of lists of token lists
        Document frequencies are counted over these items, so that a score depends on the file that it is computed
        on; where all items have the same references it is 0.

    Returns
    -------
    array, shape (n_items,)
    """
    n = len(tokens)
    flat = [reference for lists in references for reference in lists]
    counts = np.array([len(lists) for lists in references])
    left, right = np.repeat(np.arange(n), counts), n + np.arange(len(flat))
    lists = [*tokens, *flat]
    frequency, log_items = document_frequency(references)
    total = np.zeros(len(flat))
    for order in ORDERS:
        features, weights, norms = _encode(lists, order, frequency, log_items)
        dot = np.asarray(features[left].multiply(weights[right]).sum(axis=1)).ravel()
        total += _ratio(dot, norms[left] * norms[right])
    lengths = _n_bigrams(lists)
    total *= _length_factor(lengths[left] - lengths[right]) * 10 / len(ORDERS)
    return np.add.reduceat(total, np.concatenate([[0], np.cumsum(counts)[:-1]])) / counts


def document_frequency(references: Sequence[Sequence[Sequence[str]]]) -> tuple[Counter[Gram], float]:
    """In how many items' references each n-gram occurs, and the logarithm of the number of items."""
    frequency: Counter[Gram] = Counter()
    for lists in references:
        frequency.update({gram for tokens in lists for order in ORDERS for gram in _grams(tokens, order)})
    return frequency, math.log(len(references))


def _encode(
    lists: Sequence[Sequence[str]], order: int, frequency: Mapping[Gram, int] | None = None, log_items: float = 1.0
) -> tuple[sparse.csr_matrix, sparse.csr_matrix, np.ndarray]:
    """Rows of 0/1 features (n-gram, k: it occurs more than k times), the same times count x idf², and tf-idf norms."""
    known: dict[tuple[Gram, int], int] = {}
    indices: list[int] = []
    weights: list[float] = []
    ends = [0]
    for tokens in lists:
        for gram, count in _grams(tokens, order).items():
            idf = log_items - math.log(max(1, frequency.get(gram, 0))) if frequency is not None else 1.0
            indices += [known.setdefault((gram, k), len(known)) for k in range(count)]
            weights += [count * idf**2] * count
        ends.append(len(indices))
    shape, columns = (len(lists), len(known)), np.array(indices, dtype=np.int64)
    features = sparse.csr_matrix((np.ones(len(indices)), columns, np.array(ends)), shape=shape)
    weighted = sparse.csr_matrix((np.array(weights, dtype=np.float64), columns, np.array(ends)), shape=shape)
    return features, weighted, np.sqrt(np.asarray(weighted.sum(axis=1)).ravel())


def _grams(tokens: Sequence[str], order: int) -> Counter[Gram]:
    return Counter(zip(*(tokens[start:] for start in range(order)), strict=False))


def _n_bigrams(lists: Sequence[Sequence[str]]) -> np.ndarray:
    # What pycocoevalcap takes for the length.
    return np.array([max(0, len(tokens) - 1) for tokens in lists], dtype=np.float64)


def _length_factor(difference: np.ndarray) -> np.ndarray:
    return np.exp(-(difference**2) / (2 * SIGMA**2))


def _ratio(above: np.ndarray, below: np.ndarray) -> np.ndarray:
    return np.divide(above, below, out=np.zeros_like(above), where=below > 0)


def _distinct(
    texts: Sequence[str], references: Sequence[tuple[str, ...]], extra: Sequence[str]
) -> tuple[dict[str, int], dict[tuple[str, ...], int], list[str], np.ndarray]:
    rows = {text: i for i, text in enumerate(dict.fromkeys((*texts, *extra)))}
    columns = {texts_: i for i, texts_ in enumerate(dict.fromkeys(references))}
    flat = [text for texts_ in columns for text in texts_]
    if len(rows) * max(len(columns), 1) > MAX_PAIRS:
        raise InputError("E-SIZE", f"{len(rows)} texts x {len(columns)} references, at most {MAX_PAIRS} pairs",
                         field="re-pairing")  # fmt: skip
    starts = np.concatenate([[0], np.cumsum([len(texts_) for texts_ in columns])[:-1]]).astype(np.int64)
    return rows, columns, flat, starts


def _pair_scores(
    matrix: np.ndarray,
    rows: Mapping[str, int],
    columns: Mapping[tuple[str, ...], int],
    texts: Sequence[str],
    references: Sequence[tuple[str, ...]],
) -> PairScores:
    text = np.array([rows[t] for t in texts], dtype=np.int64)
    return PairScores(matrix, rows, columns, text, np.array([columns[r] for r in references], dtype=np.int64))


def _parts(n: int, width: int) -> list[slice]:
    step = max(1, 4_000_000 // max(1, width))
    return [slice(start, min(n, start + step)) for start in range(0, n, step)]

"""What a decoder without a brain, or with the class alone, would score on the same references.

All baselines are made of the file itself, since the training set is not in it. A reference is never scored on an item
that it belongs to, and the best constant sentence is chosen on other items than those that it is scored on.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from wernicke.scoring.pairs import PairScores

FOLDS = 5


@dataclass(frozen=True)
class Baseline:
    """One baseline.

    Parameters
    ----------
    name : str
    items : array, shape (n_items,)
        Score of the baseline's text for each item; an expectation where it draws at random.
    brain_free : bool
        False where it knows the predicted class.
    example : str
        A text that it writes.
    """

    name: str
    items: np.ndarray
    brain_free: bool
    example: str

    @property
    def mean(self) -> float:
        """Mean over items."""
        return float(self.items.mean())


def template(label: str) -> str:
    """The sentence of the class template."""
    return f"A photo of a {label}."


def baseline_texts(references: Sequence[tuple[str, ...]], predicted: Sequence[str] | None) -> list[str]:
    """Texts whose scores the baselines need besides those of the captions themselves."""
    first = list(dict.fromkeys(several[0] for several in references))
    return first + [template(label) for label in dict.fromkeys(predicted or ())]


def baselines(
    pairs: PairScores,
    references: Sequence[tuple[str, ...]],
    labels: Sequence[str] | None = None,
    predicted: Sequence[str] | None = None,
) -> list[Baseline]:
    """Score the baselines.

    Parameters
    ----------
    pairs : PairScores
        Made with ``extra=baseline_texts(references, predicted)``.
    references : sequence of tuples of str, length n_items
    labels, predicted : sequence of str, optional
        True and predicted class of each item.

    Returns
    -------
    list of Baseline
        ``constant reference`` (the reference closest to all others, the medoid), ``constant text`` (the decoder's
        own text that fits best throughout), ``random reference``, and with classes ``class template`` and ``random
        reference of the predicted class``.
    """
    sets = list(pairs.columns)
    frequency = np.bincount(pairs.reference, minlength=len(sets)).astype(np.float64)
    candidate = np.array([pairs.rows[several[0]] for several in sets])  # row of each set's first reference
    among = pairs.matrix[candidate]  # (set the text is of, set it is scored on)
    # A first reference can also stand in another set: it is no candidate there either.
    firsts: dict[str, list[int]] = {}
    for row, several in enumerate(sets):
        firsts.setdefault(several[0], []).append(row)
    own = np.zeros((len(sets), len(sets)), dtype=bool)
    for at, several in enumerate(sets):
        own[[row for text in several for row in firsts.get(text, ())], at] = True
    used = np.unique(pairs.text)
    written, texts = pairs.matrix[used], [list(pairs.rows)[row] for row in used]
    found = [
        _best_constant("constant reference", among, own, frequency, pairs, [s[0] for s in sets]),
        _best_constant("constant text", written, np.zeros(written.shape, dtype=bool), frequency, pairs, texts),
        Baseline("random reference", _mean_of_others(among, own, frequency)[pairs.reference], True, ""),
    ]
    if predicted is not None:
        rows = np.array([pairs.rows[template(label)] for label in predicted])
        made = Baseline("class template", pairs.matrix[rows, pairs.reference], False, template(predicted[0]))
        found.append(made)
    if predicted is not None and labels is not None:
        items = _of_predicted_class(pairs, among, own, labels, predicted)
        found.append(Baseline("random reference of the predicted class", items, False, ""))
    return found


def _best_constant(
    name: str, scores: np.ndarray, barred: np.ndarray, frequency: np.ndarray, pairs: PairScores, texts: list[str]
) -> Baseline:
    """Score, on each fold of the reference sets, the candidate that is best on the other folds.

    `scores` and `barred` have shape (n_candidates, n_sets); a barred candidate gives way to the next best.
    """
    n_sets = scores.shape[1]
    fold = np.arange(n_sets) % min(FOLDS, n_sets)
    by_set = np.empty(n_sets)
    for k in np.unique(fold):
        ranked = _ranked(scores, barred, frequency, fold != k)
        for column in np.flatnonzero(fold == k):
            pick = next((row for row in ranked if not barred[row, column]), None)
            by_set[column] = 0.0 if pick is None else scores[pick, column]
    example = texts[int(_ranked(scores, barred, frequency, np.ones(n_sets, dtype=bool))[0])]
    return Baseline(name, by_set[pairs.reference], True, example)


def _ranked(scores: np.ndarray, barred: np.ndarray, frequency: np.ndarray, used: np.ndarray) -> np.ndarray:
    """Candidates by falling mean score over the items of the sets in `used`."""
    weight = np.where(barred, 0.0, np.where(used, frequency, 0.0))
    total = weight.sum(axis=1)
    mean = np.divide((weight * scores).sum(axis=1), total, out=np.full(len(scores), -1.0), where=total > 0)
    return np.argsort(-mean, kind="stable")


def _mean_of_others(among: np.ndarray, own: np.ndarray, frequency: np.ndarray) -> np.ndarray:
    """Expected score, on each set, of the first reference of a random item that does not have that reference."""
    weight = np.where(own, 0.0, frequency[:, None])
    total = weight.sum(axis=0)
    return np.divide((weight * among).sum(axis=0), total, out=np.zeros(len(total)), where=total > 0)


def _of_predicted_class(
    pairs: PairScores, among: np.ndarray, own: np.ndarray, labels: Sequence[str], predicted: Sequence[str]
) -> np.ndarray:
    """Expected score of another reference of the class that was predicted; any class where it does not occur."""
    by_class = {
        label: np.bincount(pairs.reference[[i for i, one in enumerate(labels) if one == label]], minlength=len(among))
        for label in dict.fromkeys(labels)
    }
    anything = np.bincount(pairs.reference, minlength=len(among))
    expected = {
        label: _mean_of_others(among, own, by_class.get(label, anything).astype(np.float64))
        for label in dict.fromkeys(predicted)
    }
    return np.array([expected[label][column] for label, column in zip(predicted, pairs.reference, strict=True)])

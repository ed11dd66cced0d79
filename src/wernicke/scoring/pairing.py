"""Controls that a file of captions suffices for: re-pairing texts with other items' references, and presentation order.

A score that stays when each text is given another item's reference says nothing about the item. Re-pairing within the
predicted class, and within the true and predicted class, asks what is left beyond the class.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from wernicke.core.errors import InputError
from wernicke.core.seeds import derive_rng
from wernicke.scoring.pairs import PairScores

_TIE = 1e-12


@dataclass(frozen=True)
class Repairing:
    """Outcome of a re-pairing test.

    Parameters
    ----------
    score : float
        Mean score of the texts with their own references.
    null : array, shape (n_permutations,)
        Mean scores re-paired.
    p : float
        (b + 1) / (m + 1), b of m re-pairings reaching the score.
    gains : array, shape (n_items,)
        Each item's score less its expectation over all pairings within its stratum.
    n_strata, n_movable : int
        Number of strata; items whose stratum holds other references than their own.
    """

    score: float
    null: np.ndarray
    p: float
    gains: np.ndarray
    n_strata: int
    n_movable: int


def repair(
    pairs: PairScores, strata: Sequence[object], *, n_permutations: int = 999, seed: int = 0, name: str = "subject"
) -> Repairing:
    """Re-pair texts and references within strata.

    Parameters
    ----------
    pairs : PairScores
    strata : sequence, length n_items
        Only items of one stratum exchange references (subject; subject and predicted class; ...).
    n_permutations : int
    seed : int
    name : str
        Names the stream of random numbers.

    Returns
    -------
    Repairing
        `p` is one-sided: how often a re-pairing scores as high as the own pairing.
    """
    if len(strata) != len(pairs.text):
        raise InputError("E-SHAPE", f"{len(strata)} strata for {len(pairs.text)} items", field="strata")
    groups = members(strata)
    rng = derive_rng(seed, "repair", name)
    own = pairs.own
    order = np.tile(np.arange(len(own)), (n_permutations, 1))
    gains = np.zeros(len(own))
    movable = 0
    for group in groups:
        block = pairs.matrix[np.ix_(pairs.text[group], pairs.reference[group])]
        gains[group] = own[group] - block.mean(axis=1)
        if len(set(pairs.reference[group].tolist())) > 1:
            movable += len(group)
            order[:, group] = rng.permuted(np.tile(group, (n_permutations, 1)), axis=1)
    null = np.array([pairs.matrix[pairs.text, pairs.reference[row]].mean() for row in order])
    score = float(own.mean())
    p = (1 + int((null >= score - _TIE).sum())) / (n_permutations + 1)
    return Repairing(score, null, p, gains, len(groups), movable)


def members(labels: Sequence[object]) -> list[np.ndarray]:
    """Indices of the items of each label, labels in order of appearance."""
    found: dict[object, list[int]] = {}
    for i, label in enumerate(labels):
        found.setdefault(label, []).append(i)
    return [np.array(group) for group in found.values()]


@dataclass(frozen=True)
class OrderCheck:
    """How well time alone tells the class.

    Parameters
    ----------
    accuracy : float
        Share of items whose class is the majority among the `n_neighbours` nearest in presentation order.
    null : array, shape (n_permutations,)
        The same with classes permuted within subject.
    p : float
    n_neighbours : int
    """

    accuracy: float
    null: np.ndarray
    p: float
    n_neighbours: int


def time_only(
    order: np.ndarray,
    labels: Sequence[str],
    subjects: Sequence[object],
    *,
    n_neighbours: int = 3,
    n_permutations: int = 999,
    seed: int = 0,
) -> OrderCheck:
    """Tell each item's class from the classes of its neighbours in time: the baseline of block designs (V6).

    Parameters
    ----------
    order : array, shape (n_items,)
        Presentation order (rank or time) within each subject.
    labels, subjects : sequence, length n_items
    n_neighbours : int
        The item itself is left out; a tie goes to the nearest.

    Notes
    -----
    Li et al. 2020 (TPAMI), "The perils and pitfalls of block design for EEG classification experiments".
    """
    codes = {label: i for i, label in enumerate(dict.fromkeys(labels))}
    classes = np.array([codes[label] for label in labels])
    groups = members(subjects)
    neighbours = np.full((len(classes), n_neighbours), -1)
    for group in groups:
        distance = np.abs(order[group][:, None] - order[group][None, :]).astype(np.float64)
        np.fill_diagonal(distance, np.inf)
        nearest = np.argsort(distance, axis=1, kind="stable")[:, : min(n_neighbours, len(group) - 1)]
        neighbours[group, : nearest.shape[1]] = group[nearest]
    rng = derive_rng(seed, "time_only")
    accuracy = _agreement(classes, neighbours, len(codes))
    null = np.empty(n_permutations)
    for i in range(n_permutations):
        shuffled = classes.copy()
        for group in groups:
            shuffled[group] = rng.permutation(classes[group])
        null[i] = _agreement(shuffled, neighbours, len(codes))
    p = (1 + int((null >= accuracy - _TIE).sum())) / (n_permutations + 1)
    return OrderCheck(accuracy, null, p, n_neighbours)


def _agreement(classes: np.ndarray, neighbours: np.ndarray, n_classes: int) -> float:
    votes = np.zeros((len(classes), n_classes))
    rows = np.arange(len(classes))
    for rank in range(neighbours.shape[1]):
        there = neighbours[:, rank] >= 0
        # Nearer neighbours weigh a little more, which decides ties and nothing else.
        votes[rows[there], classes[neighbours[there, rank]]] += 1 + 1e-3 * (neighbours.shape[1] - rank)
    return float(((votes.argmax(axis=1) == classes) & (votes.max(axis=1) > 0)).mean())

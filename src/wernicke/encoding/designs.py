"""What a language model is compared with in a category design, and how its sentences are altered for controls.

Every function is pure; those that draw take a generator. `labels` has one entry a volume, `baseline` where nothing was
shown; `table` has one row a condition, in the order of `names`.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence

import numpy as np

from wernicke.core.errors import InputError


def on_off(labels: np.ndarray, baseline: Hashable = "rest") -> np.ndarray:
    """One regressor, shape (n_samples, 1): something was shown."""
    return (labels != baseline).astype(np.float64)[:, None]


def one_hot(labels: np.ndarray, names: Sequence[Hashable]) -> np.ndarray:
    """One regressor a condition, shape (n_samples, n_conditions)."""
    return np.stack([labels == name for name in names], axis=1).astype(np.float64)


def place(table: np.ndarray, labels: np.ndarray, names: Sequence[Hashable]) -> np.ndarray:
    """Put each condition's row, table shape (n_conditions, n_features), at its volumes; zeros at baseline."""
    return one_hot(labels, names) @ table


def saturated(labels: np.ndarray, runs: np.ndarray, names: Sequence[Hashable], *, window_tr: int) -> np.ndarray:
    """One regressor for each condition and each TR after a block's onset: what any model of blocks can reach at most.

    Returns
    -------
    array, shape (n_samples, n_conditions * window_tr)
        No regressor crosses a run's border.
    """
    out = np.zeros((len(labels), len(names), window_tr))
    for run in dict.fromkeys(runs.tolist()):
        rows = np.flatnonzero(runs == run)
        for j, name in enumerate(names):
            shown = labels[rows] == name
            onsets = np.flatnonzero(shown & ~np.concatenate([[False], shown[:-1]]))
            for onset in onsets:
                lags = np.arange(min(window_tr, len(rows) - int(onset)))
                out[rows[onset + lags], j, lags] = 1.0
    return out.reshape(len(labels), -1)


def wrong_conditions(table: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Give every condition another one's row: a derangement, so that no row stays, the same in all runs."""
    n = len(table)
    if n < 2:
        raise InputError("E-META", f"found {n} condition, expected at least 2", field="table")
    while True:
        order = rng.permutation(n)
        if (order != np.arange(n)).all():
            return table[order]


def random_vectors(table: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Draw random vectors around the rows' common mean with the rows' total variance: no meaning, same scale."""
    mean = table.mean(axis=0)
    noise = rng.standard_normal(table.shape)
    noise -= noise.mean(axis=0)
    return mean + noise * np.sqrt(((table - mean) ** 2).sum() / (noise**2).sum())


def shuffle_within_runs(
    labels: np.ndarray, runs: np.ndarray, names: Sequence[Hashable], rng: np.random.Generator
) -> np.ndarray:
    """Exchange the conditions' labels within each run, anew in each: timing stays, category information goes."""
    out = labels.copy()
    for run in dict.fromkeys(runs.tolist()):
        rows = runs == run
        for old, new in zip(names, rng.permutation(np.asarray(names, dtype=object)), strict=True):
            out[rows & (labels == old)] = new
    return out

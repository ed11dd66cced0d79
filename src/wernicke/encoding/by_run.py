"""Correlations run by run, their mean over runs, and responses scaled so that a pooled sum is that mean."""

from __future__ import annotations

import numpy as np

from wernicke.encoding.contrasts import correlation_by_run
from wernicke.stats.correlation import rounding, unit_columns


def varies_by_run(responses: np.ndarray, runs: np.ndarray) -> np.ndarray:
    """Return whether each voxel varies within each run, shape (n_runs, n_voxels), runs in order of appearance.

    Constant is what changes by no more than the rounding of its own values, as in `columnwise_correlation`.
    """
    parts = (responses[runs == run] for run in dict.fromkeys(runs.tolist()))
    return np.stack([np.ptp(part, axis=0) > rounding(part) for part in parts])


def scores_by_run(predictions: np.ndarray, responses: np.ndarray, runs: np.ndarray) -> np.ndarray:
    """Pearson r of each held-out run, shape (n_runs, n_voxels), runs in order of appearance.

    NaN where the voxel is constant in the run; 0 where it varies and its prediction does not: a model that predicts
    no change explains none.
    """
    by_run = correlation_by_run(predictions, responses, runs)
    return np.where(np.isnan(by_run) & varies_by_run(responses, runs), 0.0, by_run)


def mean_over_runs(by_run: np.ndarray, runs: np.ndarray, *, run_weights: np.ndarray | None = None) -> np.ndarray:
    """Mean of `scores_by_run`, weighted by run length, over the runs in which the voxel varies; NaN where in none.

    Parameters
    ----------
    by_run : array, shape (n_runs, n_voxels)
    runs : array, shape (n_samples,)
    run_weights : array, shape (n_draws, n_runs), optional
        How often each run counts, for bootstraps over runs.

    Returns
    -------
    array, shape (n_voxels,), or (n_draws, n_voxels) with weights
    """
    names = runs.tolist()
    lengths = np.array([names.count(run) for run in dict.fromkeys(names)], dtype=np.float64)
    weights = lengths[None] if run_weights is None else run_weights * lengths
    with np.errstate(invalid="ignore"):
        mean = (weights @ np.nan_to_num(by_run)) / (weights @ np.isfinite(by_run))
    return mean[0] if run_weights is None else mean


def zscore_by_run(values: np.ndarray, runs: np.ndarray) -> np.ndarray:
    """Z-score each column within each run, zero where it is constant there; dtype as given.

    With n (not n - 1) in the denominator the sum over samples of two such series is each run's r times its length.
    """
    out = np.empty_like(values)
    for run in dict.fromkeys(runs.tolist()):
        rows = runs == run
        out[rows] = np.nan_to_num(unit_columns(values[rows])) * np.sqrt(rows.sum())
    return out

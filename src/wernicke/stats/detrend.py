"""Slow drifts and scale, removed within each run."""

from __future__ import annotations

from typing import Literal

import numpy as np

from wernicke.core.checks import check_labels, check_matrix, check_option, check_range
from wernicke.core.errors import InputError


def detrend_runs(
    values: np.ndarray,
    runs: np.ndarray,
    *,
    order: int = 2,
    standardise: Literal["zscore", "centre"] = "zscore",
) -> np.ndarray:
    """Subtract a polynomial drift from each run and voxel, then scale.

    Each run is treated by itself, so that nothing passes from a training run to a held-out one.

    Parameters
    ----------
    values : array, shape (n_samples, n_voxels)
    runs : array, shape (n_samples,)
    order : int
        Degree of the Legendre polynomials; 0 removes the mean only.
    standardise : {"zscore", "centre"}
        "zscore" divides by the run's standard deviation (n - 1 in the denominator). A voxel that is constant within a
        run stays zero there.

    Returns
    -------
    array, shape (n_samples, n_voxels), float64 or float32 as given

    Raises
    ------
    InputError
        E-SHAPE when a run is not longer than the polynomial needs.
    """
    values = check_matrix(values, "responses")
    runs = check_labels(runs, "runs", len(values))
    check_option(standardise, ("zscore", "centre"), "standardise")
    check_range(order, "detrend_order", low=0, high=10)
    out = np.empty_like(values)
    for run in dict.fromkeys(runs.tolist()):
        rows = runs == run
        n = int(rows.sum())
        if n < order + 2:
            raise InputError(
                "E-SHAPE", f"run {run!r} has {n} samples, too few for a drift of order {order}", field="runs"
            )
        basis = np.polynomial.legendre.legvander(np.linspace(-1, 1, n), order)
        part = values[rows].astype(np.float64)
        drift = basis @ np.linalg.lstsq(basis, part, rcond=None)[0]
        residual = part - drift
        if standardise == "zscore":
            sd = residual.std(axis=0, ddof=1)
            # A constant voxel leaves rounding noise, which must not be blown up to unit variance.
            flat = sd <= 1e-10 * np.abs(part).max(axis=0)
            residual = np.where(flat, 0.0, residual / np.where(flat, 1.0, sd))
        out[rows] = residual
    return out

"""Scores over their noise ceiling, with the uncertainty of both."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import stats

from wernicke.core.checks import check_range
from wernicke.core.errors import InputError
from wernicke.stats.ceiling import correlation_ceiling


@dataclass(frozen=True)
class NormalisedScore:
    """One value a voxel, shape (n_voxels,); NaN where it is masked.

    Attributes
    ----------
    value : array
        r over its ceiling; above 1 by chance or where the ceiling is estimated too low.
    se : array
        Delta method, of both r and ceiling.
    low, high : array
        Fieller's interval of the ratio; NaN also where it has no end, because the ceiling itself cannot be told from
        0 at this level.
    ceiling, ceiling_se : array
        Not masked; NaN where the reliability is not above 0.
    minimum_ceiling : float
    n_without_ceiling, n_below : int
        Voxels without a ceiling, and voxels whose ceiling is below the minimum; both are masked.
    level : float
    """

    value: np.ndarray
    se: np.ndarray
    low: np.ndarray
    high: np.ndarray
    ceiling: np.ndarray
    ceiling_se: np.ndarray
    minimum_ceiling: float
    n_without_ceiling: int
    n_below: int
    level: float

    def __str__(self) -> str:
        n, kept = len(self.value), np.isfinite(self.value)
        median = f"median {np.median(self.value[kept]):.3f}" if kept.any() else "no voxel left"
        return (f"r over ceiling: {median} over {int(kept.sum())} of {n} voxels; masked: {self.n_without_ceiling} "
                f"without a ceiling, {self.n_below} with one below {self.minimum_ceiling:g}")  # fmt: skip


def normalise_score(
    r: Any,
    reliability: Any,
    reliability_se: Any,
    *,
    minimum_ceiling: float,
    r_se: Any | None = None,
    n_averaged: float = 1,
    level: float = 0.95,
) -> NormalisedScore:
    """Divide correlations by the highest that a perfect prediction could reach.

    r / sqrt(reliability of what was predicted), the normalised correlation of Hsu et al. 2004 and Schoppe et al. 2016
    (doi:10.3389/fncom.2016.00010). Errors of r and ceiling are taken as independent; where both come from the same
    responses they go together, and intervals are somewhat too wide.

    Parameters
    ----------
    r : array-like, shape (n_voxels,)
    reliability, reliability_se : array-like, shape (n_voxels,)
        Of a single repeat, with its standard error: `explainable_variance` with `sample_jackknife_se` or
        `repeat_jackknife_se`; or `Reliability.single_run` with `single_run_se`.
    minimum_ceiling : float
        Voxels whose ceiling is lower are masked, in units of r: stated by the caller, because dividing by a small
        ceiling makes any score look good. Masked voxels are counted; say so wherever the values are shown.
    r_se : array-like, shape (n_voxels,), optional
        Standard error of r, such as a block bootstrap's. None: only the ceiling's uncertainty.
    n_averaged : float
        How many repeats the predicted responses were averaged over.
    level : float

    Returns
    -------
    NormalisedScore

    Raises
    ------
    InputError
        E-SHAPE, E-CFG.
    """
    r = np.asarray(r, dtype=np.float64)
    others = {"reliability": reliability, "reliability_se": reliability_se, "r_se": 0.0 if r_se is None else r_se}
    arrays = {name: np.asarray(values, dtype=np.float64) for name, values in others.items()}
    for name, array in arrays.items():
        if r.ndim != 1 or array.shape not in (r.shape, ()):
            raise InputError("E-SHAPE", f"found shape {array.shape}, expected {r.shape} as r, 1-D", field=name)
    check_range(minimum_ceiling, "minimum_ceiling", low=0, high=1)
    check_range(level, "level", low=0.5, high=0.9999)
    single = np.broadcast_to(arrays["reliability"], r.shape)
    ceiling = correlation_ceiling(single, n_averaged)
    # Derivative of the ceiling, sqrt(n s / (1 + (n - 1) s)), by the single repeat's reliability s.
    slope = n_averaged / (1 + (n_averaged - 1) * single) ** 2 / (2 * ceiling)
    ceiling_se = np.broadcast_to(arrays["reliability_se"], r.shape) * slope
    below = ceiling < minimum_ceiling
    shown = np.where(below, np.nan, ceiling)
    value, r_error = r / shown, np.broadcast_to(arrays["r_se"], r.shape)
    se = np.sqrt((r_error / shown) ** 2 + (value * ceiling_se / shown) ** 2)
    low, high = _fieller(r, r_error, shown, ceiling_se, float(stats.norm.ppf((1 + level) / 2)))
    return NormalisedScore(
        value, se, low, high, ceiling, ceiling_se, float(minimum_ceiling), int(np.isnan(ceiling).sum()),
        int(below.sum()), level,
    )  # fmt: skip


def _fieller(
    above: np.ndarray, above_se: np.ndarray, below: np.ndarray, below_se: np.ndarray, z: float
) -> tuple[np.ndarray, np.ndarray]:
    """Ends of the values t with |above - t below| <= z se; NaN where they are not an interval (Fieller 1954)."""
    square = below**2 - (z * below_se) ** 2
    half = above * below
    constant = above**2 - (z * above_se) ** 2
    bounded = square > 0
    root = np.sqrt(np.maximum(half**2 - square * constant, 0.0))
    scale = np.where(bounded, square, np.nan)
    return (half - root) / scale, (half + root) / scale

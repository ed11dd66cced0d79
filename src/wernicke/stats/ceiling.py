"""Noise ceilings: how well a perfect prediction could do, from repeats of the same stimuli or conditions.

Reliability is a share of variance. The correlation of a perfect prediction with the responses is at most its square
root (`correlation_ceiling`). Where an estimate is not above 0 there is no ceiling: NaN, never infinity.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from wernicke.core.checks import check_finite, check_labels, check_matrix, check_range
from wernicke.core.errors import InputError
from wernicke.core.seeds import derive_rng
from wernicke.stats.correlation import column_batches, rounding, unit_columns


def explainable_variance(repeats: Any, bias_correction: bool = True) -> np.ndarray:
    """Share of one repeat's variance that all repeats have in common.

    Each repeat is z-scored over samples; the variance of the mean over repeats is divided by the mean variance of
    the repeats. The correction takes off what noise alone gives, ``ev - (1 - ev) / (n_repeats - 1)``, as the
    voxelwise modelling tutorials define it (Dupré la Tour et al. 2025; Sahani and Linden 2002; Hsu et al. 2004).

    Parameters
    ----------
    repeats : array-like, shape (n_repeats, n_samples, n_voxels)
    bias_correction : bool

    Returns
    -------
    numpy.ndarray, shape (n_voxels,)
        May be slightly below 0 where there is no signal; NaN where a repeat is constant.

    Raises
    ------
    InputError
        E-META for fewer than 2 repeats; E-SHAPE, E-FMT, E-NONFIN.
    """
    repeats = _check_repeats(repeats, "repeats")
    n_repeats, n_samples, n_voxels = repeats.shape
    ev = np.empty(n_voxels)
    for columns in column_batches(n_repeats * n_samples, n_voxels):
        mean = np.mean([unit_columns(repeat[:, columns]) for repeat in repeats], axis=0)
        ev[columns] = np.einsum("nv,nv->v", mean, mean)
    return ev - (1.0 - ev) / (n_repeats - 1) if bias_correction else ev


@dataclass(frozen=True)
class Reliability:
    """Split-half reliability; arrays of shape (n_voxels,).

    Attributes
    ----------
    half : numpy.ndarray
        Correlation between the means of two halves of the runs, averaged over splits; may be below 0.
    all_runs, single_run : numpy.ndarray
        Spearman-Brown prophecy from `half` for the mean over all runs and for one run; NaN where `half` is not above 0.
    single_run_se : numpy.ndarray
        Standard error of `single_run`: jackknife over runs; NaN with fewer than 4 runs.
    n_runs, n_splits : int
    """

    half: np.ndarray
    all_runs: np.ndarray
    single_run: np.ndarray
    single_run_se: np.ndarray
    n_runs: int
    n_splits: int


def split_half_reliability(responses: Any, n_splits: int = 100, seed: int = 0) -> Reliability:
    """Correlate condition responses between random halves of the runs, and step up or down by Spearman-Brown.

    Halves have n_runs // 2 runs each (with an odd number one run stays out, another in every split). All splits are
    used where there are no more than `n_splits`. The correlation is over conditions, so what all conditions of a run
    share has no part in it. With few conditions the step down to one run is too high, measured on simulations with 12
    runs and a true single-run reliability of .20: .23 with 8 conditions, .203 with 60. `explainable_variance` gives
    .19 and .20 there and is the better source of a single-run ceiling.

    Parameters
    ----------
    responses : array-like, shape (n_runs, n_conditions, n_voxels)
        Mean response to each condition in each run.
    n_splits : int
    seed : int

    Raises
    ------
    InputError
        E-META for fewer than 2 runs; E-SIZE for fewer than 3 conditions; E-SHAPE, E-FMT, E-NONFIN.
    """
    responses = _check_repeats(responses, "responses")
    check_range(n_splits, "n_splits", low=1)
    n_runs = responses.shape[0]
    if responses.shape[1] < 3:
        raise InputError("E-SIZE", f"found {responses.shape[1]} conditions, expected at least 3", field="responses",
                         hint="a correlation over two conditions is always 1 or -1")  # fmt: skip
    splits = _halves(n_runs, n_splits, seed)
    half = _half_correlation(responses, splits)
    size = n_runs // 2
    jackknife = np.full(responses.shape[2], np.nan)
    if n_runs >= 4:
        inner = _halves(n_runs - 1, n_splits, seed)
        left_out = [_half_correlation(np.delete(responses, i, axis=0), inner) for i in range(n_runs)]
        single = np.stack([spearman_brown(r, 1.0 / ((n_runs - 1) // 2)) for r in left_out])
        jackknife = _jackknife(single)
    return Reliability(
        half, spearman_brown(half, n_runs / size), spearman_brown(half, 1.0 / size), jackknife, n_runs, len(splits)
    )


def spearman_brown(reliability: Any, factor: float) -> np.ndarray:
    """Reliability of a measurement `factor` times as long; NaN where `reliability` is not above 0."""
    reliability = np.asarray(reliability, dtype=np.float64)
    positive = np.where(reliability > 0, reliability, np.nan)
    return factor * positive / (1.0 + (factor - 1.0) * positive)


def correlation_ceiling(single: Any, n_averaged: float = 1) -> np.ndarray:
    """Highest correlation between a perfect prediction and responses averaged over `n_averaged` repeats.

    Parameters
    ----------
    single : array-like, shape (n_voxels,)
        Reliability of a single repeat: `Reliability.single_run`, or `explainable_variance` with its correction.
    n_averaged : float
        1 where single-run responses are predicted.

    Returns
    -------
    numpy.ndarray, shape (n_voxels,)
        NaN where the reliability is not above 0.
    """
    check_range(n_averaged, "n_averaged", low=0.0, low_open=True)
    return np.sqrt(np.minimum(spearman_brown(single, n_averaged), 1.0))


def repeat_jackknife_se(repeats: Any, estimator: Callable[[np.ndarray], np.ndarray] = explainable_variance) -> Any:
    """Standard error of `estimator` over repeats, leaving out one at a time; at least 3 repeats.

    Parameters
    ----------
    repeats : array-like, shape (n_repeats, n_samples, n_voxels)
    estimator : callable
        Takes such an array with one repeat fewer, returns (n_voxels,).
    """
    repeats = _check_repeats(repeats, "repeats")
    if repeats.shape[0] < 3:
        raise InputError("E-META", "found 2 repeats, expected at least 3 for a standard error", field="repeats")
    return _jackknife(np.stack([estimator(np.delete(repeats, i, axis=0)) for i in range(repeats.shape[0])]))


def sample_jackknife_se(
    repeats: Any, estimator: Callable[[np.ndarray], np.ndarray] = explainable_variance, *, n_blocks: int = 20
) -> np.ndarray:
    """Standard error of `estimator` over samples, leaving out one of `n_blocks` stretches at a time.

    For two or three repeats, where leaving repeats out says little. Stretches should be longer than the series
    remember (three autocorrelation times).

    Parameters
    ----------
    repeats : array-like, shape (n_repeats, n_samples, n_voxels)
    estimator : callable
        Takes such an array with fewer samples, returns (n_voxels,).
    n_blocks : int
    """
    repeats = _check_repeats(repeats, "repeats")
    check_range(n_blocks, "n_blocks", low=5, high=repeats.shape[1] // 2)
    parts = np.array_split(np.arange(repeats.shape[1]), n_blocks)
    return _jackknife(np.stack([estimator(np.delete(repeats, part, axis=1)) for part in parts]))


def noise_ceiling_snr(betas: Any, stimuli: Sequence[Any] | np.ndarray) -> np.ndarray:
    """Signal standard deviation over noise standard deviation, as the Natural Scenes Dataset defines `ncsnr`.

    Noise variance is the variance over repeats of a stimulus, pooled over stimuli by their degrees of freedom, so
    that stimuli may differ in the number of repeats and those shown once still count towards the total. Signal
    variance is the total less the noise; NSD (Allen et al. 2022) takes the total to be 1 because betas are z-scored
    by session, here it comes from the data, with the number of repeats accounted for (one-way random-effects
    analysis of variance).

    Parameters
    ----------
    betas : array-like, shape (n_trials, n_voxels)
        Single-trial responses, z-scored by session beforehand.
    stimuli : sequence, shape (n_trials,)
        Stimulus of each trial.

    Returns
    -------
    numpy.ndarray, shape (n_voxels,)
        0 where the signal variance is not above 0 (as NSD does); NaN where the voxel is constant.

    Raises
    ------
    InputError
        E-META where no stimulus is repeated; E-SHAPE, E-FMT, E-NONFIN.
    """
    betas = check_matrix(betas, "betas")
    labels = check_labels(stimuli, "stimuli", betas.shape[0])
    _, group, counts = np.unique(labels, return_inverse=True, return_counts=True)
    n_trials, n_stimuli = len(labels), len(counts)
    if n_trials == n_stimuli or n_stimuli < 2:
        raise InputError("E-META", f"found {n_trials} trials of {n_stimuli} stimuli, expected at least 2 stimuli and "
                         "2 repeats of one", field="stimuli",
                         hint="a noise ceiling needs repeats of the same stimulus")  # fmt: skip
    order = np.argsort(group, kind="stable")
    starts = np.concatenate([[0], np.cumsum(counts)[:-1]])
    spread = (n_trials - (counts.astype(float) ** 2).sum() / n_trials) / (n_trials - 1)
    ratio = np.empty(betas.shape[1])
    for columns in column_batches(*betas.shape):
        values = betas[:, columns].astype(np.float64)
        values -= values.mean(axis=0)
        total = np.einsum("nv,nv->v", values, values) / (n_trials - 1)
        means = np.add.reduceat(values[order], starts, axis=0) / counts[:, None]
        values -= means[group]
        noise = np.einsum("nv,nv->v", values, values) / (n_trials - n_stimuli)
        signal = np.maximum((total - noise) / spread, 0.0)
        constant = np.ptp(betas[:, columns], axis=0) <= rounding(betas[:, columns])
        with np.errstate(divide="ignore", invalid="ignore"):
            ratio[columns] = np.where(constant, np.nan, np.sqrt(signal / noise))
    return ratio


def snr_ceiling(snr: Any, n_repeats: Any) -> np.ndarray:
    """Share of variance that a perfect prediction explains: ``snr^2 / (snr^2 + 1 / n)`` (NSD's noise ceiling / 100).

    Parameters
    ----------
    snr : array-like, shape (n_voxels,)
        From `noise_ceiling_snr`, or NSD's ``ncsnr`` files.
    n_repeats : int or array-like, shape (n_stimuli,)
        How many repeats each scored stimulus was averaged over; where this differs, 1 / n is averaged over stimuli.

    Returns
    -------
    numpy.ndarray, shape (n_voxels,)
        NaN where `snr` is 0 or below. The square root is the ceiling of a correlation.
    """
    counts = np.atleast_1d(np.asarray(n_repeats, dtype=np.float64))
    check_range(float(counts.min()), "n_repeats", low=1)
    snr = np.asarray(snr, dtype=np.float64)
    square = np.where(snr > 0, snr, np.nan) ** 2
    return square / (square + (1.0 / counts).mean())


def _check_repeats(values: Any, field: str) -> np.ndarray:
    """Finite floating array (n_repeats, n_samples, n_voxels) with at least 2 repeats."""
    array = np.asarray(values)
    if array.dtype.kind not in "fiub":
        raise InputError("E-FMT", f"found dtype {array.dtype}, expected real numbers", field=field)
    if array.ndim != 3 or 0 in array.shape:
        raise InputError(
            "E-SHAPE", f"found shape {array.shape}, expected (n_repeats, n_samples, n_voxels)", field=field
        )
    if array.shape[0] < 2:
        raise InputError("E-META", "found 1 repeat, expected at least 2", field=field,
                         hint="without repeats of the same stimuli there is no noise ceiling")  # fmt: skip
    if array.dtype.kind != "f":
        array = array.astype(np.float64)
    elif array.dtype.itemsize < 4:
        array = array.astype(np.float32)
    return check_finite(array, field)


def _halves(n_runs: int, n_splits: int, seed: int) -> list[tuple[tuple[int, ...], tuple[int, ...]]]:
    """Pairs of disjoint halves of the runs: all of them where they are few, else `n_splits` at random."""
    size = n_runs // 2
    n_all = math.comb(n_runs, size) * math.comb(n_runs - size, size) // 2
    if n_all <= n_splits:
        pairs = []
        for first in itertools.combinations(range(n_runs), size):
            rest = [i for i in range(n_runs) if i not in first]
            pairs += [(first, second) for second in itertools.combinations(rest, size) if first < second]
        return pairs
    rng = derive_rng(seed, "split_half", n_runs)
    orders = [tuple(rng.permutation(n_runs).tolist()) for _ in range(n_splits)]
    return [(order[:size], order[size : 2 * size]) for order in orders]


def _half_correlation(responses: np.ndarray, splits: list[tuple[tuple[int, ...], tuple[int, ...]]]) -> np.ndarray:
    """Correlation over conditions between two halves, averaged over splits, shape (n_voxels,)."""
    n_runs, n_conditions, n_voxels = responses.shape
    r = np.zeros(n_voxels)
    for columns in column_batches(n_runs * n_conditions, n_voxels):
        batch = responses[:, :, columns].astype(np.float64)
        for first, second in splits:
            a, b = (unit_columns(batch[list(half)].mean(axis=0)) for half in (first, second))
            r[columns] += np.einsum("cv,cv->v", a, b)
    return r / len(splits)


def _jackknife(left_out: np.ndarray) -> np.ndarray:
    """Jackknife standard error from estimates with one repeat left out, shape (n_repeats, n_voxels)."""
    n = len(left_out)
    return np.sqrt((n - 1) / n * ((left_out - left_out.mean(axis=0)) ** 2).sum(axis=0))

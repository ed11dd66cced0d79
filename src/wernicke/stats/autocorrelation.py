"""How long a time series remembers, and how long the blocks of a permutation test must therefore be."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

import numpy as np
from scipy import stats

from wernicke.core.checks import check_matrix
from wernicke.core.errors import InputError
from wernicke.stats.correlation import check_pair, rounding
from wernicke.stats.segments import centre_by_run, run_segments, segment_lengths

log = logging.getLogger(__name__)

TIMES_PER_BLOCK = 3.0
"""A block is at least this many integrated autocorrelation times long."""
MINIMUM_BLOCKS = 10
"""Fewer blocks than this cannot give a usable null distribution."""
FEWEST_CAPPED = 20
"""Where blocks cannot be as long as they should, they are so long that this many fit."""
MAXIMUM_BLOCKS = 128
"""More blocks bring no precision; longer ones are safer, and keep the Gram matrices of the test small."""
VOXEL_QUANTILE = 0.95
"""One length serves all voxels: this quantile of their autocorrelation times, less the quantile of its noise."""

_MAXIMUM_ORDER = 20
_MAXIMUM_COLUMNS = 2000


def integrated_autocorrelation_time(values: Any, runs: Sequence[Any] | np.ndarray | None = None) -> np.ndarray:
    """Integrated autocorrelation time of each column, in samples: ``1 + 2 * sum(rho_k, k >= 1)``.

    An AR(1) series with coefficient phi has (1 + phi) / (1 - phi); white noise has 1. The estimate is the spectrum at
    frequency zero over the variance of an autoregressive model, ``sigma^2 / (gamma_0 * (1 - sum(phi))^2)``
    (Thompson 2010, arXiv:1011.0175), fitted by Burg's method to all runs together (each about its own mean; no lag
    crosses a border), order by Akaike's criterion up to 20 or a quarter of the shortest run. On AR(1) .95 with
    1,452 samples its standard deviation is 6.7 samples where a windowed sum of autocorrelations (Sokal, window of
    5 times) has 15.

    Runs that are short against the time itself (fewer than about 10 times) give values that are too low, because
    each run's mean is taken off: 26 instead of 39 for AR(1) .95 in runs of 121.

    Parameters
    ----------
    values : array-like, shape (n_samples, n_columns)
    runs : sequence, shape (n_samples,), optional
        Run label of each sample; runs are contiguous.

    Returns
    -------
    numpy.ndarray, shape (n_columns,)
        NaN where the column is constant within every run.

    Raises
    ------
    InputError
        E-SHAPE, E-FMT, E-NONFIN or E-META (runs not contiguous).
    """
    values = check_matrix(values, "values")
    segments = run_segments(runs, values.shape[0])
    times = np.empty(values.shape[1])
    for start in range(0, values.shape[1], 256):
        columns = slice(start, start + 256)
        centred = centre_by_run(values[:, columns].astype(np.float64), segments)
        times[columns] = _burg_time([centred[s] for s in segments], rounding(values[:, columns]))
    return times


def _burg_time(series: list[np.ndarray], resolution: np.ndarray) -> np.ndarray:
    """Zero-frequency spectrum over variance of the best autoregressive model of each column.

    `series` holds one centred array (n_samples of the run, n_columns) a run. Burg's recursion minimises forward
    and backward errors summed over runs, which are shortened at each run's start, never joined.
    """
    n_samples = sum(len(s) for s in series)
    maximum_order = max(0, min(_MAXIMUM_ORDER, min(len(s) for s in series) // 4))
    variance = sum((np.einsum("nv,nv->v", s, s) for s in series), np.zeros(series[0].shape[1])) / n_samples
    constant = variance <= resolution**2
    variance = np.where(constant, 1.0, variance)
    error = variance.copy()
    phi = np.zeros((maximum_order + 1, variance.size))
    phi[0] = 1.0
    best = n_samples * np.log(error)
    time = np.ones_like(error)
    forward, backward = series, series
    for order in range(1, maximum_order + 1):
        forward, backward = [f[1:] for f in forward], [b[:-1] for b in backward]
        cross, power = np.zeros_like(error), np.full_like(error, np.finfo(float).tiny)
        for f, b in zip(forward, backward, strict=True):
            cross += np.einsum("nv,nv->v", f, b)
            power += np.einsum("nv,nv->v", f, f) + np.einsum("nv,nv->v", b, b)
        # A perfectly predictable series has reflection 1 and no error left; kept just inside, it counts as very slow.
        reflection = np.clip(2.0 * cross / power, -1 + 1e-9, 1 - 1e-9)
        phi[1 : order + 1] -= reflection * phi[:order][::-1]
        forward, backward = (
            [f - reflection * b for f, b in zip(forward, backward, strict=True)],
            [b - reflection * f for f, b in zip(forward, backward, strict=True)],
        )
        error = error * (1.0 - reflection**2)
        criterion = n_samples * np.log(error) + 2 * order
        better = criterion < best
        best = np.where(better, criterion, best)
        gain = np.maximum(phi[: order + 1].sum(axis=0) ** 2, np.finfo(float).tiny)
        time = np.where(better, error / variance / gain, time)
    return np.where(constant, np.nan, time)


def block_length(prediction: Any, response: Any, runs: Sequence[Any] | np.ndarray | None = None) -> int:
    """Block length in samples for permuting `prediction` against `response`.

    For each voxel the slower of the two series counts. One length serves all voxels, because shared permutations,
    which the maximum statistic needs, have one: the 95 % quantile over voxels (at most 2,000, evenly spaced), less
    what estimation noise alone adds to that quantile (relative standard error sqrt(time / n_samples), as for AR(1)).
    Voxels beyond it are at most a twentieth and have somewhat too many false positives; ``docs/calibration.md``
    has the figures. The length is three such times, at least n_samples / 128, and is then stretched as far as the
    number of complete blocks stays the same, so that few samples are left over. Where runs are too short for that,
    whole runs are the blocks (cut to the shortest run), if this keeps nine tenths of the samples: between runs
    there is no dependence to be kept.

    Parameters
    ----------
    prediction, response : array-like, shape (n_samples, n_voxels)
    runs : sequence, shape (n_samples,), optional
        Run label of each sample; runs are contiguous and taken to be independent of one another.

    Returns
    -------
    int

    Raises
    ------
    InputError
        E-SIZE where fewer than 10 blocks fit; E-CONST where no voxel varies; E-SHAPE, E-FMT, E-NONFIN, E-META.
    """
    prediction, response = check_pair(prediction, response, ("prediction", "response"))
    n_samples, n_voxels = prediction.shape
    segments = run_segments(runs, n_samples)
    some = np.unique(np.linspace(0, n_voxels - 1, min(n_voxels, _MAXIMUM_COLUMNS)).astype(int))
    slower = np.maximum(
        integrated_autocorrelation_time(prediction[:, some], runs),
        integrated_autocorrelation_time(response[:, some], runs),
    )
    slower = slower[np.isfinite(slower)]
    if slower.size == 0:
        raise InputError("E-CONST", "no voxel varies in both prediction and response", field="prediction")
    time = _common_time(slower, n_samples)
    lengths = segment_lengths(segments)
    wanted = int(np.ceil(max(TIMES_PER_BLOCK * time, n_samples / MAXIMUM_BLOCKS)))
    if (lengths // wanted).sum() >= MINIMUM_BLOCKS:
        return _stretch(wanted, lengths)
    shortest = int(lengths.min())
    if shortest <= wanted and len(lengths) >= MINIMUM_BLOCKS and shortest * len(lengths) >= 0.9 * n_samples:
        return shortest
    raise InputError(
        "E-SIZE",
        f"{(lengths // wanted).sum()} blocks of {wanted} samples fit (3 x the autocorrelation time of {time:.1f}), "
        f"expected at least {MINIMUM_BLOCKS}",
        field="block_length",
        hint="test on more samples, remove slow drifts (high-pass) from responses and features, leave out the slowest "
        "voxels, or state block_length",
    )


def _common_time(times: np.ndarray, n_samples: int) -> float:
    """Upper quantile of the voxels' times without the upward pull of their estimation noise; at least 1.

    Of V equal voxels the quantile lies about norm.ppf(rank) standard errors above the common value (Blom 1958); a
    single voxel is taken as it is.
    """
    time = float(np.quantile(times, VOXEL_QUANTILE))
    rank = (VOXEL_QUANTILE * (times.size - 1) + 1 - 0.375) / (times.size + 0.25)
    return max(1.0, time / (1.0 + float(stats.norm.ppf(rank)) * np.sqrt(time / n_samples)))


def _stretch(length: int, lengths: np.ndarray) -> int:
    """Longest block that fits as often as `length` does into runs of these `lengths`."""
    n_blocks = (lengths // length).sum()
    while (lengths // (length + 1)).sum() == n_blocks:
        length += 1
    return int(length)


def cap_blocks(predicted: np.ndarray, truth: np.ndarray, runs: Any) -> dict[str, Any]:
    """Return the block length, and the autocorrelation time where blocks are shorter than that asks for.

    Three autocorrelation times of the slower series where that leaves blocks enough.
    Bands that change with scenes, such as summaries, or with the time in a run predict series so slow that it does
    not: then the longest that leaves `FEWEST_CAPPED`, and facts, card and the map `slow` say so.
    """
    try:
        return {"block_length_tr": int(block_length(predicted, truth, runs))}
    except InputError as error:
        if error.code != "E-SIZE":
            raise
    times = slower_times(predicted, truth, runs)
    lengths = segment_lengths(run_segments(runs, len(truth)))
    longest = max((n for n in range(1, int(lengths.max()) + 1) if (lengths // n).sum() >= FEWEST_CAPPED), default=1)
    time = float(np.nanquantile(times, VOXEL_QUANTILE))
    log.warning(
        "blocks of %d TR: three autocorrelation times of the slowest predictions are %.0f TR", longest, 3 * time
    )
    return {"block_length_tr": longest, "autocorrelation_tr": time}


def slower_times(predicted: np.ndarray, truth: np.ndarray, runs: Any) -> np.ndarray:
    """Return the autocorrelation time of the slower of prediction and response of each voxel, in TR."""
    return np.fmax(integrated_autocorrelation_time(predicted, runs), integrated_autocorrelation_time(truth, runs))

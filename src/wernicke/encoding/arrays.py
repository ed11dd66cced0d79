"""`wernicke.encode`: an encoding model on plain arrays, with its test, its correction and its ceiling."""

from __future__ import annotations

import logging
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from wernicke.core.checks import check_labels, check_matrix, check_range
from wernicke.core.errors import InputError
from wernicke.core.seeds import derive_rng
from wernicke.core.split import Split
from wernicke.core.units import seconds_to_tr
from wernicke.encoding.contrasts import (
    block_responses,
    contrast_correlation,
    correlation_by_run,
    permute_within_runs,
    remove_shared,
    why_no_contrasts,
)
from wernicke.encoding.crossval import predict_left_out_runs
from wernicke.features.align import delay
from wernicke.features.compact import isometric
from wernicke.stats.ceiling import correlation_ceiling, split_half_reliability
from wernicke.stats.detrend import detrend_runs
from wernicke.stats.fdr import fdr
from wernicke.stats.permutation import PermutationResult, permutation_test

log = logging.getLogger(__name__)

DEFAULT_ALPHAS = tuple(float(f"{a:.6g}") for a in np.logspace(-3, 6, 19))


@dataclass(frozen=True)
class EncodingResult:
    """One value a voxel, NaN where a voxel is constant.

    Attributes
    ----------
    r : array, shape (n_voxels,)
        Pearson r of held-out predictions, computed within each left-out run and averaged, weighted by run length.
    r_by_run : array, shape (n_runs, n_voxels)
    p, p_fdr, p_fwe : array, shape (n_voxels,)
        Block permutation, one-sided; adjusted by Benjamini-Hochberg; corrected by the maximum statistic.
    contrast_r : array, shape (n_voxels,), or None
        Correlation of predicted with measured condition contrasts (block responses less the run's mean over
        conditions), over all runs and conditions.
    contrast_p, contrast_p_fdr : array, shape (n_voxels,), or None
        Conditions shuffled within runs, one-sided.
    ceiling, ceiling_se : array, shape (n_voxels,), or None
        Noise ceiling of `contrast_r`: the correlation that the true contrasts would reach with single runs, from the
        split-half reliability over runs. NaN where the reliability is not above 0.
    ceiling_reason : str
        Why `contrast_r` and `ceiling` are None; empty otherwise.
    predictions : array, shape (n_samples, n_voxels)
        Held out.
    alphas : array, shape (n_folds, n_voxels)
        Penalties chosen inside each fold's training runs.
    splits : tuple of Split
    edge_share : float
        Share of voxels and folds whose penalty is the grid's smallest or largest; a large share asks for a wider grid
        where the voxel is predicted at all.
    block_length_tr, n_blocks, n_permutations : int
    n_constant : int
        Voxels that are constant within every run and were left out.
    """

    r: np.ndarray
    r_by_run: np.ndarray
    p: np.ndarray
    p_fdr: np.ndarray
    p_fwe: np.ndarray | None
    contrast_r: np.ndarray | None
    contrast_p: np.ndarray | None
    contrast_p_fdr: np.ndarray | None
    ceiling: np.ndarray | None
    ceiling_se: np.ndarray | None
    ceiling_reason: str
    predictions: np.ndarray
    alphas: np.ndarray
    splits: tuple[Split, ...]
    edge_share: float
    block_length_tr: int
    n_blocks: int
    n_permutations: int
    n_constant: int

    def __str__(self) -> str:
        lines = [
            f"voxels        {len(self.r)}" + (f" ({self.n_constant} constant, left out)" if self.n_constant else ""),
            f"r             mean {np.nanmean(self.r):.3f}, best {np.nanmax(self.r):.3f} "
            f"({len(self.splits)} runs, one left out at a time)",
            f"FDR .05       {int(np.nansum(self.p_fdr <= 0.05))} voxels (block permutation, {self.n_permutations} "
            f"draws, {self.n_blocks} blocks of {self.block_length_tr} TR)",
        ]
        if self.contrast_r is not None:
            lines.append(f"contrasts     mean r {np.nanmean(self.contrast_r):.3f}")
        if self.ceiling is not None:
            lines.append(
                f"ceiling       mean {np.nanmean(self.ceiling):.3f} over the {int(np.isfinite(self.ceiling).sum())} "
                "voxels that have one"
            )
        else:
            lines.append(f"ceiling       none: {self.ceiling_reason}")
        return "\n".join(lines)


def mean_delay_tr(delays_tr: Sequence[int]) -> int:
    """The delay, in whole TR, at which block responses are taken: the middle of the FIR delays (halves downwards)."""
    return int(np.ceil(float(np.mean(delays_tr)) - 0.5))


def delayed_bands(
    features: Mapping[str, np.ndarray] | np.ndarray,
    runs: np.ndarray,
    delays_tr: Sequence[int],
) -> dict[str, np.ndarray]:
    """Return each band as delayed columns, shape (n_samples, n_delays * n_features), no delay crossing a run.

    A band with fewer distinct rows than columns is first rotated onto the space its rows span, which leaves every
    ridge prediction as it is and makes eight sentences cost eight columns instead of a model's width.
    """
    bands = features if isinstance(features, Mapping) else {"features": features}
    if not bands:
        raise InputError("E-META", "no band of features given", field="features")
    out: dict[str, np.ndarray] = {}
    for name, values in bands.items():
        band = check_matrix(values, f"features `{name}`" if len(bands) > 1 else "features", n_rows=len(runs))
        if len(np.unique(band, axis=0)) < band.shape[1]:
            band = isometric(band)
        out[name] = delay(band, delays_tr, runs)
    return out


def encode(
    features: Mapping[str, np.ndarray] | np.ndarray,
    responses: np.ndarray,
    *,
    runs: Sequence[Hashable] | np.ndarray,
    tr_s: float,
    delays_s: Sequence[float],
    conditions: Sequence[Hashable] | np.ndarray | None = None,
    baseline: Hashable = "rest",
    alphas: Sequence[float] = DEFAULT_ALPHAS,
    n_iter: int = 20,
    n_permutations: int = 999,
    seed: int = 0,
    splits: Sequence[Split] | None = None,
) -> EncodingResult:
    """Predict every voxel from features, one left-out run at a time, and test the predictions.

    FIR delays, ridge per voxel with the penalty chosen by leave-one-run-out inside the training runs (several bands:
    banded ridge), Pearson r on the left-out run, block permutation with the block length from the data,
    Benjamini-Hochberg, and, with `conditions`, contrasts between conditions with their noise ceiling.

    Parameters
    ----------
    features : array, shape (n_samples, n_features), or mapping of band name to such arrays
        One row a TR, not delayed.
    responses : array, shape (n_samples, n_voxels)
        Detrended by the caller (`wernicke.stats.detrend.detrend_runs`).
    runs : sequence, shape (n_samples,)
        Each run is one contiguous segment; at least three.
    tr_s : float
        Repetition time, seconds.
    delays_s : sequence of float
        FIR delays in seconds, whole TR.
    conditions : sequence, shape (n_samples,), optional
        The condition of each volume, `baseline` where nothing was shown.
    baseline : hashable
    alphas : sequence of float
        Grid of penalties, for features scaled to a total variance of 1 in each fold's training rows.
    n_iter : int
        Random draws of the bands' balance in banded ridge; without effect on one band.
    n_permutations : int
    seed : int
    splits : sequence of Split, optional
        Folds to use instead of leave-one-run-out over all runs; their keys and accepted leaks travel along.

    Returns
    -------
    EncodingResult

    Raises
    ------
    InputError
        E-SHAPE, E-NONFIN, E-SPLIT (fewer than three runs), E-CFG (a delay that is no whole TR), E-META, E-CONST (no
        voxel varies), E-SIZE (fewer than 10 blocks for the permutation test).

    Examples
    --------
    >>> result = wernicke.encode(features, responses, runs=runs, tr_s=2.0, delays_s=(2, 4, 6, 8))  # doctest: +SKIP
    >>> result.r, result.p_fdr  # doctest: +SKIP
    """
    responses = check_matrix(responses, "responses")
    runs = _contiguous(check_labels(runs, "runs", len(responses)))
    for alpha in alphas:
        check_range(alpha, "alphas", low=0, low_open=True)
    check_range(n_permutations, "n_permutations", low=19)
    labels = None if conditions is None else check_labels(conditions, "conditions", len(responses))
    delays_tr = seconds_to_tr(delays_s, tr_s, "delays_s")
    shift_tr = mean_delay_tr(delays_tr)
    reason: str | None = "no conditions given, and without repeats of a condition there is no ceiling"
    if labels is not None:
        reason = why_no_contrasts(runs, labels, shift_tr=shift_tr, baseline=baseline)
    bands = delayed_bands(features, runs, delays_tr)
    varies = _varying(responses, runs)
    kept = responses[:, varies]
    held_out = predict_left_out_runs(
        bands, kept, runs, alphas, seed=seed, n_iter=n_iter, splits=splits, progress="encode"
    )
    test = permute_predictions(held_out.predictions, kept, runs, n_permutations=n_permutations, seed=seed)
    by_run = correlation_by_run(held_out.predictions, kept, runs)
    spread = _Spread(varies)
    contrast: dict[str, np.ndarray | None] = dict.fromkeys(
        ("contrast_r", "contrast_p", "contrast_p_fdr", "ceiling", "ceiling_se")
    )
    if labels is not None and reason is None:
        found = contrast_tests(
            held_out.predictions, kept, runs, labels,
            shift_tr=shift_tr, baseline=baseline, n_permutations=n_permutations, seed=seed,
        )  # fmt: skip
        contrast.update({name: spread(values) for name, values in found.items()})
        if "ceiling" not in found:
            reason = "two conditions have no split-half correlation; a ceiling needs at least 3"
    return EncodingResult(
        r=spread(test.r),
        r_by_run=spread(by_run),
        p=spread(test.p),
        p_fdr=spread(fdr(test.p, n_permutations=n_permutations).p_adjusted),
        p_fwe=None if test.p_fwe is None else spread(test.p_fwe),
        ceiling_reason=reason or "",
        predictions=spread(held_out.predictions),
        alphas=spread(held_out.alphas),
        splits=held_out.splits,
        edge_share=float(np.isin(held_out.alphas, (min(alphas), max(alphas))).mean()) if len(bands) == 1 else np.nan,
        block_length_tr=test.block_length,
        n_blocks=test.n_blocks,
        n_permutations=test.n_permutations,
        n_constant=int((~varies).sum()),
        **contrast,
    )


def permute_predictions(
    predictions: np.ndarray, responses: np.ndarray, runs: np.ndarray, *, n_permutations: int, seed: int
) -> PermutationResult:
    """Block permutation of predictions and responses that are z-scored within runs, so that r is the mean over runs."""
    return permutation_test(
        detrend_runs(predictions, runs, order=0),
        detrend_runs(responses, runs, order=0),
        runs,
        n_permutations=n_permutations,
        seed=seed,
    )


def contrast_tests(
    predictions: np.ndarray,
    responses: np.ndarray,
    runs: np.ndarray,
    conditions: np.ndarray,
    *,
    shift_tr: int,
    baseline: Hashable,
    n_permutations: int,
    seed: int,
) -> dict[str, np.ndarray]:
    """Correlate predicted with measured contrasts, test by shuffling conditions within runs, and find the ceiling."""
    measured, predicted = (
        remove_shared(block_responses(values, runs, conditions, shift_tr=shift_tr, baseline=baseline))
        for values in (responses, predictions)
    )
    r = contrast_correlation(predicted, measured)
    null = permute_within_runs(
        predicted, measured, n_permutations=n_permutations, rng=derive_rng(seed, "contrast permutation")
    )
    p = np.where(np.isnan(r), np.nan, (1 + (null >= r - 1e-12).sum(axis=0)) / (1 + n_permutations))
    found = {"contrast_r": r, "contrast_p": p, "contrast_p_fdr": fdr(p, n_permutations=n_permutations).p_adjusted}
    if measured.shape[1] > 2:
        reliability = split_half_reliability(measured, seed=seed)
        found["ceiling"] = correlation_ceiling(reliability.single_run)
        # Delta method for the square root.
        found["ceiling_se"] = reliability.single_run_se / (2 * found["ceiling"])
    return found


def _contiguous(runs: np.ndarray) -> np.ndarray:
    if 1 + int((runs[1:] != runs[:-1]).sum()) != len(np.unique(runs)):
        raise InputError("E-META", "a run is split into several segments", field="runs",
                         hint="sort the samples by run and time; delays must not cross a run's border")  # fmt: skip
    return runs


def _varying(responses: np.ndarray, runs: np.ndarray) -> np.ndarray:
    """Return which voxels vary within at least one run; the others have no score, and are counted."""
    varies = np.zeros(responses.shape[1], dtype=bool)
    for run in np.unique(runs):
        varies |= np.ptp(responses[runs == run], axis=0) > 0
    if not varies.any():
        raise InputError("E-CONST", f"all {len(varies)} voxels are constant within every run", field="responses")
    if not varies.all():
        log.warning("%d of %d voxels are constant and left out: NaN in every map", (~varies).sum(), len(varies))
    return varies


class _Spread:
    """Put values of the varying voxels back among all voxels, NaN elsewhere; the last axis is voxels."""

    def __init__(self, varies: np.ndarray) -> None:
        self.varies = varies

    def __call__(self, values: np.ndarray) -> np.ndarray:
        full = np.full((*values.shape[:-1], len(self.varies)), np.nan)
        full[..., self.varies] = values
        return full

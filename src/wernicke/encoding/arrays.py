"""`wernicke.encode`: an encoding model on plain arrays, with its test, its correction and its ceiling."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import numpy as np

from wernicke.core.checks import check_labels, check_matrix, check_range
from wernicke.core.errors import InputError
from wernicke.core.recording import Recording
from wernicke.core.seeds import derive_rng
from wernicke.core.units import seconds_to_tr
from wernicke.encoding.by_run import mean_over_runs, scores_by_run, zscore_by_run
from wernicke.encoding.contrasts import (
    block_responses,
    contrast_correlation,
    permute_within_runs,
    remove_shared,
    why_no_contrasts,
)
from wernicke.encoding.crossval import predict_left_out_runs
from wernicke.encoding.folds import Folds, resolve_folds, scorable_voxels, scored_samples, stimuli_of_samples
from wernicke.encoding.result import EncodingResult
from wernicke.features.align import delay
from wernicke.features.compact import isometric
from wernicke.stats.ceiling import correlation_ceiling, split_half_reliability
from wernicke.stats.fdr import fdr
from wernicke.stats.permutation import PermutationResult, permutation_test

DEFAULT_ALPHAS = tuple(float(f"{a:.6g}") for a in np.logspace(-3, 6, 19))


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
    splits: Folds | None = None,
    stimuli: Sequence[Any] | np.ndarray | Recording | None = None,
    accepted_leaks: Sequence[str] = (),
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
    alphas : sequence of float, or float
        Grid of penalties, for features scaled to a total variance of 1 in each fold's training rows; or a single one.
    n_iter : int
        Random draws of the bands' balance in banded ridge; without effect on one band.
    n_permutations : int
    seed : int
    splits : iterable of Split, or of (train rows, test rows), optional
        Folds to use instead of leave-one-run-out over all runs, at least two training runs each. Each sample is tested
        once or not at all: a single fold with a fixed test run is allowed, and samples that no fold tests count in no
        score and no test (`EncodingResult.scored`). Runs with the same predictions throughout, as repeats of a test
        film, are each scored in `r`, and averaged for the permutation test, because they are no independent samples.
    stimuli : sequence, shape (n_samples,), or Recording, optional
        What was shown at each sample, missing or `baseline` where nothing was; a Recording gives its samples'
        `stimulus_id`. The same stimulus on both sides of a fold is refused. By default the `stimulus_id` of the
        Splits' own samples is used, where there is one.
    accepted_leaks : sequence of str
        ``"stimulus_id"`` or ``"run"``, which may stand on both sides; the result names them. Besides what a Split
        accepts itself.

    Returns
    -------
    EncodingResult

    Raises
    ------
    InputError
        E-SHAPE, E-NONFIN, E-SPLIT (fewer than three runs, a sample tested twice, a run or stimulus on both sides),
        E-CFG (a delay that is no whole TR), E-META, E-CONST (no voxel varies), E-SIZE (fewer than 10 blocks for the
        permutation test).

    Examples
    --------
    >>> result = wernicke.encode(features, responses, runs=runs, tr_s=2.0, delays_s=(2, 4, 6, 8))  # doctest: +SKIP
    >>> result.r, result.p_fdr  # doctest: +SKIP
    """
    responses = check_matrix(responses, "responses")
    runs = _contiguous(check_labels(runs, "runs", len(responses)))
    penalties = _check_alphas(alphas)
    check_range(n_permutations, "n_permutations", low=19)
    labels = None if conditions is None else check_labels(conditions, "conditions", len(responses))
    delays_tr = seconds_to_tr(delays_s, tr_s, "delays_s")
    shown = None if stimuli is None else stimuli_of_samples(stimuli, len(runs), baseline=baseline)
    folds = resolve_folds(splits, runs, stimuli=shown, accepted_leaks=accepted_leaks)
    scored = scored_samples(folds, len(runs))
    design: dict[str, Any] = {"shift_tr": mean_delay_tr(delays_tr), "baseline": baseline}
    reason = _why_no_contrasts(runs, labels, scored, **design)
    bands = delayed_bands(features, runs, delays_tr)
    varies = scorable_voxels(responses, runs, folds)
    kept = responses[:, varies]
    held_out = predict_left_out_runs(
        bands, kept, runs, penalties, seed=seed, n_iter=n_iter, splits=folds, progress="encode"
    )
    rows = slice(None) if scored.all() else scored
    seen = (held_out.predictions[rows], kept[rows], runs[rows])
    test = permute_predictions(*seen, stretches=_stretches(runs, scored), n_permutations=n_permutations, seed=seed)
    by_run = scores_by_run(*seen)
    spread = _Spread(varies)
    contrast: dict[str, np.ndarray | None] = dict.fromkeys(
        ("contrast_r", "contrast_p", "contrast_p_fdr", "ceiling", "ceiling_se")
    )
    if labels is not None and reason is None:
        found = contrast_tests(*seen, labels[rows], **design, n_permutations=n_permutations, seed=seed)
        contrast.update({name: spread(values) for name, values in found.items()})
        if "ceiling" not in found:
            reason = "a ceiling is a split-half correlation over conditions; it needs at least 3, and 2 scored runs"
    edges = np.isin(held_out.alphas, (min(penalties), max(penalties)))
    return EncodingResult(
        r=spread(mean_over_runs(by_run, runs[rows])),
        r_by_run=spread(by_run),
        p=spread(test.p),
        p_fdr=spread(fdr(test.p, n_permutations=n_permutations).p_adjusted),
        p_fwe=None if test.p_fwe is None else spread(test.p_fwe),
        ceiling_reason=reason or "",
        predictions=spread(held_out.predictions),
        alphas=spread(held_out.alphas),
        splits=held_out.splits,
        scored=scored,
        scored_runs=tuple(dict.fromkeys(runs[rows].tolist())),
        edge_share=float(edges.mean()) if len(bands) == 1 else np.nan,
        block_length_tr=test.block_length,
        n_blocks=test.n_blocks,
        n_permutations=test.n_permutations,
        n_constant=int((~varies).sum()),
        **contrast,
    )


def permute_predictions(
    predictions: np.ndarray,
    responses: np.ndarray,
    runs: np.ndarray,
    *,
    n_permutations: int,
    seed: int,
    stretches: np.ndarray | None = None,
) -> PermutationResult:
    """Block permutation of predictions and responses that are z-scored within runs.

    The statistic of a voxel that varies in every run is `EncodingResult.r`. Of one that is constant in some it is r
    times a number that no permutation changes: its zeros there meet predictions under every permutation, as they do
    under the observed order, which keeps the null as wide as the runs with data make it.

    Stretches (samples without a gap, by default the runs) with the same predictions are repeats of a stimulus: their
    responses are added up, which leaves the statistic as it is up to such a number, and the blocks independent.
    """
    x, y = zscore_by_run(predictions, runs), zscore_by_run(responses, runs)
    labels = runs if stretches is None else stretches
    firsts: list[np.ndarray] = []
    for label in dict.fromkeys(labels.tolist()):
        rows = np.flatnonzero(labels == label)
        first = next((known for known in firsts if _same(x, known, rows)), None)
        if first is None:
            firsts.append(rows)
        else:
            y[first] += y[rows]
    if sum(map(len, firsts)) < len(labels):
        unique = np.concatenate(firsts)
        x, y, labels = x[unique], y[unique], labels[unique]
    return permutation_test(x, y, labels, n_permutations=n_permutations, seed=seed)


def _same(x: np.ndarray, a: np.ndarray, b: np.ndarray) -> bool:
    """Are the z-scored predictions of two stretches the same, up to the rounding of a matrix product?"""
    if len(a) != len(b) or np.abs(x[a, 0] - x[b, 0]).max() > 1e-6:
        return False
    return bool(np.abs(x[a] - x[b]).max() <= 1e-6)


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
    if measured.shape[1] > 2 and len(measured) > 1:
        reliability = split_half_reliability(measured, seed=seed)
        found["ceiling"] = correlation_ceiling(reliability.single_run)
        # Delta method for the square root.
        found["ceiling_se"] = reliability.single_run_se / (2 * found["ceiling"])
    return found


def _check_alphas(alphas: Sequence[float] | float) -> list[float]:
    values = np.atleast_1d(np.asarray(alphas, dtype=object))
    if values.ndim != 1 or not len(values):
        raise InputError("E-CFG", f"found shape {values.shape}, expected one penalty or more", field="alphas")
    return [check_range(alpha, "alphas", low=0, low_open=True) for alpha in values]


def _contiguous(runs: np.ndarray) -> np.ndarray:
    if 1 + int((runs[1:] != runs[:-1]).sum()) != len(set(runs.tolist())):
        raise InputError("E-META", "a run is split into several segments", field="runs",
                         hint="sort the samples by run and time; delays must not cross a run's border")  # fmt: skip
    return runs


def _stretches(runs: np.ndarray, scored: np.ndarray) -> np.ndarray:
    """Number the stretches of scored samples between which a run ends or samples are not scored: shape (n_scored,)."""
    at = np.flatnonzero(scored)
    return np.concatenate([[0], np.cumsum((np.diff(at) > 1) | (runs[at][1:] != runs[at][:-1]))])


def _why_no_contrasts(
    runs: np.ndarray, labels: np.ndarray | None, scored: np.ndarray, *, shift_tr: int, baseline: Hashable
) -> str | None:
    if labels is None:
        return "no conditions given, and without repeats of a condition there is no ceiling"
    if set(runs[scored].tolist()) & set(runs[~scored].tolist()):
        return "the folds score parts of runs; contrasts need whole runs"
    return why_no_contrasts(runs[scored], labels[scored], shift_tr=shift_tr, baseline=baseline)


class _Spread:
    """Put values of the varying voxels back among all voxels, NaN elsewhere; the last axis is voxels."""

    def __init__(self, varies: np.ndarray) -> None:
        self.varies = varies

    def __call__(self, values: np.ndarray) -> np.ndarray:
        full = np.full((*values.shape[:-1], len(self.varies)), np.nan)
        full[..., self.varies] = values
        return full

"""Held-out predictions: leave one run out, everything fitted on the other runs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
from threadpoolctl import threadpool_limits
from tqdm import tqdm

from wernicke.core.checks import check_labels
from wernicke.core.errors import InputError
from wernicke.core.seeds import derive_rng
from wernicke.core.split import Split, leave_one_group_out
from wernicke.encoding.folds import Folds, resolve_folds, samples_of_runs, scored_samples
from wernicke.ridge import GroupRidgeCV, RidgeCV, correlation_score

# Multiplications below which several threads cost more than they give: they wait for each other at every small product.
SMALL_WORK = 10**9


@contextmanager
def one_thread() -> Iterator[None]:
    """Let numpy, scipy and torch use one thread."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with threadpool_limits(1):
            yield
    finally:
        torch.set_num_threads(before)


@dataclass(frozen=True)
class FittedFold:
    """What one fold learnt from its training rows; the poison audit compares its bytes."""

    scales: tuple[float, ...]
    model: RidgeCV | GroupRidgeCV

    def predict(self, bands: Sequence[np.ndarray]) -> np.ndarray:
        """Predict from bands, each (n_samples, n_features): shape (n_samples, n_voxels)."""
        return self.model.predict(_stack(bands, self.scales))

    def learnt(self) -> dict[str, np.ndarray]:
        """Every fitted quantity by name."""
        return {
            "feature scale": np.asarray(self.scales),
            "alpha": np.asarray(self.model.best_alphas_),
            "weights": np.asarray(self.model.coef_),
            "intercept": np.asarray(self.model.intercept_),
            "inner CV score": np.asarray(self.model.cv_scores_),
        }


@dataclass(frozen=True)
class HeldOut:
    """Predictions of samples by the fold that had not seen their run.

    Attributes
    ----------
    predictions : array, shape (n_samples, n_voxels)
        NaN for samples that no fold tests.
    alphas : array, shape (n_folds, n_voxels)
        The penalty chosen inside each fold's training runs.
    splits : tuple of Split
    """

    predictions: np.ndarray
    alphas: np.ndarray
    splits: tuple[Split, ...]

    @property
    def scored(self) -> np.ndarray:
        """Which samples a fold tests, shape (n_samples,)."""
        return scored_samples(self.splits, len(self.predictions))


def _stack(bands: Sequence[np.ndarray], scales: Sequence[float]) -> np.ndarray:
    return np.hstack([band / scale for band, scale in zip(bands, scales, strict=True)])


def fit_fold(
    bands: Sequence[np.ndarray],
    responses: np.ndarray,
    runs: np.ndarray,
    train_rows: np.ndarray,
    alphas: Sequence[float],
    *,
    seed: int = 0,
    n_iter: int = 20,
) -> FittedFold:
    """Fit one fold from its training rows alone.

    The penalty (and, with several bands, their balance) is chosen per voxel by leave-one-run-out inside the training
    rows, by correlation. Each band is divided by one number, the square root of its training rows' total variance, so
    that one grid of penalties fits features of any scale and width.

    Parameters
    ----------
    bands : sequence of array, shape (n_samples, n_features_of_the_band)
        Delayed already.
    responses : array, shape (n_samples, n_voxels)
    runs : array, shape (n_samples,)
    train_rows : array of int
    alphas : sequence of float
    n_iter : int
        Random draws of the bands' balance (Dirichlet, as himalaya draws them); without effect on one band.
    """
    inner_runs = runs[train_rows]
    order = list(pd.unique(inner_runs))
    if len(order) < 2:
        raise InputError(
            "E-SPLIT",
            f"found {len(order)} training run, expected at least 2 (3 runs in all) to choose the penalty inside them",
            field="runs",
        )
    cv = [(np.flatnonzero(inner_runs != run), np.flatnonzero(inner_runs == run)) for run in order]
    scales = []
    for band in bands:
        part = band[train_rows]
        spread = float(np.sqrt(part.var(axis=0).sum()))
        scales.append(spread if spread > 0 else 1.0)
    stacked = _stack([band[train_rows] for band in bands], scales)
    if len(bands) == 1:
        model = RidgeCV(
            alphas=list(alphas),
            cv=cv,
            fit_intercept=True,
            solver_params={"score_func": correlation_score, "warn": False},
        )
    else:
        groups = np.repeat(np.arange(len(bands)), [band.shape[1] for band in bands])
        model = GroupRidgeCV(
            groups=groups,
            cv=cv,
            fit_intercept=True,
            random_state=seed,
            solver_params={"alphas": list(alphas), "score_func": correlation_score, "n_iter": n_iter, "warn": False},
        )
    model.fit(stacked, responses[train_rows])
    return FittedFold(tuple(scales), model)


def predict_left_out_runs(
    bands: Mapping[str, np.ndarray] | Sequence[np.ndarray],
    responses: np.ndarray,
    runs: np.ndarray,
    alphas: Sequence[float],
    *,
    seed: int = 0,
    n_iter: int = 20,
    splits: Folds | None = None,
    progress: str | None = None,
) -> HeldOut:
    """Predict each run from all others, or the test side of each fold from its training side.

    Parameters
    ----------
    bands : mapping or sequence of array, shape (n_samples, n_features_of_the_band)
        Delayed already.
    responses : array, shape (n_samples, n_voxels)
    runs : array, shape (n_samples,)
    alphas : sequence of float
    n_iter : int
        Random draws of the bands' balance; without effect on one band.
    splits : iterable of Split, or of (train rows, test rows), optional
        Folds of which each tests samples that no other tests; leave-one-run-out by default.
    progress : str, optional
        Name of the progress bar; None for none.

    Raises
    ------
    InputError
        E-SPLIT with fewer than two training runs in a fold, and what `resolve_folds` raises.
    """
    parts = list(bands.values()) if isinstance(bands, Mapping) else list(bands)
    runs = check_labels(runs, "runs", len(responses))
    folds = resolve_folds(splits, runs)
    predictions = np.full(responses.shape, np.nan)
    chosen = np.empty((len(folds), responses.shape[1]))
    work = responses.size * sum(part.shape[1] for part in parts)
    with one_thread() if work < SMALL_WORK else nullcontext():
        for fold, split in enumerate(tqdm(folds, desc=progress, disable=None if progress else True, leave=False)):
            fitted = fit_fold(parts, responses, runs, split.train_rows, alphas, seed=seed, n_iter=n_iter)
            predictions[split.test_rows] = fitted.predict([band[split.test_rows] for band in parts])
            chosen[fold] = fitted.model.best_alphas_
    return HeldOut(predictions, chosen, folds)


def poison_audit(
    bands: Sequence[np.ndarray],
    responses: np.ndarray,
    runs: np.ndarray,
    alphas: Sequence[float],
    *,
    seed: int = 0,
) -> dict[str, bool]:
    """Refit one fold with its held-out rows replaced by values near 1e6; return which fitted quantities changed.

    Nothing may change: what a fold learnt cannot depend on rows it must not see (reliability V11).

    Returns
    -------
    dict of str to bool
        By fitted quantity; True where a single byte changed.
    """
    split = next(iter(leave_one_group_out(samples_of_runs(runs))))
    clean = fit_fold(bands, responses, runs, split.train_rows, alphas, seed=seed).learnt()
    rng = derive_rng(seed, "poison audit")
    poisoned = [np.array(array, dtype=np.float64) for array in (*bands, responses)]
    for array in poisoned:
        array[split.test_rows] = 1e6 * rng.standard_normal(array[split.test_rows].shape)
    dirty = fit_fold(poisoned[:-1], poisoned[-1], runs, split.train_rows, alphas, seed=seed).learnt()
    return {name: clean[name].tobytes() != dirty[name].tobytes() for name in clean}

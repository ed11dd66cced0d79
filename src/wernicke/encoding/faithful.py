"""drama2brain's encoder as published (Nakagi, Matsuyama et al. 2024, EMNLP main.1133; code at commit 133915c).

`encode_faithful` gives the numbers of its ``run_training_encoder``: shifted-and-averaged features, centred and not
scaled, ridge (`mono`) or banded ridge (`multi`) without intercept, alphas ``logspace(-12, 12, 25)`` chosen per voxel by
correlation over folds of whole titles, one null pooled over voxels. Its statistics find too much on autocorrelated
data (``docs/calibration.md``): this module is for reproducing figures; `wernicke.encode` is for new ones.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

from wernicke.core.checks import check_finite, check_labels, check_option, check_range
from wernicke.core.errors import InputError
from wernicke.features.align import mean_delay
from wernicke.features.reduce import Projection
from wernicke.ridge import correlation_score, correlation_score_split
from wernicke.ridge.solvers import RidgeSolution, solve_group_ridge, solve_ridge_cv
from wernicke.stats.pooled_null import pooled_block_null, pooled_gauss_null, pooled_p

ALPHAS = np.logspace(-12, 12, 25)
TRAIN, VALID = "TRAIN", "VALID"
SEED = 42
_VOXELS_AT_ONCE = 4096


@dataclass(frozen=True)
class FaithfulResult:
    """What the published encoder saves. Mappings have "all", the whole model; with several bands each band too."""

    cc: dict[str, np.ndarray]
    """(n_voxels,): Pearson's r on the VALID rows; of a band its share of "all" (product measure)"""
    pvalues_corrected: dict[str, np.ndarray]
    """(n_voxels,): of the pooled null, adjusted by Benjamini-Hochberg; can be exactly 0"""
    cv_cc: np.ndarray
    """(n_voxels,): r of the chosen alpha (and band weights), mean over folds; not saved by their ``multi``"""
    coef: dict[str, np.ndarray]
    """Band name to (n_features, n_voxels), in the units of the shifted (and reduced) features"""
    best_alphas: np.ndarray
    """(n_voxels,)"""
    predictions: dict[str, np.ndarray] | None
    """(n_valid, n_voxels); None unless asked for"""
    nested_predictions: np.ndarray | None
    """(n_train, n_voxels), their ``preds_trn``: each fold by a fit to the others; rows in the order given, where theirs
    are reordered by an unstable sort. None unless asked for"""
    n_floored: int
    """Voxels whose alpha was raised to 1e-8 of the largest eigenvalue"""
    projections: dict[str, Projection] = field(default_factory=dict)
    """Band name to its fitted reduction, which leads from `coef` back to the features; empty without one"""


def encode_faithful(
    features: Mapping[str, np.ndarray],
    responses: np.ndarray,
    *,
    parts: Sequence[str] | np.ndarray,
    titles: Sequence[Any] | np.ndarray,
    runs: Sequence[Any] | np.ndarray,
    folds: Sequence[int] | np.ndarray,
    time_delays: tuple[int, int],
    reduce_dim: tuple[str, float] | None = None,
    n_iter: int = 100,
    perm_type: str = "block",
    keep_predictions: bool = False,
    nested: bool = False,
    exhaustive: bool = True,
    device: str = "cpu",
) -> FaithfulResult:
    """Fit and score as the published code does.

    Parameters
    ----------
    features : mapping of band name to array, shape (n_rows, n_features)
        One band: their ``mono``. Several: ``multi``. Rows as the code keeps them (no overlap between runs), a title's
        runs one after the other.
    responses : array, shape (n_rows, n_voxels)
    parts : array of str, shape (n_rows,)
        ``TRAIN``, ``VALID``, or ``""`` for rows that are not used.
    titles, runs, folds : arrays, shape (n_rows,)
        Of each row. Folds are those of the cross-validation over TRAIN rows, whole titles in theirs.
    time_delays : (a, b)
        Features are averaged over shifts of a to b rows (1 s in theirs). Without `reduce_dim` within a title's TRAIN
        or VALID rows, with it within each run; what lies before counts as zeros, also where VALID follows TRAIN.
    reduce_dim : ("pca", n_components) or ("srp", eps), optional
        Fitted to TRAIN rows before the shift, random_state 42. Where the published code finds components that an
        earlier run of another data set left in its cache it takes those; here they are always fitted anew.
    n_iter : int
        Random draws of band weights, himalaya's with seed 42; only for several bands. Weights below 1e-8 of a draw's
        largest are raised to that: there himalaya in float32, as published, is off its own float64 by up to .14 in r.
    perm_type : {"block", "gauss"}
        Theirs draws ``gauss`` without a seed, so that its p values cannot be repeated.
    keep_predictions, nested : bool
        Return predictions of VALID rows, and cross-validated ones of TRAIN rows (``--save_pred``).
    exhaustive : bool
        Evaluate every alpha exactly, as published. False is several times faster; the chosen alphas may differ where
        their CV accuracy hardly does.
    device : str
        Where torch computes.

    Raises
    ------
    InputError
        E-SHAPE, E-NONFIN, E-CONST (a voxel without variance), E-CFG, E-META, E-SPLIT (no VALID row, a single fold).
    """
    check_option(perm_type, ("block", "gauss"), "perm_type")
    rows = _Rows.check(parts, titles, runs, folds)
    projections: dict[str, Projection] = {}
    bands = {
        name: _prepare(band, name, rows, time_delays, reduce_dim, projections)
        for name, band in _checked(features, rows)
    }
    responses = _numbers(responses, "responses", rows)
    Y, Y_valid = responses[rows.train].astype(np.float32), responses[rows.valid].astype(np.float32)
    X = [torch.from_numpy(train).to(device) for train, _ in bands.values()]
    X_valid = [torch.from_numpy(valid).to(device) for _, valid in bands.values()]
    fit = _Fit(n_iter, exhaustive)
    found = fit(X, Y, rows.folds)
    ends = np.cumsum([x.shape[1] for x in X])[:-1]
    coef = np.split(found.coef.cpu().numpy(), ends)
    scores, nulls, predictions = _score(list(bands), X_valid, coef, Y_valid, perm_type, keep_predictions)
    return FaithfulResult(
        cc=scores,
        pvalues_corrected={name: pooled_p(scores[name], null) for name, null in nulls.items()},
        cv_cc=found.cv_scores.max(0).values.cpu().numpy(),
        coef=dict(zip(bands, coef, strict=True)),
        best_alphas=found.best_alphas.cpu().numpy(),
        predictions=predictions,
        nested_predictions=fit.nested(X, Y, rows.folds) if nested else None,
        n_floored=found.n_floored,
        projections=projections,
    )


@dataclass(frozen=True)
class _Rows:
    """Which rows are trained on and scored, and where shifts and folds end."""

    n: int
    train: np.ndarray
    valid: np.ndarray
    titles: np.ndarray
    runs: np.ndarray
    folds: np.ndarray
    """Of the TRAIN rows only."""

    @staticmethod
    def check(parts: Any, titles: Any, runs: Any, folds: Any) -> _Rows:
        n = len(parts)
        parts, titles, runs, folds = (
            check_labels(values, name, n)
            for values, name in ((parts, "parts"), (titles, "titles"), (runs, "runs"), (folds, "folds"))
        )
        unknown = sorted(set(parts.tolist()) - {TRAIN, VALID, ""})
        if unknown:
            raise InputError("E-META", f"found {unknown[0]!r}, expected TRAIN, VALID or an empty text", field="parts")
        train, valid = np.flatnonzero(parts == TRAIN), np.flatnonzero(parts == VALID)
        n_folds = len(np.unique(folds[train]))
        if not len(valid) or n_folds < 2:
            raise InputError("E-SPLIT", f"found TRAIN rows in {n_folds} folds and {len(valid)} VALID rows, expected at "
                             "least 2 folds and 1 VALID row", field="parts")  # fmt: skip
        return _Rows(n, train, valid, titles, runs, folds[train])


def _checked(features: Mapping[str, np.ndarray], rows: _Rows) -> list[tuple[str, np.ndarray]]:
    if not features:
        raise InputError("E-META", "no band given", field="features")
    if "all" in features:
        raise InputError("E-CFG", "`all` stands for the whole model, a band needs another name", field="features")
    return [(name, _numbers(band, f"features `{name}`", rows)) for name, band in features.items()]


def _numbers(values: Any, field: str, rows: _Rows) -> np.ndarray:
    """Return a matrix of one row a row; float32 stays, half precision becomes float64 as scikit-learn makes it."""
    array = np.asarray(values)
    if array.dtype.kind not in "fiub" or array.ndim != 2 or array.shape[0] != rows.n or array.shape[1] == 0:
        raise InputError("E-SHAPE", f"found {array.dtype} of shape {array.shape}, expected numbers of shape ({rows.n}, "
                         "n_columns), one row an entry of parts", field=field)  # fmt: skip
    return check_finite(array if array.dtype == np.float32 else array.astype(np.float64), field)


def _prepare(
    band: np.ndarray, name: str, rows: _Rows, time_delays: tuple[int, int], reduce_dim: tuple[str, float] | None,
    projections: dict[str, Projection],
) -> tuple[np.ndarray, ...]:  # fmt: skip
    """Return reduced, shifted and centred features of TRAIN and VALID rows, float32; note what reduced them."""
    if len(time_delays) != 2 or not 0 <= time_delays[0] <= time_delays[1]:
        raise InputError("E-CFG", f"found {tuple(time_delays)}, expected the first and the last shift, such as (8, 10)",
                         field="time_delays")  # fmt: skip
    delays = range(time_delays[0], time_delays[1] + 1)
    train, valid = band[rows.train], band[rows.valid]
    within = rows.titles
    if reduce_dim is not None:
        train, valid, projections[name] = _reduce(train, valid, name, reduce_dim)
        within = rows.runs  # the published code shifts what it reduced run by run
    return _centre(_shift(train, delays, within[rows.train]), _shift(valid, delays, within[rows.valid]))


def _shift(band: np.ndarray, delays: Sequence[int], within: np.ndarray, width: int = 1024) -> np.ndarray:
    """Average the shifted copies in double precision, as published, some columns at a time."""
    out = np.empty(band.shape, dtype=np.float32)
    for start in range(0, band.shape[1], width):
        columns = slice(start, start + width)
        out[:, columns] = mean_delay(band[:, columns].astype(np.float64), delays, within)
    return out


def _centre(train: np.ndarray, *others: np.ndarray) -> tuple[np.ndarray, ...]:
    """Take the training rows' mean off all, in place."""
    mean = train.mean(0, dtype=np.float64)
    for rows in (train, *others):
        rows -= mean
    return train, *others


def _reduce(
    train: np.ndarray, valid: np.ndarray, name: str, reduce_dim: tuple[str, float]
) -> tuple[np.ndarray, np.ndarray, Projection]:
    from sklearn.decomposition import PCA
    from sklearn.random_projection import SparseRandomProjection

    method, size = reduce_dim
    if check_option(method, ("pca", "srp"), "reduce_dim") == "pca":
        check_range(size, "reduce_dim", low=1, high=min(train.shape))
        reducer: Any = PCA(int(size), random_state=SEED)
    else:
        reducer = SparseRandomProjection(eps=check_range(size, "reduce_dim", low=0, low_open=True), random_state=SEED)
    try:
        reducer.fit(train)
    except ValueError as error:
        raise InputError("E-CFG", str(error), field=f"reduce_dim of `{name}`",
                         hint="a larger eps keeps fewer dimensions; or leave this band as it is") from None  # fmt: skip
    if method == "pca":
        found = Projection("pca", reducer.mean_, reducer.components_, reducer.explained_variance_ratio_)
    else:
        found = Projection("srp", np.zeros(train.shape[1], train.dtype), reducer.components_.tocsr(), np.zeros(0))
    return reducer.transform(train), reducer.transform(valid), found


@dataclass(frozen=True)
class _Fit:
    """The published solvers' settings."""

    n_iter: int
    exhaustive: bool

    def __call__(self, X: list[torch.Tensor], Y: np.ndarray, folds: np.ndarray) -> RidgeSolution:
        cv = [(np.flatnonzero(folds != fold), np.flatnonzero(folds == fold)) for fold in np.unique(folds)]
        settings: dict[str, Any] = {
            "alphas": ALPHAS, "score_func": correlation_score, "cv": cv, "exhaustive": self.exhaustive, "warn": False,
            "Y_in_cpu": True,
        }  # fmt: skip
        responses = torch.from_numpy(Y)
        if len(X) == 1:
            return solve_ridge_cv(X[0], responses, **settings)
        return solve_group_ridge(X, responses, n_iter=self.n_iter, random_state=SEED, **settings)

    def nested(self, X: list[torch.Tensor], Y: np.ndarray, folds: np.ndarray) -> np.ndarray:
        """Predict each fold from the others, alphas chosen by cross-validation over those; centred anew each time."""
        if len(np.unique(folds)) < 3:
            raise InputError(
                "E-SPLIT", f"found {len(np.unique(folds))} folds, nested predictions need 3", field="folds"
            )
        out = np.full(Y.shape, np.nan, dtype=np.float32)
        for fold in np.unique(folds):
            inside, outside = (torch.from_numpy(np.flatnonzero(rows)) for rows in (folds != fold, folds == fold))
            means = [x[inside].mean(0, dtype=torch.float64).to(x.dtype) for x in X]
            found = self([x[inside] - m for x, m in zip(X, means, strict=True)], Y[inside], folds[inside])
            tested = torch.cat([x[outside] - m for x, m in zip(X, means, strict=True)], 1)
            out[outside] = (tested @ found.coef).cpu().numpy()
        return out


def _score(
    names: list[str], X: list[torch.Tensor], coef: list[np.ndarray], Y: np.ndarray, perm_type: str, keep: bool
) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray], dict[str, np.ndarray] | None]:
    """Return r, pooled null and predictions of the VALID rows by name, some voxels at a time."""
    keys = ["all", *names] if len(names) > 1 else ["all"]
    scores: dict[str, list[np.ndarray]] = {key: [] for key in keys}
    nulls: dict[str, list[np.ndarray]] = {key: [] for key in keys}
    kept = {key: np.empty(Y.shape, dtype=np.float32) for key in keys} if keep else None
    for start in range(0, Y.shape[1], _VOXELS_AT_ONCE):
        columns = slice(start, start + _VOXELS_AT_ONCE)
        truth = Y[:, columns]
        shares = np.stack([
            (x @ torch.from_numpy(np.ascontiguousarray(c[:, columns])).to(x.device)).cpu().numpy()
            for x, c in zip(X, coef, strict=True)
        ])  # fmt: skip
        parts = {"all": shares.sum(0), **dict(zip(keys[1:], shares, strict=False))}
        scores["all"].append(correlation_score(truth, parts["all"]))
        split = correlation_score_split(truth, shares) if len(names) > 1 else []
        for name, score in zip(keys[1:], split, strict=True):
            scores[name].append(score)
        for key, prediction in parts.items():
            if perm_type == "block":  # every stretch of voxels sees the same order of blocks
                nulls[key].append(pooled_block_null(prediction, truth, seed=SEED))
            if kept is not None:
                kept[key][:, columns] = prediction
    pooled = {key: np.concatenate(null) if null else _gauss(Y) for key, null in nulls.items()}
    return {key: np.concatenate(score) for key, score in scores.items()}, pooled, kept


def _gauss(Y: np.ndarray) -> np.ndarray:
    return pooled_gauss_null(Y.shape[1], Y.shape[0], seed=SEED)

"""The work of `wernicke.encoding.partition`: rows and bands checked, models fitted and scored some voxels at a time."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from scipy.linalg import eigh

from wernicke.core.checks import check_labels, check_matrix
from wernicke.core.errors import InputError
from wernicke.ridge import correlation_score, correlation_score_split, r2_score, r2_score_split
from wernicke.ridge.partition import SubModel, SubModels
from wernicke.stats.autocorrelation import block_length
from wernicke.stats.block_bootstrap import BlockBootstrap, Sums
from wernicke.stats.permutation import permutation_test

log = logging.getLogger(__name__)

_VOXELS_PER_CHECK = 4096


@dataclass(frozen=True)
class PartitionData:
    """Features of training and test rows, centred by the training rows, and which voxels have a score."""

    names: tuple[str, ...]
    train: list[np.ndarray]
    """One (n_train, n_features) a band"""
    test: np.ndarray
    """(n_test, n_features of all bands)"""
    scales: list[float]
    """What each band was divided by"""
    responses: Any
    train_rows: np.ndarray
    test_rows: np.ndarray
    test_runs: np.ndarray | None
    cv: Any
    varying: np.ndarray
    """Numbers of the voxels that vary in training and in test rows"""

    @staticmethod
    def check(
        bands: Mapping[str, Any], responses: Any, train_rows: Any, test_rows: Any, folds: Any, runs: Any, scaled: bool
    ) -> PartitionData:
        """Check what the caller gave and prepare the features; parameters as in `wernicke.encoding.partition`."""
        if len(bands) < 2:
            raise InputError("E-CFG", f"found {len(bands)} band, expected at least 2 to divide a score", field="bands")
        if np.ndim(responses) != 2 or 0 in np.shape(responses):
            raise InputError("E-SHAPE", f"found shape {np.shape(responses)}, expected (n_rows, n_voxels)",
                             field="responses")  # fmt: skip
        n_rows = responses.shape[0]
        train_rows, test_rows = _rows(train_rows, "train_rows", n_rows), _rows(test_rows, "test_rows", n_rows)
        both = np.intersect1d(train_rows, test_rows)
        if both.size:
            raise InputError("E-SPLIT", f"{both.size} rows stand in training and in test, the first is {both[0]}",
                             field="test_rows")  # fmt: skip
        checked = {str(name): check_matrix(band, f"band `{name}`", n_rows=n_rows) for name, band in bands.items()}
        dtype = np.result_type(*checked.values())
        train, test, scales = [], [], []
        for band in checked.values():
            inside = band[train_rows]
            mean = inside.mean(axis=0, dtype=np.float64)
            scale = float(np.sqrt(inside.var(axis=0, dtype=np.float64).sum())) if scaled else 1.0
            scales.append(scale if scale > 0 else 1.0)
            train.append(((inside - mean) / scales[-1]).astype(dtype))
            test.append(((band[test_rows] - mean) / scales[-1]).astype(dtype))
        test_runs = None if runs is None else check_labels(runs, "runs", n_rows)[test_rows]
        return PartitionData(
            tuple(checked), train, np.concatenate(test, axis=1), scales, responses, train_rows, test_rows, test_runs,
            _folds(folds, len(train_rows)), _varying(responses, train_rows, test_rows),
        )  # fmt: skip

    @property
    def parts(self) -> list[slice]:
        """Columns of each band in `test` and in the weights."""
        ends = np.cumsum([band.shape[1] for band in self.train]).tolist()
        return [slice(end - band.shape[1], end) for end, band in zip(ends, self.train, strict=True)]


def _folds(folds: Any, n_train: int) -> Any:
    if isinstance(folds, (int, np.integer)):
        return folds
    labels = check_labels(folds, "folds", n_train)
    different = list(dict.fromkeys(labels.tolist()))
    if len(different) < 2:
        raise InputError("E-SPLIT", "found 1 fold, expected at least 2", field="folds")
    return [(np.flatnonzero(labels != one), np.flatnonzero(labels == one)) for one in different]


def _rows(rows: Any, name: str, n_rows: int) -> np.ndarray:
    rows = np.asarray(rows)
    if rows.dtype == bool and rows.shape == (n_rows,):
        rows = np.flatnonzero(rows)
    if rows.ndim != 1 or rows.size == 0 or rows.dtype.kind not in "iu" or rows.min() < 0 or rows.max() >= n_rows:
        raise InputError("E-SPLIT", f"found {rows.dtype} of shape {rows.shape}, expected row numbers from 0 to "
                         f"{n_rows - 1}", field=name)  # fmt: skip
    if len(np.unique(rows)) != len(rows):
        raise InputError("E-SPLIT", "a row stands there twice", field=name)
    return rows


def _varying(responses: Any, train_rows: np.ndarray, test_rows: np.ndarray) -> np.ndarray:
    """Return the voxels that vary in training and in test rows; the others are counted."""
    found = []
    for start in range(0, responses.shape[1], _VOXELS_PER_CHECK):
        values = np.asarray(responses[:, start : start + _VOXELS_PER_CHECK])
        train, test = (check_matrix(values[rows], "responses") for rows in (train_rows, test_rows))
        found.append(start + np.flatnonzero((np.ptp(train, axis=0) > 0) & (np.ptp(test, axis=0) > 0)))
    varying, n_voxels = np.concatenate(found), responses.shape[1]
    if not len(varying):
        raise InputError("E-CONST", f"all {n_voxels} voxels are constant", field="responses")
    if len(varying) < n_voxels:
        log.warning("%d of %d voxels are constant and left out: NaN in every map", n_voxels - len(varying), n_voxels)
    return varying


@dataclass(frozen=True)
class Resampling:
    """Blocks of the test rows."""

    block_tr: int
    bootstrap: BlockBootstrap


class PartitionMaps:
    """Maps of all voxels by (kind, band or band numbers), filled some voxels at a time."""

    def __init__(
        self, data: PartitionData, solver: SubModels, *, score: str, n_bootstrap: int, n_permutations: int, tail: str,
        block_tr: int | None, level: float, keep_coef: bool, seed: int,
    ) -> None:  # fmt: skip
        self.data, self.solver, self.score, self.seed = data, solver, score, seed
        self.n_bootstrap, self.n_permutations, self.tail, self.level = n_bootstrap, n_permutations, tail, level
        self.keep_coef, self.wanted_block_tr = keep_coef, block_tr
        self.maps: dict[tuple[str, Any], np.ndarray] = {}
        self.test = torch.from_numpy(data.test).to(solver.side.device)
        self._resampling: Resampling | None = None
        self.others: dict[int, np.ndarray] = {}

    @property
    def resampling(self) -> Resampling:
        if self._resampling is None:
            raise RuntimeError("no voxel was fitted yet")
        return self._resampling

    def of_model(self, subset: tuple[int, ...]) -> dict[str, np.ndarray]:
        """Return the scores of one model."""
        return {kind: self.maps[kind, subset] for kind in ("r", "r2", "cv")}

    def add(self, voxels: np.ndarray) -> None:
        """Fit, score and resample some voxels: the full model, then each sub-model."""
        data = self.data
        values = np.asarray(data.responses[:, voxels])
        truth, trained = (values[rows].astype(data.test.dtype) for rows in (data.test_rows, data.train_rows))
        models = self.solver.fit(trained)
        full = next(models)
        prediction = self._predict(full)
        self._scores(full, voxels, truth, prediction)
        self._full(full, voxels, truth, prediction)
        sums = self.resampling.bootstrap.sums(truth, prediction)
        for model in models:
            prediction = self._predict(model)
            self._scores(model, voxels, truth, prediction)
            if len(model.bands) == len(data.names) - 1:
                self._unique(full, model, voxels, truth, prediction, sums)

    def _predict(self, model: SubModel) -> np.ndarray:
        return (self.test @ model.coef + model.intercept).cpu().numpy()

    def _share(self, model: SubModel, part: slice) -> np.ndarray:
        """Return what one band contributes to the prediction of the test rows."""
        return (self.test[:, part] @ model.coef[part]).cpu().numpy()

    def _put(self, kind: str, key: Any, voxels: np.ndarray, values: np.ndarray) -> None:
        if (kind, key) not in self.maps:
            shape = (*values.shape[:-1], self.data.responses.shape[1])
            self.maps[kind, key] = np.full(shape, np.nan, dtype=np.result_type(values, np.float32))
        self.maps[kind, key][..., voxels] = values

    def _scores(self, model: SubModel, voxels: np.ndarray, truth: np.ndarray, prediction: np.ndarray) -> None:
        self._put("r", model.bands, voxels, correlation_score(truth, prediction))
        self._put("r2", model.bands, voxels, r2_score(truth, prediction))
        self._put("cv", model.bands, voxels, model.cv_scores.cpu().numpy())

    def _full(self, model: SubModel, voxels: np.ndarray, truth: np.ndarray, prediction: np.ndarray) -> None:
        """Keep what only the full model has: product measure, weights, interval; and, once, find the block length."""
        data = self.data
        shares = np.stack([self._share(model, part) for part in data.parts])
        shares -= shares.mean(axis=1, keepdims=True)
        centred = truth - truth.mean(axis=0)
        of_r, of_r2 = correlation_score_split(centred, shares), r2_score_split(centred, shares)
        for i, name in enumerate(data.names):
            self._put("product_r", name, voxels, of_r[i])
            self._put("product_r2", name, voxels, of_r2[i])
            if self.keep_coef:
                self._put("coef", name, voxels, (model.coef[data.parts[i]] / data.scales[i]).cpu().numpy())
        self._put("alpha", "", voxels, model.best_alphas.cpu().numpy())
        if self._resampling is None:
            length = self.wanted_block_tr or block_length(prediction, truth, data.test_runs)
            bootstrap = BlockBootstrap.draw(
                data.test_runs, len(truth), length, self.n_bootstrap, self.level, self.seed
            )  # fmt: skip
            self._resampling = Resampling(length, bootstrap)
        bootstrap = self.resampling.bootstrap
        low, high, *_ = bootstrap.interval(bootstrap.sums(truth, prediction), None, self.score)  # type: ignore[arg-type]
        self._put("score_low", "", voxels, low)
        self._put("score_high", "", voxels, high)

    def _unique(
        self, full: SubModel, model: SubModel, voxels: np.ndarray, truth: np.ndarray, reduced: np.ndarray, sums: Sums
    ) -> None:
        """Keep interval and p values of the band that `model` lacks."""
        band = next(i for i in full.bands if i not in model.bands)
        bootstrap, part = self.resampling.bootstrap, self.data.parts[band]
        low, high, se, p = bootstrap.interval(sums, bootstrap.sums(truth, reduced), self.score)  # type: ignore[arg-type]
        if band not in self.others:
            self.others[band] = leading_directions(np.delete(self.data.test, np.r_[part], axis=1), len(truth) // 10)
        basis = self.others[band]
        share, rest = (values - basis @ (basis.T @ values) for values in (self._share(full, part), truth))
        test = permutation_test(
            share, rest, self.data.test_runs, n_permutations=self.n_permutations,
            block_length=self.resampling.block_tr, tail=self.tail, seed=self.seed,  # type: ignore[arg-type]
        )  # fmt: skip
        # Where the band has no part in the prediction there is nothing to permute: it adds nothing.
        permuted = np.where(np.isnan(test.p), 1.0, test.p)
        for kind, values in (("low", low), ("high", high), ("se", se), ("p_bootstrap", p), ("p", permuted)):
            self._put(kind, self.data.names[band], voxels, values)


def leading_directions(features: np.ndarray, n_most: int) -> np.ndarray:
    """Return orthonormal columns, (n_rows, n), that span a constant and the features, or their leading components.

    Where features and the constant are more than `n_most`, their first principal components over rows stand for them.
    """
    n_rows = len(features)
    centred = features.astype(np.float64) - features.mean(axis=0, dtype=np.float64)
    wide = centred.shape[1] > n_rows
    gram = centred @ centred.T if wide else centred.T @ centred
    n_kept = min(len(gram), max(1, n_most - 1))
    values, vectors = eigh(gram, subset_by_index=(len(gram) - n_kept, len(gram) - 1))
    kept = values > 1e-10 * max(float(values[-1]), np.finfo(float).tiny)
    directions = vectors[:, kept] if wide else centred @ vectors[:, kept] / np.sqrt(values[kept])
    constant = np.full((n_rows, 1), 1 / np.sqrt(n_rows))
    return np.concatenate([constant, directions], axis=1).astype(features.dtype)

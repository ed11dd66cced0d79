"""Linear decoders: the baselines, and the map from voxels onto the bridge's input.

What is fitted (standardisation, alpha, weights) is fitted on the training runs that are given, and on nothing else.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from wernicke.core.checks import check_labels, check_matrix, check_range
from wernicke.core.errors import InputError

ALPHAS = tuple(10.0**power for power in np.arange(-1, 5.5, 0.5))


class BrainToBridge:
    """Ridge regression from voxels onto embeddings, the alpha chosen by leaving training runs out.

    All dimensions of the embedding share one alpha, or their directions would be shrunk unequally. Ridge draws its
    predictions towards the mean; the bridge was trained on embeddings of full length. So a prediction keeps its
    direction from the training embeddings' mean and gets their mean distance from it.

    Voxels are centred by the training samples' mean and not rescaled: after z-scoring each run's volumes, a block
    average varies more where there is a response, and ridge may use that.

    Parameters
    ----------
    alphas : sequence of float

    Attributes
    ----------
    alpha_ : float
    coef_ : array, shape (n_voxels, d)
    """

    def __init__(self, alphas: Sequence[float] = ALPHAS) -> None:
        for alpha in alphas:
            check_range(alpha, "alphas", low=0, low_open=True)
        self.alphas = tuple(alphas)

    def fit(self, betas: np.ndarray, embeddings: np.ndarray, groups: Sequence[Any]) -> BrainToBridge:
        """Fit on training samples.

        Parameters
        ----------
        betas : array, shape (n_samples, n_voxels)
        embeddings : array, shape (n_samples, d)
        groups : sequence of n_samples
            Runs; at least two, since the alpha is chosen by leaving one out at a time.

        Raises
        ------
        InputError
            E-SHAPE, E-NONFIN, E-META; E-SPLIT with a single group.
        """
        from wernicke.ridge import correlation_score, solve_ridge_cv

        betas = check_matrix(betas, "betas")
        embeddings = check_matrix(embeddings, "embeddings", n_rows=len(betas)).astype(np.float64)
        folds = _leave_one_out(check_labels(groups, "groups", len(betas)))
        self._mean = betas.mean(0, dtype=np.float64)
        self._centre = embeddings.mean(0)
        away = embeddings - self._centre
        self._length = float(np.linalg.norm(away, axis=1).mean())
        if self._length == 0:
            raise InputError("E-CONST", "all embeddings are the same", field="embeddings")
        solution = solve_ridge_cv(
            (betas - self._mean), away, self.alphas, score_func=correlation_score, cv=folds, local_alpha=False,
            fit_intercept=True, exhaustive=True, warn=False,
        )  # fmt: skip
        self.alpha_ = float(np.asarray(solution.best_alphas)[0])
        self.coef_ = np.asarray(solution.coef)
        self._intercept = np.asarray(solution.intercept)
        return self

    def predict(self, betas: np.ndarray) -> np.ndarray:
        """Return embeddings for new samples, shape (n_samples, d), float32."""
        betas = check_matrix(betas, "betas")
        if betas.shape[1] != len(self.coef_):
            raise InputError("E-SHAPE", f"found {betas.shape[1]} voxels, the decoder was fitted on {len(self.coef_)}",
                             field="betas")  # fmt: skip
        away = (betas - self._mean) @ self.coef_ + self._intercept
        return (self._centre + set_length(away, self._length)).astype(np.float32)

    def learnt(self) -> dict[str, np.ndarray]:
        """Every fitted quantity by name; the poison audit compares their bytes."""
        return {
            "voxel mean": self._mean, "embedding mean": self._centre, "embedding length": np.asarray(self._length),
            "alpha": np.asarray(self.alpha_), "weights": self.coef_, "intercept": self._intercept,
        }  # fmt: skip


def set_length(vectors: np.ndarray, length: float) -> np.ndarray:
    """Return vectors, shape (n, d), of one Euclidean length; a zero vector stays."""
    norms = np.linalg.norm(vectors, axis=1, keepdims=True)
    return vectors * np.divide(length, norms, out=np.zeros_like(norms), where=norms > 0)


def _leave_one_out(groups: np.ndarray) -> list[tuple[np.ndarray, np.ndarray]]:
    names = list(dict.fromkeys(groups.tolist()))
    if len(names) < 2:
        raise InputError("E-SPLIT", f"found {len(names)} group, expected at least 2", field="groups",
                         hint="groups are runs: alpha is chosen by leaving one out at a time")  # fmt: skip
    return [(np.flatnonzero(groups != name), np.flatnonzero(groups == name)) for name in names]


def linear_svm(seed: int = 0) -> Any:
    """Return the baseline linear support vector machine: C = 1, one against the rest, squared hinge loss.

    The input is used as it comes (z-scored by run beforehand); nothing is tuned.
    """
    from sklearn.svm import LinearSVC

    return LinearSVC(C=1.0, random_state=seed, max_iter=20_000)


def ridge_classifier(alphas: Sequence[float] = ALPHAS) -> Any:
    """Return the baseline ridge classifier; its alpha is chosen by leave-one-out within the training samples."""
    from sklearn.linear_model import RidgeClassifierCV

    return RidgeClassifierCV(alphas=np.asarray(alphas))


def cross_predict_labels(model: Any, betas: np.ndarray, labels: Sequence[Any], groups: Sequence[Any]) -> np.ndarray:
    """Return each sample's label as predicted by a classifier fitted on the other runs, shape (n_samples,).

    Parameters
    ----------
    model : scikit-learn classifier
        Cloned for each fold.
    betas : array, shape (n_samples, n_voxels)
    labels : sequence of n_samples
    groups : sequence of n_samples
        Runs.
    """
    from sklearn.base import clone

    betas = check_matrix(betas, "betas")
    wanted = check_labels(labels, "labels", len(betas))
    predicted = np.empty_like(wanted)
    for train, test in _leave_one_out(check_labels(groups, "groups", len(betas))):
        predicted[test] = clone(model).fit(betas[train], wanted[train]).predict(betas[test])
    return predicted

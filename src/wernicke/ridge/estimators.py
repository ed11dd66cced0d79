"""Ridge estimators with scikit-learn's interface and himalaya's names."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from sklearn.base import BaseEstimator, MultiOutputMixin, RegressorMixin
from sklearn.utils import Tags
from sklearn.utils.validation import check_is_fitted, validate_data

from wernicke.core.checks import suggest
from wernicke.core.errors import InputError
from wernicke.ridge.arrays import Array, check_finite_tensor, give_back, is_torch, to_torch
from wernicke.ridge.scores import r2_score
from wernicke.ridge.solvers import solve_ridge, solve_ridge_cv

#: himalaya's keywords that bound its memory or choose its decomposition. They are taken and have no effect: here no
#: array has an alpha axis, one decomposition serves, and its eigenvalues are not negative.
_WITHOUT_EFFECT = frozenset(
    {
        "n_alphas_batch",
        "n_targets_batch_refit",
        "diagonalize_method",
        "method",
        "negative_eigenvalues",
        "return_weights",
    }
)


class _BaseRidge(MultiOutputMixin, RegressorMixin, BaseEstimator):
    """What all ridge estimators share: checked inputs, predictions and scores per target."""

    _solvers: tuple[str, ...] = ("svd",)

    def _solver_settings(self, solve: Callable[..., Any], direct: set[str]) -> dict[str, Any]:
        """Return `solver_params` after checking every key against the solver's signature."""
        if self.solver not in self._solvers:
            raise InputError("E-CFG", f"unknown value `{self.solver}`", field="solver",
                             hint=suggest(str(self.solver), self._solvers))  # fmt: skip
        given = dict(self.solver_params or {})
        known = set(inspect.signature(solve).parameters) - {"X", "Xs", "Y"} | _WITHOUT_EFFECT | {"warn"}
        for key in given:
            if key in direct:
                raise InputError("E-CFG", f"`{key}` is a parameter of {type(self).__name__} itself",
                                 field="solver_params", hint=f"pass {key}=... to the constructor")  # fmt: skip
            if key not in known:
                raise InputError("E-CFG", f"unknown key `{key}`", field="solver_params",
                                 hint=suggest(key, known - direct))  # fmt: skip
        return {key: value for key, value in given.items() if key in inspect.signature(solve).parameters}

    def _check_X(self, X: Any, reset: bool) -> Any:
        """Return X as a 2-D floating array, or as the tensor it is, and note or compare its number of features."""
        if not is_torch(X):
            return validate_data(self, X, reset=reset, dtype=[np.float64, np.float32], ensure_all_finite=False)
        if X.ndim != 2:
            raise InputError("E-SHAPE", f"found shape {tuple(X.shape)}, expected (n_samples, n_features)", field="X")
        if reset:
            self.n_features_in_ = X.shape[1]
        elif X.shape[1] != self.n_features_in_:
            raise ValueError(
                f"X has {X.shape[1]} features, but {type(self).__name__} is expecting {self.n_features_in_} features "
                "as input."
            )
        return X.cpu() if self.force_cpu else X

    def _check_y(self, y: Any) -> tuple[torch.Tensor, bool]:
        """Return y as a 2-D tensor, and whether it was 1-D."""
        if y is None:
            raise ValueError(f"{type(self).__name__} requires y to be passed, but the target y is None")
        values = y if is_torch(y) else np.asarray(y)
        if values.dtype == object:
            values = values.astype(np.float64)
        responses = to_torch(values)
        if responses.ndim not in (1, 2):
            raise InputError("E-SHAPE", f"found shape {tuple(responses.shape)}, expected (n_samples,) or (n_samples, "
                             "n_targets)", field="y")  # fmt: skip
        return (responses[:, None], True) if responses.ndim == 1 else (responses, False)

    def _keep_weights(self, coef: Any, intercept: Any, ravel: bool) -> None:
        self.coef_ = coef[:, 0] if ravel else coef
        if self.fit_intercept:
            self.intercept_ = intercept[0] if ravel else intercept

    def _predict(self, X: Any, coef: Any) -> Any:
        """Return ``X @ coef`` in X's kind and the fitted precision."""
        features, weights = check_finite_tensor(to_torch(X), "X"), to_torch(coef)
        prediction = features.to(weights.dtype) @ weights.to(features.device)
        return give_back(prediction, X)

    def predict(self, X: Array) -> Array:
        """Predict the targets.

        Parameters
        ----------
        X : array of shape (n_samples, n_features)

        Returns
        -------
        array of shape (n_samples,) or (n_samples, n_targets)
        """
        check_is_fitted(self)
        X = self._check_X(X, reset=False)
        prediction = self._predict(X, self.coef_)
        if self.fit_intercept:
            prediction = prediction + give_back(to_torch(self.intercept_).to(to_torch(X).device), X)
        return prediction

    def score(self, X: Array, y: Array) -> Array:
        """Return R2 of each target, shape (n_targets,), or a float for a single 1-D target."""
        prediction = self.predict(X)
        truth, ravel = self._check_y(y)
        if ravel:
            return r2_score(truth, to_torch(prediction)[:, None])[0].item()
        return give_back(r2_score(truth, to_torch(prediction)), prediction)

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        tags.target_tags.required = True
        return tags


class Ridge(_BaseRidge):
    """Ridge regression: ``argmin_b |X b - y|^2 + alpha |b|^2`` for every target.

    Parameters
    ----------
    alpha : float or array of shape (n_targets,)
    fit_intercept : bool
        Without it X and y are taken as they are.
    solver : {"svd"}
        himalaya's name; the smaller of feature and sample space is decomposed.
    solver_params : dict, optional
        Keywords of `wernicke.ridge.solve_ridge`; an unknown one is refused.
    force_cpu : bool
        Compute on the CPU even if X is on a GPU.

    Attributes
    ----------
    coef_ : array of shape (n_features,) or (n_features, n_targets)
    intercept_ : float or array of shape (n_targets,), only with `fit_intercept`
    n_features_in_ : int
    n_floored_ : int
        Targets whose alpha was raised to 1e-8 of the largest eigenvalue.
    dtype_ : str
    """

    def __init__(
        self,
        alpha: Any = 1,
        fit_intercept: bool = False,
        solver: str = "svd",
        solver_params: dict[str, Any] | None = None,
        force_cpu: bool = False,
    ) -> None:
        self.alpha = alpha
        self.fit_intercept = fit_intercept
        self.solver = solver
        self.solver_params = solver_params
        self.force_cpu = force_cpu

    def fit(self, X: Array, y: Array | None = None) -> Ridge:
        """Fit the model to X (n_samples, n_features) and y (n_samples,) or (n_samples, n_targets)."""
        settings = self._solver_settings(solve_ridge, {"alpha", "fit_intercept"})
        X = self._check_X(X, reset=True)
        responses, ravel = self._check_y(y)
        self.dtype_ = str(to_torch(X).dtype).removeprefix("torch.")
        coef, intercept, self.n_floored_ = solve_ridge(
            X, responses, self.alpha, fit_intercept=self.fit_intercept, **settings
        )
        self._keep_weights(coef, intercept, ravel)
        return self


class RidgeCV(_BaseRidge):
    """Ridge regression with each target's alpha chosen by cross-validation.

    Parameters
    ----------
    alphas : array of shape (n_alphas,)
    fit_intercept, solver, solver_params, force_cpu
        As in `Ridge`; `solver_params` are keywords of `wernicke.ridge.solve_ridge_cv`, such as
        ``dict(score_func=correlation_score, n_targets_batch=3000)``.
    cv : int, scikit-learn splitter, or iterable of (train, test)
    Y_in_cpu : bool
        Leave y in main memory when X is on a GPU.

    Attributes
    ----------
    coef_, intercept_, n_features_in_, dtype_
        As in `Ridge`.
    best_alphas_ : array of shape (n_targets,)
    cv_scores_ : array of shape (n_targets,)
        At the best alpha, averaged over folds; minus the mean squared error unless ``score_func`` says otherwise.
    n_floored_, n_edge_ : int
        Targets whose chosen alpha was raised to 1e-8 of the largest eigenvalue; is the grid's smallest or largest.
    """

    def __init__(
        self,
        alphas: Any = (0.1, 1),
        fit_intercept: bool = False,
        solver: str = "svd",
        solver_params: dict[str, Any] | None = None,
        cv: Any = 5,
        Y_in_cpu: bool = False,
        force_cpu: bool = False,
    ) -> None:
        self.alphas = alphas
        self.fit_intercept = fit_intercept
        self.solver = solver
        self.solver_params = solver_params
        self.cv = cv
        self.Y_in_cpu = Y_in_cpu
        self.force_cpu = force_cpu

    def fit(self, X: Array, y: Array | None = None) -> RidgeCV:
        """Fit the model to X (n_samples, n_features) and y (n_samples,) or (n_samples, n_targets)."""
        settings = self._solver_settings(solve_ridge_cv, {"alphas", "fit_intercept", "cv", "Y_in_cpu"})
        X = self._check_X(X, reset=True)
        responses, ravel = self._check_y(y)
        self.dtype_ = str(to_torch(X).dtype).removeprefix("torch.")
        found = solve_ridge_cv(
            X, responses, self.alphas, fit_intercept=self.fit_intercept, cv=self.cv, Y_in_cpu=self.Y_in_cpu, **settings
        )
        self.best_alphas_, self.cv_scores_ = found.best_alphas, found.cv_scores[0]
        self.n_floored_, self.n_edge_ = found.n_floored, found.n_edge
        self._keep_weights(found.coef, found.intercept, ravel)
        return self

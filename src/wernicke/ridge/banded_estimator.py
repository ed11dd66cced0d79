"""Banded ridge with scikit-learn's interface and himalaya's names."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from sklearn.utils.validation import check_array, check_is_fitted

from wernicke.core.errors import InputError
from wernicke.ridge.arrays import Array, give_back, is_torch, to_torch
from wernicke.ridge.estimators import _BaseRidge
from wernicke.ridge.scores import r2_score, r2_score_split
from wernicke.ridge.solvers import solve_group_ridge


class GroupRidgeCV(_BaseRidge):
    """Banded (group) ridge: each feature space has its own regularisation, chosen per target by cross-validation.

    Minimises ``|sum_i exp(deltas[i] / 2) X_i b_i - y|^2 + |b|^2``.

    Parameters
    ----------
    groups : array of shape (n_features,), "input", or None
        The group of each feature (negative: left out); "input": X is a list of arrays, one a group; None: one group.
    solver : {"random_search"}
    solver_params : dict, optional
        Keywords of `wernicke.ridge.solve_group_ridge`, such as ``dict(n_iter=20, alphas=np.logspace(-5, 15, 21),
        score_func=correlation_score)``; an unknown one is refused.
    fit_intercept : bool
        Without it X and y are taken as they are.
    cv : int, scikit-learn splitter, or iterable of (train, test)
    random_state : int or None
        The same seed draws what himalaya draws.
    Y_in_cpu, force_cpu : bool
        As in `RidgeCV`.

    Attributes
    ----------
    coef_ : array of shape (n_features,) or (n_features, n_targets)
    intercept_ : float or array of shape (n_targets,), only with `fit_intercept`
    deltas_ : array of shape (n_groups,) or (n_groups, n_targets)
        Log of the group scalings; -inf for a group that was given the weight 0.
    best_alphas_ : array of shape (n_targets,)
        ``1 / exp(deltas_).sum(0)``
    cv_scores_ : array of shape (n_iter, n_targets)
        Averaged over folds, at each draw's best alpha. A draw that by its screened score cannot win for a target
        is not verified for it: there the screened score stands, unless ``solver_params=dict(exhaustive=True)``.
    n_features_in_, dtype_, n_floored_, n_edge_
        As in `RidgeCV`.
    n_features_by_group_ : tuple of int, only with ``groups="input"``
    n_clamped_ : int
        Targets whose chosen draw has a band weight that was raised to 1e-8 of the largest.
    """

    _solvers = ("random_search",)

    def __init__(
        self,
        groups: Any = None,
        solver: str = "random_search",
        solver_params: dict[str, Any] | None = None,
        fit_intercept: bool = False,
        cv: Any = 5,
        random_state: int | None = None,
        Y_in_cpu: bool = False,
        force_cpu: bool = False,
    ) -> None:
        self.groups = groups
        self.solver = solver
        self.solver_params = solver_params
        self.fit_intercept = fit_intercept
        self.cv = cv
        self.random_state = random_state
        self.Y_in_cpu = Y_in_cpu
        self.force_cpu = force_cpu

    def fit(self, X: Array | list[Array], y: Array | None = None) -> GroupRidgeCV:
        """Fit the model.

        Parameters
        ----------
        X : array of shape (n_samples, n_features), or with ``groups="input"`` a list of (n_samples, n_features_i)
        y : array of shape (n_samples,) or (n_samples, n_targets)
        """
        direct = {"fit_intercept", "cv", "random_state", "Y_in_cpu"}
        settings = self._solver_settings(solve_group_ridge, direct)
        Xs = self._split_groups(X, reset=True)
        responses, ravel = self._check_y(y)
        self.dtype_ = str(to_torch(Xs[0]).dtype).removeprefix("torch.")
        found = solve_group_ridge(
            Xs, responses, fit_intercept=self.fit_intercept, cv=self.cv, random_state=self.random_state,
            Y_in_cpu=self.Y_in_cpu, **settings,
        )  # fmt: skip
        self.best_alphas_, self.cv_scores_ = 1 / _sum_exp(found.deltas), found.cv_scores
        self.deltas_ = found.deltas[:, 0] if ravel else found.deltas
        self.n_floored_, self.n_edge_, self.n_clamped_ = found.n_floored, found.n_edge, found.n_clamped
        self._keep_weights(found.coef, found.intercept, ravel)
        return self

    def predict(self, X: Array | list[Array], split: bool = False) -> Array:
        """Predict the targets.

        Parameters
        ----------
        X : as in `fit`
        split : bool
            Return each group's share, with one more axis in front; the shares sum to the prediction without intercept.

        Returns
        -------
        array of shape (n_samples[, n_targets]), or (n_groups, n_samples[, n_targets])
        """
        check_is_fitted(self)
        Xs = self._split_groups(X, reset=False)
        if split and self.fit_intercept:
            raise InputError("E-CFG", "predictions of a model with an intercept cannot be split", field="split",
                             hint="centre X and y, and use fit_intercept=False")  # fmt: skip
        ends = np.cumsum([Xi.shape[1] for Xi in Xs])
        parts = [
            to_torch(self._predict(Xi, self.coef_[end - Xi.shape[1] : end])) for Xi, end in zip(Xs, ends, strict=True)
        ]
        if split:
            return give_back(torch.stack(parts), Xs[0])
        prediction = parts[0]
        for part in parts[1:]:
            prediction += part
        if self.fit_intercept:
            prediction = prediction + to_torch(self.intercept_).to(prediction.device)
        return give_back(prediction, Xs[0])

    def score(self, X: Array | list[Array], y: Array, split: bool = False) -> Array:
        """Return R2 of each target, shape (n_targets,); with `split` divided among groups, (n_groups, n_targets)."""
        prediction = self.predict(X, split=split)
        truth, ravel = self._check_y(y)
        values = to_torch(prediction)[..., None] if ravel else to_torch(prediction)
        result = (r2_score_split if split else r2_score)(truth, values)
        if ravel:
            return give_back(result[:, 0], prediction) if split else result[0].item()
        return give_back(result, prediction)

    def _split_groups(self, X: Any, reset: bool) -> list[Any]:
        """Return one array a group."""
        if isinstance(self.groups, str):
            if self.groups != "input":
                raise InputError("E-CFG", f'found `{self.groups}`, expected "input", an array or None', field="groups")
            if not isinstance(X, (list, tuple)) or not X:
                found = "no array" if isinstance(X, (list, tuple)) else "one array"
                raise InputError("E-SHAPE", f'found {found}, expected a list of them with groups="input"', field="X")
            Xs = [self._one_group(Xi, f"X[{i}]") for i, Xi in enumerate(X)]
            widths = tuple(Xi.shape[1] for Xi in Xs)
            if reset:
                self.n_features_in_, self.n_features_by_group_ = sum(widths), widths
            elif widths != self.n_features_by_group_:
                raise InputError("E-SHAPE", f"found arrays of {_listed(widths)} features, fitted on "
                                 f"{_listed(self.n_features_by_group_)}", field="X")  # fmt: skip
            return Xs
        X = self._check_X(X, reset=reset)
        if self.groups is None:
            return [X]
        groups = _check_groups(self.groups, X.shape[1])
        return [X[:, np.flatnonzero(groups == group)] for group in np.unique(groups) if group >= 0]

    def _one_group(self, X: Any, name: str) -> Any:
        if is_torch(X):
            return X.cpu() if self.force_cpu else X
        return check_array(
            X, dtype=[np.float64, np.float32], ensure_all_finite=False, ensure_min_features=0, input_name=name
        )


def _check_groups(given: Any, n_features: int) -> np.ndarray:
    """Return the group of each feature, shape (n_features,), at least one of them not negative."""
    groups = given.cpu().numpy() if is_torch(given) else np.asarray(given)
    if groups.shape != (n_features,):
        raise InputError("E-SHAPE", f"found shape {groups.shape}, expected one group for each of {n_features} features",
                         field="groups")  # fmt: skip
    if groups.dtype.kind not in "iufb" or not np.isfinite(groups).all():
        raise InputError("E-FMT", f"found {groups.dtype} such as {groups[0]!s:.40}, expected finite numbers",
                         field="groups", hint="of names: numpy.unique(names, return_inverse=True)[1]")  # fmt: skip
    if (groups < 0).all():
        raise InputError("E-META", f"all {n_features} groups are negative, which leaves every feature out",
                         field="groups")  # fmt: skip
    return groups


def _listed(widths: tuple[int, ...]) -> str:
    return ", ".join(map(str, widths)) or "no"


def _sum_exp(deltas: Any) -> Any:
    return give_back(to_torch(deltas).exp().sum(0), deltas)


#: himalaya's other name for the same estimator.
BandedRidgeCV = GroupRidgeCV

"""Scores of many targets at once, one value a target, never averaged over targets.

Definitions are himalaya's (0.4.11, ``himalaya.scoring``): population moments in float64, a target or prediction
without variance scores 0 (correlation, R2). The split forms divide a joint model's score among its feature spaces by
the product measure (Pratt 1987; St-Yves & Naselaris 2018), so that the parts sum to the whole.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import torch

from wernicke.core.errors import InputError
from wernicke.ridge.arrays import Array, check_finite_tensor, give_back, to_torch

_VALUES_AT_ONCE = 8_000_000


def _pair(y_true: Any, y_pred: Any) -> tuple[torch.Tensor, torch.Tensor]:
    """Return both as tensors whose samples stand on axis -2, after checking that they belong together."""
    truth, prediction = to_torch(y_true), to_torch(y_pred)
    if truth.ndim != 2 or prediction.ndim not in (2, 3) or prediction.shape[-2:] != truth.shape:
        raise InputError(
            "E-SHAPE",
            f"found y_true {tuple(truth.shape)} and y_pred {tuple(prediction.shape)}, expected (n_samples, n_targets) "
            "and the same, or (n_predictions, n_samples, n_targets)",
            field="y_pred",
        )
    check_finite_tensor(truth, "y_true")
    check_finite_tensor(prediction, "y_pred")
    return truth.to(prediction.device), prediction


def _by_columns(score: Callable[[torch.Tensor, torch.Tensor], torch.Tensor], y_true: Any, y_pred: Any) -> Any:
    """Apply a score of float64 tensors to some targets at a time, so that no second copy of the data is made."""
    truth, prediction = _pair(y_true, y_pred)
    width = max(1, _VALUES_AT_ONCE // prediction[..., 0].numel())
    parts = [
        score(truth[:, at : at + width].double(), prediction[..., at : at + width].double())
        for at in range(0, truth.shape[1], width)
    ]
    return give_back(torch.cat(parts, -1).to(prediction.dtype), y_pred)


def l2_neg_loss(y_true: Array, y_pred: Array) -> Array:
    """Return minus the mean squared error of each target.

    Parameters
    ----------
    y_true : array of shape (n_samples, n_targets)
    y_pred : array of shape (n_samples, n_targets) or (n_predictions, n_samples, n_targets)

    Returns
    -------
    array of shape (n_targets,) or (n_predictions, n_targets)
    """
    return _by_columns(lambda truth, prediction: -((truth - prediction) ** 2).mean(-2), y_true, y_pred)


def r2_score(y_true: Array, y_pred: Array) -> Array:
    """Return the coefficient of determination of each target; shapes as in `l2_neg_loss`."""

    def score(truth: torch.Tensor, prediction: torch.Tensor) -> torch.Tensor:
        total = ((truth - truth.mean(0)) ** 2).sum(0)
        return _ratio(total - ((truth - prediction) ** 2).sum(-2), total)

    return _by_columns(score, y_true, y_pred)


def correlation_score(y_true: Array, y_pred: Array) -> Array:
    """Return Pearson's correlation of each target with its prediction; shapes as in `l2_neg_loss`."""

    def score(truth: torch.Tensor, prediction: torch.Tensor) -> torch.Tensor:
        truth = truth - truth.mean(0)
        prediction = prediction - prediction.mean(-2, keepdim=True)
        return _ratio((truth * prediction).sum(-2), (truth**2).sum(0).sqrt() * (prediction**2).sum(-2).sqrt())

    return _by_columns(score, y_true, y_pred)


def r2_score_split(y_true: Array, y_pred: Array, include_correlation: bool = True) -> Array:
    """Divide the R2 of a joint model among its feature spaces.

    Parameters
    ----------
    y_true : array of shape (n_samples, n_targets)
        Zero mean over samples.
    y_pred : array of shape (n_spaces, n_samples, n_targets)
        Each space's share of the prediction; their sum is the joint prediction.
    include_correlation : bool
        Share the covariance between spaces out among them, so that the parts sum to the joint R2.

    Returns
    -------
    array of shape (n_spaces, n_targets), or (n_targets,) for one 2-D prediction
    """

    def score(truth: torch.Tensor, parts: torch.Tensor) -> torch.Tensor:
        total = (truth**2).sum(0)
        if bool((len(truth) * truth.mean(0) ** 2 > 1e-6 * total).any()):
            warnings.warn("y_true is not zero-mean over samples: the parts do not sum to R2", stacklevel=4)
        joint = parts.sum(0) if include_correlation and parts.ndim == 3 else parts
        return _ratio((parts * (2 * truth - joint)).sum(-2), total)

    return _by_columns(score, y_true, y_pred)


def correlation_score_split(y_true: Array, y_pred: Array) -> Array:
    """Divide the correlation of a joint model among its feature spaces; shapes as in `r2_score_split`."""

    def score(truth: torch.Tensor, parts: torch.Tensor) -> torch.Tensor:
        truth = truth - truth.mean(0)
        parts = parts - parts.mean(-2, keepdim=True)
        joint = parts.sum(0) if parts.ndim == 3 else parts
        return _ratio((truth * parts).sum(-2), (truth**2).sum(0).sqrt() * (joint**2).sum(0).sqrt())

    return _by_columns(score, y_true, y_pred)


def _ratio(above: torch.Tensor, below: torch.Tensor) -> torch.Tensor:
    """Return above / below, and 0 where there is no variance."""
    return torch.where(below == 0, 0.0, above / below.where(below != 0, 1.0))

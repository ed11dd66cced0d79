"""Scores of a tile of targets for all alphas, in the eigenbasis, without forming predictions.

With z, w the training and test cross products of a target and ``s = z / (l + alpha)``:
``y . prediction = s . w`` costs one small product for all alphas, and only ``|prediction|^2 = s.T G s`` is expensive.
It is screened with G's diagonal, then computed exactly where it can matter.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from wernicke.ridge.basis import FoldBasis
from wernicke.ridge.targets import FoldTargets


def moment_score(
    kind: str, n_test: int, cross: torch.Tensor, norm: torch.Tensor, spread: torch.Tensor, offset: torch.Tensor
) -> torch.Tensor:
    """Return the score from a prediction's moments; all are over centred test samples, `offset` is the mean error.

    Definitions are those of ``wernicke.ridge.scores``: correlation and R2 are 0 for targets without variance.
    """
    if kind == "correlation":
        scale = (norm * spread).sqrt()
        return torch.where(scale > 0, cross / scale.where(scale > 0, 1.0), 0.0)
    error = spread - 2 * cross + norm + n_test * offset.square()
    if kind == "l2":
        return -error / n_test
    return torch.where(spread > 0, 1 - error / spread.where(spread > 0, 1.0), 0.0)


def shrinkage(basis: FoldBasis, alphas: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    """Return ``1 / (l + alpha)``, shape (n_alphas, rank)."""
    return (1 / (basis.eigenvalues + alphas[:, None])).to(dtype)


def exact_scores(kind: str, bases: list[FoldBasis], folds: list[FoldTargets], alphas: torch.Tensor) -> torch.Tensor:
    """Return the score of every fold, alpha and target, shape (n_folds, n_alphas, n_targets)."""
    scores = []
    for basis, target in zip(bases, folds, strict=True):
        d = shrinkage(basis, alphas, target.z.dtype)
        cross = d @ (target.z * target.w).T
        norms = torch.stack([basis.norms(target.z * row) for row in d])
        offset = target.mean - (d * basis.test_mean) @ target.z.T
        scores.append(moment_score(kind, basis.n_test, cross, norms, target.spread, offset))
    return torch.stack(scores)


def predicted_scores(
    score_func: Callable[[Any, Any], Any],
    bases: list[FoldBasis],
    folds: list[FoldTargets],
    alphas: torch.Tensor,
    responses: list[torch.Tensor],
    give: Callable[[torch.Tensor], Any],
) -> torch.Tensor:
    """Return the score of every fold, alpha and target from the predictions themselves, for any score function.

    `score_func` receives (n_test, n_targets) and (n_alphas, n_test, n_targets) and returns (n_alphas, n_targets).
    `responses` are the test responses, less the training mean with an intercept.
    """
    scores = []
    for basis, target, truth in zip(bases, folds, responses, strict=True):
        assert basis.test_factor is not None
        test_factor = basis.test_factor + basis.test_mean
        d = shrinkage(basis, alphas, target.z.dtype)
        predictions = torch.stack([test_factor @ (target.z * row).T for row in d])
        score = torch.as_tensor(score_func(give(truth), give(predictions)))
        scores.append(score.to(target.z.device, target.z.dtype))
    return torch.stack(scores)


def screened_choice(
    kind: str,
    bases: list[FoldBasis],
    folds: list[FoldTargets],
    alphas: torch.Tensor,
    names: torch.Tensor,
    margin: float,
    to_beat: torch.Tensor | None,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return index and score of each target's best alpha, both (n_targets,)."""
    scores = exact_scores(kind, bases, folds, alphas).to(torch.float64).mean(0) + 1e-10 * names.log()[:, None]
    score, index = scores.max(0)
    return index, score

"""Choose each target's alpha and band weights, then fit once."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

from wernicke.ridge.arrays import give_back, product
from wernicke.ridge.basis import ALPHA_FLOOR, FoldBasis
from wernicke.ridge.dual import DualSide
from wernicke.ridge.folds import Fold, as_rows
from wernicke.ridge.primal import PrimalSide
from wernicke.ridge.scores import correlation_score, l2_neg_loss, r2_score
from wernicke.ridge.screen import exact_scores, predicted_scores, screened_choice
from wernicke.ridge.targets import FoldTargets, Side, Tile, view_fold

MOMENT_SCORES: dict[Callable[..., Any], str] = {correlation_score: "correlation", r2_score: "r2", l2_neg_loss: "l2"}

#: Targets whose cross products are held at a time while hyper-parameters are chosen.
TILE = 1024
#: Below this screening saves nothing worth having, and has too few targets to learn its own error from.
FEW_TARGETS = 64


@dataclass(frozen=True)
class Search:
    """How hyper-parameters are chosen: one object, so that every tile on every machine does the same."""

    folds: list[Fold]
    alphas: np.ndarray
    """(n_alphas,), ascending"""
    score_func: Callable[[Any, Any], Any] = l2_neg_loss
    fit_intercept: bool = False
    local_alpha: bool = True
    conservative: bool = False
    exhaustive: bool = False
    like: Any = field(default=None, compare=False)
    """An array of the kind that a user's own score function receives."""

    @property
    def moment(self) -> str | None:
        """Name of a score that follows from moments; None if predictions must be formed."""
        return MOMENT_SCORES.get(self.score_func)

    @property
    def all_alphas(self) -> bool:
        """Whether every alpha is evaluated exactly."""
        return self.exhaustive or self.conservative or not self.local_alpha or self.moment is None


@dataclass
class Choice:
    """The best hyper-parameters so far of a stretch of targets."""

    score: torch.Tensor
    alpha: torch.Tensor
    draw: torch.Tensor

    @staticmethod
    def empty(n_targets: int, device: torch.device) -> Choice:
        """Nothing chosen yet."""
        return Choice(
            torch.full((n_targets,), -math.inf, dtype=torch.float64, device=device),
            torch.ones(n_targets, dtype=torch.float64, device=device),
            torch.zeros(n_targets, dtype=torch.int64, device=device),
        )


def make_side(X: torch.Tensor, widths: list[int], search: Search) -> Side:
    """Return the cheaper side: features where there are no more of them than samples, else samples."""
    kind = DualSide if X.shape[1] > X.shape[0] else PrimalSide
    return kind(X, widths, search.folds, search.fit_intercept, factors=search.moment is None)


class BasisCache:
    """The features' decompositions, kept between batches of targets where there is one draw only."""

    def __init__(self, side: Side, keep: bool) -> None:
        self.side, self.keep = side, keep
        self._kept: dict[tuple[str, int], Any] = {}

    def folds(self, draw: int, gamma: np.ndarray) -> list[FoldBasis]:
        """Return every fold's basis for one draw of band weights."""
        return self._get(("folds", draw), lambda: [self.side.fold_basis(k, gamma) for k in range(len(self.side.folds))])

    def refit(self, draw: int, gamma: np.ndarray) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Return the decomposition over all samples for one draw."""
        return self._get(("refit", draw), lambda: self.side.refit_basis(gamma))

    def _get(self, key: tuple[str, int], make: Callable[[], Any]) -> Any:
        if not self.keep:
            return make()
        if key not in self._kept:
            self._kept[key] = make()
        return self._kept[key]


def alpha_floor(bases: list[FoldBasis]) -> float:
    """Return the smallest alpha that is told apart: 1e-8 of the largest eigenvalue of any fold."""
    return ALPHA_FLOOR * max(float(basis.eigenvalues[-1]) for basis in bases)


def effective_alphas(alphas: np.ndarray, floor: float) -> tuple[np.ndarray, np.ndarray]:
    """Return the distinct alphas after flooring, and the index in `alphas` that stands for each.

    Of alphas that the floor makes equal the largest stands for all, as the tie rule (prefer larger) would choose.
    """
    n_below = max(int((alphas <= floor).sum()), 1)
    chosen = np.arange(n_below - 1, len(alphas))
    return np.maximum(alphas[chosen], floor), chosen


def search_tile(
    side: Side, bases: list[FoldBasis], tile: Tile, search: Search, alphas: np.ndarray, to_beat: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return each target's best mean score over folds and its alpha, both (n_targets,) float64, for one draw.

    `to_beat` are the scores of earlier draws: a target whose screened score is clearly below is not verified.
    """
    folds = [view_fold(side, k, basis, tile) for k, basis in enumerate(bases)]
    distinct, chosen = effective_alphas(alphas, alpha_floor(bases))
    grid = torch.from_numpy(distinct).to(side.device)
    names = torch.from_numpy(alphas[chosen]).to(side.device)
    if not search.all_alphas and len(to_beat) >= FEW_TARGETS:
        assert search.moment is not None
        index, score = screened_choice(search.moment, bases, folds, grid, names, to_beat)
        return score, names[index]
    scores = _all_scores(side, bases, folds, tile, search, grid)
    index, score = choose_alphas(scores, names, search.local_alpha, search.conservative)
    return score, names[index]


def _all_scores(
    side: Side, bases: list[FoldBasis], folds: list[FoldTargets], tile: Tile, search: Search, grid: torch.Tensor
) -> torch.Tensor:
    if search.moment is not None:
        return exact_scores(search.moment, bases, folds, grid)
    responses = []
    for k, fold in enumerate(search.folds):
        truth = tile.cross.responses[as_rows(fold.test)]
        responses.append(truth - tile.train_means[k] if tile.train_means else truth)
    return predicted_scores(search.score_func, bases, folds, grid, responses, lambda x: give_back(x, search.like))


def choose_alphas(
    scores: torch.Tensor, alphas: torch.Tensor, local_alpha: bool = True, conservative: bool = False
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return index and mean score of the best alpha of each target, both (n_targets,).

    Ties go to the larger alpha. `conservative` takes the largest alpha within one standard deviation (over folds)
    of the best; with `local_alpha` off all targets share the alpha of the best mean.

    Parameters
    ----------
    scores : tensor of shape (n_folds, n_alphas, n_targets)
    alphas : tensor of shape (n_alphas,), ascending
    """
    slope = alphas.log().to(torch.float64)[:, None]
    mean = scores.to(torch.float64).mean(0) + 1e-10 * slope
    index = mean.argmax(0) if local_alpha else mean.mean(1).argmax().expand(mean.shape[1])
    if conservative:
        threshold = (mean - scores.to(torch.float64).std(0, correction=0)).gather(0, index[None])
        order = torch.arange(len(alphas), device=mean.device)[:, None]
        index = torch.where(mean > threshold, order, -1).argmax(0).where((mean > threshold).any(0), index)
    return index, mean.gather(0, index[None])[0]


def search_draws(
    cache: BasisCache,
    tiles: list[Tile],
    search: Search,
    gammas: Any,
    shifts: np.ndarray,
    choice: Choice,
    cv_scores: torch.Tensor,
    first: int = 0,
) -> None:
    """Search every draw of band weights for some tiles, updating `choice` and `cv_scores` in place.

    Parameters
    ----------
    gammas : iterable of arrays of shape (n_bands,)
    shifts : array of shape (n_draws,)
        Factors of the alpha grid, one a draw.
    first : int
        Number of the first draw.
    """
    epsilon = torch.finfo(cache.side.dtype).eps
    for draw, gamma in enumerate(gammas, start=first):
        bases = cache.folds(draw, gamma)
        for tile in tiles:
            best = choice.score[tile.columns]
            score, alpha = search_tile(cache.side, bases, tile, search, search.alphas * shifts[draw], best)
            cv_scores[draw, tile.columns] = score.to(cv_scores.dtype)
            better = score > best + epsilon
            best[better] = score[better]
            choice.alpha[tile.columns][better] = alpha[better]
            choice.draw[tile.columns][better] = draw


def fit_weights(cache: BasisCache, tiles: list[Tile], choice: Choice, gammas: np.ndarray, coef: torch.Tensor) -> int:
    """Write the tiles' weights into `coef` (n_features, n_targets): one decomposition for each draw in use.

    Returns the number of targets whose alpha was raised to the floor.
    """
    n_floored = 0
    used = torch.cat([choice.draw[tile.columns] for tile in tiles]).unique().tolist()
    for draw in used:
        eigenvalues, inside, outside = cache.refit(draw, gammas[draw])
        floor = ALPHA_FLOOR * float(eigenvalues[-1])
        for tile in tiles:
            members = (choice.draw[tile.columns] == draw).nonzero()[:, 0]
            if len(members) == 0:
                continue
            alphas = choice.alpha[tile.columns][members]
            n_floored += int((alphas < floor).sum())
            cross = cache.side.refit_cross(tile.cross)
            z = product(cross if len(members) == len(cross) else cross[members], inside)
            z /= eigenvalues.to(z.dtype) + alphas.clamp(min=floor).to(z.dtype)[:, None]
            coef[:, tile.columns.start + members] = product(outside, z.T)
    return n_floored

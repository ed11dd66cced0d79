"""Scores of a tile of targets for all alphas, in the eigenbasis, without forming predictions.

With z, w the training and test cross products of a target and ``s = z / (l + alpha)``:
``y . prediction = s . w`` costs one small product for all alphas, and only ``|prediction|^2 = s.T G s`` is expensive.
It is screened with G's diagonal, then computed exactly where it can matter.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch

from wernicke.ridge.basis import FoldBasis
from wernicke.ridge.targets import FoldTargets


def moment_score(
    kind: str,
    n_test: int | torch.Tensor,
    cross: torch.Tensor,
    norm: torch.Tensor,
    spread: torch.Tensor,
    offset: torch.Tensor,
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
    """Return the score of every fold, alpha and target, shape (n_folds, n_alphas, n_targets), float64.

    In float64 the scores of neighbouring alphas keep their order on the flat ends of a grid, where in float32 rounding
    would choose, and so another BLAS might choose otherwise.
    """
    scores = []
    for narrow, target in zip(bases, folds, strict=True):
        basis = narrow.test_side(torch.float64)
        z, w, spread, mean = (part.to(torch.float64) for part in (target.z, target.w, target.spread, target.mean))
        d = shrinkage(basis, alphas, torch.float64)
        cross = d @ (z * w).T
        norms = torch.stack([basis.norms(z * row) for row in d])
        offset = mean - (d * basis.test_mean) @ z.T
        scores.append(moment_score(kind, basis.n_test, cross, norms, spread, offset))
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


#: How many standard deviations of what the diagonal misses an unverified norm may be off.
CAUTION = 2.5
#: Folds with fewer test samples are evaluated at all alphas exactly: their scores are too ragged to screen.
EXACT_BELOW = 100
#: Gains in score below this are not worth an exact evaluation.
NEGLIGIBLE = 2e-5


class Screen:
    """One tile's scores for all alphas: G's diagonal stands for G until exact evaluations correct it.

    An exact norm at one alpha gives the factor by which the diagonal misses there. Along the grid that factor changes
    only as far as the prediction turns, and the angle between predictions at neighbouring alphas is known from the
    diagonal too. So an alpha is evaluated only if, within that uncertainty, it could still beat the best found: the
    search widens by itself until the optimum is interior, and stops on flat ends of the grid.
    """

    def __init__(self, kind: str, bases: list[FoldBasis], folds: list[FoldTargets], alphas: torch.Tensor) -> None:
        self.kind, self.bases, self.folds = kind, bases, folds
        self.shrink = [shrinkage(basis, alphas, fold.z.dtype) for basis, fold in zip(bases, folds, strict=True)]
        crosses, norms, offsets, turns = [], [], [], []
        for basis, fold, d in zip(bases, folds, self.shrink, strict=True):
            crosses.append((fold.z * fold.w) @ d.T)
            weights = torch.cat([d.square(), d[1:] * d[:-1]]) * basis.diagonal()
            norm, overlap = (fold.z.square() @ weights.T).split([len(d), len(d) - 1], dim=1)
            cosine = overlap.square() / (norm[:, 1:] * norm[:, :-1]).clamp(min=torch.finfo(d.dtype).tiny)
            if basis.n_test <= EXACT_BELOW:
                norm = torch.stack([basis.norms(fold.z * row) for row in d], 1)
            norms.append(norm)
            turns.append((1 - cosine).clamp(min=0).sqrt())
            if kind != "correlation":
                offsets.append(fold.mean[:, None] - fold.z @ (d * basis.test_mean).T)
        self.cross, self.norm = torch.stack(crosses), torch.stack(norms)
        self.offset = torch.stack(offsets) if offsets else torch.zeros_like(self.norm)
        self.spread = torch.stack([fold.spread for fold in folds])
        self.n_test = torch.tensor([float(basis.n_test) for basis in bases], device=self.norm.device)
        path = torch.stack(turns).mean(0).cumsum(1)
        self.path = torch.nn.functional.pad(path, (1, 0))
        self.ratio = torch.ones_like(self.norm)
        self.distance = torch.ones_like(self.path)
        # Standard deviation, per fold, of the log of what the diagonal misses: at least that of a variance estimate.
        self.least = torch.tensor([0.0 if b.n_test <= EXACT_BELOW else math.sqrt(2 / b.n_test) for b in bases])
        self.miss = self.least.to(self.norm)

    def bound(self, rows: torch.Tensor, caution: float = CAUTION) -> torch.Tensor:
        """Return the best score that each alpha may turn out to have, (n_rows, n_alphas), float64."""
        doubt = (caution * self.miss[:, None, None] * self.distance[rows]).clamp(max=2)
        norm = self.norm[:, rows] * self.ratio[:, rows]
        moments = self.cross[:, rows], self.spread[:, rows, None], self.offset[:, rows]
        score = self._fold_scores(norm * torch.exp(-doubt), *moments)
        if self.kind == "correlation" and caution:  # in a fold where it is negative, a longer prediction is better
            score = torch.maximum(score, self._fold_scores(norm * torch.exp(doubt), *moments))
        return score.mean(0, dtype=torch.float64)

    def _fold_scores(
        self, norm: torch.Tensor, cross: torch.Tensor, spread: torch.Tensor, offset: torch.Tensor
    ) -> torch.Tensor:
        n_test = self.n_test.to(norm.dtype).reshape(-1, *[1] * (norm.ndim - 1))
        return moment_score(self.kind, n_test, cross, norm, spread, offset)

    def verify(self, rows: torch.Tensor, index: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Evaluate some targets at one alpha each, and correct the alphas that it is nearest to.

        Returns the exact scores (n_rows,), and exact over screened norms (n_folds, n_rows).
        """
        everyone = len(rows) == self.norm.shape[1]
        exact = []
        for k, (basis, fold) in enumerate(zip(self.bases, self.folds, strict=True)):
            scaled = self.shrink[k].index_select(0, index)
            exact.append(basis.norms(scaled.mul_(fold.z if everyone else fold.z.index_select(0, rows))))
        norm, rough = torch.stack(exact), self.norm[:, rows, index]
        ratio = torch.where(rough > 0, norm / rough.where(rough > 0, 1.0), 1.0)
        away = (self.path[rows] - self.path[rows, index][:, None]).abs()
        nearer = away < self.distance[rows]
        nearer[torch.arange(len(rows), device=rows.device), index] = True
        self.ratio[:, rows] = torch.where(nearer, ratio[:, :, None], self.ratio[:, rows])
        self.distance[rows] = torch.where(nearer, away, self.distance[rows])
        scores = self._fold_scores(norm, self.cross[:, rows, index], self.spread[:, rows], self.offset[:, rows, index])
        return scores.mean(0, dtype=torch.float64), ratio

    def calibrate(self, ratio: torch.Tensor) -> None:
        """Learn from some exact over screened norms, (n_folds, n_rows), how far the diagonal is off."""
        self.miss = torch.maximum(ratio.clamp(min=1e-3).log().square().mean(1).sqrt(), self.least.to(ratio))


def screened_choice(
    kind: str,
    bases: list[FoldBasis],
    folds: list[FoldTargets],
    alphas: torch.Tensor,
    names: torch.Tensor,
    to_beat: torch.Tensor,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return index and score of each target's best alpha, both (n_targets,).

    Parameters
    ----------
    alphas, names : tensors of shape (n_alphas,)
        Penalties, and the grid's values that they stand for (they differ where a penalty was raised to the floor).
    to_beat : tensor of shape (n_targets,)
        Scores of earlier draws of band weights. A target that cannot beat its own is not verified; its screened
        score is returned.
    """
    screen = Screen(kind, bases, folds, alphas)
    rows = torch.arange(len(to_beat), device=to_beat.device)
    tie = 1e-10 * names.log()  # ties go to the larger alpha
    score, best = (screen.bound(rows, caution=0) + tie).max(1)
    verified = torch.full_like(score, -math.inf)
    done = torch.zeros(screen.path.shape, dtype=torch.bool, device=rows.device)

    def advance(rows: torch.Tensor, index: torch.Tensor) -> torch.Tensor:
        exact, ratio = screen.verify(rows, index)
        exact += tie[index]
        done[rows, index] = True
        better = exact > verified[rows]
        best[rows[better]] = index[better]
        verified[rows[better]] = exact[better]
        return ratio

    pilot = rows[:: max(1, len(rows) // 64)]
    screen.calibrate(advance(pilot, best[pilot]))
    while len(rows):
        reach, index = screen.bound(rows).masked_fill_(done[rows], -math.inf).max(1)
        index = torch.where(done[rows].any(1), index, best[rows])  # first where the screened score is best
        promising = reach > torch.maximum(verified[rows] + NEGLIGIBLE, to_beat[rows])
        rows, index = rows[promising], index[promising]
        if len(rows):
            advance(rows, index)
    return best, torch.where(done.any(1), verified, score)

"""A tile of targets: their means and spreads in every fold, and what a fold's basis makes of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch

from wernicke.ridge.basis import FoldBasis
from wernicke.ridge.dual import DualSide
from wernicke.ridge.folds import Fold, as_rows
from wernicke.ridge.primal import PrimalSide, sum_of

Side = PrimalSide | DualSide


@dataclass
class Tile:
    """Some targets in a row, read once."""

    columns: slice
    cross: Any
    """What the side keeps of them: `PrimalTargets` or `DualTargets`."""
    mean: torch.Tensor
    """(n_targets,): mean over all samples, already removed with an intercept; else 0."""
    test_means: list[torch.Tensor]
    """One (n_targets,) a fold."""
    train_means: list[torch.Tensor]
    """One (n_targets,) a fold, with an intercept; else empty."""
    spreads: list[torch.Tensor]
    """One (n_targets,) a fold: sum of squares of the centred test responses."""


@dataclass
class FoldTargets:
    """One fold's view of a tile."""

    z: torch.Tensor
    """(n_targets, rank): training cross products in the eigenbasis."""
    w: torch.Tensor
    """(n_targets, rank): those of the centred test responses."""
    mean: torch.Tensor
    """(n_targets,): mean test response, less the training mean with an intercept."""
    spread: torch.Tensor
    """(n_targets,): sum of squares of the centred test responses."""


def centred_squares(values: torch.Tensor, mean: torch.Tensor) -> torch.Tensor:
    """Return each column's sum of squares about its mean, in one pass where the mean is no larger than the spread."""
    squares = sum_of([rows.square().sum(0) for rows in values.split(128)])  # as many as stay in the cache
    of_mean = len(values) * mean.square()
    if bool((of_mean > 0.5 * squares).any()):
        return (values - mean).square().sum(0)
    return squares - of_mean


def read_tile(side: Side, Y: torch.Tensor, columns: slice, folds: list[Fold], fit_intercept: bool) -> Tile:
    """Take the targets `columns` of Y (n_samples, n_targets) to the features' device and precision, and sum them up."""
    values = Y[:, columns].to(side.device, side.dtype)
    mean = torch.zeros(values.shape[1], dtype=side.dtype, device=side.device)
    if fit_intercept:
        mean = values.mean(0, dtype=torch.float64).to(side.dtype)
        values = values - mean
    test_means, train_means, spreads = [], [], []
    for fold in folds:
        test = values[as_rows(fold.test)]
        test_means.append(test.mean(0))
        spreads.append(centred_squares(test, test_means[-1]))
        if fit_intercept and fold.complementary:  # all means sum to zero by now
            train_means.append(test_means[-1] * (-len(fold.test) / len(fold.train)))
        elif fit_intercept:
            train_means.append(values[as_rows(fold.train)].mean(0))
    return Tile(columns, side.targets(values), mean, test_means, train_means, spreads)


def view_fold(side: Any, k: int, basis: FoldBasis, tile: Tile) -> FoldTargets:
    """Return fold k's view of a tile, means removed."""
    z, w = side.project(basis, k, tile.cross)
    raw_mean = basis.test_mean if basis.train_mean is None else basis.test_mean + basis.train_mean
    mean = tile.test_means[k]
    w.addr_(mean * basis.n_test, raw_mean, alpha=-1)
    if tile.train_means:
        if basis.train_mean is not None:
            z.addr_(tile.train_means[k] * basis.n_train, basis.train_mean, alpha=-1)
        mean = mean - tile.train_means[k]
    return FoldTargets(z, w, mean, tile.spreads[k])

"""Ridge in feature space: sufficient statistics per fold, training sides by downdating, bands by rescaling."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch

from wernicke.ridge.arrays import product
from wernicke.ridge.basis import FoldBasis, gram64
from wernicke.ridge.eigen import eigh64
from wernicke.ridge.folds import Fold, as_rows, is_partition


@dataclass
class PrimalTargets:
    """A tile of targets: its responses, and all that later steps need of them."""

    responses: torch.Tensor
    """(n_samples, n_targets), the caller's array; read again only where a fold has fewer samples than features."""
    cross: torch.Tensor
    """(n_targets, n_features): ``Y.T X`` over all samples."""
    fold_cross: list[torch.Tensor | None]
    """``Y.T X`` over each fold's test samples; None where `responses` are read instead."""
    train_cross: list[torch.Tensor | None]
    """``Y.T X`` over training samples, for folds where it is not total minus test."""


def sum_of(parts: list[torch.Tensor]) -> torch.Tensor:
    """Return the sum of equally shaped tensors, without stacking them."""
    total = parts[0].clone()
    for part in parts[1:]:
        total += part
    return total


class PrimalSide:
    """All that depends on features only, for n_features <= n_samples.

    Parameters
    ----------
    X : tensor of shape (n_samples, n_features)
        All bands side by side. Without an intercept it is taken as it is.
    widths : list of int
        Number of features of each band.
    folds : list of Fold
    fit_intercept : bool
        Means are removed: of the training samples in each fold, of all samples in the refit.
    factors : bool
        Keep the test features of every fold in its basis, even where their Gram matrix is cheaper: what forming
        predictions needs.
    """

    def __init__(
        self, X: torch.Tensor, widths: list[int], folds: list[Fold], fit_intercept: bool, factors: bool = False
    ) -> None:
        self.folds, self.fit_intercept = folds, fit_intercept
        self.n_samples, self.n_features = X.shape
        self.device, self.dtype = X.device, X.dtype
        self.band_of = torch.repeat_interleave(torch.arange(len(widths)), torch.tensor(widths)).to(X.device)
        # A common shift changes nothing but rounding: it keeps large means out of the Gram matrices.
        self.shift = X.to(torch.float64).mean(0) if fit_intercept else None
        self.X = X if self.shift is None else X - self.shift.to(X.dtype)
        self.rows = [(as_rows(fold.train), as_rows(fold.test)) for fold in folds]
        self.test_sums = [self.X[test].sum(0, dtype=torch.float64) for _, test in self.rows]
        self.partition = is_partition(folds, self.n_samples)
        self.sum = self.X.sum(0, dtype=torch.float64)
        self.by_factor = [factors or len(fold.test) < self.n_features for fold in folds]

    @cached_property
    def test_grams(self) -> list[torch.Tensor]:
        """``X.T X`` over each fold's test samples, float64."""
        return [gram64(self.X[test]) for _, test in self.rows]

    @cached_property
    def gram(self) -> torch.Tensor:
        """``X.T X`` over all samples, float64."""
        return sum_of(self.test_grams) if self.partition else gram64(self.X)

    @cached_property
    def train_grams(self) -> list[torch.Tensor | None]:
        """``X.T X`` over training samples, for folds where it is not total minus test."""
        direct = [not fold.complementary for fold in self.folds]
        return [gram64(self.X[train]) if d else None for d, (train, _) in zip(direct, self.rows, strict=True)]

    def scale(self, gamma: np.ndarray) -> torch.Tensor:
        """Return each feature's factor sqrt(gamma of its band), shape (n_features,), float64."""
        weights = torch.as_tensor(np.sqrt(gamma), dtype=torch.float64, device=self.X.device)
        return weights[self.band_of]

    def _decompose(
        self, gram: torch.Tensor, scale: torch.Tensor, dtype: torch.dtype
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Return eigenvalues of the rescaled Gram matrix, and its eigenvectors with the scale multiplied in.

        Bands of weight 0 are left out of the decomposition: a sub-model costs what its own features cost.
        """
        if bool((scale > 0).all()):
            eigenvalues, vectors = eigh64(gram * torch.outer(scale, scale), dtype)
            return eigenvalues, vectors.mul_(scale[:, None].to(dtype))
        active = scale.nonzero()[:, 0]
        part = scale[active]
        eigenvalues, inner = eigh64(gram[active][:, active] * torch.outer(part, part), dtype)
        vectors = torch.zeros((self.n_features, len(active)), dtype=dtype, device=gram.device)
        vectors[active] = inner * part[:, None].to(dtype)
        return eigenvalues, vectors

    def fold_basis(self, k: int, gamma: np.ndarray) -> FoldBasis:
        """Return fold k's basis for one set of band weights; X and Y are not touched unless it has a test factor."""
        n_train, n_test = len(self.folds[k].train), len(self.folds[k].test)
        train_rows, test_rows = self.rows[k]
        scale, direct = self.scale(gamma), self.train_grams[k]
        gram = self.gram - self.test_grams[k] if direct is None else direct.clone()
        train_sum = self.sum - self.test_sums[k] if direct is None else self.X[train_rows].sum(0, dtype=torch.float64)
        if self.fit_intercept:
            gram -= torch.outer(train_sum, train_sum) / n_train
        eigenvalues, loadings = self._decompose(gram, scale, self.dtype)
        test_mean = self.test_sums[k] / n_test
        factor = test_gram = None
        if self.by_factor[k]:
            factor = product(self.X[test_rows] - test_mean.to(self.dtype), loadings)
        else:
            centred = self.test_grams[k] - n_test * torch.outer(test_mean, test_mean)
            test_gram = product(loadings.T, product(centred.to(self.dtype), loadings))
        means = torch.stack([test_mean, train_sum / n_train]) @ loadings.to(torch.float64)
        train_mean = means[1] if self.fit_intercept else None
        test_mean = means[0] if train_mean is None else means[0] - train_mean
        return FoldBasis(
            eigenvalues, loadings, factor, test_gram, test_mean.to(self.dtype),
            None if train_mean is None else train_mean.to(self.dtype), n_train, n_test,
        )  # fmt: skip

    def targets(self, Y: torch.Tensor) -> PrimalTargets:
        """Read a tile of responses (n_samples, n_targets) once."""
        fold_cross: list[torch.Tensor | None] = []
        train_cross: list[torch.Tensor | None] = []
        for k, (train, test) in enumerate(self.rows):
            fold_cross.append(None if self.by_factor[k] else product(Y[test].T, self.X[test]))
            train_cross.append(None if self.folds[k].complementary else product(Y[train].T, self.X[train]))
        known = [part for part in fold_cross if part is not None]
        from_folds = self.partition and len(known) == len(self.folds)
        return PrimalTargets(Y, sum_of(known) if from_folds else product(Y.T, self.X), fold_cross, train_cross)

    def project(self, basis: FoldBasis, k: int, tile: PrimalTargets) -> tuple[torch.Tensor, torch.Tensor]:
        """Return z and w, each (n_targets, rank): training and (uncentred) test cross products in the eigenbasis."""
        part, direct = tile.fold_cross[k], tile.train_cross[k]
        if part is not None:
            w = product(part, basis.vectors)
            z = product(tile.cross - part if direct is None else direct, basis.vectors)
            return z, w
        assert basis.test_factor is not None
        # w = Y.T T costs n_test, not n_features, per target and component; and z = total - w in this basis.
        test = tile.responses[self.rows[k][1]]
        raw_mean = basis.test_mean if basis.train_mean is None else basis.test_mean + basis.train_mean
        w = product(test.T, basis.test_factor)
        w.addr_(test.sum(0), raw_mean)
        z = product(tile.cross if direct is None else direct, basis.vectors)
        if direct is None:
            z -= w
        return z, w

    def refit_basis(self, gamma: np.ndarray) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Return, over all samples, eigenvalues (rank,), the basis of `cross`, and the basis of the weights.

        ``weights = outside @ (z / (eigenvalues + alpha))``, ``z = (cross @ inside).T``.
        """
        eigenvalues, vectors = self._decompose(self.gram, self.scale(gamma), torch.float64)
        loadings = vectors.to(self.dtype)
        return eigenvalues, loadings, loadings

    def refit_cross(self, tile: PrimalTargets) -> torch.Tensor:
        """Return what `refit_basis` is applied to, (n_targets, n_features)."""
        return tile.cross

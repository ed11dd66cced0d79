"""Ridge in feature space: sufficient statistics per fold, training sides by downdating, bands by rescaling."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from wernicke.ridge.basis import FoldBasis, eigh64, gram64
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
        self.test_grams = [gram64(self.X[test]) for _, test in self.rows]
        self.test_sums = [self.X[test].sum(0, dtype=torch.float64) for _, test in self.rows]
        self.partition = is_partition(folds, self.n_samples)
        self.gram = sum_of(self.test_grams) if self.partition else gram64(self.X)
        self.sum = self.X.sum(0, dtype=torch.float64)
        self.train_grams = [
            None if f.complementary else gram64(self.X[tr]) for f, (tr, _) in zip(folds, self.rows, strict=True)
        ]
        self.by_factor = [factors or len(fold.test) < self.n_features for fold in folds]

    def scale(self, gamma: np.ndarray) -> torch.Tensor:
        """Return each feature's factor sqrt(gamma of its band), shape (n_features,), float64."""
        weights = torch.as_tensor(np.sqrt(gamma), dtype=torch.float64, device=self.X.device)
        return weights[self.band_of]

    def fold_basis(self, k: int, gamma: np.ndarray) -> FoldBasis:
        """Return fold k's basis for one set of band weights; X and Y are not touched unless it has a test factor."""
        n_train, n_test = len(self.folds[k].train), len(self.folds[k].test)
        train_rows, test_rows = self.rows[k]
        scale, direct = self.scale(gamma), self.train_grams[k]
        gram = self.gram - self.test_grams[k] if direct is None else direct.clone()
        train_sum = self.sum - self.test_sums[k] if direct is None else self.X[train_rows].sum(0, dtype=torch.float64)
        if self.fit_intercept:
            gram -= torch.outer(train_sum, train_sum) / n_train
        eigenvalues, vectors = eigh64(gram * torch.outer(scale, scale))
        vectors *= scale[:, None]
        loadings = vectors.to(self.X.dtype)
        test_mean = self.test_sums[k] / n_test
        factor = test_gram = None
        if self.by_factor[k]:
            factor = (self.X[test_rows] - test_mean.to(self.X.dtype)) @ loadings
        else:
            centred = self.test_grams[k] - n_test * torch.outer(test_mean, test_mean)
            test_gram = loadings.T @ (centred.to(self.X.dtype) @ loadings)
        train_mean = train_sum / n_train @ vectors if self.fit_intercept else None
        test_mean = test_mean @ vectors if train_mean is None else test_mean @ vectors - train_mean
        return FoldBasis(
            eigenvalues, loadings, factor, test_gram, test_mean.to(self.X.dtype),
            None if train_mean is None else train_mean.to(self.X.dtype), n_train, n_test,
        )  # fmt: skip

    def targets(self, Y: torch.Tensor) -> PrimalTargets:
        """Read a tile of responses (n_samples, n_targets) once."""
        fold_cross: list[torch.Tensor | None] = []
        train_cross: list[torch.Tensor | None] = []
        for k, (train, test) in enumerate(self.rows):
            fold_cross.append(None if self.by_factor[k] else Y[test].T @ self.X[test])
            train_cross.append(None if self.folds[k].complementary else Y[train].T @ self.X[train])
        known = [part for part in fold_cross if part is not None]
        from_folds = self.partition and len(known) == len(self.folds)
        return PrimalTargets(Y, sum_of(known) if from_folds else Y.T @ self.X, fold_cross, train_cross)

    def project(self, basis: FoldBasis, k: int, tile: PrimalTargets) -> tuple[torch.Tensor, torch.Tensor]:
        """Return z and w, each (n_targets, rank): training and (uncentred) test cross products in the eigenbasis."""
        part, direct = tile.fold_cross[k], tile.train_cross[k]
        if part is not None:
            w = part @ basis.vectors
            z = (tile.cross - part if direct is None else direct) @ basis.vectors
            return z, w
        assert basis.test_factor is not None
        # w = Y.T T costs n_test, not n_features, per target and component; and z = total - w in this basis.
        test = tile.responses[self.rows[k][1]]
        raw_mean = basis.test_mean if basis.train_mean is None else basis.test_mean + basis.train_mean
        w = test.T @ basis.test_factor
        w.addr_(test.sum(0), raw_mean)
        z = tile.cross @ basis.vectors - w if direct is None else direct @ basis.vectors
        return z, w

    def refit_basis(self, gamma: np.ndarray) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Return, over all samples, eigenvalues (rank,), the basis of `cross`, and the basis of the weights.

        ``weights = outside @ (z / (eigenvalues + alpha))``, ``z = (cross @ inside).T``.
        """
        scale = self.scale(gamma)
        gram = self.gram * torch.outer(scale, scale)
        eigenvalues, vectors = eigh64(gram)
        loadings = (vectors * scale[:, None]).to(self.dtype)
        return eigenvalues, loadings, loadings

    def refit_cross(self, tile: PrimalTargets) -> torch.Tensor:
        """Return what `refit_basis` is applied to, (n_targets, n_features)."""
        return tile.cross

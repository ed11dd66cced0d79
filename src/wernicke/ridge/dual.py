"""Ridge in sample space, for more features than samples: one kernel a band, each fold in its own dual eigenbasis."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch

from wernicke.ridge.arrays import product
from wernicke.ridge.basis import FoldBasis, gram64
from wernicke.ridge.eigen import eigh64
from wernicke.ridge.folds import Fold, as_rows


@dataclass
class DualTargets:
    """A tile of targets: its responses (n_samples, n_targets)."""

    responses: torch.Tensor


class DualSide:
    """All that depends on features only, for n_features > n_samples. Parameters as in `PrimalSide`."""

    def __init__(
        self, X: torch.Tensor, widths: list[int], folds: list[Fold], fit_intercept: bool, factors: bool = False
    ) -> None:
        self.folds, self.fit_intercept = folds, fit_intercept
        self.device, self.dtype = X.device, X.dtype
        self.n_samples, self.n_features = X.shape
        self.shift = X.to(torch.float64).mean(0) if fit_intercept else None
        self.X = X if self.shift is None else X - self.shift.to(X.dtype)
        ends = np.cumsum(widths)
        self.bands = [slice(int(end) - width, int(end)) for end, width in zip(ends, widths, strict=True)]
        self.rows = [(as_rows(fold.train), as_rows(fold.test)) for fold in folds]

    @cached_property
    def kernels(self) -> list[torch.Tensor]:
        """``X X.T`` of each band, float64."""
        return [gram64(self.X[:, band].T) for band in self.bands]

    def kernel(self, gamma: np.ndarray) -> torch.Tensor:
        """Return the bands' kernels summed with their weights, (n_samples, n_samples), float64."""
        total = self.kernels[0] * float(gamma[0])
        for kernel, weight in zip(self.kernels[1:], gamma[1:], strict=True):
            total.add_(kernel, alpha=float(weight))
        return total

    def fold_basis(self, k: int, gamma: np.ndarray, kernel: torch.Tensor | None = None) -> FoldBasis:
        """Return fold k's basis for one set of band weights; no feature and no response is touched."""
        fold, (train, test) = self.folds[k], self.rows[k]
        kernel = self.kernel(gamma) if kernel is None else kernel
        inner, outer = kernel[train][:, train], kernel[test][:, train]
        if self.fit_intercept:
            mean = inner.mean(0)
            inner = inner - mean - mean[:, None] + mean.mean()
            outer = outer - mean
            outer = outer - outer.mean(1, keepdim=True)
        eigenvalues, vectors = eigh64(inner)
        # In float32 what small eigenvalues give to predictions would be lost in the rounding of what large ones give.
        factor = product(outer, vectors)
        mean = factor.mean(0)
        basis, factor, mean = (part.to(self.dtype) for part in (vectors, factor - mean, mean))
        return FoldBasis(eigenvalues, basis, factor, None, mean, None, len(fold.train), len(fold.test))

    def targets(self, Y: torch.Tensor) -> DualTargets:
        """Hold a tile of responses (n_samples, n_targets)."""
        return DualTargets(Y)

    def project(self, basis: FoldBasis, k: int, tile: DualTargets) -> tuple[torch.Tensor, torch.Tensor]:
        """Return z and w, each (n_targets, rank): training and (uncentred) test cross products in the eigenbasis."""
        assert basis.test_factor is not None
        train, test = self.rows[k]
        responses = tile.responses[test]
        w = product(responses.T, basis.test_factor)
        w.addr_(responses.sum(0), basis.test_mean)
        return product(tile.responses[train].T, basis.vectors), w

    def refit_basis(self, gamma: np.ndarray) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Return, over all samples, eigenvalues, the basis of the responses and the basis of the weights.

        ``weights = out @ (z / (eigenvalues + alpha))``, ``z = (Y.T @ inside).T``, ``out = band weight * X.T @ inside``.
        """
        eigenvalues, vectors = eigh64(self.kernel(gamma))
        inside = vectors.to(self.dtype)
        outside = torch.cat(
            [product(part.T.to(torch.float64), vectors).to(self.dtype) for part in self.X.split(1024, 1)]
        )
        for band, weight in zip(self.bands, gamma, strict=True):
            outside[band] *= float(weight)
        return eigenvalues, inside, outside

    def refit_cross(self, tile: DualTargets) -> torch.Tensor:
        """Return what `refit_basis` is applied to, (n_targets, n_samples)."""
        return tile.responses.T

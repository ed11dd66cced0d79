"""What one fold's features give to all targets: an eigenbasis, and how long a prediction is in it.

With training features X, their eigenbasis E and eigenvalues l (of ``X.T X`` in the primal, of ``X X.T`` in the dual),
a target enters only through ``z = E.T X.T y``, and its ridge prediction of the test samples is ``T (z / (l + alpha))``
with one matrix T (n_test, rank) for all targets and alphas.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch

from wernicke.ridge.arrays import product

#: Alphas below this share of the largest eigenvalue are raised to it: float32 cannot tell them apart.
ALPHA_FLOOR = 1e-8


@dataclass(frozen=True)
class FoldBasis:
    """One fold's eigenbasis and test side. `rank` is n_features (primal) or n_train (dual)."""

    eigenvalues: torch.Tensor
    """(rank,), float64, not negative."""
    vectors: torch.Tensor
    """(n_features, rank) in the primal, band weights multiplied in; (n_train, rank) in the dual."""
    test_factor: torch.Tensor | None
    """(n_test, rank): T with its column means removed; None where `test_gram` is cheaper."""
    test_gram: torch.Tensor | None
    """(rank, rank): ``T.T T`` with column means removed."""
    test_mean: torch.Tensor
    """(rank,): the column means of T."""
    train_mean: torch.Tensor | None
    """(rank,): the training mean of the features in this basis; None without an intercept."""
    n_train: int
    n_test: int

    def norms(self, scaled: torch.Tensor) -> torch.Tensor:
        """Return ``|T_centred s|^2`` for each row s of `scaled` (n_rows, rank), exactly."""
        if self.test_factor is not None:
            return product(scaled, self.test_factor.T).square_().sum(1)
        assert self.test_gram is not None
        return quadratic_form(self.test_gram, scaled)

    def test_side(self, dtype: torch.dtype) -> FoldBasis:
        """Return this basis with what scores are computed from in another precision."""
        factor, gram = (None if part is None else part.to(dtype) for part in (self.test_factor, self.test_gram))
        return replace(self, test_factor=factor, test_gram=gram, test_mean=self.test_mean.to(dtype))

    def diagonal(self) -> torch.Tensor:
        """Return the diagonal of the centred test Gram matrix, shape (rank,)."""
        if self.test_factor is not None:
            return self.test_factor.square().sum(0)
        assert self.test_gram is not None
        return self.test_gram.diagonal()


def quadratic_form(gram: torch.Tensor, rows: torch.Tensor, n_blocks: int = 8) -> torch.Tensor:
    """Return ``s.T G s`` for each row s, using G's symmetry: with 8 blocks .56 of the full product's work."""
    size = -(-gram.shape[0] // n_blocks)
    total = torch.zeros(rows.shape[0], dtype=rows.dtype, device=rows.device)
    for start in range(0, gram.shape[0], size):
        block = slice(start, min(start + size, len(gram)))
        panel = gram[: block.stop, block].clone()
        panel[:start] *= 2
        total += product(rows[:, : block.stop], panel).mul_(rows[:, block]).sum(1)
    return total


def gram64(matrix: torch.Tensor, values_at_once: int = 2**24) -> torch.Tensor:
    """Return ``M.T M`` in float64 for M (n, p), some rows cast at a time; BLAS computes one triangle only."""
    gram = torch.zeros((matrix.shape[1], matrix.shape[1]), dtype=torch.float64, device=matrix.device)
    for rows in matrix.split(max(1, values_at_once // matrix.shape[1])):
        wide = rows.to(torch.float64)
        gram += product(wide.T, wide)
    return gram

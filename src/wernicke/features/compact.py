"""Fewer columns, the same geometry: what ridge sees of a matrix is its row space."""

from __future__ import annotations

import numpy as np

from wernicke.core.checks import check_matrix


def isometric(X: np.ndarray) -> np.ndarray:
    """Rotate a matrix onto its row space: as many columns as it has rank, and the same X Xᵀ.

    Eight sentences span at most eight dimensions, however wide the language model is. With X = X_small Vᵀ and
    VᵀV = 1, ridge with one penalty for all columns predicts the same from X_small as from X, for any choice of rows to
    train on and with or without an intercept, because it depends on inner products of rows alone (the representer
    theorem). Delays may come after: they shift rows, and each copy rotates alike.

    It holds no longer if columns are scaled one by one afterwards (z-scored): scale before. Penalties that differ
    between bands need one call a band.

    Parameters
    ----------
    X : array, shape (n_rows, n_columns)

    Returns
    -------
    array, shape (n_rows, max(rank, 1))
        In X's dtype, computed in float64. Columns by falling variance, each with its largest entry positive, so that
        the same X gives the same result.

    Raises
    ------
    InputError
        E-SHAPE, E-FMT, E-NONFIN.
    """
    X = check_matrix(X, "X")
    rows, inverse = np.unique(X, axis=0, return_inverse=True)  # repeated stimuli are factorised once
    U, singular, _ = np.linalg.svd(rows.astype(np.float64), full_matrices=False)
    tolerance = singular[0] * max(rows.shape) * np.finfo(np.float64).eps
    rank = max(int((singular > tolerance).sum()), 1)
    small = U[:, :rank] * singular[:rank]
    largest = small[np.abs(small).argmax(axis=0), np.arange(rank)]
    small *= np.where(largest < 0, -1.0, 1.0)
    return small[inverse.reshape(-1)].astype(X.dtype)

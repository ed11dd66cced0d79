"""Pearson correlation column by column."""

from __future__ import annotations

from typing import Any

import numpy as np

from wernicke.core.checks import check_matrix
from wernicke.core.errors import InputError

# Columns are widened to float64 a few at a time, so that a float32 map of a whole brain needs no second copy.
_ELEMENTS_PER_BATCH = 8_000_000


def columnwise_correlation(a: Any, b: Any) -> np.ndarray:
    """Pearson r between each column of `a` and the same column of `b`.

    Sums run in float64 whatever the input, about the mean, so float32 input loses nothing further.

    Parameters
    ----------
    a, b : array-like, shape (n_samples, n_columns)

    Returns
    -------
    numpy.ndarray, shape (n_columns,), float64
        NaN where either column is constant.

    Raises
    ------
    InputError
        E-SHAPE, E-FMT or E-NONFIN.
    """
    a, b = check_pair(a, b, ("a", "b"))
    r = np.empty(a.shape[1])
    for columns in column_batches(*a.shape):
        x, y = unit_columns(a[:, columns]), unit_columns(b[:, columns])
        r[columns] = np.clip(np.einsum("nv,nv->v", x, y), -1.0, 1.0)
    return r


def unit_columns(values: np.ndarray) -> np.ndarray:
    """Centre each column and scale it to unit length, float64; a constant column becomes NaN.

    A column counts as constant when its range is no more than the rounding of its own values.
    """
    constant = np.ptp(values, axis=0) <= rounding(values)
    centred = values.astype(np.float64)
    centred -= centred.mean(axis=0)
    norm = np.sqrt(np.einsum("nv,nv->v", centred, centred))
    norm[constant] = np.nan
    centred /= norm
    return centred


def rounding(values: np.ndarray) -> np.ndarray:
    """A few units in the last place of each column's largest value, shape (n_columns,)."""
    return 4.0 * np.finfo(values.dtype).eps * np.abs(values).max(axis=0).astype(np.float64)


def check_pair(a: Any, b: Any, fields: tuple[str, str]) -> tuple[np.ndarray, np.ndarray]:
    """Return two finite matrices of one shape, or raise `InputError`."""
    a = check_matrix(a, fields[0])
    b = check_matrix(b, fields[1])
    if a.shape != b.shape:
        raise InputError("E-SHAPE", f"found shape {b.shape}, expected {a.shape} as in {fields[0]}", field=fields[1])
    return a, b


def column_batches(n_samples: int, n_columns: int, limit: int = _ELEMENTS_PER_BATCH) -> list[slice]:
    """Slices over the columns, each of at most `limit` elements (at least one column)."""
    width = max(1, limit // n_samples)
    return [slice(start, min(start + width, n_columns)) for start in range(0, n_columns, width)]

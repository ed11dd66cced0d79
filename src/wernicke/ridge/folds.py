"""Cross-validation folds as index arrays, checked once."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np

from wernicke.core.errors import InputError


@dataclass(frozen=True)
class Fold:
    """One fold: rows of the training and of the test samples."""

    train: np.ndarray
    test: np.ndarray
    complementary: bool
    """Whether `train` is exactly what `test` leaves over, so that its sums are total minus test."""


def make_folds(cv: Any, n_samples: int) -> list[Fold]:
    """Return the folds of `cv`.

    Parameters
    ----------
    cv : int, scikit-learn splitter, or iterable of (train, test) index or mask arrays
        An int is that many contiguous folds (``KFold`` without shuffling), as in scikit-learn and himalaya.
    n_samples : int

    Raises
    ------
    InputError
        E-SPLIT: no fold, a fold without training or test samples, a row that does not exist, a row on both sides.
    """
    from sklearn.model_selection import check_cv

    if isinstance(cv, (int, np.integer)) and not 2 <= int(cv) <= n_samples:
        raise InputError(
            "E-SPLIT", f"Cannot have number of splits n_splits={cv} with n_samples={n_samples}: expected 2 to that",
            field="cv",
        )  # fmt: skip
    if isinstance(cv, Iterable) and not hasattr(cv, "split"):
        cv = list(cv)
    try:
        pairs = list(check_cv(cv).split(np.zeros((n_samples, 1))))
    except (TypeError, ValueError) as error:
        raise InputError(
            "E-SPLIT", f"this cross-validation cannot split {n_samples} samples: {error}", field="cv",
            hint="pass an int, a scikit-learn splitter or a list of (train, test) rows",
        ) from error  # fmt: skip
    folds = [_fold(k, train, test, n_samples) for k, (train, test) in enumerate(pairs)]
    if not folds:
        raise InputError("E-SPLIT", "found no folds, expected at least one (train, test) pair", field="cv")
    return folds


def _fold(k: int, train: Any, test: Any, n_samples: int) -> Fold:
    sides = {"train": np.asarray(train), "test": np.asarray(test)}
    for name, rows in sides.items():
        if rows.dtype == bool and rows.shape == (n_samples,):
            rows = np.flatnonzero(rows)
        if rows.ndim != 1 or rows.size == 0 or rows.dtype.kind not in "iu":
            raise InputError(
                "E-SPLIT", f"fold {k} has a {name} set of shape {rows.shape}, expected at least one row", field="cv"
            )
        if rows.min() < 0 or rows.max() >= n_samples:
            raise InputError(
                "E-SPLIT", f"fold {k} names row {int(rows.max() if rows.min() >= 0 else rows.min())} "
                f"in its {name} set, but there are {n_samples} samples", field="cv",
            )  # fmt: skip
        sides[name] = rows.astype(np.int64)
    in_train = np.zeros(n_samples, dtype=np.int64)
    in_test = np.zeros(n_samples, dtype=np.int64)
    np.add.at(in_train, sides["train"], 1)
    np.add.at(in_test, sides["test"], 1)
    both = int(((in_train > 0) & (in_test > 0)).sum())
    if both:
        raise InputError("E-SPLIT", f"fold {k} has {both} rows in both its train and its test set", field="cv")
    return Fold(sides["train"], sides["test"], complementary=bool((in_train + in_test == 1).all()))


def as_rows(rows: np.ndarray) -> slice | np.ndarray:
    """Return a slice for consecutive rows, so that indexing makes a view and no copy; else the rows."""
    first, n = int(rows[0]), len(rows)
    return slice(first, first + n) if np.array_equal(rows, np.arange(first, first + n)) else rows


def is_partition(folds: list[Fold], n_samples: int) -> bool:
    """Whether every sample is a test sample once, and trains all other folds."""
    if not folds or not all(fold.complementary for fold in folds):
        return False
    tested = np.concatenate([fold.test for fold in folds])
    return len(tested) == n_samples and len(np.unique(tested)) == n_samples

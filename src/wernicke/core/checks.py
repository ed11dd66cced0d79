"""Validation verbs. Each returns what it checked, so that it is used inline, and raises `InputError` otherwise."""

from __future__ import annotations

import difflib
import os
import re
from collections.abc import Collection, Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from wernicke.core.errors import InputError

_IDENTIFIER = re.compile(r"[A-Za-z0-9]+")


def suggest(word: str, known: Iterable[str]) -> str:
    """Return ``did you mean `x`?`` for a mistyped word, or the list of known ones."""
    known = sorted(known)
    near = difflib.get_close_matches(word, known, n=1)
    return f"did you mean `{near[0]}`?" if near else f"known: {', '.join(known)}"


def check_option(value: str, options: Collection[str], field: str, path: str | os.PathLike[str] | None = None) -> str:
    """Return `value` if it is one of `options`."""
    if value not in options:
        raise InputError("E-CFG", f"unknown value `{value}`", field=field, path=path, hint=suggest(str(value), options))
    return value


def check_range(
    value: float, field: str, *, low: float | None = None, high: float | None = None, low_open: bool = False
) -> float:
    """Return `value` if it is finite and within [low, high] (``low_open``: above `low`)."""
    number = isinstance(value, (int, float, np.integer, np.floating)) and not isinstance(value, bool)
    finite = number and abs(value) < float("inf")
    below = number and low is not None and (value <= low if low_open else value < low)
    above = number and high is not None and value > high
    if not finite or below or above:
        bounds = [f"{'above' if low_open else 'at least'} {low:g}"] if low is not None else []
        bounds += [f"at most {high:g}"] if high is not None else []
        raise InputError("E-CFG", f"found {value!r}, expected a number {' and '.join(bounds)}".rstrip(), field=field)
    return value


def check_identifier(value: str, field: str, path: str | os.PathLike[str] | None = None) -> str:
    """Return `value` if it is letters and digits only, as BIDS asks of ids; nothing else ever becomes a path."""
    if not isinstance(value, str) or not _IDENTIFIER.fullmatch(value):
        raise InputError(
            "E-META", f"found id {value!r}, expected letters and digits only (BIDS)", field=field, path=path
        )
    return value


def check_file(path: str | os.PathLike[str], field: str | None = None) -> Path:
    """Return the path if it is a file."""
    path = Path(path)
    if not path.is_file():
        what = "is a folder, expected a file" if path.is_dir() else "no such file"
        raise InputError("E-REF", what, path=path, field=field)
    return path


def check_folder(path: str | os.PathLike[str], field: str | None = None) -> Path:
    """Return the path if it is a folder."""
    path = Path(path)
    if not path.is_dir():
        what = "is a file, expected a folder" if path.is_file() else "no such folder"
        raise InputError("E-REF", what, path=path, field=field)
    return path


def check_matrix(
    values: Any, field: str, *, n_rows: int | None = None, path: str | os.PathLike[str] | None = None
) -> np.ndarray:
    """Return `values` as a finite floating array, shape (n_samples, n_columns).

    Integers become float64; float32 and float64 stay what they are; half precision becomes float32.

    Raises
    ------
    InputError
        E-SHAPE (not 2-D, empty, another number of rows than `n_rows`), E-FMT (not numbers), E-NONFIN.
    """
    array = _as_array(values, field, path)
    if array.dtype.kind not in "fiub":
        raise InputError("E-FMT", f"found dtype {array.dtype}, expected real numbers", field=field, path=path)
    if array.ndim != 2 or 0 in array.shape:
        raise InputError(
            "E-SHAPE",
            f"found shape {array.shape}, expected (n_samples, n_columns) with both above 0",
            field=field,
            path=path,
        )
    if n_rows is not None and array.shape[0] != n_rows:
        raise InputError("E-SHAPE", f"found {array.shape[0]} rows, expected {n_rows}", field=field, path=path)
    if array.dtype.kind != "f":
        array = array.astype(np.float64)
    elif array.dtype.itemsize < 4:
        array = array.astype(np.float32)
    return check_finite(array, field, path=path)


def _as_array(values: Any, field: str, path: str | os.PathLike[str] | None = None) -> np.ndarray:
    if np.ma.is_masked(values):
        raise InputError("E-NONFIN", f"found a masked array with {int(np.ma.count_masked(values))} values masked out",
                         field=field, path=path, hint="leave these samples or columns out before")  # fmt: skip
    try:
        return np.asarray(values)
    except ValueError:
        raise InputError("E-SHAPE", "found rows of different lengths", field=field, path=path) from None


def check_finite(array: np.ndarray, field: str, path: str | os.PathLike[str] | None = None) -> np.ndarray:
    """Return `array` if no value is NaN or infinite; else say how many are not and where the first is."""
    if array.dtype.kind == "f" and not np.isfinite(array).all():
        bad = ~np.isfinite(array)
        first = tuple(int(i) for i in np.argwhere(bad)[0])
        columns = f" in {int(bad.any(axis=0).sum())} of {array.shape[1]} columns" if array.ndim == 2 else ""
        raise InputError(
            "E-NONFIN",
            f"found {int(bad.sum())} values that are NaN or infinite{columns}, the first at index {first}",
            field=field,
            path=path,
            hint="mask, interpolate or leave out these samples or voxels before; nothing is replaced silently",
        )
    return array


def check_labels(values: Sequence[Any] | np.ndarray, field: str, n_rows: int) -> np.ndarray:
    """Return one label a sample as a 1-D array, shape (n_samples,), without missing entries."""
    array = _as_array(values, field)
    if array.ndim != 1 or array.shape[0] != n_rows:
        raise InputError("E-SHAPE", f"found shape {array.shape}, expected one entry for each of {n_rows} samples",
                         field=field)  # fmt: skip
    if array.dtype.kind == "O":
        import pandas as pd

        missing = np.flatnonzero(pd.isna(array))  # None, NaN, NaT and pandas' NA
        if len(missing):
            raise InputError("E-META", f"entry {missing[0]} is missing ({len(missing)} in all)", field=field)
    elif array.dtype.kind == "f":
        check_finite(array, field)
    return array

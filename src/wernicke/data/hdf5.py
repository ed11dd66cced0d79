"""Plain HDF5 files of arrays, read with the same suspicion as MATLAB's (`wernicke.data.matlab`), axes as stored."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from wernicke.core.checks import check_file, check_finite
from wernicke.core.errors import InputError
from wernicke.data.matlab import hdf5_names, open_hdf5

MAX_LABEL, MAX_LABELS = 1000, 10_000_000


def read_hdf5(path: str | os.PathLike[str], key: str, *, finite: bool = True) -> np.ndarray:
    """Return one array, in the file's dtype, all its axes.

    Parameters
    ----------
    path : path-like
    key : str
    finite : bool
        False: NaN and infinity stay.

    Raises
    ------
    InputError
        E-NONFIN, and what `wernicke.data.matlab.read_mat` raises.
    """
    path = check_file(path)
    with open_hdf5(path, key) as data:
        try:
            values = np.asarray(data[()])
        except (OSError, RuntimeError, ValueError, TypeError, MemoryError) as error:
            raise InputError("E-TRUNC", f"the values cannot be read: {error}", path=path, field=key) from None
    return check_finite(values, key, path) if finite else values


def read_hdf5_labels(path: str | os.PathLike[str], key: str | None = None) -> np.ndarray:
    """Return numbers as they are, or texts (of fixed or variable length) as an array of str.

    Raises
    ------
    InputError
        E-FMT (text that is not UTF-8), E-SIZE (a text of over 1,000 characters), and as `read_hdf5`.
    """
    path = check_file(path)
    with open_hdf5(path, key, text=True) as data:
        try:
            if data.dtype.kind in "fiub":
                return np.asarray(data[()])
            if data.dtype.itemsize > MAX_LABEL or math.prod(data.shape) > MAX_LABELS:
                found = f"found {math.prod(data.shape):,} texts of {data.dtype}, expected short names"
                raise InputError("E-SIZE", found, path=path, field=key)
            # One by one: entries of a hostile file may all name one huge text.
            return np.array([_label(data[at], path, key) for at in np.ndindex(data.shape)]).reshape(data.shape)
        except UnicodeDecodeError as error:
            raise InputError("E-FMT", f"a text is not UTF-8 (byte {error.start})", path=path, field=key) from None
        except (OSError, RuntimeError, ValueError, TypeError, MemoryError) as error:
            if isinstance(error, InputError):
                raise
            raise InputError("E-TRUNC", f"the values cannot be read: {error}", path=path, field=key) from None


def _label(value: bytes, path: Path, key: str | None) -> str:
    if len(value) > MAX_LABEL:
        raise InputError("E-SIZE", f"found a text of {len(value):,} bytes, expected a short name", path=path, field=key)
    return value.decode("utf-8")


def read_some(path: str | os.PathLike[str], keys: Sequence[str], *, finite: bool = True) -> dict[str, np.ndarray]:
    """Return those of the arrays `keys` that are at the file's top."""
    there = hdf5_names(path)
    return {key: read_hdf5(path, key, finite=finite) for key in keys if key in there}

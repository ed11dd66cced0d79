"""Plain HDF5 files of arrays, read with the same suspicion as MATLAB's (`wernicke.data.matlab`), axes as stored."""

from __future__ import annotations

import os
from collections.abc import Sequence

import numpy as np

from wernicke.core.checks import check_file, check_finite
from wernicke.core.errors import InputError
from wernicke.data.matlab import hdf5_names, open_hdf5


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


def read_some(path: str | os.PathLike[str], keys: Sequence[str], *, finite: bool = True) -> dict[str, np.ndarray]:
    """Return those of the arrays `keys` that are at the file's top."""
    there = hdf5_names(path)
    return {key: read_hdf5(path, key, finite=finite) for key in keys if key in there}

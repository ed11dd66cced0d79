"""Responses on disk, read a stretch of voxels at a time: npy, Zarr or HDF5."""

from __future__ import annotations

import hashlib
import importlib.util
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from wernicke.core.checks import check_file
from wernicke.core.errors import InputError
from wernicke.data.matlab import open_hdf5
from wernicke.data.zarr_arrays import open_zarr
from wernicke.store.files import read_npy

_HDF5 = {".h5", ".hdf5", ".hdf", ".hf5", ".mat"}


@dataclass(frozen=True)
class ResponseFile:
    """A two-dimensional array in a file, shape (n_samples, n_targets).

    Parameters
    ----------
    path : Path
        ``.npy``, a ``.zarr`` folder, or HDF5 (``.h5``, ``.hdf5``, ``.hf5``, MATLAB 7.3 ``.mat``).
    key : str, optional
        Name of the array inside a Zarr group or HDF5 file; not needed where there is only one.
    """

    path: Path
    key: str | None = None

    @property
    def shape(self) -> tuple[int, int]:
        """(n_samples, n_targets)"""
        with _opened(self) as array:
            if len(array.shape) != 2 or 0 in array.shape:
                raise InputError(
                    "E-SHAPE", f"found shape {tuple(array.shape)}, expected (n_samples, n_targets)", path=self.path,
                    field=self.key,
                )  # fmt: skip
            if np.dtype(array.dtype).kind not in "fiu":
                raise InputError("E-FMT", f"found dtype {array.dtype}, expected real numbers", path=self.path)
            return int(array.shape[0]), int(array.shape[1])

    def read(self, columns: slice) -> np.ndarray:
        """Return some targets, (n_samples, n_columns). The file is opened anew, so that nothing of it is kept."""
        with _opened(self) as array:
            try:
                if isinstance(array, np.memmap):
                    return _read_mapped(array, columns)
                return np.ascontiguousarray(array[:, columns])
            except (OSError, RuntimeError, ValueError) as error:
                raise InputError(
                    "E-TRUNC", f"targets {columns.start} to {columns.stop} cannot be read: {error}", path=self.path,
                    field=self.key,
                ) from None  # fmt: skip

    def sample(self) -> str:
        """Return a fingerprint of the shape, dtype and five rows spread over the file: cheap, and enough to notice
        that a resumed job was given other data."""
        n_samples, n_targets = self.shape
        with _opened(self) as array:
            digest = hashlib.sha256(f"{n_samples} {n_targets} {np.dtype(array.dtype).str}".encode())
            for row in np.linspace(0, n_samples - 1, 5).astype(int).tolist():
                digest.update(np.ascontiguousarray(array[row]).tobytes())
        return digest.hexdigest()


def _read_mapped(array: np.memmap, columns: slice) -> np.ndarray:
    """Read columns by plain reads: through the map, each row would bring 64 kB of its neighbours into memory."""
    n_rows, n_columns = array.shape
    start, stop, _ = columns.indices(n_columns)
    by_rows = array.flags.c_contiguous
    block = np.empty((n_rows, stop - start) if by_rows else (stop - start, n_rows), dtype=array.dtype)
    with open(str(array.filename), "rb", buffering=0) as file:
        for i, row in enumerate(block):
            first = i * n_columns + start if by_rows else (start + i) * n_rows
            file.seek(array.offset + first * array.itemsize)
            if file.readinto(row.data) != row.nbytes:
                raise ValueError("the file ends before")
    return block if by_rows else np.ascontiguousarray(block.T)


@contextmanager
def _opened(source: ResponseFile) -> Iterator[Any]:
    """Give the file's array, whatever its format, after checking that reading it touches nothing else."""
    path = Path(source.path)
    suffix = path.suffix.lower()
    if suffix == ".npy":
        yield read_npy(path, mmap=True)
    elif suffix == ".zarr":
        _need("zarr", path)
        yield open_zarr(path, source.key)
    elif suffix in _HDF5:
        _need("h5py", path)
        with open_hdf5(check_file(path), source.key) as array:
            yield array
    else:
        raise InputError("E-FMT", f"unknown kind of file `{suffix}`, expected .npy, .zarr or HDF5", path=path)


def _need(name: str, path: Path) -> None:
    if importlib.util.find_spec(name) is None:
        raise InputError("E-REF", f"reading this file needs the package `{name}`", path=path,
                         hint=f"pip install {name}")  # fmt: skip

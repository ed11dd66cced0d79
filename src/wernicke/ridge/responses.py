"""Responses on disk, read a stretch of voxels at a time: npy, Zarr or HDF5."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from wernicke.core.errors import InputError
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
        with _Opened(self) as array:
            if len(array.shape) != 2 or 0 in array.shape:
                raise InputError(
                    "E-SHAPE", f"found shape {tuple(array.shape)}, expected (n_samples, n_targets)", path=self.path,
                    field=self.key,
                )  # fmt: skip
            if np.dtype(array.dtype).kind not in "fiu":
                raise InputError("E-FMT", f"found dtype {array.dtype}, expected real numbers", path=self.path)
            return int(array.shape[0]), int(array.shape[1])

    def read(self, columns: slice) -> np.ndarray:
        """Return some targets, (n_samples, n_columns). The file is opened anew, so that no mapped page is kept."""
        with _Opened(self) as array:
            return np.ascontiguousarray(array[:, columns])

    def sample(self) -> str:
        """Return a fingerprint of the shape, dtype and five rows spread over the file: cheap, and enough to notice
        that a resumed job was given other data."""
        n_samples, n_targets = self.shape
        with _Opened(self) as array:
            digest = hashlib.sha256(f"{n_samples} {n_targets} {np.dtype(array.dtype).str}".encode())
            for row in np.linspace(0, n_samples - 1, 5).astype(int).tolist():
                digest.update(np.ascontiguousarray(array[row]).tobytes())
        return digest.hexdigest()


class _Opened:
    """Context manager that gives the file's array, whatever its format."""

    def __init__(self, source: ResponseFile) -> None:
        self.source = source
        self.file: Any = None

    def __enter__(self) -> Any:
        path, suffix = Path(self.source.path), Path(self.source.path).suffix.lower()
        if suffix == ".npy":
            return read_npy(path, mmap=True)
        if not path.exists():
            raise InputError("E-REF", "no such file", path=path)
        if suffix == ".zarr":
            zarr = _library("zarr", path)
            node = zarr.open(str(path), mode="r")
            return node if hasattr(node, "shape") else self._member(node, lambda name: hasattr(node[name], "shape"))
        if suffix in _HDF5:
            h5py = _library("h5py", path)
            try:
                self.file = h5py.File(path, "r")
            except OSError as error:
                raise InputError("E-FMT", f"not an HDF5 file: {error}", path=path) from None
            return self._member(self.file, lambda name: hasattr(self.file[name], "shape"))
        raise InputError("E-FMT", f"unknown kind of file `{suffix}`, expected .npy, .zarr or HDF5", path=path)

    def _member(self, group: Any, is_array: Any) -> Any:
        names = sorted(name for name in group if is_array(name))
        key = self.source.key if self.source.key is not None else names[0] if len(names) == 1 else None
        if key is None or key not in group:
            raise InputError(
                "E-META", f"found arrays {', '.join(names) or 'none'}, expected " + (f"`{key}`" if key else "one key"),
                path=self.source.path, field="key", hint="name the array of responses",
            )  # fmt: skip
        return group[key]

    def __exit__(self, *args: object) -> None:
        if self.file is not None:
            self.file.close()


def _library(name: str, path: Path) -> Any:
    import importlib

    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise InputError("E-REF", f"reading this file needs the package `{name}`", path=path,
                         hint=f"pip install {name}") from error  # fmt: skip

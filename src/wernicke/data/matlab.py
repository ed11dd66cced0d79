"""Numeric arrays out of MATLAB files, version 7.3 (HDF5) and older, without trusting the file.

An HDF5 file can name other files to read (external links, external storage, virtual data sets), load code (filter
plugins) and declare terabytes in a few kB. All of that is refused before a value is read.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NoReturn

import numpy as np

from wernicke.core.checks import check_file, check_finite
from wernicke.core.errors import InputError
from wernicke.data.matlab5 import read_mat5, read_mat5_struct
from wernicke.store.files import describe_start

MAX_BYTES = 64 * 2**30
MAX_OBJECTS = 100_000
_BLOCK_BYTES = 128 * 2**20

# What reading damaged or hostile files was seen to raise.
_FAULTS = (
    OSError, RuntimeError, ValueError, TypeError, KeyError, IndexError, AttributeError, ArithmeticError, MemoryError,
    EOFError, NotImplementedError,
)  # fmt: skip


def mat_shape(path: str | os.PathLike[str], key: str) -> tuple[int, ...]:
    """Return an array's shape as `read_mat` would give it, from the header alone; raises what `read_mat` raises."""
    path = check_file(path)
    if _is_hdf5(path):
        with open_hdf5(path, key) as data:
            return _squeezed(data.shape)
    return _squeezed(read_mat5(path, key).shape)


def hdf5_names(path: str | os.PathLike[str]) -> set[str]:
    """Return the names at the top of an HDF5 file (a .mat of version 7.3 is one); raises what `read_mat` raises."""
    path = check_file(path)
    if not _is_hdf5(path):
        raise InputError("E-FMT", "a .mat file of an older version, expected HDF5", path=path)
    with _opened_file(path) as (_, names):
        return names


def read_mat(path: str | os.PathLike[str], key: str, *, columns: np.ndarray | None = None) -> np.ndarray:
    """Read one numeric array of a .mat file.

    Parameters
    ----------
    path : path-like
        Version 7.3 is read as h5py gives it, with axes in the reverse of MATLAB's order; older versions in
        MATLAB's own order. Axes of length 1 are dropped.
    key : str
        Name of the variable.
    columns : array of int, shape (n_columns,), optional
        Of a two-dimensional version 7.3 array read these only, some rows at a time, as float32.

    Returns
    -------
    array
        Finite; in the file's dtype without `columns`.

    Raises
    ------
    InputError
        E-REF (no such file, a cyclic or dangling link), E-FMT (not a .mat file, not numbers), E-META (no such
        variable), E-SIZE, E-TRUNC, E-SHAPE, E-NONFIN, E-UNSAFE (links to other files, unknown filters).
    """
    path = check_file(path)
    if not _is_hdf5(path):
        values = read_mat5(path, key)
        values = values.reshape(_squeezed(values.shape))
        return check_finite(values if columns is None else _pick(values, columns, path, key), key, path)
    with open_hdf5(path, key) as data:
        try:
            values = data[()].reshape(_squeezed(data.shape)) if columns is None else _pick_hdf5(data, columns, path)
        except InputError:
            raise
        except _FAULTS as error:
            raise InputError("E-TRUNC", f"the values cannot be read: {error}", path=path, field=key) from None
    return check_finite(values, key, path)


def read_mat_struct(path: str | os.PathLike[str], key: str) -> dict[str, Any]:
    """Read one 1 x 1 structure of a .mat file up to version 7: see `wernicke.data.matlab5.read_mat5_struct`.

    Raises
    ------
    InputError
        As `read_mat`; E-FMT for version 7.3.
    """
    path = check_file(path)
    if _is_hdf5(path):
        raise InputError("E-FMT", "a structure in a MATLAB 7.3 file, expected an older version", path=path, field=key,
                         hint="in MATLAB: save(file, '-v7', ...)")  # fmt: skip
    return read_mat5_struct(path, key)


def _squeezed(shape: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(n for n in shape if n != 1) or (1,)


def _is_hdf5(path: Path) -> bool:
    """HDF5's signature stands at 0 or, behind a user block such as MATLAB's, at 512 or a doubling of it."""
    with open(path, "rb") as file:
        head = file.read(4096)
    if not head:
        raise InputError("E-TRUNC", "file is empty", path=path)
    if any(head[at : at + 8] == b"\x89HDF\r\n\x1a\n" for at in (0, 512, 1024, 2048)):
        return True
    if head.startswith(b"MATLAB 7.3"):
        raise InputError("E-TRUNC", "a MATLAB 7.3 header without the HDF5 file that follows it", path=path)
    if not head.startswith(b"MATLAB 5.0 MAT-file"):
        raise InputError("E-FMT", f"not a .mat file but {describe_start(head)}", path=path,
                         hint="in MATLAB: save(file, '-v7.3', ...)")  # fmt: skip
    return False


@contextmanager
def _opened_file(path: Path) -> Iterator[tuple[Any, set[str]]]:
    """Yield an HDF5 file in which no link leaves the file, and the names at its top."""
    import h5py

    try:
        file = h5py.File(path, "r")
    except _FAULTS as error:
        code = "E-TRUNC" if "truncated" in str(error) else "E-FMT"
        raise InputError(code, f"not a whole HDF5 file: {error}", path=path) from None
    with file:
        try:
            names = _walk(file, path)
        except InputError:
            raise
        except _FAULTS as error:
            raise InputError("E-HDR", f"the file's structure cannot be read: {error}", path=path) from None
        yield file, names


@contextmanager
def open_hdf5(path: Path, key: str | None, *, text: bool = False) -> Iterator[Any]:
    """Yield the data set `key` of an HDF5 file that was found safe, or the only one at its top; raises as `read_mat`.

    A key may name a group on the way, as in ``subject/responses``. With `text` it may hold texts instead of numbers.
    """
    import h5py

    with _opened_file(path) as (file, names):
        try:
            if key is None:
                arrays = sorted(name for name in names if isinstance(file[name], h5py.Dataset))
                if len(arrays) != 1:
                    raise InputError("E-META", f"found arrays {', '.join(arrays[:12]) or 'none'}, expected one",
                                     path=path, field="key", hint="name the array that is meant")  # fmt: skip
                key = arrays[0]
            if key not in file:
                raise InputError("E-META", f"found variables {', '.join(sorted(names)[:12]) or 'none'}, expected {key}",
                                 path=path, field=key)  # fmt: skip
            data = file[key]
            if not isinstance(data, h5py.Dataset):
                raise InputError("E-FMT", "found a structure, expected an array of numbers", path=path, field=key)
            _check_dataset(data, path, key, text)
            _check_size(data, path, key)
        except InputError:
            raise
        except _FAULTS as error:
            raise InputError("E-HDR", f"the file's structure cannot be read: {error}", path=path) from None
        yield data


def _walk(file: Any, path: Path) -> set[str]:
    """Follow all links once; return the names at the top. No link may leave the file."""
    import h5py

    seen: set[int] = set()
    waiting = [file["/"]]
    n_objects = 0
    while waiting:
        group = waiting.pop()
        address = h5py.h5o.get_info(group.id).addr
        if address in seen:
            continue
        seen.add(address)
        for name in group:
            n_objects += 1
            if n_objects > MAX_OBJECTS:
                raise InputError("E-SIZE", f"more than {MAX_OBJECTS} objects", path=path)
            kind = group.id.links.get_info(name.encode()).type
            if kind == h5py.h5l.TYPE_SOFT:
                raise InputError("E-REF", f"`{name}` is a link to another name, which MATLAB does not write", path=path)
            if kind != h5py.h5l.TYPE_HARD:
                raise InputError("E-UNSAFE", f"`{name}` is a link out of this file", path=path)
            if h5py.h5o.get_info(group.id, name.encode()).type == h5py.h5o.TYPE_GROUP:
                waiting.append(group[name])
    return set(file)


def _check_dataset(data: Any, path: Path, key: str, text: bool) -> None:
    import h5py

    def refuse(code: str, problem: str, hint: str | None = None) -> NoReturn:
        raise InputError(code, problem, path=path, field=key, hint=hint)

    known = {h5py.h5z.FILTER_DEFLATE, h5py.h5z.FILTER_SHUFFLE, h5py.h5z.FILTER_FLETCHER32, h5py.h5z.FILTER_LZF}
    made = data.id.get_create_plist()
    if made.get_layout() == h5py.h5d.VIRTUAL:
        refuse("E-UNSAFE", "a virtual data set: its values are in other files")
    if made.get_layout() != h5py.h5d.CHUNKED and made.get_external_count():
        refuse("E-UNSAFE", "its values are stored in another file")
    for i in range(made.get_nfilters()):
        if made.get_filter(i)[0] not in known:
            refuse("E-UNSAFE", f"needs the filter number {made.get_filter(i)[0]}, which is code from elsewhere",
                   "h5repack the file with gzip")  # fmt: skip
    if text and h5py.check_string_dtype(data.dtype) is not None:
        return
    if data.dtype.kind not in "fiub" or "MATLAB_sparse" in data.attrs:
        refuse("E-FMT", f"found {'a sparse array' if data.dtype.kind in 'fiub' else data.dtype}, expected real numbers")


def _check_size(data: Any, path: Path, key: str) -> None:
    def refuse(code: str, problem: str) -> NoReturn:
        raise InputError(code, problem, path=path, field=key)

    if data.attrs.get("MATLAB_empty", 0):
        refuse("E-SHAPE", "an empty array")
    if data.shape is None or 0 in data.shape:
        refuse("E-SHAPE", f"found shape {data.shape}, expected values")
    size = math.prod(data.shape) * data.dtype.itemsize
    chunk = math.prod(data.chunks) * data.dtype.itemsize if data.chunks else 0
    if max(size, chunk) > MAX_BYTES or size > 1000 * path.stat().st_size:
        refuse("E-SIZE", f"header declares shape {data.shape} of {data.dtype}, {max(size, chunk)} bytes; file has "
               f"{path.stat().st_size}")  # fmt: skip
    # What was never written would be read as zeros.
    if data.chunks:
        expected = math.prod(-(-n // c) for n, c in zip(data.shape, data.chunks, strict=True))
        if data.id.get_num_chunks() < expected:
            refuse("E-TRUNC", f"{data.id.get_num_chunks()} of {expected} chunks were written")
    elif data.id.get_storage_size() < size:
        refuse("E-TRUNC", f"{data.id.get_storage_size()} of {size} bytes were written")


def _pick_hdf5(data: Any, columns: np.ndarray, path: Path) -> np.ndarray:
    shape = _squeezed(data.shape)
    _check_columns(shape, columns, path, data.name.lstrip("/"))
    # Axes of length 1 may stand first: rows are counted on the first other one.
    axis = data.shape.index(shape[0])
    rows = max(1, _BLOCK_BYTES // (shape[1] * data.dtype.itemsize))
    if data.chunks:
        rows = -(-rows // data.chunks[axis]) * data.chunks[axis]
    out = np.empty((shape[0], len(columns)), dtype=np.float32)
    for start in range(0, shape[0], rows):
        block = data[(slice(None),) * axis + (slice(start, start + rows),)]
        out[start : start + rows] = block.reshape(-1, shape[1])[:, columns]
    return out


def _pick(values: np.ndarray, columns: np.ndarray, path: Path, key: str) -> np.ndarray:
    _check_columns(values.shape, columns, path, key)
    return values[:, columns].astype(np.float32)


def _check_columns(shape: tuple[int, ...], columns: np.ndarray, path: Path, key: str) -> None:
    if len(shape) != 2:
        raise InputError("E-SHAPE", f"found shape {shape}, expected (n_rows, n_columns)", path=path, field=key)
    if len(columns) and (columns.min() < 0 or columns.max() >= shape[1]):
        bad = columns.max() if columns.min() >= 0 else columns.min()
        raise InputError("E-SHAPE", f"column {int(bad)} is asked for (counted from 0), found {shape[1]} columns",
                         path=path, field=key)  # fmt: skip

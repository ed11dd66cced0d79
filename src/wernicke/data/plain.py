"""Plain arrays as people have them: ``.npy``, ``.npz``, ``.csv``, ``.tsv``, HDF5 or Zarr, one file or one a run."""

from __future__ import annotations

import os
import re
import zipfile
from collections.abc import Hashable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from wernicke.core.checks import check_labels, check_matrix
from wernicke.core.errors import InputError
from wernicke.core.features import Features
from wernicke.core.recording import Recording, Surface, Voxels
from wernicke.core.study import Source, Stimuli, Study
from wernicke.data.hdf5 import read_hdf5, read_hdf5_labels
from wernicke.data.matlab import hdf5_names
from wernicke.data.zarr_arrays import open_zarr
from wernicke.store.files import describe_start, read_bytes, read_npy

PathLike = str | os.PathLike[str]
HDF5 = (".h5", ".hdf5", ".hdf")
ENDINGS = (".npy", ".npz", ".csv", ".tsv", *HDF5, ".zarr")
FREE_BYTES, MAX_RATIO = 64 * 2**20, 200
MAX_TEXT_BYTES = 2 * 2**30

SOURCE = Source(
    name="Arrays of the user",
    licence="not stated",
    terms="The files state no terms.",
    citation="Arrays of the user.",
    bibtex="@misc{arrays, title = {Arrays of the user}}",
)


def load_arrays(
    path: PathLike,
    *,
    tr_s: float,
    subject: str = "01",
    runs: Sequence[Hashable] | np.ndarray | PathLike | None = None,
    key: str | None = None,
    units: Voxels | Surface | None = None,
    source: Source = SOURCE,
) -> Study:
    """Read one subject's series.

    Parameters
    ----------
    path : path-like
        One file of all samples (n_samples, n_units), or a folder with one file a run, ``run-2`` before ``run-10``.
    tr_s : float
        Repetition time, seconds.
    subject : str
    runs : sequence or path-like, optional
        The run of each sample of a single file, numbers or texts, or a file of them; default: the array ``runs`` beside
        the responses in an ``.npz`` or HDF5 file, else one run. Not for a folder, whose files' names are the runs.
    key : str, optional
        Which array of an ``.npz``, HDF5 or Zarr file; needed where there are several besides ``runs``.
    units : Voxels or Surface, optional
    source : Source

    Returns
    -------
    Study
        A Recording with `sample_id`, `run`, `onset_s`.

    Raises
    ------
    InputError
        E-REF, E-FMT, E-TRUNC, E-SIZE, E-UNSAFE, E-SHAPE (not two-dimensional, runs of other width or number), E-NONFIN,
        E-META (a run in several stretches, several arrays).
    """
    path = Path(path)
    if path.is_dir() and path.suffix != ".zarr":
        if runs is not None:
            raise InputError("E-CFG", "the files of a folder are its runs", path=path, field="runs")
        values, labels = _folder(path, key)
    else:
        values = check_matrix(read_array(path, key, beside=("runs",)), key or "values", path=path)
        labels = _labels(path, runs, len(values))
    number = pd.Series(labels).groupby(labels, sort=False).cumcount().to_numpy()
    samples = pd.DataFrame(
        {
            "sample_id": [f"{subject}-{run}-{k:05d}" for run, k in zip(labels, number, strict=True)],
            "run": labels,
            "onset_s": number * float(tr_s),
        }
    )
    recording = Recording(subject, values.astype(np.float32, copy=False), samples, units=units, tr_s=tr_s)
    return Study({subject: recording}, Stimuli(pd.DataFrame({"stimulus_id": pd.Series([], dtype=object)})), source)


def load_array_features(
    bands: Mapping[str, PathLike], recording: Recording, *, keys: Mapping[str, str] | None = None
) -> Features:
    """Read bands with one row a sample of `recording`: files, or folders with one file a run of the same names.

    Raises
    ------
    InputError
        As `load_arrays`; E-SHAPE for another number of rows than samples, E-META for other runs.
    """
    values = {}
    for name, given in bands.items():
        path, key = Path(given), (keys or {}).get(name)
        if path.is_dir() and path.suffix != ".zarr":
            found, labels = _folder(path, key)
            if list(dict.fromkeys(labels)) != [str(run) for run in dict.fromkeys(recording.runs)]:
                raise InputError("E-META", f"found runs {', '.join(dict.fromkeys(labels))}, the responses have "
                                 f"{', '.join(map(str, dict.fromkeys(recording.runs)))}", path=path)  # fmt: skip
        else:
            found = read_array(path, key, beside=("runs",))
        values[name] = check_matrix(found, name, n_rows=recording.n_samples, path=path)
    return Features(values, recording.samples[["run", "onset_s"]].copy(), {"files": {k: str(v) for k, v in
                                                                                      bands.items()}})  # fmt: skip


def _folder(folder: Path, key: str | None) -> tuple[np.ndarray, np.ndarray]:
    files = [p for p in folder.iterdir() if p.suffix in ENDINGS]
    if not files:
        raise InputError("E-REF", f"no file that ends in {', '.join(ENDINGS)} here", path=folder)
    if len({p.stem for p in files}) < len(files):
        raise InputError("E-META", "two files of one name and different endings", path=folder)
    files.sort(key=lambda p: [int(part) if part.isdigit() else part for part in re.split(r"(\d+)", p.stem)])
    parts: list[np.ndarray] = []
    for file in files:
        part = check_matrix(read_array(file, key), key or "values", path=file)
        if parts and part.shape[1] != parts[0].shape[1]:
            raise InputError("E-SHAPE", f"found {part.shape[1]} columns, {files[0].name} has {parts[0].shape[1]}",
                             path=file)  # fmt: skip
        parts.append(part)
    return np.concatenate(parts), np.repeat([p.stem for p in files], [len(part) for part in parts])


def _labels(path: Path, runs: Any, n: int) -> np.ndarray:
    if isinstance(runs, (str, os.PathLike)):
        runs = _read_labels(Path(runs))
    if runs is None:
        runs = _read_labels(path, "runs") if "runs" in _names(path) else np.full(n, 1)
    labels = np.asarray(runs).squeeze() if n > 1 else np.atleast_1d(runs)
    if labels.dtype.kind == "S":
        labels = np.array([label.decode("utf-8", "backslashreplace") for label in labels.ravel()]).reshape(labels.shape)
    return check_labels(labels, "runs", n)


def _read_labels(path: Path, key: str | None = None) -> np.ndarray:
    """Read one array of numbers or texts."""
    return read_hdf5_labels(path, key) if path.suffix in HDF5 else read_array(path, key)


def _names(path: Path) -> set[str]:
    if path.suffix == ".npz":
        return set(_npz_members(path))
    return hdf5_names(path) if path.suffix in HDF5 else set()


def read_array(path: PathLike, key: str | None = None, *, beside: Sequence[str] = ()) -> np.ndarray:
    """Read one array of any of `ENDINGS`.

    Parameters
    ----------
    path : path-like
    key : str, optional
        Which array of a file of several.
    beside : sequence of str
        Arrays that may stand beside the one that is meant without being named.

    Raises
    ------
    InputError
        As `load_arrays`.
    """
    path = Path(path)
    if path.suffix == ".npy":
        return read_npy(path)
    if path.suffix in (".csv", ".tsv"):
        return _read_text(path)
    if path.suffix == ".zarr":
        return np.asarray(open_zarr(path, key)[...])
    if path.suffix not in ENDINGS:
        raise InputError("E-FMT", f"found {path.name!r}, expected a file that ends in {', '.join(ENDINGS)}", path=path)
    if key is None:
        names = sorted(_names(path) - set(beside))
        if len(names) != 1:
            raise InputError("E-META", f"found arrays {', '.join(names[:12]) or 'none'}, expected one", path=path,
                             field="key", hint="name the array that is meant: key")  # fmt: skip
        key = names[0]
    return _read_npz(path, key) if path.suffix == ".npz" else read_hdf5(path, key, finite=False)


def _npz_members(path: Path) -> list[str]:
    """Names of the arrays, after what they unpack to was held against the file's size."""
    head = read_bytes(path)[:64] if path.is_file() and path.stat().st_size < 64 else b""
    if not path.is_file():
        read_bytes(path)
    try:
        with zipfile.ZipFile(path) as archive:
            members = archive.infolist()
    except zipfile.BadZipFile as error:
        raise InputError("E-FMT", f"not an .npz archive ({error}): {describe_start(head)}", path=path) from None
    declared, size = sum(m.file_size for m in members), path.stat().st_size
    if declared > max(FREE_BYTES, MAX_RATIO * size):
        raise InputError("E-SIZE", f"unpacks to {declared:,} bytes, the file has {size:,}", path=path)
    if any(not m.filename.endswith(".npy") for m in members):
        raise InputError("E-FMT", "holds files that are no arrays", path=path)
    return [m.filename.removesuffix(".npy") for m in members]


def _read_npz(path: Path, key: str) -> np.ndarray:
    names = _npz_members(path)
    if key not in names:
        raise InputError("E-META", f"found arrays {', '.join(names[:12])}, expected {key}", path=path, field=key)
    try:
        with np.load(path, allow_pickle=False) as archive:
            return archive[key]
    except ValueError as error:
        code = "E-UNSAFE" if "allow_pickle" in str(error) else "E-HDR"
        raise InputError(code, f"the array cannot be read: {str(error)[:120]}", path=path, field=key) from None
    except (zipfile.BadZipFile, EOFError, OSError, MemoryError, SyntaxError, TypeError, KeyError) as error:
        raise InputError("E-TRUNC", f"the array cannot be read: {str(error)[:120]}", path=path, field=key) from None


def _read_text(path: Path) -> np.ndarray:
    """A table of numbers, one line a sample, with or without one header line."""
    content = read_bytes(path)
    if len(content) > MAX_TEXT_BYTES:
        raise InputError("E-SIZE", f"file has {len(content):,} bytes, at most {MAX_TEXT_BYTES:,} are read", path=path)
    try:
        lines = [line for line in content.decode("utf-8-sig").splitlines() if line.strip()]
    except UnicodeDecodeError as error:
        raise InputError("E-FMT", f"not UTF-8 text (byte {error.start})", path=path) from None
    separator = "\t" if path.suffix == ".tsv" else ","
    rows = [line.split(separator) for line in lines]
    if rows and _is_numbering(rows):
        last = len(rows[0]) - 1
        raise InputError("E-FMT", f"line 1 is 0 to {last}: pandas' numbers for columns without names, no sample",
                         path=path, hint="write it without them, DataFrame.to_csv(index=False, header=False), or with "
                         "names that are no numbers")  # fmt: skip
    # A line with any number in it, be it NaN, is data that must be right, not a header.
    first = 1 if rows and not any(_looks_numeric(cell) for cell in rows[0]) else 0
    if len(rows) <= first:
        raise InputError("E-TRUNC", "holds no row of numbers", path=path)
    values = np.empty((len(rows) - first, len(rows[first])))
    for i, row in enumerate(rows[first:]):
        if len(row) != values.shape[1]:
            raise InputError("E-SHAPE", f"line {i + first + 1} has {len(row)} cells, expected {values.shape[1]}",
                             path=path)  # fmt: skip
        for j, cell in enumerate(row):
            if not _is_number(cell):
                raise InputError("E-FMT", f"line {i + first + 1} holds {cell.strip()!r}, expected a number", path=path)
            values[i, j] = float(cell)
    return values


def _is_numbering(rows: Sequence[Sequence[str]]) -> bool:
    """Does the first line number the columns? Of one column of whole numbers, 0 may as well be its first sample."""
    numbered = [cell.strip() for cell in rows[0]] == [str(i) for i in range(len(rows[0]))]
    if numbered and len(rows[0]) == 1:
        return any(not cell.strip().lstrip("+-").isdigit() for (cell, *_) in rows[1:])
    return numbered


def _looks_numeric(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return not cell.strip()
    return True


def _is_number(cell: str) -> bool:
    return bool(cell.strip()) and _looks_numeric(cell) and "_" not in cell and bool(np.isfinite(float(cell)))

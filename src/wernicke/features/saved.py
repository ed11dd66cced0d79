"""Features on disk: ``index.tsv`` and one ``<band>.npy`` a band, or one ``features.zarr``."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pandas as pd

from wernicke.core.checks import check_folder, check_option
from wernicke.core.errors import InputError
from wernicke.core.features import Features
from wernicke.data.tsv import numbers, read_tsv
from wernicke.data.zarr_arrays import open_zarr
from wernicke.store.files import read_json, read_npy, write_json, write_npy, write_text
from wernicke.store.sealed import replacing

INDEX, PROVENANCE, ARRAYS = "index.tsv", "provenance.json", "features.zarr"
FORMS = ("npy", "zarr")
DTYPES = ("float16", "float32")
_COUNTS = ("n_empty", "n_cut", "n_without_caption", "n_words", "n_unknown_words")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.+-]{0,99}")


def write_features(
    folder: str | os.PathLike[str], features: Features, *, form: str = "npy", dtype: str = "float32"
) -> Path:
    """Write features with their index into a folder.

    Parameters
    ----------
    folder : path-like
        Made if absent; files of these names are replaced.
    features : Features
        Bands' names become file names: letters, digits and ``_ . + -``.
    form : str
        ``"npy"``: ``<band>.npy``, (n_rows, n_columns); ``"zarr"``: arrays of the group ``features.zarr`` (format 3).
    dtype : str
        ``"float32"`` or ``"float16"``.

    Raises
    ------
    InputError
        E-CFG, E-UNSAFE (a band's name), E-NONFIN (too large for float16), E-META (a tab or line break in the index).
    DiskFullError
    """
    check_option(form, FORMS, "form")
    check_option(dtype, DTYPES, "save_as")
    folder = Path(folder)
    for name in features.bands:
        if not _NAME.fullmatch(name):
            raise InputError("E-UNSAFE", f"found {name!r}, expected letters, digits and _.+-", field="bands")
    narrow = {name: _narrow(np.asarray(band), dtype, name) for name, band in features.bands.items()}
    write_text(folder / INDEX, _table(features.index))
    write_json(folder / PROVENANCE, dict(features.provenance))
    if form == "npy":
        for name, band in narrow.items():
            write_npy(folder / f"{name}.npy", band)
    else:
        _write_zarr(folder / ARRAYS, narrow)
    return folder


def read_features(folder: str | os.PathLike[str]) -> Features:
    """Read what `write_features` wrote; ``.npy`` bands are memory-mapped, Zarr bands are read.

    Raises
    ------
    InputError
        E-REF (no such folder or index), E-SHAPE (a band of another length than the index), and what the readers raise.
    """
    folder = check_folder(folder)
    table = read_tsv(folder / INDEX)
    index = table.assign(onset_s=numbers(table, "onset_s", folder / INDEX)) if "onset_s" in table else table
    path = folder / PROVENANCE
    provenance = read_json(path) if path.is_file() else {}
    bands: dict[str, np.ndarray] = {p.stem: read_npy(p, mmap=True) for p in sorted(folder.glob("*.npy"))}
    if not bands and (folder / ARRAYS).is_dir():
        names = sorted(p.name for p in (folder / ARRAYS).iterdir() if p.is_dir())
        bands = {name: np.asarray(open_zarr(folder / ARRAYS, name)[:]) for name in names}
    return Features(bands, index, provenance)


def join_rows(parts: list[Features]) -> Features:
    """Return features of the same bands one below another; the provenance is the first one's with counts added up."""
    bands = {name: np.concatenate([np.asarray(part.bands[name]) for part in parts]) for name in parts[0].bands}
    counts = {key: sum(p.provenance[key] for p in parts) for key in _COUNTS if key in parts[0].provenance}
    index = pd.concat([part.index for part in parts], ignore_index=True)
    return Features(bands, index, {**parts[0].provenance, **counts})


def _narrow(values: np.ndarray, dtype: str, name: str) -> np.ndarray:
    largest = float(np.abs(values).max(initial=0))
    if dtype == "float16" and largest > float(np.finfo(np.float16).max):
        raise InputError("E-NONFIN", f"band `{name}` reaches {largest:.3g}, float16 ends at 65504", field="save_as",
                         hint="set save_as to float32")  # fmt: skip
    return values.astype(dtype)


def _table(index: pd.DataFrame) -> str:
    rows = [list(map(str, index.columns)), *([str(cell) for cell in row] for row in index.itertuples(index=False))]
    if any("\t" in cell or "\n" in cell or "\r" in cell for row in rows for cell in row):
        raise InputError("E-META", "a name holds a tab or a line break", field="index")
    return "\n".join("\t".join(row) for row in rows) + "\n"


def _write_zarr(path: Path, arrays: Mapping[str, np.ndarray]) -> None:
    """Write the group under a temporary name, then put it in the place of the old one."""
    import zarr

    with replacing(path, sum(values.nbytes for values in arrays.values())) as temporary:
        group = zarr.open_group(str(temporary), mode="w", zarr_format=3)
        for name, values in sorted(arrays.items()):
            group.create_array(name, data=values, chunks=(min(len(values), 1024), min(values.shape[1], 4096)))

"""Features on disk: ``index.tsv`` and one ``<band>.npy`` a band, or one ``features.zarr``."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from wernicke.core.checks import check_folder, check_option
from wernicke.core.errors import InputError
from wernicke.core.features import Features
from wernicke.data.tsv import MISSING, numbers, read_tsv
from wernicke.data.zarr_arrays import open_zarr
from wernicke.store.files import read_json, read_npy, write_json, write_npy, write_text
from wernicke.store.sealed import replacing

INDEX, PROVENANCE, ARRAYS = "index.tsv", "provenance.json", "features.zarr"
FORMS = ("npy", "zarr")
_STORED = "stored"  # the provenance's key of how bands and index are stored
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
        Made if absent; files of these names are replaced. Of other bands that an earlier call left there the
        provenance says nothing, and `read_features` does not return them.
    features : Features
        Bands' names become file names: letters, digits and ``_ . + -``.
    form : str
        ``"npy"``: ``<band>.npy``, (n_rows, n_columns); ``"zarr"``: arrays of the group ``features.zarr`` (format 3).
    dtype : str
        ``"float32"`` or ``"float16"``.

    Raises
    ------
    InputError
        E-CFG, E-UNSAFE (a band's name), E-NONFIN (too large for float16), E-META (a name in the index that a table does
        not hold, such as ``n/a`` or one with a tab).
    DiskFullError
    """
    check_option(form, FORMS, "form")
    check_option(dtype, DTYPES, "save_as")
    folder = Path(folder)
    for name in features.bands:
        if not _NAME.fullmatch(name):
            raise InputError("E-UNSAFE", f"found {name!r}, expected letters, digits and _.+-", field="bands")
    narrow = {name: _narrow(np.asarray(band), dtype, name) for name, band in features.bands.items()}
    text = _table(features.index)
    if form == "npy":
        for name, band in narrow.items():
            write_npy(folder / f"{name}.npy", band)
    else:
        _write_zarr(folder / ARRAYS, narrow)
    write_text(folder / INDEX, text)
    stored = {"form": form, "bands": list(narrow), "numbers": _whole_numbers(features.index)}
    write_json(folder / PROVENANCE, {**features.provenance, _STORED: stored})
    return folder


def read_features(folder: str | os.PathLike[str]) -> Features:
    """Read what `write_features` wrote; ``.npy`` bands are memory-mapped, Zarr bands are read.

    Raises
    ------
    InputError
        E-REF (no such folder, index or band), E-SHAPE (a band of another length than the index), E-FMT (a record of the
        bands that cannot be right), and what the readers raise.
    """
    folder = check_folder(folder)
    table = read_tsv(folder / INDEX)
    index = table.assign(onset_s=numbers(table, "onset_s", folder / INDEX)) if "onset_s" in table else table
    path = folder / PROVENANCE
    provenance = read_json(path) if path.is_file() else {}
    try:
        stored = provenance.pop(_STORED, None) or _found(folder)
        names, form, whole = stored["bands"], stored["form"], stored["numbers"]
        if form not in FORMS or not all(_NAME.fullmatch(name) for name in names):
            raise ValueError
        index = index.assign(**{column: index[column].map(int) for column in whole})
    except (KeyError, TypeError, ValueError):
        raise InputError("E-FMT", f"`{_STORED}` does not say how these features are stored", path=path) from None
    if form == "npy":
        bands: dict[str, np.ndarray] = {name: read_npy(folder / f"{name}.npy", mmap=True) for name in names}
    else:
        bands = {name: np.asarray(open_zarr(folder / ARRAYS, name)[:]) for name in names}
    return Features(bands, index, provenance)


def _found(folder: Path) -> dict[str, Any]:
    """Return what a folder without a record holds: its ``.npy`` files, else its group; layer2 before layer10."""
    names = [path.stem for path in folder.glob("*.npy")]
    form = "npy" if names or not (folder / ARRAYS).is_dir() else "zarr"
    if form == "zarr":
        names = [path.name for path in (folder / ARRAYS).iterdir() if path.is_dir()]
    by_number = sorted(names, key=lambda name: [(len(n), n) for n in re.split(r"(?<=\D)(?=\d)", name)])
    return {"form": form, "bands": by_number, "numbers": []}


def _whole_numbers(index: pd.DataFrame) -> list[str]:
    """Return the columns whose labels are whole numbers, such as runs 1, 2, ...; a table holds them as text."""
    return [str(column) for column in index.columns if pd.api.types.infer_dtype(index[column]) == "integer"]


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
    rows = [list(index.columns), *index.itertuples(index=False)]
    return "".join("\t".join(_cell(cell) for cell in row) + "\n" for row in rows)


def _cell(value: Any) -> str:
    """Return the text of a cell, which `read_tsv` gives back as it is."""
    if pd.isna(value):
        return MISSING[0]
    text = str(value)
    if text in MISSING or text != text.strip() or text[0] == text[-1] == '"' or set(text) & set("\t\n\r"):
        raise InputError("E-META", f"a name is {text!r}, which a table does not hold", field="index",
                         hint="names: not n/a, no tab or line break, no blanks or quotation marks around")  # fmt: skip
    return text


def _write_zarr(path: Path, arrays: Mapping[str, np.ndarray]) -> None:
    """Write the group under a temporary name, then put it in the place of the old one."""
    import zarr

    with replacing(path, sum(values.nbytes for values in arrays.values())) as temporary:
        group = zarr.open_group(str(temporary), mode="w", zarr_format=3)
        for name, values in sorted(arrays.items()):
            group.create_array(name, data=values, chunks=(min(len(values), 1024), min(values.shape[1], 4096)),
                               config={"write_empty_chunks": True})  # fmt: skip

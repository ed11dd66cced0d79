"""Fingerprints: SHA-256 in hexadecimal of arrays, tables, files, plain values and of the package's own source."""

from __future__ import annotations

import hashlib
import importlib.util
import os
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from wernicke.core.errors import InputError
from wernicke.store.files import PathLike, sha256_file
from wernicke.store.plain import to_json

_PIECE = 2**24  # bytes hashed at once, so that a memory-mapped array never has to fit in memory


def fingerprint(value: Any) -> str:
    """Return the fingerprint of a value: array, table, path (its content), plain value, or a mapping of these.

    Equal content gives equal text; array and table fingerprints depend on dtype and shape as well as on the values.
    """
    if isinstance(value, np.ndarray):
        return fingerprint_array(value)
    if isinstance(value, os.PathLike):
        return fingerprint_path(value)
    if type(value).__module__.split(".")[0] == "pandas":
        return fingerprint_table(value)
    if isinstance(value, Mapping):
        return _of_text("mapping", to_json({str(key): fingerprint(item) for key, item in value.items()}))
    return _of_text("plain", to_json(value))


def _of_text(kind: str, text: str) -> str:
    return hashlib.sha256(f"{kind}:{text}".encode()).hexdigest()


def fingerprint_array(array: np.ndarray) -> str:
    """Return the fingerprint of an array of any shape: dtype, shape and values in C order."""
    if array.dtype.hasobject:
        return _of_text("objects", to_json([list(array.shape), array.ravel().tolist()]))
    digest = hashlib.sha256(f"array:{array.dtype.str}:{array.shape}:".encode())
    rows = array if array.ndim else array.reshape(1)
    step = max(1, _PIECE * len(rows) // max(1, rows.nbytes))
    for start in range(0, len(rows), step):
        digest.update(rows[start : start + step].tobytes())  # in C order, whatever the layout
    return digest.hexdigest()


def fingerprint_table(table: Any) -> str:
    """Return the fingerprint of a pandas DataFrame or Series: column names, order and values; the index is left out."""
    import pandas as pd

    frame = table.to_frame() if isinstance(table, pd.Series) else table
    columns: list[list[Any]] = []
    for position, name in enumerate(frame.columns):
        column = frame.iloc[:, position]
        if isinstance(column.dtype, np.dtype) and column.dtype.kind in "fiubmM":
            columns.append([name, fingerprint_array(column.to_numpy())])
        else:
            texts = [None if missing else str(item) for item, missing in zip(column, column.isna(), strict=True)]
            columns.append([name, _of_text("column", to_json(texts))])
    return _of_text("table", to_json([len(frame), columns]))


def fingerprint_path(path: PathLike) -> str:
    """Return the fingerprint of a file's content, or of a folder's relative file names and their contents."""
    path = Path(path)
    if path.is_file():
        return sha256_file(path)
    if not path.is_dir():
        raise InputError("E-REF", "no such file or folder", path=path)
    names = sorted(item.relative_to(path).as_posix() for item in path.rglob("*") if item.is_file())
    return _of_text("folder", to_json([[name, sha256_file(path / name)] for name in names]))


def code_fingerprint(*packages: str | ModuleType) -> str:
    """Return a fingerprint of the source text of the named packages or modules (default: all of wernicke).

    A cache key or a finished run that carries it is not mistaken for the result of code that has since changed.

    Parameters
    ----------
    *packages : str or module
        Such as ``"wernicke.ridge"`` or ``"wernicke.features.language"``; a package includes all below it.
        The modules themselves are not imported (the packages above them are).
    """
    sources: dict[str, str] = {}
    for package in packages or ("wernicke",):
        name = package if isinstance(package, str) else package.__name__
        spec = importlib.util.find_spec(name)
        if spec is None or spec.origin is None or not spec.origin.endswith(".py"):
            raise ModuleNotFoundError(f"no source of {name} was found")
        if spec.submodule_search_locations is None:
            sources[name] = sha256_file(spec.origin)
            continue
        root = Path(spec.origin).parent
        for file in root.rglob("*.py"):
            sources[f"{name}/{file.relative_to(root).as_posix()}"] = sha256_file(file)
    return _of_text("code", to_json(sources))

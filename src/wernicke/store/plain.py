"""Plain values: what JSON and YAML can hold, with numpy scalars turned into Python's and NaN refused."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping
from typing import Any

import numpy as np

from wernicke.core.errors import InputError


def to_plain(value: Any, field: str = "") -> Any:
    """Return `value` as dicts with text keys, lists, text, numbers, booleans and None.

    Arrays and tuples become lists, paths become text, integer keys become text.

    Raises
    ------
    InputError
        E-NONFIN for NaN or infinity, E-FMT for a type that JSON cannot hold; both name the key.
    """
    if value is None or isinstance(value, (bool, str)):
        return str(value) if isinstance(value, str) else value
    if isinstance(value, (np.generic, np.ndarray)):
        return to_plain(value.tolist(), field)
    if isinstance(value, int):
        return int(value)
    if isinstance(value, float):
        if not math.isfinite(value):
            raise InputError("E-NONFIN", f"found {value}, which JSON cannot hold", field=field or None)
        return float(value)
    if isinstance(value, Mapping):
        return {_key(key, field): to_plain(item, f"{field}.{key}".lstrip(".")) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [to_plain(item, f"{field}[{i}]") for i, item in enumerate(value)]
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    raise InputError("E-FMT", f"found {type(value).__name__}, expected plain values", field=field or None)


def _key(key: Any, field: str) -> str:
    if isinstance(key, str):
        return str(key)
    if isinstance(key, (int, np.integer)) and not isinstance(key, bool):
        return str(int(key))
    raise InputError("E-FMT", f"found a key of type {type(key).__name__}, expected text", field=field or None)


def to_json(value: Any, indent: int | None = None) -> str:
    """Return JSON text with sorted keys: the same value gives the same bytes. NaN is refused (see `to_plain`)."""
    separators = (",", ":") if indent is None else (",", ": ")
    return json.dumps(
        to_plain(value), sort_keys=True, ensure_ascii=False, allow_nan=False, indent=indent, separators=separators
    )


def find_differences(old: Any, new: Any, field: str = "", values: bool = True) -> list[str]:
    """Name where two plain values differ: ``lr: 0.001 there, 0.0001 given`` (the keys alone unless `values`)."""
    if isinstance(old, Mapping) and isinstance(new, Mapping):
        found = []
        for key in sorted({*old, *new}):
            found += find_differences(
                old.get(key, _ABSENT), new.get(key, _ABSENT), f"{field}.{key}".lstrip("."), values
            )
        return found
    if type(old) is type(new) and old == new:
        return []
    field = field.removeprefix("config.")
    return [f"{field}: {_show(old)} there, {_show(new)} given" if values else field]


class _Absent:
    def __repr__(self) -> str:
        return "nothing"


_ABSENT = _Absent()


def _show(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."


def shorten(differences: list[str]) -> str:
    """Return at most three differences as one text."""
    more = f" and {len(differences) - 3} more" if len(differences) > 3 else ""
    return "; ".join(differences[:3]) + more

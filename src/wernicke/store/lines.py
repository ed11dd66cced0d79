"""Files of one JSON object a line (``.jsonl``) that are added to while a run goes on."""

from __future__ import annotations

import json
import logging
import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from wernicke.core.errors import InputError
from wernicke.store.atomic import full_disk
from wernicke.store.files import read_bytes, write_text
from wernicke.store.plain import to_json

log = logging.getLogger(__name__)

_NONFINITE = ("nan", "inf", "-inf")


def _to_line(row: Mapping[str, Any]) -> str:
    return to_json({name: _spell(value) for name, value in row.items()}) + "\n"


def _spell(value: Any) -> Any:
    """A loss that is not finite must be seen in the log, and JSON has no word for it: it becomes text."""
    if isinstance(value, (float, np.floating)) and not math.isfinite(value):
        return str(float(value))
    return value


def append_line(path: Path, row: Mapping[str, Any]) -> None:
    """Add one line and make it durable."""
    line = _to_line(row).encode()
    with full_disk(path, len(line)), open(path, "ab") as file:
        file.write(line)
        file.flush()
        os.fsync(file.fileno())


def write_lines(path: Path, rows: list[dict[str, Any]]) -> None:
    """Replace the file by these rows, atomically."""
    write_text(path, "".join(_to_line(row) for row in rows))


def cut_torn_line(path: Path) -> None:
    """Remove what a killed process wrote of a line without its end."""
    if not path.is_file():
        return
    with open(path, "rb+") as file:
        content = file.read()
        end = content.rfind(b"\n") + 1
        if end < len(content):
            log.warning("%s: the last line was cut short by an interruption and is removed", path)
            file.truncate(end)


def read_lines(path: Path) -> list[dict[str, Any]]:
    """Return the rows; a torn last line is left out (the log says so), any other bad line refused (E-FMT)."""
    *lines, torn = read_bytes(path).split(b"\n")
    if torn:
        log.warning("%s: the last line was cut short by an interruption and is left out", path)
    rows = []
    for number, line in enumerate(lines, start=1):
        try:
            row = json.loads(line)
        except ValueError:
            raise InputError("E-FMT", "not a line of JSON", path=path, field=f"line {number}") from None
        if not isinstance(row, dict):
            raise InputError("E-FMT", "not a JSON object", path=path, field=f"line {number}")
        rows.append({key: float(value) if value in _NONFINITE else value for key, value in row.items()})
    return rows

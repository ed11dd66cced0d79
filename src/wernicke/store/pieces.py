"""Pieces of an unfinished step: files that are whole already, so that the next call need not make them again."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from wernicke.store.files import write_json
from wernicke.store.manifest import BEGUN, SCHEMA, read_record
from wernicke.store.sealed import compare_files, describe_file

log = logging.getLogger(__name__)


def keep_piece(folder: Path, name: str, identity: Mapping[str, Any]) -> None:
    """Record a file's hash with what made it (step, inputs, code)."""
    record = read_record(folder)
    pieces = {**record.get("pieces", {}), name: {**describe_file(folder / name), **identity}}
    kept = {"schema": SCHEMA, "seed": record["seed"], "steps": record["steps"], "pieces": pieces}
    write_json(folder / BEGUN, kept)


def is_kept_piece(folder: Path, name: str, identity: Mapping[str, Any]) -> bool:
    """Whether a file stands as it was recorded, made by the same step from the same inputs with the same code."""
    piece = read_record(folder).get("pieces", {}).get(name)
    if piece is None or not (folder / name).is_file():
        return False
    if any(piece.get(key) != value for key, value in identity.items()):
        return False
    faults = compare_files(folder, {name: piece})
    for fault in faults:
        log.warning("is computed again: %s", fault)
    return not faults

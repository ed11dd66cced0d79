"""What a run folder consists of: the names of its own files, its record, and the manifest that is written last."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from wernicke.core.errors import InputError
from wernicke.store.atomic import fsync_file
from wernicke.store.files import read_json, write_json
from wernicke.store.fingerprint import fingerprint
from wernicke.store.lock import LOCK, is_locked
from wernicke.store.provenance import describe_environment, wernicke_version
from wernicke.store.sealed import describe_file

SCHEMA = "wernicke-run/1"
CONFIG = "config.yaml"
MANIFEST = "manifest.json"
METRICS = "metrics.jsonl"
HISTORY = "history.jsonl"
BEGUN = ".wernicke-run.json"  # what the run is, from its first moment on; the manifest exists only once it is done
WORK = ".work"
"""Folder in the run for what is not a result: locks of shares, and what units share. No manifest lists it."""
OWN = {CONFIG, MANIFEST, HISTORY, BEGUN, LOCK}


def is_run(folder: Path) -> bool:
    """Whether the folder holds a run, finished or not (a copy may lack the hidden files)."""
    if (folder / BEGUN).is_file():
        return True
    try:
        return read_manifest(folder) is not None
    except InputError:  # somebody else's file of that name
        return False


def find_foreign(folder: Path) -> str | None:
    """Return the name of a file that is not ours, or None if a run can begin in this folder.

    A process that died right after it made the folder leaves a lock, perhaps a config and temporary files.
    """
    names = [item.name for item in folder.iterdir()]
    # After the listing: whoever begins meanwhile makes the lock before the config.
    remains = {LOCK, CONFIG} if (folder / LOCK).exists() else {LOCK}
    return min((name for name in names if name not in remains and not name.startswith(".tmp-")), default=None)


def holds_nothing(folder: Path) -> bool:
    """Whether a run that was begun here left nothing: no file of its own, and no process that works on a share."""
    names = {item.name for item in folder.iterdir() if not item.name.startswith(".tmp-")}
    if names - {CONFIG, BEGUN, HISTORY, LOCK, WORK}:
        return False
    shares = list((folder / WORK).iterdir()) if WORK in names else []
    return all(share.name.startswith("part-") and not is_locked(share) for share in shares)


def read_record(folder: Path) -> dict[str, Any]:
    """Return the run's ``seed`` and the ``steps`` begun or finished, from its record or else its manifest."""
    path = folder / (BEGUN if (folder / BEGUN).is_file() else MANIFEST)
    return _check_schema(read_json(path), path)


def read_manifest(folder: Path) -> dict[str, Any] | None:
    """Return the manifest, or None while no step is finished.

    Raises
    ------
    InputError
        E-FMT, E-HDR: it is damaged, or not ours.
    """
    path = folder / MANIFEST
    if not path.is_file():
        return None
    manifest = _check_schema(read_json(path), path)
    listed = manifest.get("files")
    if not isinstance(listed, dict) or not all(
        isinstance(entry, dict) and "step" in entry for entry in listed.values()
    ):
        raise InputError("E-HDR", "the list of files is missing or invalid", path=path, field="files")
    return manifest


def _check_schema(record: Any, path: Path) -> dict[str, Any]:
    if not isinstance(record, dict) or record.get("schema") != SCHEMA or not isinstance(record.get("seed"), int):
        raise InputError("E-HDR", f"not the record of a run of schema {SCHEMA}", path=path)
    steps = record.get("steps")
    if not isinstance(steps, dict) or not all(
        isinstance(s, dict) and {"inputs", "code"} <= s.keys() for s in steps.values()
    ):
        raise InputError("E-HDR", "the list of steps is missing or invalid", path=path, field="steps")
    return record


def write_manifest(
    folder: Path, previous: Mapping[str, Any], step: str, identity: Mapping[str, Any], config: Any, seed: int
) -> None:
    """Write the manifest of a folder in which `step` has just been finished.

    What an earlier step has listed keeps its hashes: were they taken anew, damage since then would be hidden.
    """
    listed = dict(previous.get("files", {}))
    for name in _list_results(folder):
        if name not in listed:
            listed[name] = {**describe_file(folder / name), "step": step}
            fsync_file(folder / name)
    manifest = {
        "schema": SCHEMA,
        "wernicke": wernicke_version(),
        "seed": seed,
        "config": config,
        "config_fingerprint": fingerprint(config),
        "steps": {**previous.get("steps", {}), step: identity},
        "environment": describe_environment(),
        "files": listed,
    }
    write_json(folder / MANIFEST, manifest)


def _list_results(folder: Path) -> list[str]:
    found = []
    for item in folder.rglob("*"):
        name = item.relative_to(folder).as_posix()
        # Checkpoints have manifests of their own and come and go.
        skipped = any(part.startswith((".", "ckpt-")) for part in Path(name).parts)
        if item.is_file() and not skipped and name not in (MANIFEST, HISTORY):
            found.append(name)
    return sorted(found)


def unlist(folder: Path, step: str, name: str) -> None:
    """Take a step and a file that is about to change from the manifest, so that a kill in between leaves it true."""
    manifest = read_manifest(folder)
    if manifest is None or (step not in manifest["steps"] and name not in manifest["files"]):
        return
    manifest["steps"].pop(step, None)
    kept = {file: entry for file, entry in manifest["files"].items() if file != name and entry["step"] != step}
    write_json(folder / MANIFEST, {**manifest, "files": kept})

"""Folders that are whole or not there: built under a temporary name, sealed by a manifest of hashes, then renamed.

Cache entries and checkpoints are such folders. ``MANIFEST.json`` lists each file's SHA-256 and size; it comes last.
"""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import re
import secrets
import shutil
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import Any

from wernicke.core.errors import DiskFullError, InputError
from wernicke.store.atomic import FULL, fsync_file, fsync_folder, full_disk
from wernicke.store.files import read_json, sha256_file, write_json

log = logging.getLogger(__name__)

MANIFEST = "MANIFEST.json"
_LEFTOVER = re.compile(r".+\.tmp-(\d+)(?:-[0-9a-f]+)?|\.tmp-(\d+)-[0-9a-f]{8}.*|\.trash-(\d+)-.*")


@contextmanager
def building(folder: Path) -> Iterator[Path]:
    """Yield a temporary folder beside `folder`; when the block ends well it is sealed and becomes `folder`.

    Raises
    ------
    FileExistsError
        When `folder` is there already by then, with content. Nothing of it is touched.
    DiskFullError
        When the disk is full. Whatever went wrong, the temporary folder is removed.
    """
    temporary = folder.with_name(f"{folder.name}.tmp-{os.getpid()}")
    if temporary.exists():  # another thread of this process, or an earlier process that had the same id
        temporary = folder.with_name(f"{temporary.name}-{secrets.token_hex(4)}")
    try:
        temporary.mkdir(parents=True)
        yield temporary
        seal(temporary)
        try:
            os.rename(temporary, folder)
        except OSError as error:
            if error.errno in (errno.ENOTEMPTY, errno.EEXIST):
                raise FileExistsError(error.errno, "exists already", str(folder)) from None
            raise
        fsync_folder(folder.parent)
    except BaseException as error:
        shutil.rmtree(temporary, ignore_errors=True)
        if isinstance(error, OSError):
            _explain(error, folder)
        raise


@contextmanager
def replacing(folder: Path, size: int) -> Iterator[Path]:
    """Yield a temporary folder's path; when the block ends well, what was written there takes the place of `folder`.

    For writers that make the folder themselves and need no manifest (Zarr). `size` in bytes is for the message.

    Raises
    ------
    DiskFullError
        When the disk is full. Whatever went wrong inside the block, the old folder is intact.
    """
    temporary = folder.with_name(f".tmp-{os.getpid()}-{secrets.token_hex(4)}{folder.suffix}")
    folder.parent.mkdir(parents=True, exist_ok=True)
    try:
        with full_disk(folder, size):
            yield temporary
            for item in temporary.rglob("*"):
                fsync_file(item) if item.is_file() else fsync_folder(item)
        if folder.exists():
            discard(folder)
        os.rename(temporary, folder)
        fsync_folder(folder.parent)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise


def _explain(error: OSError, folder: Path) -> None:
    if error.errno in FULL:
        raise DiskFullError(f"disk full: no space is left to write {folder}") from error
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR):
        raise InputError("E-REF", f"cannot write: {os.strerror(error.errno)}", path=folder) from error


def list_files(folder: Path) -> list[str]:
    """Return the relative names of all files below a folder, sorted, without the manifest."""
    names = (item.relative_to(folder).as_posix() for item in folder.rglob("*") if item.is_file())
    return sorted(name for name in names if name != MANIFEST)


def seal(folder: Path) -> None:
    """Make all files of a folder durable and write the manifest of their hashes."""
    for item in [folder, *folder.rglob("*")]:
        if item.is_dir():
            fsync_folder(item)
        else:
            fsync_file(item)
    write_json(folder / MANIFEST, {"files": {name: describe_file(folder / name) for name in list_files(folder)}})


def describe_file(path: Path) -> dict[str, Any]:
    """Return a file's ``sha256`` and ``size`` in bytes."""
    return {"sha256": sha256_file(path), "size": path.stat().st_size}


def find_faults(folder: Path) -> list[str]:
    """Return what is wrong with a sealed folder, one text a file; an empty list when it is whole."""
    try:
        manifest = read_json(folder / MANIFEST)
    except InputError as error:
        return [f"{folder / MANIFEST}: {error.problem}"]
    files = manifest.get("files") if isinstance(manifest, dict) else None
    if not isinstance(files, dict):
        return [f"{folder / MANIFEST}: no list of files"]
    extra = [f"{folder / name}: not in the manifest" for name in list_files(folder) if name not in files]
    return compare_files(folder, files) + extra


def compare_files(folder: Path, files: Mapping[str, Any]) -> list[str]:
    """Return how the files of a folder differ from their recorded ``sha256`` and ``size``, one text a file."""
    faults = []
    for name, recorded in sorted(files.items()):
        path = folder / name
        if not is_inside(name) or not isinstance(recorded, dict):
            faults.append(f"{folder}: the manifest's entry {name!r} is invalid")
        elif not path.is_file():
            faults.append(f"{path}: missing")
        elif path.stat().st_size != recorded.get("size"):
            faults.append(f"{path}: {path.stat().st_size} bytes, the manifest says {recorded.get('size')}")
        elif sha256_file(path) != recorded.get("sha256"):
            faults.append(f"{path}: E-SUM content differs from the manifest")
    return faults


def is_inside(name: str) -> bool:
    """Whether a relative name stays inside its folder."""
    path = PurePosixPath(name)
    return bool(name) and not path.is_absolute() and ".." not in path.parts and "\0" not in name


def discard(folder: Path) -> None:
    """Delete a folder of ours: first renamed, so that what is half deleted is never taken for whole."""
    trash = folder.with_name(f".trash-{os.getpid()}-{secrets.token_hex(4)}-{folder.name}")
    os.rename(folder, trash)
    shutil.rmtree(trash, ignore_errors=True)


def remove_leftovers(folder: Path, min_age_s: float = 0.0) -> list[str]:
    """Remove what processes that are dead left in a folder (temporary files and folders, trash); return the names.

    `min_age_s` spares what is younger: in a folder shared between machines another machine's process may be at work.
    """
    removed = []
    for item in folder.iterdir() if folder.is_dir() else ():
        match = _LEFTOVER.fullmatch(item.name)
        pid = int(next(group for group in match.groups() if group)) if match else 0
        if (
            match is None
            or (pid != os.getpid() and _is_alive(pid))
            or (pid == os.getpid() and ".trash-" not in item.name)
        ):
            continue
        with contextlib.suppress(FileNotFoundError):
            if time.time() - item.lstat().st_mtime < min_age_s:
                continue
            if item.is_dir() and not item.is_symlink():
                shutil.rmtree(item, ignore_errors=True)
            else:
                item.unlink()
            removed.append(item.name)
    if removed:
        log.info("removed what an interrupted process left in %s: %s", folder, ", ".join(removed))
    return removed


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except (PermissionError, OverflowError):
        return True
    return True

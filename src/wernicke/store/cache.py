"""The user's cache: results kept by what they were computed from, so that a second call reuses the first.

A key is config + input fingerprints + code version; an entry is a sealed folder (`wernicke.store.sealed`). An entry
whose hashes do not match is set aside and computed again, and the log says so.
"""

from __future__ import annotations

import logging
import os
import re
import secrets
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from wernicke.core.errors import InputError
from wernicke.store.files import PathLike, read_json, read_npy, write_json, write_npy
from wernicke.store.fingerprint import fingerprint
from wernicke.store.sealed import building, find_faults, remove_leftovers

log = logging.getLogger(__name__)

_KEY = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,120}")
_NAMES = "arrays.json"
_DAY_S = 86400.0


def cache_folder() -> Path:
    """Return the user's cache folder: $WERNICKE_CACHE, else $XDG_CACHE_HOME/wernicke, else ~/.cache/wernicke."""
    own = os.environ.get("WERNICKE_CACHE")
    if own:
        return Path(own).expanduser()
    shared = os.environ.get("XDG_CACHE_HOME")
    return (Path(shared) if shared else Path("~/.cache").expanduser()) / "wernicke"


def cache_key(name: str, *, config: Any = None, inputs: Mapping[str, Any] | None = None, code: str = "") -> str:
    """Return the key of a result, ``NAME-<40 hex digits>``.

    Parameters
    ----------
    name : str
        What is computed, such as ``"features"``: letters, digits, ``-`` and ``_``.
    config : plain value
        All settings that the result depends on.
    inputs : mapping, optional
        What it is computed from: arrays, tables and paths are fingerprinted, text is taken as a fingerprint.
    code : str
        `wernicke.store.fingerprint.code_fingerprint` of the packages that compute it.
    """
    return f"{name}-{fingerprint({'config': config, 'inputs': dict(inputs or {}), 'code': code})[:40]}"


class Cache:
    """Entries by key in one folder.

    Parameters
    ----------
    root : path-like, optional
        The folder; default: `cache_folder`.
    """

    def __init__(self, root: PathLike | None = None) -> None:
        self.root = cache_folder() if root is None else Path(root)

    def fetch(
        self, key: str, compute: Callable[[], Mapping[str, np.ndarray]], *, mmap: bool = False
    ) -> dict[str, np.ndarray]:
        """Return the arrays kept under `key`; if there are none, or they are damaged, compute and keep them."""
        found = self.get(key, mmap=mmap)
        if found is not None:
            return found
        arrays = {name: np.asarray(array) for name, array in compute().items()}
        self.put(key, arrays)
        return (self.get(key, mmap=True) if mmap else None) or arrays

    def get(self, key: str, *, mmap: bool = False) -> dict[str, np.ndarray] | None:
        """Return the arrays kept under `key` (memory-mapped, read-only, if `mmap`), or None."""
        folder = self._whole(key)
        if folder is None:
            return None
        names = read_json(folder / _NAMES)
        log.info("reused from the cache: %s", folder)
        return {name: read_npy(folder / f"{i}.npy", mmap=mmap) for i, name in enumerate(names)}

    def put(self, key: str, arrays: Mapping[str, np.ndarray]) -> None:
        """Keep named arrays of any shape (numbers or text, no objects) under `key`."""

        def write(folder: Path) -> None:
            write_json(folder / _NAMES, list(arrays))
            for i, array in enumerate(arrays.values()):
                write_npy(folder / f"{i}.npy", np.asarray(array))

        self._build(key, write)

    def folder(self, key: str, build: Callable[[Path], None]) -> Path:
        """Return the folder kept under `key`; if there is none, or it is damaged, `build` fills a new one.

        For what other libraries read from files themselves, such as a language model.
        """
        found = self._whole(key)
        if found is None:
            self._build(key, build)
            found = self.root / key
        else:
            log.info("reused from the cache: %s", found)
        return found

    def _path(self, key: str) -> Path:
        if not _KEY.fullmatch(key):
            raise ValueError(f"cache key {key!r}: expected letters, digits, - and _")
        return self.root / key

    def _whole(self, key: str) -> Path | None:
        """Return the entry's folder if it is there and its hashes match; set a damaged one aside."""
        folder = self._path(key)
        if not folder.is_dir():
            return None
        faults = find_faults(folder)
        if not faults:
            return folder
        aside = folder.with_name(f".bad-{key}-{secrets.token_hex(4)}")
        log.warning("cache entry is damaged and is computed again: %s (kept as %s)", faults[0], aside.name)
        try:
            os.rename(folder, aside)
        except FileNotFoundError:  # another process was first
            log.info("already set aside: %s", folder)
        return None

    def _build(self, key: str, write: Callable[[Path], None]) -> None:
        folder = self._path(key)
        try:
            self.root.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise InputError(
                "E-REF", f"the cache folder cannot be made: {error.strerror}", path=self.root,
                hint="set WERNICKE_CACHE to a folder that can be written to",
            ) from error  # fmt: skip
        remove_leftovers(self.root, min_age_s=_DAY_S)
        try:
            with building(folder) as temporary:
                write(temporary)
        except FileExistsError:
            # Another process computed the same meanwhile: the same key means the same content.
            log.info("another process has written %s meanwhile", folder)

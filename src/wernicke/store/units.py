"""Units of work: parts of a run that are finished one by one, by one process or by several at the same time.

::

    run = RunFolder.create(path, step="encode", config=config, seed=seed)
    run.begin()                                          # config written, or compared; the folder is not kept locked
    units = [Unit(run.path(f"subjects/{name}"), {"responses": ..., "code": ...}) for name in subjects]
    with Share.parse("2/8").locked(run.folder) as share:
        run.begin()                                      # again: a run that nobody works on can be begun anew
        for unit in share.of(units):
            if not unit.is_whole():
                with unit.building() as folder:          # whole or not there
                    write_npy(folder / "r.npy", r)
    if not unfinished(units):
        with run:                                        # tables over all units, then the manifest
            run.finish()

A unit is a sealed folder (`wernicke.store.sealed`) that knows what it was made from.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from wernicke.core.errors import InputError
from wernicke.store.files import read_json, write_json
from wernicke.store.lock import FolderLock
from wernicke.store.manifest import WORK as WORK
from wernicke.store.plain import find_differences, shorten
from wernicke.store.sealed import MANIFEST, building, discard, find_faults

log = logging.getLogger(__name__)

IDENTITY = "unit.json"

T = TypeVar("T")


@dataclass(frozen=True)
class Unit:
    """One piece of a run.

    Parameters
    ----------
    folder : Path
    identity : mapping of str to str
        Fingerprints of what it is made from: inputs and code by name.
    """

    folder: Path
    identity: Mapping[str, str]

    def is_whole(self) -> bool:
        """Whether it was finished from the same inputs by the same code, and nothing of it has changed since.

        Raises
        ------
        InputError
            E-CFG if it was finished from other inputs or by other code: it stays as it is.
        """
        if not (self.folder / MANIFEST).is_file():
            return False
        faults = find_faults(self.folder)
        for fault in faults:
            log.warning("is computed again: %s", fault)
        if faults:
            return False
        differences = find_differences(read_json(self.folder / IDENTITY), dict(self.identity), values=False)
        if differences:
            raise InputError("E-CFG", f"was finished with other {shorten(differences)}", path=self.folder,
                             hint="nothing was changed; choose a new run folder")  # fmt: skip
        return True

    @contextmanager
    def building(self) -> Iterator[Path]:
        """Yield a temporary folder that becomes the unit when the block ends well.

        A damaged unit gives way. Where another process has made the same unit meanwhile, that one stays.
        """
        if self.folder.is_dir():
            discard(self.folder)
        try:
            with building(self.folder) as temporary:
                yield temporary
                write_json(temporary / IDENTITY, dict(self.identity))
        except FileExistsError:
            log.info("another process has finished %s meanwhile", self.folder)


def unfinished(units: Sequence[Unit]) -> list[Unit]:
    """Return the units that are not there yet; whether those that are there are whole is not looked into."""
    return [unit for unit in units if not (unit.folder / MANIFEST).is_file()]


@dataclass(frozen=True)
class Share:
    """One process's share of the units: number `number` of `count`."""

    number: int = 1
    count: int = 1

    @staticmethod
    def parse(text: str) -> Share:
        """Read ``2/8``.

        Raises
        ------
        InputError
            E-CFG for anything else than k/N with k from 1 to N.
        """
        found = re.fullmatch(r"(\d{1,6})/(\d{1,6})", text)
        if found is None or not 1 <= int(found[1]) <= int(found[2]):
            raise InputError("E-CFG", f"found {text!r}, expected k/N with k from 1 to N, or merge", field="--part",
                             hint="such as 1/8 ... 8/8, one a process; then `--part merge`")  # fmt: skip
        return Share(int(found[1]), int(found[2]))

    def of(self, items: Sequence[T]) -> list[T]:
        """Return this share of some items: neighbours, as even in number as can be."""
        start, stop = (len(items) * k // self.count for k in (self.number - 1, self.number))
        return list(items[start:stop])

    @contextmanager
    def locked(self, run: Path) -> Iterator[Share]:
        """Hold this share of a run.

        Raises
        ------
        RunInUseError
            When another process works on the same share.
        """
        folder = run / WORK / f"part-{self.number}-of-{self.count}"
        folder.mkdir(parents=True, exist_ok=True)
        with FolderLock(folder):
            yield self


def read_identity(unit: Path) -> dict[str, Any]:
    """Return what a finished unit was made from."""
    return dict(read_json(unit / IDENTITY))


def remove_work(run: Path) -> None:
    """Delete what the units of a finished run had in common; the locks of shares stay."""
    for item in (run / WORK).glob("*"):
        if item.is_dir() and not item.name.startswith(("part-", ".")):
            discard(item)

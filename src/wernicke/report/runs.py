"""Finished runs, read for a report: only files that the manifest vouches for, and no path of the machine in a text."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any

import numpy as np

from wernicke.core.errors import InputError
from wernicke.store.lines import read_lines
from wernicke.store.run import HISTORY, RunFolder

STEP = "report"

_QUOTED = re.compile(r"(['\"])((?:~?/|[A-Za-z]:\\)[^'\"]+)\1")
_PLAIN = re.compile(r"(?<![\w/.:<~…])(?:file://)?(?:~|[A-Za-z]:)?[/\\][^\s'\"<>|;,()]*[^\s'\"<>|;,().]")


@dataclass(frozen=True)
class FinishedRun:
    """What a section of the page is made from.

    Attributes
    ----------
    folder : RunFolder
    name : str
        The folder's name.
    manifest, facts : dict
        ``manifest.json`` and ``facts.json``, without absolute paths.
    history : list of dict
        When each step wrote and finished, reports left out.
    """

    folder: RunFolder
    name: str
    manifest: dict[str, Any]
    facts: dict[str, Any]
    history: list[dict[str, Any]]

    @property
    def files(self) -> set[str]:
        """Names of the run's files, those of earlier reports left out."""
        return {name for name, entry in self.manifest["files"].items() if entry["step"] != STEP}

    @property
    def simulated(self) -> bool:
        return bool(self.facts["data"]["simulated"])

    def read_json(self, name: str) -> Any:
        """A JSON file of the run, absolute paths in it shortened."""
        return without_paths(self.folder.read_json(self._listed(name)))

    def read_npy(self, name: str) -> np.ndarray:
        return self.folder.read_npy(self._listed(name))

    def path(self, name: str) -> Path:
        return self.folder.path(self._listed(name))

    def _listed(self, name: str) -> str:
        if name not in self.files:
            raise InputError("E-REF", f"`{name}` is not among the files of the finished run", path=self.folder.folder)
        return name


def open_run(path: str | os.PathLike[str]) -> FinishedRun:
    """Open a run whose results are finished and whole.

    Raises
    ------
    InputError
        E-REF: no such folder, no run, or not finished; E-SUM: a file was changed or removed since.
    """
    folder = RunFolder.open(path)
    manifest = folder.manifest
    if manifest is None or not set(manifest["steps"]) - {STEP}:
        raise InputError("E-REF", "this run is not finished", path=path,
                         hint="give the command that made it once more; it goes on where it stopped")  # fmt: skip
    own = tuple(f"{folder.folder / name}:" for name, entry in manifest["files"].items() if entry["step"] == STEP)
    faults = [fault for fault in folder.verify() if not (own and fault.startswith(own))]
    if faults:
        shown = faults[0].replace(f"{folder.folder}{os.sep}", "")
        more = f" and {len(faults) - 1} more" if len(faults) > 1 else ""
        raise InputError("E-SUM", f"changed since the run finished: {shown}{more}", path=path,
                         hint="restore the file, or run again in a new folder")  # fmt: skip
    if manifest["files"].get("facts.json", {}).get("step", STEP) == STEP:
        raise InputError("E-REF", "nothing to report: no `facts.json` among the run's files", path=path,
                         hint=f"finished here: {', '.join(sorted(manifest['steps']))}; a decoder's run is reported "
                         "after `wernicke evaluate --run`")  # fmt: skip
    history = read_lines(folder.path(HISTORY)) if folder.path(HISTORY).is_file() else []
    return FinishedRun(
        folder,
        folder.folder.name,
        without_paths(manifest),
        without_paths(folder.read_json("facts.json")),
        without_paths([row for row in history if row.get("step") != STEP]),
    )


def open_runs(paths: Sequence[str | os.PathLike[str]]) -> list[FinishedRun]:
    """Open several runs, each named once.

    Raises
    ------
    InputError
        As `open_run`; E-CFG for no run, or one given twice.
    """
    folders = [Path(path).resolve() for path in paths]
    if not folders:
        raise InputError("E-CFG", "no run given", field="runs")
    for folder in folders:
        if folders.count(folder) > 1:
            raise InputError("E-CFG", "given twice", path=folder, field="runs")
    return [open_run(path) for path in paths]


def without_paths(value: Any) -> Any:
    """Shorten absolute paths in all texts of a plain value to their last part: a page may be published.

    >>> without_paths("wernicke encode --run /home/jane/study/run1")
    'wernicke encode --run …/run1'
    """
    if isinstance(value, str):
        if PurePosixPath(value).is_absolute() or PureWindowsPath(value).is_absolute() or value.startswith("~/"):
            return _last_part(value)
        return _PLAIN.sub(lambda m: _last_part(m[0]), _QUOTED.sub(lambda m: m[1] + _last_part(m[2]) + m[1], value))
    if isinstance(value, dict):
        return {without_paths(key): without_paths(item) for key, item in value.items()}
    if isinstance(value, list):
        return [without_paths(item) for item in value]
    return value


def _last_part(path: str) -> str:
    name = re.split(r"[/\\]", path.rstrip("/\\"))[-1]
    return f"…/{name}" if name else path

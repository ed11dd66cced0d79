"""The run folder: one process at a time, every file whole, the manifest last, nothing of the user's overwritten.

::

    with RunFolder.create(path, step="encode", command=sys.argv, config=config, seed=seed) as run:
        if not run.is_complete(inputs={"responses": fingerprint(responses)}, code=code_fingerprint()):
            run.write_npy("predictions/r.npy", r)
            run.write_json("scores.json", rows)
            run.finish()

    with RunFolder.open(path, step="report", command=sys.argv) as run:      # a later command on the same folder
        run.write_text("report.html", page)
        run.finish()

    scores = RunFolder.open(path).read_json("scores.json")                   # reading needs no lock

A killed run is begun again by the same command. ``manifest.json`` holds nothing that depends on the clock; when what
was run stands in ``history.jsonl``.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from types import TracebackType
from typing import IO, Any

import numpy as np

from wernicke.core.errors import InputError, RunInUseError
from wernicke.store import files
from wernicke.store.config import dump_yaml, load_yaml, parse_yaml
from wernicke.store.files import PathLike
from wernicke.store.lines import append_line, cut_torn_line, read_lines, write_lines
from wernicke.store.lock import FolderLock
from wernicke.store.manifest import (
    BEGUN,
    CONFIG,
    HISTORY,
    MANIFEST,
    METRICS,
    OWN,
    SCHEMA,
    find_foreign,
    holds_nothing,
    is_run,
    read_manifest,
    read_record,
    unlist,
    write_manifest,
)
from wernicke.store.pieces import is_kept_piece, keep_piece
from wernicke.store.plain import find_differences, shorten
from wernicke.store.provenance import utc_now, wernicke_version
from wernicke.store.sealed import compare_files, is_inside, remove_leftovers
from wernicke.store.secret import check_no_secret, redact_command

log = logging.getLogger(__name__)


class RunFolder:
    """A folder with one run's config, results, metrics, checkpoints and manifest.

    Made by `create` (which begins or goes on with a run) or `open` (an existing one). Reading works at once; writing
    needs ``with``, which takes the lock.

    Attributes
    ----------
    folder : Path
    config : dict
        The run's config as plain values.
    seed : int
    """

    def __init__(self, folder: Path, step: str, command: str, new: Mapping[str, Any] | None = None) -> None:
        self.folder = folder
        self.step = step
        self._command = command
        self._new = new
        self._lock: FolderLock | None = None
        self._identity: dict[str, Any] = {"inputs": {}, "code": ""}
        self._reopened = False
        self._metrics_checked = False

    # Making and opening ------------------------------------------------------------------------------------------

    @classmethod
    def create(
        cls, path: PathLike, *, config: Mapping[str, Any], seed: int, command: str | Sequence[str] = "",
        step: str = "run",
    ) -> RunFolder:  # fmt: skip
        """Return a run to be entered with ``with``, which makes the folder or goes on with an unfinished one.

        Parameters
        ----------
        path : path-like
            Absent, empty, or a run folder of the same config and seed; of others if nothing was computed there yet.
        config : mapping
            All settings, as plain values; secrets only as ``${env:NAME}``.
        seed : int
            The run's one seed.
        command : str or list of str
            The command line, for the manifest; secrets in it are hidden.
        step : str
            Which command's results these are (``"encode"``, ``"train"``).

        Raises
        ------
        InputError
            Here: E-CFG for a secret in the config. On entry: E-CFG if the folder holds something else or a run of
            another config or seed; it is left as it is.
        RunInUseError
            On entry, if another process holds the folder.
        """
        check_no_secret(config)
        # Through the text that config.yaml will hold, so that what is compared and what is read back are one.
        plain = parse_yaml(dump_yaml(config))
        return cls(Path(path).absolute(), step, redact_command(command), {"config": plain, "seed": int(seed)})

    @classmethod
    def open(cls, path: PathLike, *, command: str | Sequence[str] = "", step: str = "run") -> RunFolder:
        """Return the run in an existing folder; entered with ``with``, it can be added to.

        Raises
        ------
        InputError
            E-REF: no such folder, or no run folder.
        """
        folder = Path(path).absolute()
        if not folder.is_dir():
            raise InputError("E-REF", "no such run folder", path=path)
        if not is_run(folder):
            raise InputError("E-REF", f"not a run folder (neither {MANIFEST} nor an unfinished run in it)", path=path)
        return cls(folder, step, redact_command(command))

    def __enter__(self) -> RunFolder:
        if self._new is not None:
            self._check_place()
            try:
                self.folder.mkdir(parents=True, exist_ok=True)
            except OSError as error:
                raise InputError("E-REF", f"cannot be made: {error.strerror}", path=self.folder) from error
        self._lock = FolderLock(self.folder).__enter__()
        try:
            for folder in [self.folder, *(item for item in self.folder.rglob("*") if item.is_dir())]:
                remove_leftovers(folder)
            if self._new is not None:
                self._begin(self._new)
        except BaseException:
            self.__exit__(None, None, None)
            raise
        return self

    def begin(self, wait_s: float = 30.0) -> None:
        """Make the folder, or check that it holds this very run, and let go of it: for `wernicke.store.units`.

        Nothing is cleaned up, because other processes, perhaps on other machines, may be writing units.

        Raises
        ------
        InputError
            As on entry.
        RunInUseError
            When another process keeps the folder for longer than `wait_s` seconds.
        """
        if self._new is None:
            raise RuntimeError("an existing run has begun already")
        self._check_place()
        self.folder.mkdir(parents=True, exist_ok=True)
        until = time.monotonic() + wait_s
        while True:
            try:
                with FolderLock(self.folder):
                    self._begin(self._new)
                return
            except RunInUseError:
                if time.monotonic() > until:
                    raise
                time.sleep(0.05)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._lock is not None:
            self._lock.__exit__(kind, error, trace)
            self._lock = None

    def _check_place(self) -> None:
        """Refuse, without touching it, a path that is a file or a folder with something else in it."""
        if self.folder.exists() and not self.folder.is_dir():
            raise InputError("E-CFG", "is a file, expected a new or empty folder for the run", path=self.folder)
        foreign = find_foreign(self.folder) if self.folder.is_dir() else None
        # In this order: what another process began between the two looks is a run, not something else.
        if foreign is not None and not is_run(self.folder):
            raise InputError(
                "E-CFG", f"folder is not empty and holds no run ({foreign} is in it)", path=self.folder,
                hint="nothing was changed; choose a new folder",
            )  # fmt: skip

    def _begin(self, new: Mapping[str, Any]) -> None:
        self._check_place()  # again, now that nobody else can begin here
        if is_run(self.folder):
            differences = find_differences({"config": self.config, "seed": self.seed}, dict(new))
            if not differences:
                return
            if not holds_nothing(self.folder):
                raise InputError(
                    "E-CFG", f"holds a run of other settings: {shorten(differences)}", path=self.folder,
                    hint="nothing was changed; choose a new folder, or give the settings of the run that is there",
                )  # fmt: skip
            log.info("begun here before with other settings, nothing was computed: %s", shorten(differences))
        files.write_text(self.folder / CONFIG, dump_yaml(new["config"]))
        files.write_json(self.folder / BEGUN, {"schema": SCHEMA, "seed": new["seed"], "steps": {}})

    # What is there -----------------------------------------------------------------------------------------------

    @property
    def config(self) -> dict[str, Any]:
        path = self.folder / CONFIG
        return dict(self._new["config"]) if self._new is not None and not path.exists() else load_yaml(path)

    @property
    def seed(self) -> int:
        if self._new is not None and not is_run(self.folder):
            return int(self._new["seed"])
        return int(read_record(self.folder)["seed"])

    @property
    def manifest(self) -> dict[str, Any] | None:
        """The manifest, or None while no step is finished."""
        return read_manifest(self.folder)

    def path(self, name: str) -> Path:
        """Return the path of a file in the folder; a name that leads out of it is refused (E-UNSAFE)."""
        if not is_inside(name):
            raise InputError("E-UNSAFE", f"name {name!r} leads out of the run folder", path=self.folder)
        return self.folder / name

    def check_finished(self, step: str) -> None:
        """Refuse (E-REF) to go on from a step that is not finished in this folder."""
        if step not in (self.manifest or {}).get("steps", {}):
            raise InputError(
                "E-REF", f"step `{step}` is not finished here", path=self.folder,
                hint=f"run `wernicke {step}` with this --run first; it goes on where it stopped",
            )  # fmt: skip

    def read_json(self, name: str) -> Any:
        """Return the content of a JSON file of the run."""
        return files.read_json(self.path(name))

    def read_npy(self, name: str, mmap: bool = False) -> np.ndarray:
        """Return an array of the run."""
        return files.read_npy(self.path(name), mmap=mmap)

    # Writing -----------------------------------------------------------------------------------------------------

    def _before_writing(self, name: str) -> Path:
        path = self.path(name)
        if name in OWN:
            raise ValueError(f"{name} is written by the run folder itself")
        self._reopen()
        unlist(self.folder, self.step, name)
        return path

    def _reopen(self) -> None:
        if self._lock is None:
            raise RuntimeError("the run folder is written to inside `with` only")
        if not self._reopened:
            self._reopened = True
            self._note("start")

    def write_json(self, name: str, value: Any) -> Path:
        """Write a JSON file (see `files.write_json`) into the folder and return its path."""
        path = self._before_writing(name)
        files.write_json(path, value)
        return path

    def write_text(self, name: str, text: str) -> Path:
        """Write a text file in UTF-8 into the folder and return its path."""
        path = self._before_writing(name)
        files.write_text(path, text)
        return path

    def write_bytes(self, name: str, content: bytes) -> Path:
        """Write bytes into the folder and return the path."""
        path = self._before_writing(name)
        files.write_bytes(path, content)
        return path

    def write_npy(self, name: str, array: np.ndarray) -> Path:
        """Write one array as .npy into the folder and return its path."""
        path = self._before_writing(name)
        files.write_npy(path, array)
        return path

    def atomic_path(self, name: str) -> AbstractContextManager[Path]:
        """Return `files.atomic_path` for a file in the folder: for figures, tables, safetensors."""
        return files.atomic_path(self._before_writing(name))

    def atomic_write(self, name: str, mode: str = "wb") -> AbstractContextManager[IO[Any]]:
        """Return `files.atomic_write` for a file in the folder."""
        return files.atomic_write(self._before_writing(name), mode)

    # Pieces of a step ----------------------------------------------------------------------------------------------

    def keep(self, name: str) -> None:
        """Record that a piece of this step is whole: the next call takes it up if this one is interrupted."""
        keep_piece(self.folder, name, {"step": self.step, **self._identity})

    def is_kept(self, name: str) -> bool:
        """Whether a piece stands as this step wrote it, with the inputs and code that `is_complete` was asked with."""
        return is_kept_piece(self.folder, name, {"step": self.step, **self._identity})

    # Metrics -----------------------------------------------------------------------------------------------------

    def append_metrics(self, row: Mapping[str, Any]) -> None:
        """Add one line to ``metrics.jsonl``, durably. NaN and infinity are kept, as the texts "nan", "inf", "-inf"."""
        if not self._metrics_checked:
            self._before_writing(METRICS)
            cut_torn_line(self.folder / METRICS)
            self._metrics_checked = True
        append_line(self.folder / METRICS, row)

    def read_metrics(self) -> list[dict[str, Any]]:
        """Return all lines of ``metrics.jsonl``; a last line that a kill cut short is left out, and the log says so."""
        path = self.folder / METRICS
        return read_lines(path) if path.is_file() else []

    def rewind_metrics(self, last: int, key: str = "step") -> None:
        """Keep only the rows whose `key` is at most `last`: those before the checkpoint that the run goes on from."""
        rows = self.read_metrics()
        kept = [row for row in rows if row.get(key, last) <= last]
        if len(kept) < len(rows):
            write_lines(self._before_writing(METRICS), kept)

    # The end -----------------------------------------------------------------------------------------------------

    def is_complete(self, *, inputs: Mapping[str, str] | None = None, code: str = "") -> bool:
        """Whether this step was finished with the same inputs and code, so that nothing is left to do.

        Parameters
        ----------
        inputs : mapping of str to str
            Fingerprints of the inputs by name.
        code : str
            The code's fingerprint.

        Returns
        -------
        bool
            False when the step was never finished, or its files are no longer what was written.

        Raises
        ------
        InputError
            E-CFG if the step was finished, or begun, with other inputs, or finished by other code: its results
            stay as they are.
        """
        self._identity = {"inputs": dict(inputs or {}), "code": code}
        manifest = self.manifest
        done = (manifest or {}).get("steps", {}).get(self.step)
        if manifest is None or done is None:
            self._check_begun()
            return False
        differences = find_differences({"inputs": done["inputs"]}, {"inputs": self._identity["inputs"]}, values=False)
        if done["code"] != code:
            differences.append(f"code (wernicke {manifest['wernicke']} then, {wernicke_version()} now)")
        if differences:
            raise InputError(
                "E-CFG", f"step `{self.step}` was finished with other {shorten(differences)}", path=self.folder,
                hint="nothing was changed; choose a new folder",
            )  # fmt: skip
        own = {name: entry for name, entry in manifest["files"].items() if entry["step"] == self.step}
        faults = compare_files(self.folder, own)
        for fault in faults:
            log.warning("is computed again: %s", fault)
        if not faults:
            log.info("already done: step `%s` in %s", self.step, self.folder)
        return not faults

    def _check_begun(self) -> None:
        """Compare an unfinished step with what it was begun with; remember that for the next time."""
        if self._lock is None or not (self.folder / BEGUN).is_file():
            return
        record = read_record(self.folder)
        begun = record["steps"].get(self.step)
        if begun is not None:
            differences = find_differences(
                {"inputs": begun["inputs"]}, {"inputs": self._identity["inputs"]}, values=False
            )
            if differences:
                raise InputError(
                    "E-CFG", f"step `{self.step}` was begun with other {shorten(differences)}", path=self.folder,
                    hint="nothing was changed; choose a new folder",
                )  # fmt: skip
            if begun["code"] != self._identity["code"]:
                log.warning("the code has changed since step `%s` in %s was begun", self.step, self.folder)
        if begun != self._identity:
            record["steps"][self.step] = self._identity
            files.write_json(self.folder / BEGUN, record)

    def finish(self, *, inputs: Mapping[str, str] | None = None, code: str | None = None) -> None:
        """Write the manifest: from now on this step is done.

        `inputs` and `code` default to what `is_complete` was asked with.
        """
        self._reopen()
        if inputs is not None:
            self._identity["inputs"] = dict(inputs)
        if code is not None:
            self._identity["code"] = code
        identity = {"command": self._command, **self._identity}
        write_manifest(self.folder, self.manifest or {}, self.step, identity, self.config, self.seed)
        self._note("finish")
        log.info("wrote %s", self.folder / MANIFEST)

    def _note(self, event: str) -> None:
        code = self._identity["code"]
        note = {"event": event, "step": self.step, "command": self._command, "code": code, "utc": utc_now()}
        cut_torn_line(self.folder / HISTORY)
        append_line(self.folder / HISTORY, note)

    def verify(self) -> list[str]:
        """Recompute all hashes; return what is wrong, one text a file, empty when the finished run is whole."""
        manifest = self.manifest
        if manifest is None:
            return [f"{self.folder}: unfinished, no {MANIFEST}"]
        faults = compare_files(self.folder, manifest["files"])
        if self.config != manifest.get("config"):
            faults.append(f"{self.folder / CONFIG}: differs from the manifest's config")
        return faults

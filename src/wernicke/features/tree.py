"""drama2brain's feature tree: ``stim_features/<modality>/<hparams>/<model>/layer<k>/<Title>_<NNN>.npy``.

One folder a model, with ``features.json`` beside its layers: settings, what was read, the code's fingerprint and the
SHA-256 of every file. A file that stands there whole is not made again; a folder of other settings, or one that
something else wrote, is refused and left as it is.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np

from wernicke.core.checks import check_finite, check_option
from wernicke.core.errors import InputError
from wernicke.store.files import atomic_path, check_free_space, read_json, write_json
from wernicke.store.lock import FolderLock
from wernicke.store.plain import find_differences, shorten
from wernicke.store.provenance import describe_environment, wernicke_version
from wernicke.store.sealed import compare_files, describe_file, remove_leftovers

logger = logging.getLogger(__name__)

RECORD = "features.json"
SCHEMA = "wernicke-features/1"
DTYPES = ("float16", "float32")
MODALITIES = ("semantic", "vision", "audio", "vision-semantic")
_PART = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.+-]*")


class ModelFolder:
    """The features of one model in the tree, to be entered with ``with``, which takes its lock.

    Parameters
    ----------
    root : Path
        The folder ``stim_features``.
    modality, hparams, model : str
        Names in the tree; letters, digits and ``_.+-``.
    settings : mapping
        All that the values depend on and that the names do not say, as plain values; layers and runs left out.
    facts : mapping
        What else the record says (model's revision, whether the data are simulated).
    code : str
        Fingerprint of the code.
    dtype : str
        ``"float16"`` (as the authors') or ``"float32"``, in which values are kept.

    Raises
    ------
    InputError
        E-CFG (a bad name; on entry: features of other settings, or of somebody else, stand there), E-HDR (a damaged
        record).
    RunInUseError
        On entry, if another process writes this model's features.
    """

    def __init__(
        self,
        root: Path,
        modality: str,
        hparams: str,
        model: str,
        *,
        settings: Mapping[str, Any],
        facts: Mapping[str, Any],
        code: str,
        dtype: str = "float16",
    ) -> None:
        check_option(modality, MODALITIES, "modality")
        check_option(dtype, DTYPES, "save_as")
        for name, field in ((hparams, "hparams"), (model, "models")):
            if not _PART.fullmatch(name):
                raise InputError("E-CFG", f"found {name!r}, expected letters, digits and _.+-", field=field)
        self.folder = Path(root) / modality / hparams / model
        self.settings = {**settings, "saved_as": dtype}
        self._facts = {**facts, "modality": modality, "hparams": hparams, "model": model}
        self._code = code
        self._dtype = np.dtype(dtype)
        self._files: dict[str, dict[str, Any]] = {}
        self._lock: FolderLock | None = None

    def __enter__(self) -> ModelFolder:
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise InputError("E-REF", f"cannot be made: {error.strerror}", path=self.folder) from error
        self._lock = FolderLock(self.folder).__enter__()
        try:
            self._begin()
        except BaseException:
            self.__exit__(None, None, None)
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._lock is not None:
            self._lock.__exit__(kind, error, trace)
            self._lock = None

    def _begin(self) -> None:
        for folder in [self.folder, *self.folder.glob("layer*")]:
            remove_leftovers(folder)
        path = self.folder / RECORD
        if path.is_file():
            record = read_json(path)
            known = isinstance(record, dict) and record.get("schema") == SCHEMA
            if not known or not isinstance(record.get("files"), dict):
                raise InputError("E-HDR", f"not a record of schema {SCHEMA}", path=path)
            differences = find_differences({"settings": record.get("settings")}, {"settings": self.settings})
            if differences:
                raise InputError("E-CFG", f"holds features of other settings: {shorten(differences)}", path=self.folder,
                                 hint="nothing was changed; choose another --out")  # fmt: skip
            self._files = record["files"]
            ours = {*self._files, *record.get("writing", [])}  # a killed process left the latter, in the record or not
        else:
            ours = set()
        foreign = sorted(set(self._there()) - ours)
        if foreign:
            raise InputError("E-CFG", f"holds features that wernicke did not write ({foreign[0]})", path=self.folder,
                             hint="nothing was changed; choose another --out")  # fmt: skip
        self._write_record()

    def _there(self) -> list[str]:
        return [p.relative_to(self.folder).as_posix() for p in self.folder.glob("layer*/*.npy")]

    def missing(self, run: str, layers: Iterable[str], content: str) -> list[str]:
        """Return the layers of a run that are still to be made.

        Parameters
        ----------
        run : str
        layers : iterable of str
            ``layer1``, ..., or ``layerNone``.
        content : str
            Fingerprint of what the run's features are made from.
        """
        wanted = []
        for layer in layers:
            name = f"{layer}/{run}.npy"
            entry = self._files.get(name)
            if entry is None:
                wanted.append(layer)
            elif (entry.get("content"), entry.get("code")) != (content, self._code):
                what = "content" if entry.get("content") != content else "code"
                logger.warning("is computed again, its %s has changed: %s", what, self.folder / name)
                wanted.append(layer)
            else:
                faults = compare_files(self.folder, {name: entry})
                for fault in faults:
                    logger.warning("is computed again: %s", fault)
                wanted += [layer] if faults else []
        return wanted

    def write(
        self, run: str, layers: Sequence[str], n_rows: int, parts: Iterator[Mapping[str, np.ndarray]], content: str
    ) -> None:
        """Write one file a layer, row by row as `parts` come, and enter them in the record.

        Parameters
        ----------
        run, layers, content
            As in `missing`.
        n_rows : int
            Seconds of the run; what comes behind them is left out.
        parts : iterator of mapping of layer to array, shape (some rows, n_columns)

        Raises
        ------
        InputError
            E-SHAPE (fewer rows than the run has seconds), E-NONFIN (values that are not finite, or too large for
            float16).
        DiskFullError
        """
        arrays: dict[str, np.ndarray] = {}
        names = [f"{layer}/{run}.npy" for layer in layers]
        self._write_record(writing=names)
        at = 0
        with ExitStack() as stack:
            for part in parts:
                rows = min(len(next(iter(part.values()))), n_rows - at)
                if not rows:
                    break
                if not arrays:
                    arrays = self._open(stack, run, {k: part[k].shape[1] for k in layers}, n_rows)
                for layer in layers:
                    arrays[layer][at : at + rows] = self._narrow(part[layer][:rows], layer, run)
                at += rows
            if at < n_rows:
                raise InputError("E-SHAPE", f"found {at} s, the run has {n_rows} s", field=run,
                                 hint="are all of the film's seconds there?")  # fmt: skip
            for array in arrays.values():
                array.flush()  # type: ignore[attr-defined]
        for name in names:
            self._files[name] = {**describe_file(self.folder / name), "content": content, "code": self._code}
        self._write_record()

    def _open(self, stack: ExitStack, run: str, widths: Mapping[str, int], n_rows: int) -> dict[str, np.ndarray]:
        check_free_space(self.folder, sum(widths.values()) * n_rows * self._dtype.itemsize)
        arrays: dict[str, np.ndarray] = {}
        for layer, width in widths.items():
            path = stack.enter_context(atomic_path(self.folder / layer / f"{run}.npy"))
            arrays[layer] = np.lib.format.open_memmap(path, "w+", self._dtype, (n_rows, width))
        return arrays

    def _narrow(self, values: np.ndarray, layer: str, run: str) -> np.ndarray:
        check_finite(values, f"{layer} of {run}")
        if self._dtype == np.float16 and float(np.abs(values).max(initial=0)) > float(np.finfo(np.float16).max):
            raise InputError("E-NONFIN", f"{layer} of {run} reaches {np.abs(values).max():.3g}, float16 ends at 65504",
                             field="save_as", hint="set save_as to float32")  # fmt: skip
        return values.astype(self._dtype)

    def _write_record(self, writing: Sequence[str] = ()) -> None:
        record = {"schema": SCHEMA, "wernicke": wernicke_version(), "settings": self.settings, **self._facts,
                  "environment": describe_environment(), "files": self._files, "writing": list(writing)}  # fmt: skip
        write_json(self.folder / RECORD, record)

    def verify(self) -> list[str]:
        """Recompute the hashes of all files of the record; return what is wrong, one text a file."""
        return compare_files(self.folder, self._files)

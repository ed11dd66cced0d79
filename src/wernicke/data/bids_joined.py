"""A subject's runs one under the other: in memory, or run by run in a file that is then memory-mapped."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import IO, Any

import numpy as np

from wernicke.store.atomic import atomic_write
from wernicke.store.files import read_npy


class JoinedRuns:
    """Append runs, each (n_samples, n_units); after the ``with`` block `values` holds all of them, float32.

    Parameters
    ----------
    folder : Path, optional
        For ``<subject>.npy``, which takes the place of one that is there; None: in memory.
    subject : str
    """

    def __init__(self, folder: Path | None, subject: str) -> None:
        self.path = None if folder is None else folder / f"{subject}.npy"
        self.parts: list[np.ndarray] = []
        self.n_rows, self.n_units = 0, 0
        self.stack = ExitStack()
        self.file: IO[Any] | None = None

    def __enter__(self) -> JoinedRuns:
        if self.path is not None:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self.file = self.stack.enter_context(atomic_write(self.path, "wb"))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.file is not None and kind is None:
            self.file.seek(0)
            self._header()
        self.stack.__exit__(kind, error, trace)

    def append(self, values: np.ndarray) -> None:
        """Add a run."""
        values = np.ascontiguousarray(values, dtype="<f4")
        if self.file is None:
            self.parts.append(values)
        else:
            if not self.n_rows:
                self.n_units = values.shape[1]
                self._header()
            self.file.write(values.data)
        self.n_rows += len(values)

    def _header(self) -> None:
        """Write a header of one length, however many rows there will be: numpy leaves room for their number to grow."""
        header = {"descr": "<f4", "fortran_order": False, "shape": (self.n_rows, self.n_units)}
        np.lib.format.write_array_header_1_0(self.file, header)  # type: ignore[arg-type]

    @property
    def values(self) -> np.ndarray:
        """All runs; of those in memory each is given back as soon as it is copied."""
        if self.path is not None:
            return read_npy(self.path, mmap=True)
        out = np.empty((self.n_rows, self.parts[0].shape[1]), dtype=np.float32)
        at = 0
        while self.parts:
            part = self.parts.pop(0)
            out[at : at + len(part)] = part
            at += len(part)
        return out

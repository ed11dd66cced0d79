"""One process at a time in a folder."""

from __future__ import annotations

import errno
import fcntl
import os
import socket
from pathlib import Path
from types import TracebackType

from wernicke.core.errors import InputError, RunInUseError

LOCK = ".lock"


class FolderLock:
    """Context manager that holds an exclusive `flock` on ``.lock`` in an existing folder.

    The kernel lets go of it when the process ends, however it ends. Meanwhile the file says who holds it.

    Raises
    ------
    RunInUseError
        On entry, when another process (or this one already) holds it.
    InputError
        E-REF: the folder cannot be written to, or its file system has no locks.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._descriptor: int | None = None

    def __enter__(self) -> FolderLock:
        try:
            descriptor = os.open(self.folder / LOCK, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o666)
        except OSError as error:
            raise InputError("E-REF", f"cannot write: {error.strerror}", path=self.folder) from error
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            os.close(descriptor)
            if error.errno not in (errno.EWOULDBLOCK, errno.EACCES):
                raise InputError(
                    "E-REF", f"the file system cannot lock: {error.strerror}", path=self.folder / LOCK,
                    hint="use a local folder for the run",
                ) from error  # fmt: skip
            holder = read_holder(self.folder)
            raise RunInUseError(f"run folder is in use by {holder or 'another process'}: {self.folder}") from None
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, f"pid {os.getpid()} on host {socket.gethostname()}".encode(), 0)
        self._descriptor = descriptor
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._descriptor is not None:
            # The file stays: removing it would let two processes lock two different files.
            os.ftruncate(self._descriptor, 0)
            os.close(self._descriptor)
            self._descriptor = None


def read_holder(folder: Path) -> str | None:
    """Return who wrote itself into the lock file (``pid N on host H``), or None."""
    path = folder / LOCK
    return (path.read_text(errors="replace")[:200].strip() or None) if path.is_file() else None


def is_locked(folder: Path) -> bool:
    """Whether some process holds the folder at this moment."""
    path = folder / LOCK
    if not path.is_file():
        return False
    descriptor = os.open(path, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(descriptor)
    return False

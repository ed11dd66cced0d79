"""Files that are either the old one or the new one, never half of either.

`atomic_path` and `atomic_write`: a temporary file in the same folder, fsync, rename, fsync of the folder. A full disk
is one `DiskFullError`, with the old file intact.
"""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
import shutil
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from wernicke.core.errors import DiskFullError, InputError

PathLike = str | os.PathLike[str]

TEMPORARY_PREFIX = ".tmp-"
FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
_CANNOT_WRITE = {errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR, errno.EISDIR, errno.ENAMETOOLONG,
                 errno.ELOOP, errno.EEXIST, errno.ENOENT}  # fmt: skip
# Pipes, terminals and some network file systems have no fsync or fallocate: nothing is lost by going without.
_NOT_SUPPORTED = {errno.EINVAL, errno.EOPNOTSUPP, errno.ENODEV, errno.ESPIPE, errno.ENOSYS}


def _disk_full(path: Path, needed: int, at_least: bool = False) -> DiskFullError:
    free = shutil.disk_usage(_existing(path.parent)).free
    return DiskFullError(f"disk full: {path} needs {'at least ' if at_least else ''}{needed} bytes, {free} are free")


def _existing(folder: Path) -> Path:
    while not folder.exists() and folder != folder.parent:
        folder = folder.parent
    return folder


def check_free_space(folder: PathLike, n_bytes: int) -> None:
    """Raise `DiskFullError` unless the file system of `folder` (which need not exist yet) has `n_bytes` free."""
    folder = Path(folder).absolute()
    free = shutil.disk_usage(_existing(folder)).free
    if free < n_bytes:
        raise DiskFullError(f"disk full: {folder} needs {n_bytes} bytes, {free} are free")


def fsync_folder(folder: PathLike) -> None:
    """Make the names in a folder durable (renames, new files)."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        _fsync(descriptor)
    finally:
        os.close(descriptor)


def fsync_file(path: PathLike) -> None:
    """Make the content of a file, written by whomever, durable."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        _fsync(descriptor)
    finally:
        os.close(descriptor)


def _fsync(descriptor: int) -> None:
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in _NOT_SUPPORTED:
            raise


@contextmanager
def full_disk(path: PathLike, size: int) -> Iterator[None]:
    """Turn the OSError of a full disk inside the block into a `DiskFullError` that names `path` and `size` bytes."""
    try:
        yield
    except OSError as error:
        if error.errno in FULL:
            raise _disk_full(Path(path), size) from error
        raise


@contextmanager
def atomic_path(path: PathLike, size: int | None = None) -> Iterator[Path]:
    """Yield a temporary path beside `path`; when the block ends well, what was written there becomes `path`.

    For writers that want a file name (figures, safetensors, pandas). The suffix is kept, missing parent folders are
    made, links are followed, and devices such as ``/dev/stdout`` are written to directly.

    Raises
    ------
    DiskFullError
        On ENOSPC, EDQUOT or EFBIG. Whatever went wrong, the old file is intact and no temporary file stays.
    InputError
        E-REF: the place cannot be written to.
    """
    target = Path(os.path.realpath(path))
    if os.path.isdir(target):  # unlike Path.is_dir, no error for a name that is too long
        raise InputError("E-REF", "is a folder, expected a file to write", path=path)
    mode = target.stat().st_mode if os.path.exists(target) else None
    if mode is not None and not stat.S_ISREG(mode):
        yield target
        return
    suffix = "".join(target.suffixes)[-20:]
    temporary = target.with_name(f"{TEMPORARY_PREFIX}{os.getpid()}-{secrets.token_hex(4)}{suffix}")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        yield temporary
        if mode is not None:
            os.chmod(temporary, stat.S_IMODE(mode))
        fsync_file(temporary)
        os.replace(temporary, target)
        fsync_folder(target.parent)
    except BaseException as error:
        written = temporary.stat().st_size if temporary.exists() else 0
        with contextlib.suppress(NotADirectoryError):
            temporary.unlink(missing_ok=True)
        _explain(error, target, temporary, size, written)
        raise


def _explain(error: BaseException, target: Path, temporary: Path, size: int | None, written: int) -> None:
    """Raise the error that the user should see in place of a bare OSError; return when there is none."""
    if not isinstance(error, OSError):
        return
    if error.errno in FULL:
        raise _disk_full(target, size or written, at_least=size is None) from error
    ours = error.filename is not None and Path(os.fsdecode(error.filename)) in {temporary, target, *target.parents}
    if error.errno in _CANNOT_WRITE and ours:
        raise InputError("E-REF", f"cannot write: {os.strerror(error.errno or 0)}", path=target) from error


@contextmanager
def atomic_write(path: PathLike, mode: str = "wb", size: int | None = None) -> Iterator[IO[Any]]:
    """Yield an open file; when the block ends well its content becomes `path`, else `path` stays as it was.

    Parameters
    ----------
    path : path-like
        The file to write.
    mode : {"wb", "w"}
        Bytes, or text in UTF-8 without translation of line ends.
    size : int, optional
        Bytes to come, where known: they are allocated first, so that a full disk shows before anything is written.

    Raises
    ------
    DiskFullError, InputError
        As `atomic_path`.
    """
    if mode not in ("wb", "w"):
        raise ValueError(f"mode is {mode!r}, expected 'wb' or 'w'")
    encoding = {} if mode == "wb" else {"encoding": "utf-8", "newline": "\n"}
    with atomic_path(path, size) as temporary:
        file = open(temporary, mode, **encoding)  # type: ignore[call-overload]  # noqa: SIM115
        try:
            allocated = size if stat.S_ISREG(os.fstat(file.fileno()).st_mode) else None
            if allocated:
                _allocate(file.fileno(), allocated)
            yield file
            file.flush()
            if allocated and file.tell() < allocated:
                os.ftruncate(file.fileno(), file.tell())
            _fsync(file.fileno())
        except BaseException:
            with contextlib.suppress(OSError):  # the first error is the one to report
                file.close()
            raise
        file.close()


def _allocate(descriptor: int, size: int) -> None:
    try:
        os.posix_fallocate(descriptor, 0, size)
    except OSError as error:
        if error.errno not in _NOT_SUPPORTED:
            raise

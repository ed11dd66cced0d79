"""Files that are either the old one or the new one, never half of either; and readers that trust no header.

Everything the package writes goes through `atomic_path` or `atomic_write`: a temporary file in the same folder,
fsync, rename, fsync of the folder. A full disk is one `DiskFullError`, with the old file intact.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import math
import os
import secrets
import shutil
import stat
import tokenize
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, NoReturn

import numpy as np

from wernicke.core.checks import check_file
from wernicke.core.errors import DiskFullError, InputError
from wernicke.store.plain import to_json

PathLike = str | os.PathLike[str]

TEMPORARY_PREFIX = ".tmp-"
_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
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
    if target.is_dir():
        raise InputError("E-REF", "is a folder, expected a file to write", path=path)
    mode = target.stat().st_mode if target.exists() else None
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
    if error.errno in _FULL:
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
            if size:
                _allocate(file.fileno(), size)
            yield file
            file.flush()
            if size and file.seekable() and file.tell() < size:
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


def write_bytes(path: PathLike, content: bytes) -> None:
    """Write bytes atomically."""
    with atomic_write(path, "wb", size=len(content)) as file:
        file.write(content)


def write_text(path: PathLike, text: str) -> None:
    """Write text atomically, in UTF-8."""
    write_bytes(path, text.encode("utf-8"))


def write_json(path: PathLike, value: Any) -> None:
    """Write a value as JSON, atomically: sorted keys, numpy scalars and arrays accepted, NaN refused (E-NONFIN)."""
    write_text(path, to_json(value, indent=1) + "\n")


def write_npy(path: PathLike, array: np.ndarray) -> None:
    """Write one array as .npy, atomically, in pieces of 16 MB; object arrays are refused (E-UNSAFE)."""
    array = np.asanyarray(array)
    if array.dtype.hasobject:
        raise InputError("E-UNSAFE", f"found dtype {array.dtype}, which only pickle could store", path=path)
    with atomic_write(path, "wb", size=array.nbytes + 4096) as file:
        # Through a bare `write`, numpy copies in pieces; given the file itself it uses fwrite, whose errors lose errno.
        np.lib.format.write_array(_Sink(file), array, allow_pickle=False)


class _Sink:
    def __init__(self, file: IO[bytes]) -> None:
        self.write = file.write


def sha256_file(path: PathLike) -> str:
    """Return the SHA-256 of a file's content, in hexadecimal."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def read_json(path: PathLike, max_bytes: int = 64 * 2**20) -> Any:
    """Read a JSON file; duplicate keys, NaN, numbers beyond double precision and deep nesting are refused.

    Raises
    ------
    InputError
        E-REF, E-SIZE, E-TRUNC (empty), E-FMT, E-NONFIN.
    """
    path = check_file(path)
    text = _read_text(path, max_bytes)

    def finite(literal: str) -> float:
        value = float(literal)
        if not math.isfinite(value):
            raise InputError("E-NONFIN", f"found {literal}, which is not a finite number", path=path)
        return value

    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found = dict(pairs)
        if len(found) < len(pairs):
            names = [name for name, _ in pairs]
            twice = next(name for name in names if names.count(name) > 1)
            raise InputError("E-FMT", "key stands twice in one object", path=path, field=twice)
        return found

    try:
        return json.loads(text, parse_constant=finite, parse_float=finite, object_pairs_hook=unique)
    except InputError:
        raise
    except json.JSONDecodeError as error:
        raise InputError("E-FMT", f"not JSON: {error.msg}, line {error.lineno}", path=path) from None
    except (RecursionError, ValueError):
        raise InputError("E-SIZE", "nested too deeply, or a number with too many digits", path=path) from None


def _read_text(path: Path, max_bytes: int) -> str:
    size = path.stat().st_size
    if size > max_bytes:
        raise InputError("E-SIZE", f"file has {size} bytes, at most {max_bytes} are read", path=path)
    content = read_bytes(path)
    if not content.strip():
        raise InputError("E-TRUNC", "file is empty", path=path)
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputError("E-FMT", f"not UTF-8 text (byte {error.start})", path=path) from None


def read_bytes(path: PathLike) -> bytes:
    """Read a whole file; a file that may not be read is an `InputError` (E-REF)."""
    try:
        return check_file(path).read_bytes()
    except PermissionError:
        raise InputError("E-REF", "no permission to read", path=path) from None


def describe_start(head: bytes) -> str:
    """Say what a file of the wrong format seems to be, from its first bytes."""
    if head.startswith(b"version https://git-lfs"):
        return "a Git-LFS pointer: fetch the file itself first"
    if head.lstrip()[:9].lower().startswith((b"<!doctype", b"<html")):
        return "a web page: the download went wrong"
    if head.startswith(b"PK"):
        return "a zip archive (.npz or .pt?)"
    if head[:1] == b"\x80":
        return "a Python pickle, which is never loaded"
    return f"something that begins with {head[:8]!r}"


def read_npy(path: PathLike, mmap: bool = False) -> np.ndarray:
    """Read one .npy array without trusting it: no pickle, and the header is compared with the file's size first.

    Parameters
    ----------
    path : path-like
        The file.
    mmap : bool
        Map it read-only into memory in place of reading it.

    Raises
    ------
    InputError
        E-REF, E-FMT, E-HDR, E-TRUNC, E-SIZE (the header declares what no such file could hold), E-UNSAFE (objects).
    """
    path = check_file(path)
    size = path.stat().st_size
    if size == 0:
        raise InputError("E-TRUNC", "file is empty", path=path)
    with open(path, "rb") as file:
        shape, fortran, dtype = _read_header(file, path)
        offset = file.tell()
    if dtype.hasobject:
        raise InputError("E-UNSAFE", f"dtype {dtype} holds Python objects, which only pickle could load", path=path)
    declared = offset + math.prod(shape) * dtype.itemsize
    if declared > size:
        code = "E-SIZE" if declared > max(2**30, 1000 * size) else "E-TRUNC"
        raise InputError(
            code, f"header declares shape {shape} of {dtype}, {declared} bytes; file has {size}", path=path
        )
    if declared < size:
        raise InputError("E-HDR", f"header declares {declared} bytes, file has {size}", path=path)
    order = "F" if fortran else "C"
    if mmap and math.prod(shape) * dtype.itemsize:
        return np.memmap(path, dtype=dtype, mode="r", offset=offset, shape=shape, order=order)  # type: ignore[call-overload]
    return np.load(path, allow_pickle=False)


def _read_header(file: IO[bytes], path: Path) -> tuple[tuple[int, ...], bool, np.dtype]:
    head = file.read(64)
    file.seek(0)
    if not head.startswith(np.lib.format.MAGIC_PREFIX):
        raise InputError("E-FMT", f"not a .npy file but {describe_start(head)}", path=path)
    try:
        version = np.lib.format.read_magic(file)
        # Version 3 differs from 2 by its encoding only; numpy has no public reader of its header.
        read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        if version not in ((1, 0), (2, 0)):
            raise InputError("E-FMT", f".npy version {version} is not read, expected 1.0 or 2.0", path=path)
        shape, fortran, dtype = read(file)
    except InputError:
        raise
    except (ValueError, TypeError, KeyError, SyntaxError, EOFError, MemoryError, RecursionError, OverflowError,
            tokenize.TokenError) as error:  # fmt: skip
        raise InputError("E-HDR", f"header cannot be read: {str(error).splitlines()[0][:100]}", path=path) from None
    if any(length < 0 for length in shape):
        raise InputError("E-HDR", f"header declares shape {shape}", path=path)
    return shape, fortran, dtype


def write_safetensors(
    path: PathLike, arrays: Mapping[str, np.ndarray], metadata: Mapping[str, str] | None = None
) -> None:
    """Write named arrays as one safetensors file, atomically.

    Parameters
    ----------
    path : path-like
        The file.
    arrays : mapping of str to array
        Numbers only; each is stored in C order.
    metadata : mapping of str to str, optional
        Goes into the header.
    """
    from safetensors.numpy import save_file

    contiguous = {name: np.ascontiguousarray(array).reshape(np.shape(array)) for name, array in arrays.items()}
    save_tensors(path, contiguous, save_file, metadata)


def save_tensors(path: PathLike, tensors: Mapping[str, Any], save_file: Any, metadata: Any = None) -> None:
    """Call safetensors' `save_file` of numpy or torch atomically, with its errors turned into ours."""
    from safetensors import SafetensorError

    size = sum(int(tensor.nbytes) for tensor in tensors.values())
    target = Path(os.path.realpath(path))
    check_free_space(target.parent, size)
    with atomic_path(target, size) as temporary:
        try:
            save_file(dict(tensors), temporary, metadata=dict(metadata) if metadata else None)
        except SafetensorError as error:
            if any(f"os error {number})" in str(error) for number in _FULL):
                raise OSError(errno.ENOSPC, str(error)) from error
            raise


def read_safetensors(path: PathLike) -> dict[str, np.ndarray]:
    """Read all arrays of a safetensors file.

    Raises
    ------
    InputError
        E-REF, E-TRUNC (empty), E-FMT (another format), E-HDR (header invalid, or it and the file's size disagree).
    """
    from safetensors import SafetensorError
    from safetensors.numpy import load_file

    path = check_file(path)
    try:
        return load_file(path)
    except (SafetensorError, OverflowError, ValueError) as error:
        refuse_tensors(path, error)


def refuse_tensors(path: Path, error: Exception) -> NoReturn:
    """Raise the InputError that says what is wrong with a safetensors file."""
    if path.stat().st_size == 0:
        raise InputError("E-TRUNC", "file is empty", path=path) from None
    with open(path, "rb") as file:
        head = file.read(64)
    if head[:1] == b"\x80" or head.startswith((b"PK", b"version https", b"<")):
        raise InputError("E-FMT", f"not safetensors but {describe_start(head)}", path=path) from None
    raise InputError("E-HDR", f"not a whole safetensors file: {error}", path=path) from None

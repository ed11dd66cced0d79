"""Reading and writing single files by format: writers are atomic, readers trust no header.

The atomic machinery is in `wernicke.store.atomic`; its public names are importable from here too.
"""

from __future__ import annotations

import errno
import hashlib
import json
import math
import os
import tokenize
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any, NoReturn

import numpy as np

from wernicke.core.checks import check_file
from wernicke.core.errors import InputError
from wernicke.store.atomic import FULL, PathLike, atomic_path, atomic_write, check_free_space
from wernicke.store.plain import to_json

__all__ = [
    "PathLike", "atomic_path", "atomic_write", "check_free_space", "read_bytes", "read_json", "read_npy",
    "read_safetensors", "sha256_file", "write_bytes", "write_json", "write_npy", "write_safetensors", "write_text",
]  # fmt: skip


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
        One entry for the header. safetensors writes several in random order, so that equal content would give
        unequal bytes; more than one is a ValueError.
    """
    from safetensors.numpy import save_file

    contiguous = {name: np.ascontiguousarray(array).reshape(np.shape(array)) for name, array in arrays.items()}
    save_tensors(path, contiguous, save_file, metadata)


def save_tensors(path: PathLike, tensors: Mapping[str, Any], save_file: Any, metadata: Any = None) -> None:
    """Call safetensors' `save_file` of numpy or torch atomically, with its errors turned into ours."""
    from safetensors import SafetensorError

    if metadata and len(metadata) > 1:
        raise ValueError("safetensors metadata of more than one entry is not written in a fixed order")
    size = sum(int(tensor.nbytes) for tensor in tensors.values())
    target = Path(os.path.realpath(path))
    check_free_space(target.parent, size)
    with atomic_path(target, size) as temporary:
        try:
            save_file(dict(tensors), temporary, metadata=dict(metadata) if metadata else None)
        except SafetensorError as error:
            if any(f"os error {number})" in str(error) for number in FULL):
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

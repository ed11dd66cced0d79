"""Arrays out of other people's pickles, without running what is in them.

GLMsingle and drama2brain save dictionaries of arrays with `numpy.save`, which pickles them; demos ship ``.pkl`` files.
Here the pickle's few numpy constructors are replaced by records of our own, anything else is refused, and arrays are
then built from plain bytes whose number and type were checked. Nothing of the file's choosing is called.
"""

from __future__ import annotations

import math
import os
import pickle
import re
from io import BufferedReader
from pathlib import Path
from typing import Any, NoReturn

import numpy as np

from wernicke.core.checks import check_file
from wernicke.core.errors import InputError
from wernicke.store.files import describe_start

_DTYPE = re.compile(r"[<>=|]?([fiu][1248]|b1|f2)")
_MAX_DEPTH = 4
# What reading damaged or hostile pickles was seen to raise.
_FAULTS = (
    pickle.UnpicklingError, EOFError, ValueError, TypeError, KeyError, IndexError, AttributeError, MemoryError,
    OverflowError, RecursionError, NotImplementedError, ImportError, AssertionError,
)  # fmt: skip


def read_pickled(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Read a dictionary of arrays, numbers and texts from a ``.npy`` of one object or a ``.pkl``.

    Returns
    -------
    dict of str to array, float, int, bool, str, None, or lists and dictionaries of these

    Raises
    ------
    InputError
        E-REF, E-FMT (no pickle, or not of a dictionary), E-UNSAFE (names anything but numpy's array constructors, or
        holds objects), E-TRUNC, E-SIZE.
    """
    path = check_file(path)
    with path.open("rb") as file:
        head = file.read(8)
        file.seek(0)
        if head.startswith(np.lib.format.MAGIC_PREFIX):
            _skip_npy_header(file, path)
        elif head[:1] != b"\x80":
            raise InputError("E-FMT", f"not a pickled dictionary but {describe_start(head)}", path=path)
        try:
            content = _Restricted(file, path).load()
            if isinstance(content, _Array):
                content = content.single(path)
            if not isinstance(content, dict):
                raise InputError("E-FMT", f"found a {type(content).__name__}, expected a dictionary", path=path)
            return {_name(key, path): _plain(value, path, str(key), _MAX_DEPTH) for key, value in content.items()}
        except InputError:
            raise
        except _FAULTS as error:
            code = "E-TRUNC" if isinstance(error, EOFError) else "E-FMT"
            problem = f"the pickle cannot be read: {error or type(error).__name__}"
            raise InputError(code, problem, path=path) from None


def _name(key: Any, path: Path) -> str:
    if not isinstance(key, str):
        raise InputError("E-FMT", f"found the key {key!r}, expected text", path=path)
    return key


def _skip_npy_header(file: BufferedReader, path: Path) -> None:
    try:
        version = np.lib.format.read_magic(file)
        read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        shape, _, dtype = read(file)
    except (ValueError, SyntaxError, TypeError, EOFError) as error:
        raise InputError("E-HDR", f"header cannot be read: {str(error)[:100]}", path=path) from None
    if shape != () or dtype != np.dtype(object):
        raise InputError("E-FMT", f"found {dtype} of shape {shape}, expected one pickled dictionary", path=path)


class _Dtype:
    """A record of ``numpy.dtype(name, ...)`` and of the byte order that is set afterwards."""

    __slots__ = ("name", "order")

    def __init__(self, name: Any, *_: Any) -> None:
        self.name, self.order = name, "="

    def __setstate__(self, state: Any) -> None:
        if not isinstance(state, tuple) or len(state) < 2 or state[1] not in ("<", ">", "|", "="):
            raise ValueError("an unknown state of a dtype")
        self.order = state[1]

    def build(self, path: Path, field: str) -> np.dtype:
        if not isinstance(self.name, str) or not _DTYPE.fullmatch(self.name):
            code = "E-UNSAFE" if self.name == "O8" or self.name == "O" else "E-FMT"
            raise InputError(code, f"found an array of dtype {self.name!r}, expected numbers", path=path, field=field)
        return np.dtype(self.name).newbyteorder(">" if self.order == ">" else "<")


class _Array:
    """A record of an array: its shape, dtype and bytes, or the objects of an array of objects."""

    __slots__ = ("dtype", "fortran", "raw", "shape")

    def __init__(self, *_: Any) -> None:
        self.shape, self.dtype, self.fortran, self.raw = None, None, False, None

    def __setstate__(self, state: Any) -> None:
        _, self.shape, self.dtype, self.fortran, self.raw = state if len(state) == 5 else (1, *state)

    @classmethod
    def of_buffer(cls, raw: Any, dtype: Any, shape: Any, order: Any) -> _Array:
        made = cls()
        made.shape, made.dtype, made.fortran, made.raw = shape, dtype, order == "F", raw
        return made

    @classmethod
    def of_scalar(cls, dtype: Any, raw: Any) -> _Array:
        return cls.of_buffer(raw, dtype, (), "C")

    def single(self, path: Path) -> Any:
        """The one object of an array of no dimensions."""
        if self.shape != () or not isinstance(self.raw, list) or len(self.raw) != 1:
            raise InputError("E-FMT", "expected one pickled dictionary", path=path)
        return self.raw[0]

    def build(self, path: Path, field: str) -> np.ndarray:
        if not isinstance(self.dtype, _Dtype):
            raise InputError("E-FMT", "an array without a dtype", path=path, field=field)
        dtype = self.dtype.build(path, field)
        shape, raw = self.shape, self.raw
        good = isinstance(shape, tuple) and all(isinstance(n, int) and 0 <= n < 2**48 for n in shape)
        if not good or len(shape) > 8 or not isinstance(raw, (bytes, bytearray)):
            raise InputError("E-FMT", f"an array of shape {shape!r} without its bytes", path=path, field=field)
        if math.prod(shape) * dtype.itemsize != len(raw):
            raise InputError("E-HDR", f"declares shape {shape} of {dtype}, {math.prod(shape) * dtype.itemsize} bytes; "
                             f"holds {len(raw)}", path=path, field=field)  # fmt: skip
        values = np.frombuffer(raw, dtype).reshape(shape, order="F" if self.fortran is True else "C")
        return values.astype(dtype.newbyteorder("="), copy=False)


_KNOWN: dict[tuple[str, str], Any] = {("numpy", "dtype"): _Dtype, ("numpy", "ndarray"): _Array}
for _core in ("numpy.core", "numpy._core"):
    _KNOWN |= {
        (f"{_core}.multiarray", "_reconstruct"): _Array,
        (f"{_core}.multiarray", "scalar"): _Array.of_scalar,
        (f"{_core}.numeric", "_frombuffer"): _Array.of_buffer,
    }
# Bytes in the protocols before 3.
_KNOWN[("__builtin__", "bytes")] = lambda: b""
_KNOWN[("_codecs", "encode")] = lambda text, encoding: text.encode("latin1") if encoding == "latin1" else None


class _Bounded:
    """A file that never reads more than is left of it, whatever length an opcode declares."""

    def __init__(self, file: BufferedReader, path: Path) -> None:
        self._file, self._left = file, path.stat().st_size - file.tell()

    def read(self, n: int) -> bytes:
        if n > self._left:
            raise EOFError("ends early")
        self._left -= n
        return self._file.read(n)

    def readline(self) -> bytes:
        line = self._file.readline(10_000)
        self._left -= len(line)
        return line


class _Restricted(pickle._Unpickler):  # the Python one: its opcodes are bounded by the file
    def __init__(self, file: BufferedReader, path: Path) -> None:
        super().__init__(_Bounded(file, path))
        self._path = path

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in _KNOWN:
            raise InputError("E-UNSAFE", f"the pickle asks for {module}.{name}; nothing was loaded", path=self._path)
        return _KNOWN[(module, name)]

    def get_extension(self, code: int) -> NoReturn:
        raise InputError("E-UNSAFE", f"the pickle asks for extension {code}", path=self._path)


def _plain(value: Any, path: Path, field: str, depth: int) -> Any:
    """Turn records into arrays; refuse what is neither array, number, text nor a shallow list or dictionary of them."""
    if isinstance(value, _Array):
        if isinstance(value.raw, list):
            flat = [_plain(item, path, field, depth - 1) for item in _shallow(value.raw, path, field, depth)]
            return flat[0] if value.shape == () and len(flat) == 1 else flat
        built = value.build(path, field)
        return built[()] if built.shape == () else built
    if value is None or type(value) in (bool, int, float, str):
        return value
    if type(value) in (list, tuple):
        return [_plain(item, path, field, depth - 1) for item in _shallow(value, path, field, depth)]
    if type(value) is dict:
        items = _shallow(list(value.items()), path, field, depth)
        return {_name(key, path): _plain(item, path, f"{field}.{key}", depth - 1) for key, item in items}
    raise InputError("E-FMT", f"found a {type(value).__name__}, expected arrays, numbers and texts", path=path,
                     field=field)  # fmt: skip


def _shallow(items: Any, path: Path, field: str, depth: int) -> Any:
    # References make a list of lists of lists larger than any file: depth and length are bounded.
    if depth <= 0 or len(items) > 100_000:
        raise InputError("E-SIZE", "nested too deeply, or too long", path=path, field=field)
    return items

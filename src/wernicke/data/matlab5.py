"""Numeric arrays out of MATLAB files of versions 5 to 7 (MathWorks, "MAT-File Format").

Written out here because scipy's reader crashes the process on some damaged files (a segmentation fault within 2,000
random changes of a header, scipy 1.17). Objects, function handles, sparse and complex arrays are not read.
"""

from __future__ import annotations

import math
import struct
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NoReturn

import numpy as np

from wernicke.core.errors import InputError

MAX_BYTES = 2**30
_MATRIX, _COMPRESSED = 14, 15
_STORED = {1: "i1", 2: "u1", 3: "i2", 4: "u2", 5: "i4", 6: "u4", 7: "f4", 9: "f8", 12: "i8", 13: "u8"}
_CELL, _STRUCT, _CHAR = 1, 2, 4
_TEXTS = {1: "latin-1", 2: "latin-1", 4: "utf-16", 16: "utf-8", 17: "utf-16"}
_MAX_DEPTH, _MAX_ITEMS = 8, 100_000
_CLASSES = {6: "f8", 7: "f4", 8: "i1", 9: "u1", 10: "i2", 11: "u2", 12: "i4", 13: "u4", 14: "i8", 15: "u8"}
_COMPLEX = 0x0800


def read_mat5(path: Path, key: str) -> np.ndarray:
    """Return one numeric array in MATLAB's order of axes.

    Raises
    ------
    InputError
        E-META (no such variable), E-FMT (not real numbers), E-SIZE, E-TRUNC, E-HDR, E-SHAPE (empty).
    """
    return _find(path, key, _numbers)


def read_mat5_struct(path: Path, key: str) -> dict[str, Any]:
    """Return a 1 x 1 structure: field names, in their order, to numbers (an array), text, a cell (a list), a structure.

    Raises
    ------
    InputError
        As `read_mat5`; E-FMT for anything else than a single structure.
    """
    value = _find(path, key, lambda body, order: _value(body, order, 0))
    if not isinstance(value, dict):
        raise InputError("E-FMT", "expected a single structure", path=path, field=key)
    return value


def _find(path: Path, key: str, read: Callable[[memoryview, str], Any]) -> Any:
    """Return what `read` makes of the variable of this name."""
    if path.stat().st_size > MAX_BYTES:
        raise InputError("E-SIZE", f"file has {path.stat().st_size} bytes, at most {MAX_BYTES} of this version",
                         path=path, hint="in MATLAB: save(file, '-v7.3', ...)")  # fmt: skip
    content = path.read_bytes()
    order = {b"IM": "<", b"MI": ">"}.get(content[126:128])
    if order is None:
        raise InputError("E-HDR", f"found byte order mark {content[126:128]!r}, expected IM or MI", path=path)
    names = []
    try:
        for body in _matrices(content, order):
            name = _head(body, order)[0]
            if name == key:
                return read(body, order)
            names.append(name)
    except (struct.error, zlib.error, ValueError, UnicodeDecodeError, MemoryError) as error:
        if isinstance(error, InputError):
            raise InputError(error.code, error.problem, path=path, field=key) from None
        raise InputError("E-TRUNC", f"not a whole .mat file: {error}", path=path) from None
    raise InputError("E-META", f"found variables {', '.join(sorted(names)[:12]) or 'none'}, expected {key}", path=path,
                     field=key)  # fmt: skip


def _refuse(code: str, problem: str) -> NoReturn:
    raise InputError(code, problem)


def _matrices(content: bytes, order: str) -> Iterator[memoryview]:
    """Yield what each variable of the file holds, unpacked."""
    at = 128
    while at < len(content):
        kind, size = struct.unpack_from(order + "II", content, at)
        if at + 8 + size > len(content):
            _refuse("E-TRUNC", f"an element declares {size} bytes, {len(content) - at - 8} follow")
        body = memoryview(content)[at + 8 : at + 8 + size]
        at += 8 + size
        if kind == _COMPRESSED:
            unpacker = zlib.decompressobj()
            unpacked = unpacker.decompress(body, MAX_BYTES)
            if unpacker.unconsumed_tail:
                _refuse("E-SIZE", f"a variable unpacks to more than {MAX_BYTES} bytes")
            if not unpacker.eof:
                _refuse("E-TRUNC", "a compressed variable ends too early")
            kind, size = struct.unpack_from(order + "II", unpacked)
            body = memoryview(unpacked)[8 : 8 + size]
        if kind == _MATRIX:
            yield body


def _head(body: memoryview, order: str) -> tuple[str, int, tuple[int, ...], Iterator[tuple[int, memoryview]]]:
    """Return a variable's name, flags and shape, and the parts that follow."""
    parts = _parts(body, order)
    flags = next(parts, None)
    dims, label = next(parts, None), next(parts, None)
    if flags is None or dims is None or label is None or len(flags[1]) < 8 or len(dims[1]) % 4:
        _refuse("E-HDR", "a variable without flags, dimensions or name")
    flag = struct.unpack_from(order + "I", flags[1])[0]
    shape = struct.unpack(f"{order}{len(dims[1]) // 4}i", dims[1])
    return bytes(label[1]).decode("latin-1"), flag, shape, parts


def _numbers(body: memoryview, order: str, empty: bool = False) -> np.ndarray:
    _, flag, shape, parts = _head(body, order)
    if flag & 0xFF not in _CLASSES or flag & _COMPLEX:
        _refuse("E-FMT", "found text, a structure, a cell, a sparse or complex array, expected an array of numbers")
    if empty and 0 in shape:
        return np.empty(0)
    if any(n <= 0 for n in shape):
        _refuse("E-SHAPE", f"found shape {shape}, expected values")
    stored = next(parts, None)
    if stored is None or stored[0] not in _STORED:
        _refuse("E-HDR", f"values of the unknown kind {stored[0] if stored else 'none'}")
    dtype = np.dtype(order + _STORED[stored[0]])
    if math.prod(shape) * dtype.itemsize != len(stored[1]):
        _refuse("E-HDR", f"shape {shape} of {dtype} does not fit the {len(stored[1])} bytes of values")
    if math.prod(shape) * 8 > MAX_BYTES:
        _refuse("E-SIZE", f"shape {shape} is more than {MAX_BYTES} bytes")
    values = np.frombuffer(stored[1], dtype).astype(_CLASSES[flag & 0xFF])
    return values.reshape(shape, order="F")


def _value(body: memoryview, order: str, depth: int) -> Any:
    """Read numbers, a text, a cell or a structure, with what is in it."""
    if not len(body):  # an empty entry of a cell
        return np.empty(0)
    _, flag, shape, parts = _head(body, order)
    kind = flag & 0xFF
    if kind not in (_CELL, _STRUCT, _CHAR):
        return _numbers(body, order, empty=True)
    if depth > _MAX_DEPTH or any(n < 0 for n in shape) or math.prod(shape) > min(_MAX_ITEMS, len(body)):
        _refuse("E-SIZE", f"found shape {shape}, nested {depth} times")
    if kind == _CHAR:
        return _text(next(parts, None), order)
    fields = [""]
    if kind == _STRUCT:
        length, names = next(parts, None), next(parts, None)
        if length is None or names is None or len(length[1]) != 4 or math.prod(shape) != 1:
            _refuse("E-FMT", f"found a structure of shape {shape}, expected 1 x 1 with field names")
        width = struct.unpack(order + "i", length[1])[0]
        if not 1 <= width <= 64 or len(names[1]) % width:
            _refuse("E-HDR", f"field names of {width} bytes each")
        fields = [
            bytes(names[1][at : at + width]).split(b"\0")[0].decode("latin-1") for at in range(0, len(names[1]), width)
        ]
    items: list[Any] = []
    for _ in range(math.prod(shape) * len(fields)):
        item = next(parts, None)
        if item is None or item[0] != _MATRIX:
            _refuse("E-TRUNC", f"{len(items)} of {math.prod(shape) * len(fields)} entries are there")
        items.append(_value(item[1], order, depth + 1))
    return items if kind == _CELL else dict(zip(fields, items, strict=True))


def _text(stored: tuple[int, memoryview] | None, order: str) -> str:
    if stored is None or stored[0] not in _TEXTS:
        _refuse("E-HDR", f"text of the unknown kind {stored[0] if stored else 'none'}")
    encoding = _TEXTS[stored[0]]
    return bytes(stored[1]).decode(encoding + ("-le" if order == "<" else "-be") if encoding == "utf-16" else encoding)


def _parts(body: memoryview, order: str) -> Iterator[tuple[int, memoryview]]:
    """Yield type and bytes of each part of a variable; four bytes and fewer may stand inside the tag."""
    at = 0
    while at + 8 <= len(body):
        kind, size = struct.unpack_from(order + "II", body, at)
        if kind >> 16:
            kind, size, start, end = kind & 0xFFFF, kind >> 16, at + 4, at + 8
            if size > 4:
                _refuse("E-HDR", f"a part of {size} bytes inside a tag")
        else:
            start = at + 8
            end = start + -(-size // 8) * 8
        if start + size > len(body):
            _refuse("E-TRUNC", f"a part declares {size} bytes, {len(body) - start} follow")
        yield kind, body[start : start + size]
        at = end

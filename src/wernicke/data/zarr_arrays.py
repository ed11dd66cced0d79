"""Numeric arrays out of Zarr folders (formats 2 and 3), without trusting the folder.

A Zarr folder can hold links to other places, name codecs that execute what they read (pickle) and declare terabytes in
a few bytes, and what was never written is read as zeros. All of that is refused before a value is read.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from wernicke.core.checks import check_folder
from wernicke.core.errors import InputError

MAX_BYTES = 2**40
MAX_CHUNK_BYTES = 2**33

# Codecs that only pack numbers: those of the format's own specification and numcodecs' compressors.
_CODECS = frozenset(
    (
        "bytes",
        "transpose",
        "crc32c",
        "sharding_indexed",
        "blosc",
        "gzip",
        "zstd",
        "zlib",
        "lz4",
        "bz2",
        "lzma",
        "shuffle",
    )
)


def open_zarr(path: str | os.PathLike[str], key: str | None = None) -> Any:
    """Return an array of a Zarr folder (``zarr.Array``, read-only): `key`, or the only one.

    Raises
    ------
    InputError
        E-REF (no such folder), E-FMT (not Zarr, not numbers), E-META (no such array), E-SIZE, E-TRUNC (chunks that were
        never written), E-UNSAFE (links out of the folder, unknown codecs).
    """
    import zarr

    folder = check_folder(path)
    _check_links(folder)
    try:
        node: Any = zarr.open(zarr.storage.LocalStore(folder, read_only=True), mode="r")
    except (OSError, ValueError, TypeError, KeyError, LookupError, AttributeError, RecursionError) as error:
        raise InputError("E-FMT", f"not a Zarr array or group: {error}", path=folder) from None
    if not isinstance(node, zarr.Array):
        node = _member(node, key, folder)
    _check_codecs(node.metadata.to_dict(), folder, key)
    _check_size(node, folder, key)
    return node


def _member(group: Any, key: str | None, folder: Path) -> Any:
    import zarr

    try:
        names = sorted(name for name, _ in group.arrays())
        if key is None and len(names) == 1:
            key = names[0]
        found = None if key is None else group.get(key)
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise InputError("E-FMT", f"a broken Zarr group: {error}", path=folder, field=key) from None
    if not isinstance(found, zarr.Array):
        raise InputError(
            "E-META", f"found arrays {', '.join(names[:12]) or 'none'}, expected " + (f"`{key}`" if key else "one"),
            path=folder, field="key", hint="name the array that is meant",
        )  # fmt: skip
    return found


def _check_links(folder: Path) -> None:
    """Refuse symbolic links that lead out of the folder."""
    home = folder.resolve()
    for place, folders, files in os.walk(folder):
        for name in (*folders, *files):
            entry = Path(place, name)
            if entry.is_symlink() and not entry.resolve().is_relative_to(home):
                raise InputError("E-UNSAFE", f"`{entry.relative_to(folder)}` is a link out of this folder", path=folder)


def _codecs(described: Any) -> Iterator[str]:
    """Every codec named in an array's metadata, those inside shards included."""
    if isinstance(described, (list, tuple)):
        for item in described:
            yield from _codecs(item)
    elif isinstance(described, dict):
        yield str(described.get("name", described.get("id")))
        inside = described.get("configuration", {})
        if isinstance(inside, dict):
            yield from _codecs([inside.get("codecs", ()), inside.get("index_codecs", ())])


def _check_codecs(metadata: dict[str, Any], folder: Path, key: str | None) -> None:
    named = _codecs([part for part in map(metadata.get, ("codecs", "filters", "compressor")) if part is not None])
    unknown = sorted(set(named) - _CODECS)
    if unknown or metadata.get("storage_transformers"):
        named_so = ", ".join(unknown) or "of a storage transformer"
        raise InputError("E-UNSAFE", f"needs the codec {named_so}, which may execute what it reads", path=folder,
                         field=key, hint="write the array again with zstd")  # fmt: skip


def _check_size(array: Any, folder: Path, key: str | None) -> None:
    if array.dtype.kind not in "fiu":
        raise InputError("E-FMT", f"found dtype {array.dtype}, expected real numbers", path=folder, field=key)
    size, chunk = (math.prod(shape) * array.dtype.itemsize for shape in (array.shape, array.chunks))
    if size > MAX_BYTES or chunk > MAX_CHUNK_BYTES:
        raise InputError("E-SIZE", f"declares shape {array.shape} in chunks of {array.chunks}", path=folder, field=key)
    if array.nchunks_initialized < array.nchunks:
        raise InputError(
            "E-TRUNC", f"{array.nchunks_initialized} of {array.nchunks} chunks were written", path=folder, field=key,
            hint="what is missing would be read as zeros; for chunks of zeros write with write_empty_chunks=True",
        )  # fmt: skip

"""Series on the cortical surface: GIFTI, one file a hemisphere, and CIFTI, both hemispheres and the voxels below.

nibabel follows a GIFTI file's references to other files and unpacks whatever it is given, so GIFTI is decoded here,
never beyond the declared size; a CIFTI header is held against the file before nibabel reads it.
"""

from __future__ import annotations

import base64
import math
import os
import struct
import warnings
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NoReturn
from xml.parsers import expat

import numpy as np

from wernicke.core.checks import check_file
from wernicke.core.errors import InputError
from wernicke.core.recording import Surface, Voxels
from wernicke.store.files import describe_start

#: Vertices of a hemisphere to the mesh that has so many.
MESHES = {10242: "fsaverage5", 40962: "fsaverage6", 163842: "fsaverage", 32492: "fsLR", 59292: "fsLR", 163852: "fsLR"}
#: Vertices of a hemisphere of FreeSurfer's meshes; `fsaverage` alone is, in BIDS, any of them.
FSAVERAGE = {"fsaverage3": 642, "fsaverage4": 2562, "fsaverage5": 10242, "fsaverage6": 40962, "fsaverage": 163842}
_GIFTI_TYPES = {"NIFTI_TYPE_UINT8": "u1", "NIFTI_TYPE_INT32": "i4", "NIFTI_TYPE_FLOAT32": "f4",
                "NIFTI_TYPE_FLOAT64": "f8"}  # fmt: skip
_ENCODINGS = ("ASCII", "Base64Binary", "GZipBase64Binary")
_CIFTI_BYTES = {2: 1, 4: 2, 8: 4, 16: 4, 64: 8, 256: 1, 512: 2, 768: 4}
_FAULTS = (ValueError, TypeError, KeyError, IndexError, AttributeError, AssertionError, EOFError, OSError,
           ArithmeticError, RuntimeError, MemoryError, NotImplementedError, struct.error, expat.ExpatError)  # fmt: skip


def read_gifti(path: str | os.PathLike[str]) -> tuple[np.ndarray, float | None]:
    """Read one hemisphere's series.

    Parameters
    ----------
    path : path-like
        ``.func.gii``: one array a time point, or one array of (vertices, time points).

    Returns
    -------
    values : array, shape (n_samples, n_vertices)
        float32; NaN is left where the file has it (a medial wall).
    tr_s : float or None
        The metadata's ``TimeStep`` (ms), where there is one.

    Raises
    ------
    InputError
        E-REF, E-FMT, E-HDR, E-SIZE, E-TRUNC, E-UNSAFE (values in another file, entities), E-SHAPE (arrays of other
        lengths).
    """
    path = check_file(path)
    arrays, metadata = read_gifti_arrays(path)
    shapes = {array.shape for array in arrays}
    if len(arrays) == 1 and arrays[0].ndim == 2:
        values = arrays[0].T
    elif len(shapes) == 1 and arrays[0].ndim == 1:
        values = np.stack(arrays)
    else:
        raise InputError("E-SHAPE", f"found arrays of shape {sorted(shapes)[:3]}, expected one a time point", path=path)
    step = metadata.get("TimeStep")
    try:
        tr_s = None if step is None else float(step) / 1000
    except ValueError:
        raise InputError("E-HDR", f"found {step!r}, expected ms", path=path, field="TimeStep") from None
    return np.ascontiguousarray(values, dtype=np.float32), tr_s


def read_gifti_arrays(path: Path) -> tuple[list[np.ndarray], dict[str, str]]:
    """Return every array of a GIFTI file in its own shape and kind, and its metadata (``DataSpace`` with them).

    Raises
    ------
    InputError
        As `read_gifti`; E-SHAPE where there is no array.
    """
    found = _Gifti(path)
    found.parse()
    if not found.arrays:
        raise InputError("E-SHAPE", "holds no array", path=path)
    return found.arrays, found.metadata


class _Gifti:
    """One pass over a GIFTI file's XML: arrays and metadata, unpacking no more than each array declares."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.arrays: list[np.ndarray] = []
        self.metadata: dict[str, str] = {}
        self._size = path.stat().st_size
        self._declared = 0
        self._attributes: Mapping[str, str] = {}
        self._text: list[str] = []
        self._name = ""

    def parse(self) -> None:
        parser = expat.ParserCreate()
        parser.buffer_text = True
        parser.StartElementHandler, parser.EndElementHandler = self._start, self._end
        parser.CharacterDataHandler = self._text.append
        parser.EntityDeclHandler = lambda *_: self._refuse("E-UNSAFE", "declares XML entities")
        with self.path.open("rb") as file:
            head = file.read(256)
            if not head.lstrip(b"\xef\xbb\xbf \r\n\t").startswith((b"<?xml", b"<GIFTI")):
                self._refuse("E-FMT", f"not a GIFTI file but {describe_start(head)}")
            file.seek(0)
            try:
                parser.ParseFile(file)
            except expat.ExpatError as error:
                raise InputError("E-FMT", f"the XML is not whole: {error}", path=self.path) from None

    def _refuse(self, code: str, problem: str, field: str | None = None) -> NoReturn:
        raise InputError(code, problem, path=self.path, field=field)

    def _start(self, name: str, attributes: Mapping[str, str]) -> None:
        self._text.clear()
        if name == "DataArray":
            self._attributes = attributes

    def _end(self, name: str) -> None:
        text = "".join(self._text)
        self._text.clear()
        if name == "Name":
            self._name = text
        elif name == "Value":
            self.metadata.setdefault(self._name, text)
        elif name == "DataSpace":
            self.metadata.setdefault(name, text)
        elif name == "Data":
            self.arrays.append(self._decode(text))

    def _decode(self, text: str) -> np.ndarray:
        given = self._attributes
        encoding, kind = given.get("Encoding"), _GIFTI_TYPES.get(given.get("DataType", ""))
        if encoding not in _ENCODINGS or given.get("ExternalFileName"):
            self._refuse("E-UNSAFE", "its values are in another file", "ExternalFileName")
        if kind is None:
            self._refuse("E-HDR", f"found {given.get('DataType')!r}, expected real numbers", "DataType")
        dims = [given[f"Dim{i}"] for i in range(6) if f"Dim{i}" in given]
        if not dims or not all(d.isdigit() and 0 < int(d) < 2**31 for d in dims):
            self._refuse("E-HDR", f"found {dims}, expected lengths above 0", "Dim0")
        dtype = np.dtype(kind).newbyteorder(">" if given.get("Endian") == "BigEndian" else "<")
        n_bytes = math.prod(map(int, dims)) * dtype.itemsize
        self._declared += n_bytes
        if self._declared > max(64 * 2**20, 200 * self._size):
            self._refuse("E-SIZE", f"declares over {self._declared:,} bytes, the file has {self._size:,}", "Dim0")
        try:
            if encoding == "ASCII":
                flat = np.array(text.split(), dtype=np.float64)
            else:
                raw = base64.b64decode(text)
                if encoding == "GZipBase64Binary":
                    raw = zlib.decompressobj().decompress(raw, n_bytes + 1)
                flat = np.frombuffer(raw, dtype)
        except (ValueError, zlib.error) as error:
            raise InputError("E-FMT", f"the values cannot be decoded: {error}", path=self.path, field="Data") from None
        shape = tuple(map(int, dims))
        if flat.size != math.prod(shape):
            self._refuse("E-TRUNC" if flat.size < math.prod(shape) else "E-SIZE", f"found {flat.size} values or more, "
                         f"expected {math.prod(shape)}", "Data")  # fmt: skip
        return flat.reshape(shape, order="F" if given.get("ArrayIndexingOrder") == "ColumnMajorOrder" else "C")


def join_hemispheres(left: np.ndarray, right: np.ndarray, mesh: str, path: Path) -> tuple[np.ndarray, Surface]:
    """Put two hemispheres side by side; vertices that are NaN all the time (a medial wall) are left out.

    Raises
    ------
    InputError
        E-SHAPE (other numbers of time points), E-NONFIN (a vertex that is NaN or infinite some of the time).
    """
    if len(left) != len(right):
        raise InputError("E-SHAPE", f"left has {len(left)} time points, right {len(right)}", path=path)
    masks, parts = [], []
    for side, values in (("left", left), ("right", right)):
        finite = np.isfinite(values)
        mask = finite.all(axis=0)
        if (finite.any(axis=0) & ~mask).any():
            vertex = int((finite.any(axis=0) & ~mask).argmax())
            raise InputError("E-NONFIN", f"vertex {vertex} of the {side} hemisphere is NaN or infinite at some time "
                             "points only", path=path)  # fmt: skip
        masks.append(mask)
        parts.append(values[:, mask])
    return np.hstack(parts), Surface(masks[0], masks[1], mesh)


def mesh_name(n_vertices: int, space: str, path: Path | None = None) -> str:
    """Name the mesh: the file's space where it has one, else by its number of vertices.

    Raises
    ------
    InputError
        E-META for a space of FreeSurfer's that has another number of vertices.
    """
    expected = {FSAVERAGE[space]} if space in FSAVERAGE else set()
    if space == "fsaverage":
        expected = set(FSAVERAGE.values())
    if expected and n_vertices not in expected:
        numbers = " or ".join(map(str, sorted(expected)))
        raise InputError("E-META", f"found {n_vertices} vertices, {space} has {numbers} a hemisphere", path=path,
                         field="space", hint="name the file by the mesh that it is on")  # fmt: skip
    return space or MESHES.get(n_vertices, "fsnative")


def read_cifti(path: str | os.PathLike[str], mesh: str = "fsLR") -> tuple[np.ndarray, Surface, float]:
    """Read a dense series (``.dtseries.nii``).

    Returns
    -------
    values : array, shape (n_samples, n_units)
        float32, finite, in `Surface`'s order: left and right vertices, then the voxels in C order over their mask.
    surface : Surface
    tr_s : float

    Raises
    ------
    InputError
        E-REF, E-FMT, E-HDR, E-SIZE, E-TRUNC, E-META (no series, a unit twice), E-NONFIN.
    """
    from nibabel.cifti2 import BrainModelAxis, SeriesAxis

    path = check_file(path)
    data, axes = open_cifti(path)
    if len(axes) != 2 or not isinstance(axes[0], SeriesAxis) or not isinstance(axes[1], BrainModelAxis):
        found = ", ".join(type(axis).__name__ for axis in axes)
        raise InputError("E-META", f"found axes {found}, expected a series by brain models (.dtseries.nii)", path=path)
    if str(axes[0].unit).upper() != "SECOND" or not 0 < axes[0].step < 1000:
        raise InputError("E-HDR", f"found a step of {axes[0].step} {axes[0].unit}, expected seconds", path=path,
                         field="SeriesStep")  # fmt: skip
    order, surface = grayordinates(axes[1], mesh, path, data.shape[1])
    values = data[:, order]
    if not np.isfinite(values).all():
        raise InputError("E-NONFIN", f"found {int((~np.isfinite(values)).sum())} values that are NaN or infinite",
                         path=path, hint="interpolate or leave these grayordinates out before")  # fmt: skip
    return np.ascontiguousarray(values), surface, float(axes[0].step)


def open_cifti(path: Path) -> tuple[np.ndarray, list[Any]]:
    """Return a CIFTI-2 file's values, float32, and nibabel's axes; raises as `read_cifti`."""
    import nibabel
    from nibabel.cifti2 import Cifti2HeaderError

    _check_cifti(path)
    faults = (Cifti2HeaderError, nibabel.spatialimages.HeaderDataError, nibabel.filebasedimages.ImageFileError)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            image: Any = nibabel.load(path)
            axes = [image.header.get_axis(i) for i in range(image.ndim)]
        return np.asarray(image.dataobj, dtype=np.float32), axes
    except (*_FAULTS, *faults) as error:
        raise InputError("E-FMT", f"nibabel cannot read it: {error}", path=path) from None


def grayordinates(axis: Any, mesh: str, path: Path, n_columns: int) -> tuple[np.ndarray, Surface]:
    """Return the columns of a CIFTI file in `Surface`'s order, and where they lie; raises as `read_cifti`."""
    try:
        order, surface = _units(axis, mesh, path)
    except InputError:
        raise
    except _FAULTS as error:
        raise InputError("E-HDR", f"the brain models cannot be understood: {error}", path=path) from None
    if n_columns != surface.n_units:
        raise InputError("E-SHAPE", f"found {n_columns} columns for {surface.n_units} units", path=path)
    return order, surface


def _units(axis: Any, mesh: str, path: Path) -> tuple[np.ndarray, Surface]:
    """Return the columns in our order and where they lie."""
    columns: list[np.ndarray] = []
    masks: dict[str, np.ndarray | None] = {"left": None, "right": None}
    for side in masks:
        name = f"CIFTI_STRUCTURE_CORTEX_{side.upper()}"
        at = np.flatnonzero((axis.name == name) & axis.surface_mask)
        if not len(at):
            continue
        vertices = axis.vertex[at]
        masks[side] = _mask_of(vertices, (int(axis.nvertices[name]),), path)
        columns.append(at[np.argsort(vertices, kind="stable")])
    other = set(axis.name[axis.surface_mask]) - {f"CIFTI_STRUCTURE_CORTEX_{side.upper()}" for side in masks}
    if other:
        raise InputError("E-META", f"found surface {sorted(other)[0]}, expected the two cortices", path=path)
    volume = None
    at = np.flatnonzero(~axis.surface_mask)
    if len(at):
        shape = tuple(int(n) for n in axis.volume_shape)
        voxels = axis.voxel[at]
        if (voxels < 0).any() or (voxels >= shape).any():
            raise InputError("E-HDR", f"a voxel lies outside the volume of {shape}", path=path)
        flat = np.ravel_multi_index(voxels.T, shape)
        volume = Voxels(_mask_of(flat, shape, path), np.asarray(axis.affine, dtype=np.float64))
        columns.append(at[np.argsort(flat, kind="stable")])
    return np.concatenate(columns), Surface(masks["left"], masks["right"], mesh, volume)


def _mask_of(index: np.ndarray, shape: tuple[int, ...], path: Path) -> np.ndarray:
    if index.min() < 0 or index.max() >= math.prod(shape):
        raise InputError("E-HDR", f"index {int(index.max())} lies outside of {shape}", path=path)
    mask = np.zeros(math.prod(shape), dtype=bool)
    mask[index] = True
    if int(mask.sum()) != len(index):
        raise InputError("E-META", "a vertex or voxel occurs twice", path=path)
    return mask.reshape(shape)


def _check_cifti(path: Path) -> None:
    """Hold the NIfTI-2 header against the file; refuse XML with entities."""
    size = path.stat().st_size
    with path.open("rb") as file:
        head = file.read(540)
        if len(head) < 540 or head[4:8] != b"n+2\0":
            raise InputError("E-FMT", f"not a CIFTI-2 file (NIfTI-2) but {describe_start(head)}", path=path)
        order = "<" if struct.unpack("<i", head[:4])[0] == 540 else ">"
        datatype = struct.unpack(f"{order}h", head[12:14])[0]
        dim = struct.unpack(f"{order}8q", head[16:80])
        offset = struct.unpack(f"{order}q", head[168:176])[0]
        if dim[0] not in (5, 6, 7) or any(n < 1 for n in dim[1 : dim[0] + 1]):
            raise InputError("E-HDR", f"found {dim[: max(2, dim[0] + 1)]}, expected 6 axes above 0", path=path,
                             field="dim")  # fmt: skip
        if datatype not in _CIFTI_BYTES:
            raise InputError("E-HDR", f"found {datatype}, expected real numbers", path=path, field="datatype")
        if not 540 <= offset <= size:
            raise InputError("E-HDR", f"found {offset}, the file has {size}", path=path, field="vox_offset")
        needed = offset + math.prod(dim[1 : dim[0] + 1]) * _CIFTI_BYTES[datatype]
        if needed > size:
            code = "E-SIZE" if needed > 200 * size else "E-TRUNC"
            raise InputError(code, f"header declares {needed:,} bytes, the file has {size:,}", path=path)
        xml = file.read(max(0, offset - 540))
    if b"<!ENTITY" in xml or b"<!DOCTYPE" in xml:
        raise InputError("E-UNSAFE", "the XML of the header declares entities", path=path)

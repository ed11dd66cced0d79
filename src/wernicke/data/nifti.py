"""NIfTI volumes, checked before they are believed.

nibabel accepts a scale factor of NaN, a repetition time of 0, bytes that a flipped bit changed and a few kB that
unpack to gigabytes. Here the header is read first and held against the file, and a compressed file is read to its
trailer so that gzip's own checksum is compared; only then does nibabel load the voxels.
"""

from __future__ import annotations

import gzip
import logging
import math
import os
import struct
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from wernicke.core.checks import check_finite
from wernicke.core.errors import InputError
from wernicke.core.recording import Voxels

logger = logging.getLogger(__name__)

# What a small file may unpack to before its size is doubted, and how many times its own size after that. Real BOLD
# compresses 2 to 10 times; a mask of zeros 1000 times, but masks are small.
FREE_BYTES = 64 * 2**20
MAX_RATIO = 200

# NIfTI-1 datatype codes of real numbers, with the bits of each; RGB, complex and long double are not brain responses.
_BITS = {2: 8, 4: 16, 8: 32, 16: 32, 64: 64, 256: 8, 512: 16, 768: 32, 1024: 64, 1280: 64}
_SECONDS = {0: 1.0, 8: 1.0, 16: 1e-3, 24: 1e-6}
# Codes of units of length that are not millimetres; 0 says nothing, and all programs then take millimetres.
_LENGTHS = {1: "metres", 3: "micrometres"}


@dataclass(frozen=True)
class NiftiHeader:
    """What the header says, after it was held against the file.

    Parameters
    ----------
    path : Path
    shape : tuple of int
        3 or 4 axes; trailing axes of length 1 are dropped down to 3.
    affine : array, shape (4, 4)
        Voxel indices to world coordinates, mm.
    tr_s : float
        Repetition time, converted to seconds by the header's unit; 0 where the file does not say, or is 3-D.
    """

    path: Path
    shape: tuple[int, ...]
    affine: np.ndarray
    tr_s: float


def read_header(path: str | os.PathLike[str]) -> NiftiHeader:
    """Check a ``.nii`` or ``.nii.gz`` to its last byte and return its header.

    Raises
    ------
    InputError
        E-REF (absent), E-FMT (another format), E-HDR (a field that cannot be), E-SIZE (declares or unpacks to more
        than the file can honestly hold), E-TRUNC (ends early), E-SUM (gzip's checksum differs).
    """
    path = _present(path)
    with path.open("rb") as raw:
        head = raw.read(4)
    packed = head[:2] == b"\x1f\x8b"
    if path.name.endswith(".gz") and not packed:
        raise InputError("E-FMT", _what_instead(head, path, "not gzip"), path=path)
    try:
        with gzip.open(path, "rb") if packed else path.open("rb") as stream:
            fields = _parse(stream.read(540), path)
            needed = fields["offset"] + fields["n_bytes"]
            if not packed and fields["offset"] > path.stat().st_size:
                raise InputError("E-HDR", f"found {fields['offset']:,}, beyond the file's end", path=path,
                                 field="vox_offset")  # fmt: skip
            _check_size(needed, path, packed)
            _check_stream(stream, needed, path, packed)
    except EOFError:
        raise InputError(
            "E-TRUNC", "the compressed stream ends early", path=path, hint="copy or fetch it again"
        ) from None
    except (gzip.BadGzipFile, zlib.error) as error:
        raise InputError("E-SUM", f"damaged gzip data ({error})", path=path, hint="copy or fetch it again") from None
    return _with_affine(path, fields)


def read_mask(path: str | os.PathLike[str], like: NiftiHeader | None = None) -> Voxels:
    """Return the voxels that a mask keeps: those above 0.

    Parameters
    ----------
    path : path-like
        A 3-D image of finite numbers.
    like : NiftiHeader, optional
        The recording's header; grid and affine (to 1e-3 mm) must be the same, nothing is resampled.

    Raises
    ------
    InputError
        As `read_header`; E-SHAPE (another grid), E-META (another affine, nothing inside), E-NONFIN.
    """
    header = read_header(path)
    if len(header.shape) != 3:
        raise InputError("E-SHAPE", f"found shape {header.shape}, expected a 3-D mask", path=header.path)
    hint = "resample the mask onto the recording first (nilearn.image.resample_to_img, interpolation='nearest')"
    if like is not None and header.shape != like.shape[:3]:
        raise InputError(
            "E-SHAPE", f"found {header.shape}, {like.path.name} has {like.shape[:3]}", path=header.path, hint=hint
        )
    if like is not None:
        off_mm = float(np.abs(header.affine - like.affine).max())
        if off_mm > 1e-3:
            raise InputError(
                "E-META", f"the affine differs from {like.path.name} by up to {off_mm:.3g}", path=header.path, hint=hint
            )
    values = check_finite(read_values(header), "mask", path=header.path)
    mask = values > 0
    if not mask.any():
        raise InputError("E-META", "the mask is empty: no voxel is above 0", path=header.path)
    return Voxels(mask, header.affine if like is None else like.affine)


def read_series(header: NiftiHeader, voxels: Voxels) -> np.ndarray:
    """Return a 4-D series inside a mask, float32, shape (n_volumes, n_voxels), voxels in C order over the mask.

    Raises
    ------
    InputError
        E-SHAPE (not 4-D, another grid), E-NONFIN, E-CONST (no voxel varies).
    """
    return _inside(read_values(header), header, voxels)


def read_volumes(header: NiftiHeader, voxels: Voxels) -> np.ndarray:
    """Return a 4-D series on its whole grid, float32, for what looks beyond the mask: smoothing.

    Values outside the mask that are NaN or infinite are taken as 0, as nilearn does, and are counted in the log.

    Raises
    ------
    InputError
        E-SHAPE (not 4-D, another grid), E-NONFIN (inside the mask), E-CONST (no voxel inside varies).
    """
    values = read_values(header)
    _inside(values, header, voxels)
    volumes = values.astype(np.float32)
    bad = ~np.isfinite(volumes)
    if bad.any():
        logger.warning("%s: %d voxels outside the mask are NaN or infinite and count as 0", header.path.name,
                       int(bad.any(axis=-1).sum()))  # fmt: skip
        volumes[bad] = 0.0
    return volumes


def _inside(values: np.ndarray, header: NiftiHeader, voxels: Voxels) -> np.ndarray:
    if len(header.shape) != 4:
        raise InputError("E-SHAPE", f"found shape {header.shape}, expected 4-D (x, y, z, volumes)", path=header.path)
    if header.shape[:3] != voxels.mask.shape:
        raise InputError("E-SHAPE", f"found {header.shape[:3]}, the mask has {voxels.mask.shape}", path=header.path)
    series = np.ascontiguousarray(values[voxels.mask].T, dtype=np.float32)
    check_finite(series, "voxels inside the mask", path=header.path)
    n_constant = int(constant_voxels(series).sum())
    if n_constant == series.shape[1]:
        raise InputError(
            "E-CONST", f"all {n_constant} voxels are constant over {len(series)} volumes", path=header.path
        )
    if n_constant:
        logger.warning("%s: %d of %d voxels are constant; kept, and without a score", header.path.name, n_constant,
                       series.shape[1])  # fmt: skip
    return series


def constant_voxels(values: np.ndarray) -> np.ndarray:
    """Return which columns of (n_samples, n_voxels) never change: array of bool, shape (n_voxels,).

    Readers keep such voxels, so that columns and mask stay in step; a correlation with them is undefined, and maps
    show NaN there, never 0.
    """
    return (values == values[:1]).all(axis=0)


def check_tr(header: NiftiHeader, expected_s: float | None) -> float:
    """Return the repetition time in seconds on which header and caller agree.

    Raises
    ------
    InputError
        E-META when the header has none and none is expected, or the two differ by over 1 ms.
    """
    wanted = "above 0" if expected_s is None else f"{expected_s:g} s"
    fits = header.tr_s > 0 if expected_s is None else abs(header.tr_s - expected_s) <= 1e-3
    if not fits:
        raise InputError(
            "E-META",
            f"found a repetition time of {header.tr_s:g} s, expected {wanted}",
            path=header.path,
            field="pixdim[4]",
            hint="if the header is known to be wrong, state the true one: tr_s=...",
        )
    return header.tr_s if expected_s is None else expected_s


def _present(path: str | os.PathLike[str]) -> Path:
    path = Path(path)
    if path.is_symlink() and not path.exists():
        raise InputError("E-REF", "the link points nowhere: annexed content is absent", path=path,
                         hint="fetch it: `datalad get FILE` or `git annex get FILE`")  # fmt: skip
    if not path.is_file():
        raise InputError("E-REF", "is a folder, expected a file" if path.is_dir() else "no such file", path=path)
    if path.stat().st_size == 0:
        raise InputError("E-FMT", "empty file (0 bytes)", path=path)
    return path


def _what_instead(head: bytes, path: Path, otherwise: str) -> str:
    if head.startswith(b"vers"):
        with path.open("rb") as raw:
            if raw.read(40).startswith(b"version https://git-lfs"):
                return "a Git-LFS pointer, not the file itself; fetch it first (`git lfs pull`)"
    if head.lstrip()[:1] == b"<":
        return "a web page, not an image: the download failed"
    return otherwise


def _parse(head: bytes, path: Path) -> dict:
    """Read the fields that decide how much is allocated, from the raw bytes (nibabel repairs some silently)."""
    if len(head) < 348:
        code = "E-TRUNC" if head[:4] in (b"\x5c\x01\0\0", b"\0\0\x01\x5c") else "E-FMT"
        problem = f"found {len(head)} bytes, a NIfTI header has 348"
        raise InputError(code, _what_instead(head, path, problem), path=path)
    order = next((o for o in "<>" if struct.unpack(f"{o}i", head[:4])[0] in (348, 540)), None)
    two = order is not None and struct.unpack(f"{order}i", head[:4])[0] == 540
    magic = head[4:8] if two else head[344:348]
    if order is None or magic not in (b"n+1\0", b"n+2\0"):
        pair = magic in (b"ni1\0", b"ni2\0")
        other = "a .hdr/.img pair; convert it to one .nii.gz" if pair else "not a NIfTI-1 or NIfTI-2 file"
        raise InputError("E-FMT", _what_instead(head, path, other), path=path)
    if two:
        dim = struct.unpack(f"{order}8q", head[16:80])
        datatype, bitpix = struct.unpack(f"{order}2h", head[12:16])
        pixdim4 = struct.unpack(f"{order}d", head[136:144])[0]
        offset = float(struct.unpack(f"{order}q", head[168:176])[0])
        slope, inter = struct.unpack(f"{order}2d", head[176:192])
        units = struct.unpack(f"{order}i", head[500:504])[0]
    else:
        dim = struct.unpack(f"{order}8h", head[40:56])
        datatype, bitpix = struct.unpack(f"{order}2h", head[70:74])
        pixdim4 = struct.unpack(f"{order}f", head[92:96])[0]
        offset, slope, inter = struct.unpack(f"{order}3f", head[108:120])
        units = head[123]
    return _checked(path, dim, datatype, bitpix, pixdim4, offset, slope, inter, units, 540 if two else 348)


def _checked(
    path: Path,
    dim: tuple[int, ...],
    datatype: int,
    bitpix: int,
    pixdim4: float,
    offset: float,
    slope: float,
    inter: float,
    units: int,
    header_bytes: int,
) -> dict:
    def bad(field: str, problem: str) -> InputError:
        return InputError("E-HDR", problem, path=path, field=field)

    if not 1 <= dim[0] <= 7:
        raise bad("dim[0]", f"found {dim[0]}, expected 1 to 7 axes (byte-swapped or corrupt)")
    for axis in range(1, dim[0] + 1):
        if dim[axis] < 1:
            raise bad(f"dim[{axis}]", f"found {dim[axis]}, expected at least 1")
    if datatype not in _BITS:
        raise bad("datatype", f"found {datatype}, expected real numbers (codes {', '.join(map(str, _BITS))})")
    if bitpix != _BITS[datatype]:
        logger.warning("%s: bitpix is %d, datatype %d has %d", path.name, bitpix, datatype, _BITS[datatype])
    if not math.isfinite(offset) or not header_bytes <= offset < 2**31:
        raise bad("vox_offset", f"found {offset:g}, expected at least {header_bytes}")
    # A slope of 0 means unscaled by the standard (nifti1.h), and AFNI writes it.
    if not math.isfinite(slope) or not math.isfinite(inter):
        raise bad("scl_slope, scl_inter", f"found {slope:g}, {inter:g}, expected finite numbers")
    if (length := units & 0x07) not in (0, 2):
        what = f"{length}, {_LENGTHS[length]}" if length in _LENGTHS else f"{length}, which stands for no unit"
        raise InputError("E-HDR", f"found the unit of length {what}, expected millimetres (2)", path=path,
                         field="xyzt_units", hint="scale the affine to mm and set the unit: "
                         "image.header.set_xyzt_units('mm', 'sec')")  # fmt: skip
    shape = list(dim[1 : dim[0] + 1])
    while len(shape) > 3 and shape[-1] == 1:
        shape.pop()
    if len(shape) > 4:
        raise InputError("E-SHAPE", f"found shape {tuple(shape)}, expected 3 or 4 axes", path=path)
    tr_s = pixdim4 * _SECONDS.get(units & 0x38, 1.0) if len(shape) == 4 else 0.0
    n_bytes = math.prod(shape) * _BITS[datatype] // 8
    return {"shape": tuple(shape), "n_bytes": n_bytes, "offset": int(offset), "tr_s": float(tr_s)}


def _check_size(needed: int, path: Path, packed: bool) -> None:
    size = path.stat().st_size
    if packed and needed > max(FREE_BYTES, MAX_RATIO * size):
        raise InputError("E-SIZE", f"header declares {needed:,} bytes, the compressed file has {size:,}: over "
                         f"{MAX_RATIO} times", path=path)  # fmt: skip
    if not packed and needed > size:
        code = "E-SIZE" if needed > MAX_RATIO * size else "E-TRUNC"
        raise InputError(code, f"header declares {needed:,} bytes, the file has {size:,}", path=path)


def _check_stream(stream: Any, needed: int, path: Path, packed: bool) -> None:
    """Read a compressed file to its trailer, where gzip compares its checksum."""
    if not packed:
        if path.stat().st_size > needed:
            logger.warning("%s: %d bytes after the declared volumes are not used", path.name,
                           path.stat().st_size - needed)  # fmt: skip
        return
    limit = max(FREE_BYTES, MAX_RATIO * path.stat().st_size)
    stream.seek(0)
    total = 0
    while chunk := stream.read(2**20):
        total += len(chunk)
        if total > limit:
            raise InputError("E-SIZE", f"unpacks to over {limit:,} bytes, the header declares {needed:,}", path=path)
    if total < needed:
        raise InputError("E-TRUNC", f"header declares {needed:,} bytes, {total:,} are present", path=path)
    if total > needed:
        logger.warning("%s: %d bytes after the declared volumes are not used", path.name, total - needed)


def _with_affine(path: Path, fields: dict) -> NiftiHeader:
    import nibabel
    from nibabel.spatialimages import HeaderDataError

    try:
        image: Any = nibabel.load(path)
        affine = np.asarray(image.affine, dtype=np.float64)
    except (HeaderDataError, nibabel.filebasedimages.ImageFileError, ValueError, OverflowError) as error:
        raise InputError("E-HDR", f"nibabel cannot read the header ({error})", path=path) from None
    if not np.isfinite(affine).all() or abs(np.linalg.det(affine)) < 1e-12:
        raise InputError("E-HDR", "the affine is singular or not finite", path=path, field="sform, qform")
    return NiftiHeader(path, fields["shape"], affine, fields["tr_s"])


def read_values(header: NiftiHeader) -> np.ndarray:
    """Return an image's scaled values, of the header's shape."""
    import nibabel

    image: Any = nibabel.load(header.path)
    return np.asanyarray(image.dataobj).reshape(header.shape)

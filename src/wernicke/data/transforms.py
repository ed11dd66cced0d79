"""How FreeSurfer's surface coordinates come into a recording's world: tkregister's register.dat, LTA, 4 x 4 matrices.

Surfaces are stored in "tkregister" coordinates, whose origin is the middle of the scan's grid and whose axes ignore
how the head lay (Greve, FreeSurfer's coordinate systems). A scan's `Geometry` leads from there to its world.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

import numpy as np

from wernicke.core.checks import check_file
from wernicke.core.errors import InputError
from wernicke.core.recording import Voxels
from wernicke.store.files import PathLike

MAX_BYTES = 2**20
_VOX_TO_VOX, _RAS_TO_RAS = 0, 1


@dataclass(frozen=True)
class Geometry:
    """A scan's grid and where it lies.

    Attributes
    ----------
    shape : tuple of int, (x, y, z)
    affine : array, shape (4, 4)
        Voxel indices to the scanner's world, mm.
    """

    shape: tuple[int, ...]
    affine: np.ndarray

    @property
    def to_tkr(self) -> np.ndarray:
        """Voxel indices to tkregister coordinates, shape (4, 4)."""
        dx, dy, dz = np.linalg.norm(self.affine[:3, :3], axis=0)
        nx, ny, nz = self.shape
        return np.array([[-dx, 0, 0, nx * dx / 2], [0, 0, dz, -nz * dz / 2], [0, -dy, 0, ny * dy / 2], [0, 0, 0, 1.0]])

    def like(self, other: Geometry) -> bool:
        return self.shape == other.shape and bool(np.allclose(self.affine, other.affine, atol=1e-2))

    @classmethod
    def of_voxels(cls, voxels: Voxels) -> Geometry:
        return cls(tuple(voxels.mask.shape), np.asarray(voxels.affine, dtype=float))

    @classmethod
    def of_surface(cls, told: Mapping[str, Any], path: Path) -> Geometry | None:
        """From the volume information at the end of a FreeSurfer file; None where there is none, or it is marked so."""
        if not {"volume", "voxelsize", "xras", "yras", "zras", "cras"} <= set(told or ()):
            return None
        if str(told.get("valid", "1")).strip()[:1] != "1":
            return None
        shape = tuple(int(n) for n in told["volume"])
        sizes = np.asarray(told["voxelsize"], dtype=float)
        axes = np.stack([np.asarray(told[f"{axis}ras"], dtype=float) for axis in "xyz"], axis=1)
        centre = np.asarray(told["cras"], dtype=float)
        if len(shape) != 3 or sizes.shape != (3,) or axes.shape != (3, 3) or centre.shape != (3,):
            raise InputError("E-HDR", "volume information of another form", path=path)
        affine = np.eye(4)
        affine[:3, :3] = axes * sizes
        affine[:3, 3] = centre - affine[:3, :3] @ (np.array(shape) / 2)
        if min(shape) < 1 or not np.isfinite(affine).all() or abs(np.linalg.det(affine)) < 1e-12:
            raise InputError("E-HDR", f"the scan's geometry cannot be: {shape} voxels of {sizes} mm", path=path)
        return cls(shape, affine)


def is_register_dat(path: PathLike) -> bool:
    """Whether a file looks like tkregister's: it alone refers to a recording's grid, wherever that lies in a world."""
    lines = _lines(check_file(path, "transform"))
    is_lta = any(line.startswith("nxforms") for line in lines)
    return not is_lta and len(_rows(lines)) == 4 and len(_numbers(lines[0])) != 4


def _lines(path: Path) -> list[str]:
    if path.stat().st_size > MAX_BYTES:
        raise InputError("E-SIZE", f"found {path.stat().st_size} bytes, a transform has some hundred", path=path)
    try:
        lines = [line.strip() for line in path.read_text(encoding="utf-8").splitlines()]
    except UnicodeDecodeError:
        raise InputError("E-FMT", "not text", path=path, hint="expected register.dat, LTA or 4 x 4 numbers") from None
    return [line for line in lines if line and not line.startswith("#")]


def read_transform(
    given: PathLike | np.ndarray | None, scan: Geometry | None, voxels: Voxels, *, in_world: bool = False
) -> np.ndarray:
    """Return the matrix from a surface's stored coordinates to a recording's world, shape (4, 4), mm.

    Parameters
    ----------
    given : path-like, array or None
        See `wernicke.data.surfaces.read_cortex`.
    scan : Geometry or None
        The anatomical scan by the surface's own volume information.
    voxels : Voxels
        The recording.
    in_world : bool
        The surface's coordinates are in its scan's world already, as fMRIPrep's are.

    Raises
    ------
    InputError
        E-REF, E-FMT, E-HDR (singular), E-META (the LTA is between other scans; the surface does not know its scan; a
        register.dat for a surface in a world).
    """
    recording = Geometry.of_voxels(voxels)
    path = None if given is None or isinstance(given, np.ndarray) else check_file(given, "transform")
    if path is None:
        matrix = np.eye(4) if given is None else _checked(np.asarray(given, dtype=float), None)
        return matrix if in_world else matrix @ _to_world(scan, None)
    lines = _lines(path)
    if any(line.startswith("nxforms") for line in lines):
        return _from_lta(lines, scan, recording, path, in_world)
    rows = _rows(lines)
    if len(rows) != 4:
        raise InputError("E-FMT", f"found {len(rows)} rows of four numbers, expected 4", path=path)
    matrix = _checked(np.array(rows), path)
    if len(_numbers(lines[0])) == 4:
        return matrix if in_world else matrix @ _to_world(scan, path)
    if in_world:
        raise InputError("E-META", "a register.dat moves tkregister coordinates, these surfaces are in a world",
                         path=path, field="transform", hint="give FreeSurfer's surfaces, or an LTA")  # fmt: skip
    # register.dat: names the subject, then two sizes and an intensity; from the scan's to the recording's tkr.
    return recording.affine @ np.linalg.inv(recording.to_tkr) @ matrix


def _numbers(line: str) -> list[float]:
    try:
        return [float(word) for word in line.split()]
    except ValueError:
        return []


def _rows(lines: list[str]) -> list[list[float]]:
    return [row for row in map(_numbers, lines) if len(row) == 4]


def _checked(matrix: np.ndarray, path: Path | None) -> np.ndarray:
    if matrix.shape != (4, 4):
        raise InputError("E-SHAPE", f"found shape {matrix.shape}, expected (4, 4)", path=path, field="transform")
    if not np.isfinite(matrix).all() or abs(np.linalg.det(matrix)) < 1e-12:
        raise InputError("E-HDR", "the matrix is singular or not finite", path=path, field="transform")
    if not np.allclose(matrix[3], (0, 0, 0, 1)):
        raise InputError("E-HDR", f"the last row is {matrix[3].tolist()}, expected 0 0 0 1", path=path,
                         field="transform")  # fmt: skip
    return matrix


def _to_world(scan: Geometry | None, path: Path | None) -> np.ndarray:
    if scan is None:
        raise InputError("E-META", "the surface has no volume information, so its coordinates have no place in a world",
                         path=path, field="transform", hint="give FreeSurfer's register.dat or LTA")  # fmt: skip
    return scan.affine @ np.linalg.inv(scan.to_tkr)


def _from_lta(lines: list[str], scan: Geometry | None, recording: Geometry, path: Path, in_world: bool) -> np.ndarray:
    def refuse(code: str, problem: str, hint: str | None = None) -> NoReturn:
        raise InputError(code, problem, path=path, field="transform", hint=hint)

    text = "\n".join(lines)
    kind = re.search(r"^type\s*=\s*(\d+)", text, re.MULTILINE)
    parts = re.split(r"^(?:src|dst) volume info.*$", text, flags=re.MULTILINE)
    rows = _rows(parts[0].split("\n"))
    if kind is None or int(kind[1]) not in (_VOX_TO_VOX, _RAS_TO_RAS) or len(parts) != 3 or len(rows) != 4:
        refuse("E-FMT", "expected one linear transform of type 0 or 1 with src and dst volume info")
    source, target = (_lta_geometry(part, path) for part in parts[1:])
    matrix = _checked(np.array(rows), path)
    if int(kind[1]) == _VOX_TO_VOX:
        matrix = target.affine @ matrix @ np.linalg.inv(source.affine)
    forward, backward = target.like(recording), source.like(recording)
    if forward == backward:
        which = "both of its scans have" if forward else "neither of its scans has"
        refuse("E-META", f"{which} the recording's grid {recording.shape}",
               "give a 4 x 4 matrix from the anatomical scan's world")  # fmt: skip
    anatomy = source if forward else target
    if scan is not None and not scan.like(anatomy):
        refuse("E-META", f"its anatomical scan has the grid {anatomy.shape} elsewhere than the surface's {scan.shape}")
    move = matrix if forward else np.linalg.inv(matrix)
    return move if in_world else move @ _to_world(anatomy, path)


def _lta_geometry(text: str, path: Path) -> Geometry:
    told: dict[str, Any] = {}
    for name, value in re.findall(r"^(\w+)\s*=\s*(.*)$", text, re.MULTILINE):
        numbers = _numbers(value.split("#")[0])
        told[name] = numbers if name in ("volume", "voxelsize", "xras", "yras", "zras", "cras") else value
    found = Geometry.of_surface(told, path)
    if found is None:
        raise InputError("E-META", "a scan's volume information is absent or marked invalid", path=path)
    return found

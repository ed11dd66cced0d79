"""voxelwise-tutorials' mappers: pycortex's sampling matrices of one subject in an HDF5 file, pycortex not needed.

The file names its matrices ``voxel_to_fsaverage`` and ``voxel_to_flatmap`` (compressed sparse rows, as ``_data``,
``_indices``, ``_indptr`` and ``_shape``), the flat map's pixels ``flatmap_mask``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from wernicke.core.checks import check_file
from wernicke.core.errors import InputError
from wernicke.data.matlab import hdf5_names, read_mat
from wernicke.store.files import PathLike, describe_start

N_FSAVERAGE, N_FSAVERAGE5 = 163_842, 10_242
# A vertex or pixel has a value where at least this share of its weight falls on voxels that have one.
MIN_SHARE = 0.25
SIDES = ("left", "right")


@dataclass(frozen=True)
class Mapper:
    """pycortex's sampling matrices of one subject, as voxelwise-tutorials distributes them.

    Attributes
    ----------
    to_vertices : sparse matrix, shape (n_vertices of both hemispheres of fsaverage, n_voxels), or None
    to_pixels : sparse matrix, shape (n_pixels inside the mask, n_voxels), or None
    mask : array of bool, shape (width, height), or None
        Which pixels of the flat map belong to the cortex.
    curvature : array, shape (width, height), or None
    rois : dict
        Name to array of bool, shape (n_voxels,): the file's ``roi_mask_*``.
    """

    to_vertices: Any
    to_pixels: Any
    mask: np.ndarray | None
    curvature: np.ndarray | None
    rois: Mapping[str, np.ndarray]

    @property
    def n_voxels(self) -> int:
        return int((self.to_vertices if self.to_vertices is not None else self.to_pixels).shape[1])

    def take(self, columns: np.ndarray) -> Mapper:
        """Return the mapper of these voxels, in this order; `columns` are their numbers in this one."""
        vertices, pixels = (None if m is None else m.tocsc()[:, columns].tocsr()
                            for m in (self.to_vertices, self.to_pixels))  # fmt: skip
        rois = {name: inside[columns] for name, inside in self.rois.items()}
        return Mapper(vertices, pixels, self.mask, self.curvature, rois)

    def project(self, values: np.ndarray, *, nearest: bool = False) -> dict[str, np.ndarray]:
        """Return values, shape (n_voxels,), on fsaverage5: ``left`` and ``right`` to (10242,), NaN where none."""
        if self.to_vertices is None:
            raise InputError("E-META", "this mapper has no matrix to fsaverage", field="voxel_to_fsaverage_data")
        half = self.to_vertices.shape[0] // 2
        # fsaverage5 is the coarse beginning of fsaverage: its vertices are the first of each hemisphere.
        return {
            side: _apply(self.to_vertices[start : start + min(N_FSAVERAGE5, half)], values, nearest)
            for side, start in (("left", 0), ("right", half))
        }

    def flat_image(self, values: np.ndarray, *, nearest: bool = False) -> np.ndarray:
        """Return values, shape (n_voxels,), as a picture (height, width), first row on top, NaN outside the cortex."""
        if self.to_pixels is None or self.mask is None:
            raise InputError("E-META", "this mapper has no flat map", field="voxel_to_flatmap_data")
        picture = np.full(self.mask.shape, np.nan)
        picture[self.mask] = _apply(self.to_pixels, values, nearest)
        return picture.T[::-1]


def _apply(matrix: Any, values: np.ndarray, nearest: bool) -> np.ndarray:
    """Weighted means of the voxels that have a value; for labels the value of the heaviest voxel."""
    if values.shape != (matrix.shape[1],):
        raise InputError("E-SHAPE", f"found shape {values.shape}, the mapper has {matrix.shape[1]} voxels",
                         field="values")  # fmt: skip
    known = np.isfinite(values)
    total, there = (np.asarray(matrix @ weight.astype(float)).ravel() for weight in (np.ones(len(known)), known))
    if nearest:
        kept = matrix.multiply(known[None, :]).tocsr()
        found = values[np.asarray(kept.argmax(axis=1)).ravel()].astype(float)
    else:
        # A matrix whose rows do not sum to one stays as it is: only what is missing is made up for.
        missing = np.where(there > 0, total / np.where(there > 0, there, 1), np.nan)
        found = np.asarray(matrix @ np.where(known, values, 0.0)).ravel() * missing
    return np.where((total > 0) & (there >= MIN_SHARE * total), found, np.nan)


def read_mapper(path: PathLike, n_voxels: int | None = None) -> Mapper:
    """Read a mapper file such as ``mappers/S01_mappers.hdf``; older key names are understood.

    Raises
    ------
    InputError
        E-META (neither matrix is there, another number of voxels), E-SHAPE, E-HDR (indices outside the matrix), and
        what `wernicke.data.matlab.read_mat` raises.
    """
    path = check_file(path)
    with path.open("rb") as file:
        head = file.read(64)
    if not head.startswith(b"\x89HDF"):
        raise InputError("E-FMT", f"not an HDF5 file but {describe_start(head)}", path=path,
                         hint="expected voxelwise-tutorials' mappers/<subject>_mappers.hdf")  # fmt: skip
    names = hdf5_names(path)
    vertices = _matrix(path, names, "voxel_to_fsaverage")
    if vertices is None and {"vox_to_fsavg_left_data", "vox_to_fsavg_right_data"} <= names:
        from scipy.sparse import vstack

        halves = [_matrix(path, names, f"vox_to_fsavg_{side}") for side in SIDES]
        vertices = vstack(halves, format="csr")
    pixels = _matrix(path, names, "voxel_to_flatmap", "pixmap")
    mask = _dense(path, names, "flatmap_mask", "pixmask")
    mask = None if mask is None else mask > 0
    found = [matrix for matrix in (vertices, pixels) if matrix is not None]
    if not found:
        raise InputError("E-META", "neither `voxel_to_fsaverage_data` nor `voxel_to_flatmap_data` is there", path=path,
                         hint="expected voxelwise-tutorials' mappers/<subject>_mappers.hdf")  # fmt: skip
    counts = {matrix.shape[1] for matrix in found} | ({n_voxels} if n_voxels is not None else set())
    if len(counts) != 1:
        raise InputError("E-META", f"voxels of the matrices and of the responses differ: {sorted(counts)}", path=path)
    if vertices is not None and vertices.shape[0] not in (2 * N_FSAVERAGE, 2 * N_FSAVERAGE5):
        raise InputError("E-SHAPE", f"found {vertices.shape[0]} vertices, expected fsaverage's {2 * N_FSAVERAGE}",
                         path=path, field="voxel_to_fsaverage_shape")  # fmt: skip
    if pixels is not None and (mask is None or mask.ndim != 2 or int(mask.sum()) != pixels.shape[0]):
        raise InputError("E-SHAPE", f"the mask of the flat map does not have the {pixels.shape[0]} pixels of its "
                         "matrix", path=path, field="flatmap_mask")  # fmt: skip
    rois = {}
    for name in sorted(name for name in names if name.startswith("roi_mask_")):
        inside = read_mat(path, name) > 0
        if inside.shape != (found[0].shape[1],):
            raise InputError("E-SHAPE", f"found shape {inside.shape}, expected ({found[0].shape[1]},)", path=path,
                             field=name)  # fmt: skip
        rois[name.removeprefix("roi_mask_")] = inside
    return Mapper(vertices, pixels, mask, _dense(path, names, "flatmap_curvature"), rois)


def _dense(path: Path, names: set[str], *keys: str) -> np.ndarray | None:
    """Read the first of these arrays that is there."""
    return next((read_mat(path, key) for key in keys if key in names), None)


def _matrix(path: Path, names: set[str], *keys: str) -> Any:
    """Read the first of these sparse matrices that is there, after checking that its parts fit."""
    from scipy.sparse import csr_matrix

    key = next((key for key in keys if f"{key}_data" in names), None)
    if key is None:
        return None

    def refuse(code: str, problem: str) -> None:
        raise InputError(code, problem, path=path, field=key)

    data, indices, indptr, shape = (read_mat(path, f"{key}_{part}") for part in ("data", "indices", "indptr", "shape"))
    for part in (indices, indptr, shape):
        if part.dtype.kind not in "iu" or part.ndim != 1:
            refuse("E-FMT", f"found {part.dtype} of shape {part.shape}, expected a list of whole numbers")
    if shape.shape != (2,) or data.ndim != 1 or shape.min() < 1 or len(indptr) != shape[0] + 1:
        refuse("E-SHAPE", f"found the shape {shape.tolist()[:4]} and {len(indptr)} row starts")
    if indptr[0] != 0 or (np.diff(indptr.astype(np.int64)) < 0).any() or indptr[-1] != len(indices):
        refuse("E-HDR", "row starts that do not rise from 0 to the number of entries")
    if len(data) != len(indices) or indices.min() < 0 or indices.max() >= shape[1]:
        refuse("E-HDR", f"entries outside the {shape[1]} columns, or not one value an entry")
    return csr_matrix((data.astype(float), indices.astype(np.int64), indptr.astype(np.int64)), shape=tuple(shape))

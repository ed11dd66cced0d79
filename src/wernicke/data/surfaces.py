"""From native voxels to the cortical sheet.

Two ways: `read_cortex` takes FreeSurfer's or fMRIPrep's white and pial surfaces and the transform to the recording,
`wernicke.data.mapper.read_mapper` the matrices that pycortex made and voxelwise-tutorials distributes. Either has
``project``, which gives one value a vertex of fsaverage5, and `write_surface_maps` writes what it gives. Without
either there are slices only.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from wernicke.core.errors import InputError
from wernicke.core.recording import Surface, Voxels
from wernicke.data.mapper import MIN_SHARE, N_FSAVERAGE5, Mapper
from wernicke.data.maps import IMAGES, check_columns, hemisphere_image, volume_image
from wernicke.data.surface_files import find_surfaces, is_gifti, read_surface
from wernicke.data.surface_series import read_gifti
from wernicke.data.transforms import read_transform
from wernicke.store.files import PathLike, write_bytes, write_npy

logger = logging.getLogger(__name__)

SIDES = {"left": ("lh", "L", "CIFTI_STRUCTURE_CORTEX_LEFT"), "right": ("rh", "R", "CIFTI_STRUCTURE_CORTEX_RIGHT")}
# Vertices of one hemisphere of fsaverage5, 6 and 7: each mesh begins with the coarser one's.
N_FSAVERAGE = {10_242, 40_962, 163_842}
# Between white matter (1) and pial surface (0), as vol_to_surf counts; the ends would touch other tissue.
DEPTHS = (0.1, 0.3, 0.5, 0.7, 0.9)


@dataclass(frozen=True)
class Cortex:
    """A subject's surfaces in the recording's world coordinates.

    Attributes
    ----------
    white, pial : dict
        ``left`` and ``right`` to coordinates, shape (n_vertices, 3), mm.
    faces : dict
        To triangles, shape (n_faces, 3).
    spheres : dict
        To the registered sphere, shape (n_vertices, 3); empty where the subject has none.
    voxels : Voxels
        What is sampled.
    """

    white: Mapping[str, np.ndarray]
    pial: Mapping[str, np.ndarray]
    faces: Mapping[str, np.ndarray]
    spheres: Mapping[str, np.ndarray]
    voxels: Voxels

    @property
    def mesh(self) -> str:
        return "fsaverage5" if self.spheres else "fsnative"

    @property
    def n_voxels(self) -> int:
        return self.voxels.n_voxels

    def project(self, values: np.ndarray, *, nearest: bool = False) -> dict[str, np.ndarray]:
        """Return values on fsaverage5 (on the subject's own mesh where it has no registered sphere).

        Parameters
        ----------
        values : array, shape (n_voxels,)
            NaN where a voxel has none; such voxels count for nothing.
        nearest : bool
            Take the most frequent value of the nearest voxels: for labels. Else the mean of trilinear samples.

        Returns
        -------
        dict
            ``left`` and ``right`` to (n_vertices,), NaN where fewer than a quarter of the samples have a value (of
            labels: where none has).
        """
        if values.shape != (self.voxels.n_voxels,):
            raise InputError("E-SHAPE", f"found shape {values.shape}, expected ({self.voxels.n_voxels},)",
                             field="values")  # fmt: skip
        sample = self._most_frequent if nearest else self._mean
        return {side: sample(values, side) for side in self.white}

    @cached_property
    def _sampled(self) -> dict[str, tuple[np.ndarray, np.ndarray]]:
        """White and pial coordinates where values are wanted: all vertices, or those that fsaverage5 asks for."""
        if not self.spheres:
            return {side: (self.white[side], self.pial[side]) for side in self.white}
        nearest = {side: self._nearest(side) for side in self.white}
        return {side: (self.white[side][found], self.pial[side][found]) for side, found in nearest.items()}

    def _mean(self, values: np.ndarray, side: str) -> np.ndarray:
        from nilearn.surface import InMemoryMesh

        known = np.isfinite(values)
        white, pial = self._sampled[side]
        one = np.array([[0, 1, 2]])  # between two surfaces nilearn asks for points only
        meshes = {"surf_mesh": InMemoryMesh(pial, one), "inner_mesh": InMemoryMesh(white, one), "depth": DEPTHS}
        inside = volume_image(known.astype(float), self.voxels)
        inside = type(inside)(np.nan_to_num(np.asarray(inside.dataobj)), inside.affine)
        share = np.nan_to_num(_vol_to_surf(inside, **meshes))
        picture = np.nan_to_num(self.voxels.to_volume(np.where(known, values, 0.0)))
        image = type(inside)(picture, inside.affine)
        # Trilinear samples of values and of "has a value": their ratio is the mean over voxels that have one.
        found = np.nan_to_num(_vol_to_surf(image, **meshes)) / np.maximum(share, 1e-9)
        return np.where(share >= MIN_SHARE, found, np.nan)

    def _most_frequent(self, values: np.ndarray, side: str) -> np.ndarray:
        """The value of most of the nearest voxels between white and pial, the smallest of several such.

        nilearn's ``nearest_most_frequent`` cannot do with a vertex that has no voxel.
        """
        white, pial = self._sampled[side]
        voxels = np.stack([self._voxel_at(depth * white + (1 - depth) * pial) for depth in DEPTHS])
        labels = np.sort(np.where(voxels >= 0, values[voxels], np.nan), axis=0)
        counts = (labels[:, None] == labels[None]).sum(axis=1)  # NaN equals nothing
        best = np.take_along_axis(labels, counts.argmax(axis=0)[None], axis=0)[0]
        return np.where(counts.max(axis=0) > 0, best, np.nan)

    def _voxel_at(self, mm: np.ndarray) -> np.ndarray:
        """Number of the voxel at each point, -1 where there is none."""
        numbers = np.full(self.voxels.mask.shape, -1)
        numbers[self.voxels.mask] = np.arange(self.voxels.n_voxels)
        to_index = np.linalg.inv(self.voxels.affine)
        index = np.rint(mm @ to_index[:3, :3].T + to_index[:3, 3]).astype(int)
        inside = ((index >= 0) & (index < self.voxels.mask.shape)).all(axis=1)
        found = np.full(len(mm), -1)
        found[inside] = numbers[tuple(index[inside].T)]
        return found

    def _nearest(self, side: str) -> np.ndarray:
        """The subject's vertex nearest to each vertex of fsaverage5, on the registered sphere."""
        from nilearn.datasets import fetch_surf_fsaverage
        from nilearn.surface import load_surf_mesh
        from scipy.spatial import cKDTree

        target = load_surf_mesh(fetch_surf_fsaverage("fsaverage5")[f"sphere_{side}"]).coordinates
        return cKDTree(_on_unit_sphere(self.spheres[side])).query(_on_unit_sphere(target))[1]

    def label_voxels(self, labels: Mapping[str, np.ndarray]) -> np.ndarray:
        """Give each voxel the label that most of the cortex inside it has.

        Parameters
        ----------
        labels : mapping
            ``left`` and ``right`` to whole numbers a native vertex, shape (n_vertices,); 0: none.

        Returns
        -------
        array of int, shape (n_voxels,)
            0 where most of the cortex has no label, or no cortex passes.
        """
        seen = []
        for side, values in labels.items():
            for depth in DEPTHS:
                voxel = self._voxel_at(depth * self.white[side] + (1 - depth) * self.pial[side])
                seen.append(np.stack([voxel, values], axis=1)[voxel >= 0])
        out = np.zeros(self.voxels.n_voxels, dtype=int)
        pairs, counts = np.unique(np.concatenate(seen), axis=0, return_counts=True)
        order = np.argsort(counts, kind="stable")  # the most frequent is written last
        out[pairs[order, 0]] = pairs[order, 1]
        return out


def _vol_to_surf(image: Any, **how: Any) -> np.ndarray:
    """nilearn's, without its warning of vertices that lie outside the recording's grid: they are NaN."""
    import warnings

    from nilearn.surface import vol_to_surf

    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Mean of empty slice", RuntimeWarning)
        return np.asarray(vol_to_surf(image, **how))


def _on_unit_sphere(points: np.ndarray) -> np.ndarray:
    return points / np.linalg.norm(points, axis=1, keepdims=True)


def read_cortex(folder: PathLike, voxels: Voxels, transform: PathLike | np.ndarray | None = None) -> Cortex:
    """Read a subject's white and pial surfaces and registered spheres, moved to a recording's world.

    Parameters
    ----------
    folder : path-like
        A FreeSurfer subject's folder or its ``surf``, or fMRIPrep's ``sub-01`` or its ``anat``
        (`wernicke.data.surface_files.find_surfaces`).
    voxels : Voxels
        The recording's grid: a register.dat and an LTA refer to it.
    transform : path-like or array, optional
        From the subject's anatomy to the recording: tkregister's ``register.dat``, an ``.lta`` of either direction,
        or a 4 x 4 matrix (array or text file) from the anatomical scan's world to the recording's, mm. Without it
        both are taken to share one world (as fMRIPrep's ``space-T1w``).

    Raises
    ------
    InputError
        E-REF, E-FMT, E-TRUNC, E-HDR, E-NONFIN, E-META (white and pial do not belong together, a transform between
        other scans, a surface outside the recording).
    """
    white, pial, faces, spheres = {}, {}, {}, {}
    for side, files in find_surfaces(folder).items():
        coordinates, triangles, geometry = read_surface(files.white)
        outer, other, _ = read_surface(files.pial)
        if coordinates.shape != outer.shape or not np.array_equal(triangles, other):
            raise InputError("E-META", f"has {len(outer)} vertices and does not belong to {files.white.name} with "
                             f"{len(coordinates)}", path=files.pial)  # fmt: skip
        move = read_transform(transform, geometry, voxels, in_world=is_gifti(files.white))
        white[side], pial[side], faces[side] = _moved(coordinates, move), _moved(outer, move), triangles
        if files.sphere is not None:
            spheres[side] = read_surface(files.sphere)[0]
            if len(spheres[side]) != len(coordinates):
                raise InputError("E-META", f"found {len(spheres[side])} vertices, {files.white.name} has "
                                 f"{len(coordinates)}", path=files.sphere)  # fmt: skip
    cortex = Cortex(white, pial, faces, spheres if len(spheres) == len(SIDES) else {}, voxels)
    _check_overlap(cortex, Path(folder))
    return cortex


def _moved(points: np.ndarray, affine: np.ndarray) -> np.ndarray:
    return points @ affine[:3, :3].T + affine[:3, 3]


def _check_overlap(cortex: Cortex, folder: Path) -> None:
    """A wrong transform puts the cortex elsewhere: then hardly any voxel lies on it."""
    labels = {side: np.ones(len(points), dtype=int) for side, points in cortex.white.items()}
    share = float((cortex.label_voxels(labels) > 0).mean())
    if share < 0.01:
        problem = f"{100 * share:.1f} % of the recording's voxels lie on this cortex: another subject or transform"
        raise InputError("E-META", problem, path=folder, field="surfaces")
    logger.info("%s: %.0f %% of %d voxels lie on the cortex", folder, 100 * share, cortex.voxels.n_voxels)


def write_surface_maps(folder: PathLike, columns: Mapping[str, np.ndarray], sheet: Cortex | Mapper) -> list[Path]:
    """Write columns of voxels as surface maps, beside what `wernicke.data.maps.write_maps` wrote there.

    Parameters
    ----------
    folder : path-like
        As `write_maps` was given.
    columns : mapping of str to array, shape (n_voxels,)
        As `write_maps` takes them; whole numbers and truth values are labels (nearest voxel, most frequent), numbers
        are averaged, other columns are left out.
    sheet : Cortex or Mapper

    Returns
    -------
    list of Path
        ``maps/<column>.L.func.gii`` and ``.R.func.gii`` (fsaverage5, or the subject's mesh where it has no registered
        sphere), and of a mapper with a flat map ``maps/<column>.flatmap.npy``: float32, shape (height, width), first
        row on top, NaN outside the cortex.
    """
    written = []
    for name, values in check_columns(columns, sheet.n_voxels).items():
        if values.ndim != 1 or values.dtype.kind not in "fiub":
            continue
        nearest = values.dtype.kind != "f"
        numbers = values.astype(float)
        if isinstance(sheet, Cortex) or sheet.to_vertices is not None:
            for side, found in sheet.project(numbers, nearest=nearest).items():
                _, letter, structure = SIDES[side]
                written.append(Path(folder) / IMAGES / f"{name}.{letter}.func.gii")
                write_bytes(written[-1], hemisphere_image(found, structure, name).to_bytes())
        if isinstance(sheet, Mapper) and sheet.to_pixels is not None:
            written.append(Path(folder) / IMAGES / f"{name}.flatmap.npy")
            write_npy(written[-1], sheet.flat_image(numbers, nearest=nearest).astype(np.float32))
    return written


def read_surface_map(folder: PathLike, column: str, units: Voxels | Surface | None = None) -> np.ndarray | None:
    """Return a column of a folder that `write_maps` or `write_surface_maps` wrote, as it lies on fsaverage5.

    Parameters
    ----------
    folder : path-like
    column : str
    units : Voxels, Surface or None
        As `wernicke.data.maps.read_maps` returns them: a surface other than fsaverage's is not taken for it.

    Returns
    -------
    array, shape (20484,), or None
        Left, then right hemisphere; NaN where there is no value. fsaverage6 and fsaverage begin with fsaverage5's
        vertices. None where neither hemisphere is there, or on another mesh.
    """
    if isinstance(units, Surface) and not units.mesh.startswith("fsaverage"):
        return None
    sides = []
    for _, letter, _ in SIDES.values():
        path = Path(folder) / IMAGES / f"{column}.{letter}.func.gii"
        sides.append(read_gifti(path)[0][0].astype(float) if path.is_file() else None)
    sizes = {len(side) for side in sides if side is not None}
    if not sizes or not sizes <= N_FSAVERAGE:
        return None
    return np.concatenate([np.full(N_FSAVERAGE5, np.nan) if side is None else side[:N_FSAVERAGE5] for side in sides])

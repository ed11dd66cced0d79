"""From native voxels to the cortical sheet.

Two ways: `read_cortex` takes a FreeSurfer subject's white and pial surfaces and the transform to the recording,
`wernicke.data.mapper.read_mapper` the matrices that pycortex made and voxelwise-tutorials distributes. Either has
``project``, which gives one value a vertex of fsaverage5, and `write_surface_maps` writes what it gives. Without
either there are slices only.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from wernicke.core.checks import check_file, check_folder
from wernicke.core.errors import InputError
from wernicke.core.recording import Voxels
from wernicke.data.mapper import MIN_SHARE, Mapper
from wernicke.data.maps import IMAGES, check_columns, hemisphere_image, volume_image
from wernicke.data.transforms import Geometry, read_transform
from wernicke.store.files import PathLike, write_bytes, write_npy

logger = logging.getLogger(__name__)

SIDES = {"left": ("lh", "L", "CIFTI_STRUCTURE_CORTEX_LEFT"), "right": ("rh", "R", "CIFTI_STRUCTURE_CORTEX_RIGHT")}
# Between white matter (1) and pial surface (0), as vol_to_surf counts; the ends would touch other tissue.
DEPTHS = (0.1, 0.3, 0.5, 0.7, 0.9)
_TRIANGLES = b"\xff\xff\xfe"


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
            ``left`` and ``right`` to (n_vertices,), NaN where fewer than a quarter of the samples have a value.
        """
        native = {side: self._sample(values, side, nearest) for side in self.white}
        return {side: v[self._nearest(side)] if self.spheres else v for side, v in native.items()}

    def _sample(self, values: np.ndarray, side: str, nearest: bool) -> np.ndarray:
        from nilearn.surface import InMemoryMesh, vol_to_surf

        if values.shape != (self.voxels.n_voxels,):
            raise InputError("E-SHAPE", f"found shape {values.shape}, expected ({self.voxels.n_voxels},)",
                             field="values")  # fmt: skip
        known = np.isfinite(values)
        meshes = {"surf_mesh": InMemoryMesh(self.pial[side], self.faces[side]),
                  "inner_mesh": InMemoryMesh(self.white[side], self.faces[side]), "depth": DEPTHS}  # fmt: skip
        inside = volume_image(known.astype(float), self.voxels)
        inside = type(inside)(np.nan_to_num(np.asarray(inside.dataobj)), inside.affine)
        share = np.nan_to_num(vol_to_surf(inside, **meshes))
        picture = np.nan_to_num(self.voxels.to_volume(np.where(known, values, 0.0)))
        image = type(inside)(picture, inside.affine)
        if nearest:
            found = vol_to_surf(image, **meshes, interpolation="nearest_most_frequent", mask_img=inside)
        else:
            # Trilinear samples of values and of "has a value": their ratio is the mean over voxels that have one.
            found = np.nan_to_num(vol_to_surf(image, **meshes)) / np.maximum(share, 1e-9)
        return np.where(share >= MIN_SHARE, found, np.nan)

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
        numbers = np.full(self.voxels.mask.shape, -1)
        numbers[self.voxels.mask] = np.arange(self.voxels.n_voxels)
        to_index = np.linalg.inv(self.voxels.affine)
        seen = []
        for side, values in labels.items():
            for depth in DEPTHS:
                mm = depth * self.white[side] + (1 - depth) * self.pial[side]
                index = np.rint(mm @ to_index[:3, :3].T + to_index[:3, 3]).astype(int)
                inside = ((index >= 0) & (index < self.voxels.mask.shape)).all(axis=1)
                voxel = numbers[tuple(index[inside].T)]
                seen.append(np.stack([voxel, values[inside]], axis=1)[voxel >= 0])
        out = np.zeros(self.voxels.n_voxels, dtype=int)
        pairs, counts = np.unique(np.concatenate(seen), axis=0, return_counts=True)
        order = np.argsort(counts, kind="stable")  # the most frequent is written last
        out[pairs[order, 0]] = pairs[order, 1]
        return out


def _on_unit_sphere(points: np.ndarray) -> np.ndarray:
    return points / np.linalg.norm(points, axis=1, keepdims=True)


def read_cortex(folder: PathLike, voxels: Voxels, transform: PathLike | np.ndarray | None = None) -> Cortex:
    """Read ``{lh,rh}.{white,pial}`` (and ``sphere.reg``) of a FreeSurfer subject, moved to a recording's world.

    Parameters
    ----------
    folder : path-like
        The subject's folder or its ``surf``.
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
    folder = check_folder(folder, "surfaces")
    folder = folder / "surf" if (folder / "surf").is_dir() else folder
    white, pial, faces, spheres = {}, {}, {}, {}
    for side, (short, *_) in SIDES.items():
        coordinates, triangles, geometry = read_surface(folder / f"{short}.white")
        outer, other, _ = read_surface(folder / f"{short}.pial")
        if coordinates.shape != outer.shape or not np.array_equal(triangles, other):
            raise InputError("E-META", f"has {len(outer)} vertices and does not belong to {short}.white with "
                             f"{len(coordinates)}", path=folder / f"{short}.pial")  # fmt: skip
        move = read_transform(transform, geometry, voxels)
        white[side], pial[side], faces[side] = _moved(coordinates, move), _moved(outer, move), triangles
        if (folder / f"{short}.sphere.reg").is_file():
            spheres[side] = read_surface(folder / f"{short}.sphere.reg")[0]
            if len(spheres[side]) != len(coordinates):
                raise InputError("E-META", f"found {len(spheres[side])} vertices, {short}.white has {len(coordinates)}",
                                 path=folder / f"{short}.sphere.reg")  # fmt: skip
    cortex = Cortex(white, pial, faces, spheres if len(spheres) == len(SIDES) else {}, voxels)
    _check_overlap(cortex, folder)
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


def read_surface(path: PathLike) -> tuple[np.ndarray, np.ndarray, Geometry | None]:
    """Read a FreeSurfer triangle file: coordinates (mm, as stored), triangles, and the scan it was made from.

    Raises
    ------
    InputError
        E-REF, E-FMT (another format), E-TRUNC, E-SIZE, E-HDR (triangles of vertices that are not there), E-NONFIN.
    """
    import warnings

    from nibabel.freesurfer import read_geometry

    path = check_file(path)
    content = path.read_bytes()[: 2**12]
    if content[:3] != _TRIANGLES:
        raise InputError("E-FMT", "not a FreeSurfer triangle surface", path=path,
                         hint="expected such as surf/lh.white")  # fmt: skip
    start = content.find(b"\n\n") + 2
    if start < 2 or len(content) < start + 8:
        raise InputError("E-TRUNC", "the header ends early", path=path)
    n_vertices, n_faces = np.frombuffer(content, ">i4", 2, start)
    if n_vertices < 3 or n_faces < 1:
        raise InputError("E-HDR", f"declares {n_vertices} vertices and {n_faces} triangles", path=path)
    if start + 8 + 12 * (int(n_vertices) + int(n_faces)) > path.stat().st_size:
        raise InputError("E-TRUNC", f"declares {n_vertices} vertices and {n_faces} triangles, has "
                         f"{path.stat().st_size} bytes", path=path)  # fmt: skip
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # on a file without volume information
            points, faces, told = read_geometry(str(path), read_metadata=True)
    except (ValueError, OSError, IndexError, KeyError, TypeError) as error:
        raise InputError("E-HDR", f"nibabel cannot read it ({error})", path=path) from None
    if not np.isfinite(points).all():
        raise InputError("E-NONFIN", "coordinates that are not finite", path=path)
    if faces.min() < 0 or faces.max() >= len(points):
        raise InputError("E-HDR", f"a triangle names vertex {faces.max()} of {len(points)}", path=path)
    return points.astype(float), faces.astype(int), Geometry.of_surface(told, path)


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

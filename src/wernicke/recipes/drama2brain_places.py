"""Where a subject's voxels lie: on the recordings' grid, in regions, and on the cortical sheet."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np

from wernicke.core.errors import InputError
from wernicke.core.recording import Voxels
from wernicke.data.drama2brain import list_runs, load_tvoxels
from wernicke.data.drama2brain_folders import find_folders
from wernicke.data.mapper import Mapper
from wernicke.data.rois import name_units, read_atlas, read_fsroi
from wernicke.data.surfaces import Cortex
from wernicke.recipes.drama2brain_bands import Drama2brainData

#: The recordings' grid, and its voxels' edge.
GRID, VOXEL_MM = (96, 96, 72), 2.0


def place_voxels(data: Drama2brainData, subject: str, n_voxels: int) -> tuple[np.ndarray, Voxels | None, str]:
    """Return the recording's columns in the order of maps, where they lie, and what is known of that in words.

    Raises
    ------
    InputError
        E-SHAPE (another number of voxels, or outside the grid).
    """
    found = find_folders(data.need_root(), data.folders).fmri_bbregister
    path = None if found is None else found / subject / "vset_099.mat"
    if path is None or not path.exists():
        return np.arange(n_voxels), None, "unknown: no vset_099.mat"
    flat = load_tvoxels(data.need_root(), subject, folders=data.folders)
    shape, affine = GRID, voxel_size_only()
    space = "native grid; without a reference image its voxel size is all that is known"
    if data.reference is not None:
        image: Any = nib.load(data.reference)
        shape, affine = image.shape[:3], np.asarray(image.affine)
        space = f"native grid, affine of {data.reference.name}"
    if len(flat) != n_voxels or flat.max() >= np.prod(shape):
        raise InputError("E-SHAPE", f"found {len(flat)} voxels up to number {flat.max() + 1}, expected {n_voxels} on a "
                         f"grid of {' x '.join(map(str, shape))}", path=path, field="tvoxels")  # fmt: skip
    # MATLAB counts along the first axis first, numpy along the last.
    numbers = np.ravel_multi_index(np.unravel_index(flat, shape, order="F"), shape)
    order = np.argsort(numbers)
    mask = np.zeros(shape, dtype=bool)
    mask.flat[numbers] = True
    return order, Voxels(mask, affine), space


def read_regions(data: Drama2brainData, subject: str, order: np.ndarray, voxels: Voxels | None) -> np.ndarray | None:
    """Return the name of each voxel's region in the order of maps, empty where it has none; None without regions.

    Raises
    ------
    InputError
        E-CFG (regions, but no vset_099.mat to place voxels), and what `wernicke.data.rois` raises.
    """
    found = find_folders(data.need_root(), data.folders).fmri_bbregister
    beside = None if found is None else found / subject / "fsROI.mat"
    if data.rois is None and (beside is None or not beside.exists()):
        return None
    path = Path(data.rois.replace("{subject}", subject)) if data.rois is not None else beside
    if voxels is None or path is None:
        raise InputError("E-CFG", f"no vset_099.mat says where {subject}'s voxels lie", path=path, field="data.rois")
    if path.suffix == ".mat":
        rois = read_fsroi(path, load_tvoxels(data.need_root(), subject, folders=data.folders))
        return name_units(rois)[order]
    return name_units(read_atlas(path, voxels, data.roi_names))


def voxel_size_only() -> np.ndarray:
    """An affine that knows the voxel's size and puts the grid's middle at the origin."""
    affine = np.diag([VOXEL_MM, VOXEL_MM, VOXEL_MM, 1.0])
    affine[:3, 3] = [-VOXEL_MM * (n - 1) / 2 for n in GRID]
    return affine


def read_sheets(data: Drama2brainData, subjects: Sequence[str]) -> dict[str, Cortex | Mapper]:
    """Return each subject's surfaces or mapper in the order of maps; empty where the config names none.

    Raises
    ------
    InputError
        What `wernicke.data.sheets.SheetFiles` raises: whatever is wrong with any subject's is said before a fit.
    """
    if not data.sheet.given:
        return {}
    data.sheet.check(subjects)
    folders = find_folders(data.need_root(), data.folders)
    sheets: dict[str, Cortex | Mapper] = {}
    for subject in subjects:
        n_voxels = list_runs(folders, subject, data.need_root())[0].shape()[1]
        _, voxels, _ = place_voxels(data, subject, n_voxels)
        sheet = data.sheet.read(subject, voxels, n_voxels, in_world=data.reference is not None)
        if sheet is not None:
            sheets[subject] = sheet
    return sheets

"""Regions of a CIFTI file of labels (``.dlabel.nii``): one number a grayordinate, as fMRIPrep's and HCP's atlases."""

from __future__ import annotations

import numpy as np

from wernicke.core.checks import check_file
from wernicke.core.errors import InputError
from wernicke.core.recording import Surface, Voxels
from wernicke.data.surface_series import grayordinates, open_cifti
from wernicke.store.files import PathLike

_NO_REGION = {"", "unknown", "???", "medial_wall"}


def read_dlabel(path: PathLike, units: Surface) -> dict[str, np.ndarray]:
    """Return the regions of a CIFTI file of labels over a recording's vertices and voxels.

    Vertices are compared by number and voxels by place: file and recording may leave out different ones.

    Parameters
    ----------
    path : path-like
        One map of labels; 0 and regions called ``???`` or ``unknown`` are background.
    units : Surface

    Returns
    -------
    dict of name to array of bool, shape (n_units,)
        Regions without a unit are left out.

    Raises
    ------
    InputError
        E-META (no labels, several maps, a number without a name, no region with a unit), E-SHAPE (another mesh or
        grid), E-FMT (not whole numbers), and what `wernicke.data.surface_series.open_cifti` raises.
    """
    from nibabel.cifti2 import BrainModelAxis, LabelAxis

    path = check_file(path)
    data, axes = open_cifti(path)
    if len(axes) != 2 or not isinstance(axes[0], LabelAxis) or not isinstance(axes[1], BrainModelAxis):
        found = ", ".join(type(axis).__name__ for axis in axes)
        raise InputError("E-META", f"found axes {found}, expected labels by brain models (.dlabel.nii)", path=path)
    if len(data) != 1:
        raise InputError("E-META", f"found {len(data)} maps of labels, expected one", path=path,
                         hint="`wb_command -cifti-merge` takes single maps out")  # fmt: skip
    order, there = grayordinates(axes[1], units.mesh, path, data.shape[1])
    values = data[0, order]
    if not np.isfinite(values).all() or (values != np.rint(values)).any():
        raise InputError("E-FMT", "found labels that are no whole numbers", path=path)
    numbers = _at_units(values.astype(np.int64), there, units, path)
    names = {int(number): str(name) for number, (name, _) in axes[0].label[0].items()}
    rois: dict[str, np.ndarray] = {}
    for number in np.unique(numbers[numbers != 0]).tolist():
        if number not in names:
            raise InputError("E-META", f"label {number} has no name in the file's table", path=path)
        name = names[number]
        if name.lower() not in _NO_REGION:
            rois[name] = rois.get(name, False) | (numbers == number)
    if not rois:
        raise InputError("E-META", "no region has a unit of this recording", path=path)
    return rois


def _at_units(values: np.ndarray, there: Surface, units: Surface, path: PathLike) -> np.ndarray:
    """Return the label of each of the recording's units, 0 where the file has none."""
    pairs = [(there.left, units.left), (there.right, units.right),
             *((_mask(a), _mask(b)) for a, b in ((there.volume, units.volume),))]  # fmt: skip
    parts, start = [], 0
    for theirs, ours in pairs:
        n = 0 if theirs is None else int(theirs.sum())
        own, start = values[start : start + n], start + n
        if ours is None:
            continue
        labels = np.zeros(ours.shape, dtype=np.int64)
        if theirs is not None:
            if theirs.shape != ours.shape:
                raise InputError("E-SHAPE", f"found a mesh or grid of {theirs.shape}, the recording's has {ours.shape}",
                                 path=path)  # fmt: skip
            labels[theirs] = own
        parts.append(labels[ours])
    return np.concatenate(parts)


def _mask(voxels: Voxels | None) -> np.ndarray | None:
    return None if voxels is None else voxels.mask

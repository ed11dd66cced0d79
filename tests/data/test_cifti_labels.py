"""CIFTI files of labels, written with nibabel."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
from nibabel import cifti2

import tiny_bids as tiny
from wernicke.core.errors import InputError
from wernicke.core.recording import Surface, Voxels
from wernicke.data.cifti_labels import read_dlabel
from wernicke.data.surface_series import read_cifti

VOXELS = np.array([[1, 2, 1], [1, 1, 0], [2, 3, 2]])
LEFT, RIGHT = np.array([0, 1, 2, 5, 7]), np.array([3, 4])
TABLE = {0: ("???", (0, 0, 0, 0)), 1: ("V1", (1, 0, 0, 1)), 2: ("A1", (0, 1, 0, 1)), 4: ("THA", (0, 0, 1, 1))}


def write_dlabel(path: Path, numbers: Any, axis: Any, names: tuple[str, ...] = ("atlas",)) -> Path:
    labels = cifti2.LabelAxis(list(names), [TABLE] * len(names))
    nib.save(cifti2.Cifti2Image(np.atleast_2d(numbers).astype(np.float32), (labels, axis)), path)
    return path


def recorded(path: Path) -> Surface:
    """A recording without vertex 5 on the left, and with vertex 6, which the atlas lacks."""
    axis = tiny.cifti_axis(np.array([0, 1, 2, 6, 7]), RIGHT, VOXELS[:2])
    tiny.write_cifti(path, np.random.default_rng(0).standard_normal((4, 9)), axis)
    return read_cifti(path)[1]


def test_labels_by_vertex_number_and_voxel_place(tmp_path: Path) -> None:
    units = recorded(tmp_path / "x.dtseries.nii")
    numbers = np.r_[1, 0, 2, 2, 1, 4, 4, 4, 1, 2]  # left, three voxels in the file's order, right
    rois = read_dlabel(write_dlabel(tmp_path / "a.dlabel.nii", numbers, tiny.cifti_axis(LEFT, RIGHT, VOXELS)), units)
    # Left vertices 0, 1, 2, 6, 7; right 3, 4; then two voxels.
    assert rois["V1"].tolist() == [True, False, False, False, True, True, False, False, False]
    assert rois["A1"].tolist() == [False, False, True, False, False, False, True, False, False]
    assert rois["THA"].tolist() == [False] * 7 + [True] * 2
    assert list(read_dlabel(tmp_path / "a.dlabel.nii", Surface(units.left, None, "fsLR"))) == ["V1", "A1"]


def test_labels_that_cannot_be_right_are_refused(tmp_path: Path) -> None:
    units, axis = recorded(tmp_path / "x.dtseries.nii"), tiny.cifti_axis(LEFT, RIGHT, VOXELS)
    ones = np.ones(10)
    for numbers, code, message in (
        (np.full(10, 3), "E-META", "label 3 has no name"), (ones / 2, "E-FMT", "no whole numbers"),
        (np.zeros(10), "E-META", "no region has a unit"), (np.r_[np.nan, ones[1:]], "E-FMT", "no whole numbers"),
    ):  # fmt: skip
        with pytest.raises(InputError, match=message) as error:
            read_dlabel(write_dlabel(tmp_path / "bad.dlabel.nii", numbers, axis), units)
        assert error.value.code == code
    with pytest.raises(InputError, match="found 2 maps of labels"):
        read_dlabel(write_dlabel(tmp_path / "two.dlabel.nii", np.ones((2, 10)), axis, ("a", "b")), units)
    with pytest.raises(InputError, match="expected labels by brain models"):
        read_dlabel(tmp_path / "x.dtseries.nii", units)
    good = write_dlabel(tmp_path / "a.dlabel.nii", ones, axis)
    with pytest.raises(InputError, match=r"the recording's has \(9,\)"):
        read_dlabel(good, Surface(np.ones(9, bool), None, "fsLR"))
    grid = Surface(None, None, "fsLR", Voxels(np.ones((2, 2, 2), bool), np.eye(4)))
    with pytest.raises(InputError, match=r"the recording's has \(2, 2, 2\)"):
        read_dlabel(good, grid)

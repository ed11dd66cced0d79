"""Maps as pictures: left is left, voxels have their true shape, the sign shows, no value is grey."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image
from simulated_runs import AFFINE

from wernicke.report.encoding_figures import find_slices, map_figure

pytestmark = pytest.mark.usefixtures("real_figures")


def pixels(png: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(png)).convert("RGB")).astype(int)


def coloured(picture: np.ndarray, color: str) -> np.ndarray:
    """Where red or blue is strong, above the colour bar."""
    red, _, blue = np.moveaxis(picture[: int(0.78 * len(picture))], -1, 0)
    return red - blue > 60 if color == "red" else blue - red > 60


@pytest.mark.parametrize("flipped", [True, False])
def test_a_voxel_on_the_left_is_drawn_on_the_left(flipped: bool) -> None:
    mask = np.ones((8, 6, 1), dtype=bool)
    affine = np.array(AFFINE, dtype=float)
    affine[0, 0] = -3.0 if flipped else 3.0
    values = np.zeros(mask.shape)
    values[1, 4, 0] = 1.0  # index 1 is on the right of the world where the affine runs to the left
    right = flipped
    slices = find_slices(mask, affine)
    assert slices.letters == ("L", "R", "P", "A")
    assert slices.size_mm == (3.0, 4.0)
    picture = pixels(map_figure(slices, values[mask], label="x", limit=1.0, simulated=False))
    rows, columns = np.nonzero(coloured(picture, "red"))
    assert (columns.mean() > picture.shape[1] / 2) == right
    assert rows.mean() < 0.4 * picture.shape[0]  # anterior is up


def test_the_slice_has_the_shape_of_its_millimetres() -> None:
    mask = np.ones((12, 6, 1), dtype=bool)
    slices = find_slices(mask, np.array(AFFINE, dtype=float))
    picture = pixels(map_figure(slices, np.ones(72), label="x", limit=1.0, simulated=False))
    red = picture[..., 0] - picture[..., 2] > 60
    first = int(np.argmax(red.any(axis=1)))
    height = int(np.argmin(red[first:].any(axis=1)))  # down to the gap above the colour bar
    width = int(red[first : first + height].any(axis=0).sum())
    assert width / height == pytest.approx(12 * 3.0 / (6 * 4.0), rel=0.02)


def test_sign_shows_and_no_value_is_grey() -> None:
    mask = np.ones((6, 4, 1), dtype=bool)
    slices = find_slices(mask, np.array(AFFINE, dtype=float))
    values = np.full(24, np.nan)
    blank = pixels(map_figure(slices, values, label="x", limit=1.0, simulated=False))
    assert not coloured(blank, "red").any()
    assert not coloured(blank, "blue").any()
    assert (np.abs(blank - np.array([0xDF, 0xE2, 0xE6])).max(axis=-1) < 3).mean() > 0.2
    values[:12], values[12:] = 1.0, -1.0
    both = pixels(map_figure(slices, values, label="x", limit=1.0, simulated=False))
    assert coloured(both, "red").sum() == pytest.approx(coloured(both, "blue").sum(), rel=0.05)


def test_slices_of_a_volume_are_axial_and_at_most_eight() -> None:
    mask = np.zeros((5, 4, 12), dtype=bool)
    mask[1:4, 1:3, 1:11] = True
    slices = find_slices(mask, np.array(AFFINE, dtype=float))
    assert slices.planes.shape == (8, 2, 3)
    assert slices.letters == ("L", "R", "P", "A")
    assert sorted(np.unique(slices.planes)) == sorted(set(slices.planes.ravel()))
    # Voxel numbers follow C order over the mask: x runs leftwards in this affine, so columns are reversed.
    assert slices.planes[0].tolist() == [[40, 20, 0], [50, 30, 10]]


def test_a_simulated_map_is_marked() -> None:
    slices = find_slices(np.ones((6, 4, 1), dtype=bool), np.array(AFFINE, dtype=float))
    plain, marked = (
        pixels(map_figure(slices, np.zeros(24), label="x", limit=1.0, simulated=simulated))
        for simulated in (False, True)
    )
    assert not coloured(plain, "red").any()
    assert ((marked - plain) != 0).any(axis=-1).mean() > 0.02

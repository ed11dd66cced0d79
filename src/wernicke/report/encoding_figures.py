"""Figures of an encoding run: maps on the slices, histograms over voxels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import ListedColormap

from wernicke.report.brain_figures import NO_VALUE, Scale
from wernicke.report.canvas import BLUE, GREEN, INK, QUIET, drawing
from wernicke.report.words import number

MAX_SLICES = 8


@dataclass(frozen=True)
class Slices:
    """Planes of a volume, left on the left, with their edges in mm.

    Attributes
    ----------
    planes : array, shape (n_slices, height, width)
        Voxel numbers, -1 outside the mask; first row at the bottom.
    size_mm : (width, height) of a voxel
    letters : (left, right, bottom, top)
    """

    planes: np.ndarray
    size_mm: tuple[float, float]
    letters: tuple[str, str, str, str]


def find_slices(mask: np.ndarray, affine: np.ndarray) -> Slices:
    """Turn a mask to the anatomical axes of its affine and cut it along the axis with a single slice, or axially."""
    import nibabel as nib

    numbers = np.full(mask.shape, -1)
    numbers[mask] = np.arange(int(mask.sum()))
    image = nib.as_closest_canonical(nib.Nifti1Image(numbers.astype(np.int32), affine))
    volume, zooms = np.asarray(image.dataobj), image.header.get_zooms()
    axis = int(np.argmin(volume.shape)) if min(volume.shape) == 1 else 2
    planes = np.moveaxis(volume, axis, 0).transpose(0, 2, 1)
    planes = planes[(planes >= 0).any(axis=(1, 2))]
    if len(planes) > MAX_SLICES:
        planes = planes[np.linspace(0, len(planes) - 1, MAX_SLICES).round().astype(int)]
    kept = np.asarray((planes >= 0).any(axis=0))
    rows, columns = np.flatnonzero(kept.any(axis=1)), np.flatnonzero(kept.any(axis=0))
    planes = planes[:, rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    wide, high = (k for k in range(3) if k != axis)
    pairs = (("L", "R"), ("P", "A"), ("I", "S"))
    return Slices(planes, (float(zooms[wide]), float(zooms[high])), (*pairs[wide], *pairs[high]))


def map_figure(slices: Slices, values: np.ndarray, *, label: str, limit: float, simulated: bool) -> bytes:
    """One map on its slices, with colour bar; grey where a voxel has no value.

    Parameters
    ----------
    slices : Slices
    values : array, shape (n_voxels,)
        NaN where there is nothing to show.
    label : str
        Under the colour bar.
    limit : float
        Colours run from -`limit` to `limit`, so that the sign shows.
    simulated : bool
    """
    return slices_figure(slices, values, Scale.around_zero(label, limit), simulated=simulated)


def slices_figure(
    slices: Slices, values: np.ndarray, scale: Scale, *, simulated: bool, width_px: int = 420, colors: int | None = None
) -> bytes:
    """Numbers or labels on the slices of a volume: see `map_figure`, of which the `scale` says how to colour them."""
    n = len(slices.planes)
    n_columns = min(n, 4)
    n_rows = -(-n // n_columns)
    height_mm, width_mm = (slices.planes.shape[k] * slices.size_mm[2 - k] for k in (1, 2))
    height_px = int(round(min(560, (width_px - 40) / n_columns * height_mm / width_mm * n_rows + 84)))
    height_px += scale.extra_px(width_px)
    with drawing(width_px, height_px, simulated=simulated, scale=2, colors=colors) as drawn:
        axes = drawn.figure.subplots(n_rows, n_columns, squeeze=False).ravel()
        for ax, plane in zip(axes, slices.planes, strict=False):
            _draw_plane(ax, slices, plane, values, scale)
        for ax in axes:
            ax.set_axis_off()
        left, right, bottom, top = slices.letters
        words = top if n == 1 else f"{left} - {right} across, {bottom} - {top} upwards"
        drawn.figure.suptitle(words, fontsize=8.5, color=QUIET)
        if n == 1:
            _letter(axes[0], slices)
        scale.draw(drawn.figure, list(axes))
    return drawn.png


def _draw_plane(ax: Axes, slices: Slices, plane: np.ndarray, values: np.ndarray, scale: Scale) -> None:
    height, width = plane.shape
    extent = (0.0, width * slices.size_mm[0], 0.0, height * slices.size_mm[1])
    inside = np.where(plane >= 0, 1.0, np.nan)
    place: dict[str, Any] = {"origin": "lower", "extent": extent, "interpolation": "nearest", "aspect": "equal"}
    ax.imshow(inside, cmap=ListedColormap([NO_VALUE]), **place)
    picture = np.where(plane >= 0, values[np.maximum(plane, 0)], np.nan)
    ax.imshow(picture, **scale.colored, **place)


def _letter(ax: Axes, slices: Slices) -> None:
    """Name the sides around a slice (the figure's title names the upper one) and draw a scale."""
    left, right, bottom, _ = slices.letters
    for x, y, letter in ((-0.03, 0.5, left), (1.03, 0.5, right), (0.5, -0.06, bottom)):
        ax.text(x, y, letter, transform=ax.transAxes, ha="center", va="center", fontsize=8.5, color=QUIET)
    low = -0.045 * ax.get_ylim()[1]
    ax.set_autoscale_on(False)
    ax.plot([0, 20], [low, low], color=INK, linewidth=1.6, clip_on=False)
    ax.text(22, low, "20 mm", fontsize=8, va="center", color=INK)


def histogram_figure(
    panels: Sequence[tuple[str, np.ndarray, np.ndarray, np.ndarray | None]], *, simulated: bool
) -> bytes:
    """Voxels by score: (title, values, which are significant, ceiling or None) a panel."""
    with drawing(850, 250, simulated=simulated) as drawn:
        for ax, (title, values, significant, ceiling) in zip(
            drawn.figure.subplots(1, len(panels), squeeze=False)[0], panels, strict=True
        ):
            known = np.isfinite(values)
            everything = [values[known]] if ceiling is None else [values[known], ceiling[np.isfinite(ceiling)]]
            edges = np.histogram_bin_edges(np.concatenate(everything), bins=36)
            ax.hist([values[known & significant], values[known & ~significant]], edges, stacked=True,
                    color=[BLUE, "#b9c6d6"], label=["FDR q < .05", "not significant"])  # fmt: skip
            if ceiling is not None:
                ax.hist(ceiling[np.isfinite(ceiling)], edges, histtype="step", color=GREEN, linewidth=1.4,
                        label="noise ceiling")  # fmt: skip
            mean = float(np.mean(values[known]))
            ax.axvline(mean, color=INK, linewidth=1, linestyle=":", label=f"mean {number(mean)}")
            ax.set_title(title)
            ax.set_ylabel("voxels")
            ax.legend()
    return drawn.png

"""Figures of the cortex from plain arrays: inflated views and flat map of fsaverage5, a mapper's flat map.

The meshes are those that nilearn carries with it. They are drawn as coloured triangles, far ones first, which takes a
tenth of a second a view; nilearn's own drawing takes several.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.collections import TriMesh
from matplotlib.colors import ListedColormap, Normalize, to_rgb, to_rgba
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from matplotlib.tri import Triangulation

from wernicke.core.errors import InputError
from wernicke.report.canvas import QUIET, drawing
from wernicke.scoring.show import printable

N_VERTICES = 10_242
COLORS = 160  # of a picture of the brain: more are not seen, and cost bytes
# Okabe and Ito's colours: told apart with any kind of colour vision. Black is left out, it would look like a hole.
BAND_COLORS = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00", "#F0E442", "#8C8C8C")
NO_VALUE = "#dfe2e6"
_SULCUS, _GYRUS = np.array(to_rgb("#c2c7cd")), np.array(to_rgb(NO_VALUE))
_LIGHT = 0.28  # how much darker a face is that the viewer sees from the side


@dataclass(frozen=True)
class Scale:
    """How values become colours.

    Attributes
    ----------
    label : str
        What stands at the colour bar, with the unit.
    low, high : float
        Ends of the colour bar; values beyond have the end's colour.
    clipped : bool
        There are values beyond: the bar's ends are pointed.
    colors : str
        A matplotlib colour map.
    names : tuple of str
        For labels in place of numbers: value k is `names` [k]; `low`, `high` and `colors` are then not used.
    """

    label: str
    low: float = 0.0
    high: float = 1.0
    clipped: bool = False
    colors: str = "RdBu_r"
    names: tuple[str, ...] = ()

    @classmethod
    def around_zero(cls, label: str, limit: float, clipped: bool = False) -> Scale:
        """Blue below zero, red above, white at zero."""
        return cls(label, -limit, limit, clipped)

    @property
    def colored(self) -> dict[str, Any]:
        """`norm` and `cmap`, as matplotlib's functions take them."""
        if self.names:
            found = [BAND_COLORS[k % len(BAND_COLORS)] for k in range(len(self.names))]
            return {"norm": Normalize(-0.5, len(found) - 0.5), "cmap": ListedColormap(found)}
        return {"norm": Normalize(self.low, self.high), "cmap": colormaps[self.colors]}

    def n_columns(self, width_px: float) -> int:
        """How many of the legend's names stand side by side."""
        longest = max(len(printable(name, 40)) for name in self.names)
        return int(np.clip(width_px // (6.2 * longest + 42), 1, 3))

    def extra_px(self, width_px: float) -> int:
        """Height that a legend needs beyond that of a colour bar."""
        return 16 * -(-len(self.names) // self.n_columns(width_px)) if self.names else 0

    def draw(self, figure: Figure, axes: Sequence[Axes]) -> None:
        """Put a colour bar, or a legend of the names, below the axes."""
        if self.names:
            handles = [
                Patch(color=BAND_COLORS[k % len(BAND_COLORS)], label=printable(name, 40))
                for k, name in enumerate(self.names)
            ]
            n_columns = self.n_columns(100 * figure.get_figwidth())
            figure.legend(handles=handles, loc="outside lower center", ncols=n_columns, title=self.label)
            return
        extend = "both" if self.clipped else "neither"
        bar = figure.colorbar(ScalarMappable(**self.colored), ax=list(axes), orientation="horizontal", fraction=0.05,
                              pad=0.03, aspect=38, shrink=0.86, extend=extend)  # fmt: skip
        bar.set_label(self.label)
        bar.outline.set_linewidth(0.6)


@cache
def mesh(kind: str, side: str) -> tuple[np.ndarray, np.ndarray]:
    """Coordinates, shape (10242, 3), and triangles of fsaverage5 (``infl``, ``flat``), from nilearn's package."""
    from nilearn.datasets import fetch_surf_fsaverage
    from nilearn.surface import load_surf_mesh

    found = load_surf_mesh(fetch_surf_fsaverage("fsaverage5")[f"{kind}_{side}"])
    return np.asarray(found.coordinates, dtype=float), np.asarray(found.faces)


@cache
def _folds(side: str) -> np.ndarray:
    """True in a sulcus, shape (10242,)."""
    from nilearn.datasets import fetch_surf_fsaverage
    from nilearn.surface import load_surf_data

    return np.asarray(load_surf_data(fetch_surf_fsaverage("fsaverage5")[f"sulc_{side}"])) > 0


def cortex_figure(
    values: Mapping[str, np.ndarray], scale: Scale, *, simulated: bool, width_px: int = 420, flat: bool = True
) -> bytes:
    """Lateral and medial views of both hemispheres, and the flat map below.

    Parameters
    ----------
    values : mapping
        ``left`` and ``right`` to one value a vertex of fsaverage5, shape (10242,); NaN shows the folds in grey.
    scale : Scale
    simulated : bool
        Write SIMULATED across the figure.
    width_px : int
        On the page; the file has twice as many pixels.
    flat : bool
        Draw the flat map too.

    Raises
    ------
    InputError
        E-SHAPE: another mesh.
    """
    for side in ("left", "right"):
        if np.shape(values[side]) != (N_VERTICES,):
            raise InputError("E-SHAPE", f"found shape {np.shape(values[side])}, expected fsaverage5's ({N_VERTICES},)",
                             field=side)  # fmt: skip
    height_px = int(width_px * (1.16 if flat else 0.72)) + 40 + scale.extra_px(width_px)
    with drawing(width_px, height_px, simulated=simulated, scale=2, colors=COLORS) as drawn:
        rows: list[Any] = [["ll", "rl"], ["lm", "rm"]] + ([["lf", "rf"]] if flat else [])
        axes = drawn.figure.subplot_mosaic(rows, height_ratios=[1, 1, 1.25][: len(rows)])
        for name, ax in axes.items():
            side, view = {"l": "left", "r": "right"}[name[0]], {"l": "lateral", "m": "medial", "f": "flat"}[name[1]]
            _draw(ax, side, view, np.asarray(values[side], dtype=float), scale)
            ax.set_title(f"{side}, {view}", fontsize=8, color=QUIET, loc="center", weight="normal", pad=1)
        scale.draw(drawn.figure, list(axes.values()))
    return drawn.png


def _draw(ax: Axes, side: str, view: str, values: np.ndarray, scale: Scale) -> None:
    points, faces = mesh("flat" if view == "flat" else "infl", side)
    seen, light = points[:, :2], np.ones(len(faces))
    if view != "flat":
        # The viewer stands on the left for the left side's outer and the right side's inner face.
        sign = -1.0 if (side == "left") == (view == "lateral") else 1.0
        seen, depth = np.stack([sign * points[:, 1], points[:, 2]], axis=1), sign * points[:, 0]
        corners = points[faces]
        normal = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
        facing = sign * normal[:, 0] / np.maximum(np.linalg.norm(normal, axis=1), 1e-12)
        order = np.argsort(depth[faces].mean(axis=1), kind="stable")
        faces, light = faces[order], facing[order]
        faces, light = faces[light > 0], 1 - _LIGHT * (1 - light[light > 0])
    colors = _face_colors(values, faces, _folds(side), scale) * light[:, None]
    # Every triangle with corners of its own, so that its colour is one; drawn in this order in a single call.
    x, y = seen[faces].reshape(-1, 2).T
    triangles = TriMesh(Triangulation(x, y, np.arange(len(x)).reshape(-1, 3)))
    triangles.set_facecolor(np.repeat(colors, 3, axis=0))  # type: ignore[arg-type]
    triangles.set_in_layout(False)  # measuring every triangle would take longer than drawing them
    ax.add_collection(triangles, autolim=False)
    (left, right), (bottom, top) = ((c.min() - 1, c.max() + 1) for c in (x, y))
    ax.set(xlim=(left, right), ylim=(bottom, top), aspect="equal")
    ax.set_axis_off()


def _face_colors(values: np.ndarray, faces: np.ndarray, sulcus: np.ndarray, scale: Scale) -> np.ndarray:
    """Colours of triangles, shape (n_faces, 3): of the mean of their corners, or for labels of the first corner."""
    corners = values[faces]
    known = np.isfinite(corners)
    shown = known.sum(axis=1) >= 2
    if scale.names:
        face = np.where(known[:, 0], corners[:, 0], np.where(known[:, 1], corners[:, 1], corners[:, 2]))
    else:
        face = np.where(known, corners, 0.0).sum(axis=1) / np.maximum(known.sum(axis=1), 1)
    deep = (sulcus[faces].mean(axis=1) > 0.5)[:, None]
    colors = np.where(deep, _SULCUS, _GYRUS)
    # The folds show through: without them a map near zero would be white on white.
    colors[shown] = ScalarMappable(**scale.colored).to_rgba(face[shown])[:, :3] * np.where(deep[shown], 0.9, 0.97)
    return colors


def flatmap_figure(
    picture: np.ndarray, scale: Scale, *, simulated: bool, curvature: np.ndarray | None = None, width_px: int = 420
) -> bytes:
    """A mapper's flat map: a picture of values, NaN outside the cortex.

    Parameters
    ----------
    picture : array, shape (height, width)
        First row on top, as `wernicke.data.mapper.Mapper.flat_image` returns it.
    curvature : array, shape (height, width), optional
        Shown in grey where there is no value.
    """
    height, width = picture.shape
    height_px = int((width_px - 20) * height / width) + 70 + scale.extra_px(width_px)
    with drawing(width_px, height_px, simulated=simulated, scale=2, colors=COLORS) as drawn:
        ax = drawn.figure.subplots()
        place: dict[str, Any] = {"interpolation": "nearest", "aspect": "equal"}
        if curvature is not None:
            shade = np.where(np.isfinite(curvature), np.where(np.nan_to_num(curvature) > 0.5, 1.0, 0.0), np.nan)
            ax.imshow(shade, cmap=ListedColormap([tuple(_SULCUS), tuple(_GYRUS)]), vmin=0, vmax=1, **place)
        ax.imshow(picture, **scale.colored, **place)
        ax.set_axis_off()
        scale.draw(drawn.figure, [ax])
    return drawn.png


def points_figure(
    positions_mm: np.ndarray, values: np.ndarray, scale: Scale, *, simulated: bool, width_px: int = 420
) -> bytes:
    """Voxels that lie too far apart for slices, as points seen from above and from the left.

    Parameters
    ----------
    positions_mm : array, shape (n_voxels, 3)
        World coordinates: to the right, to the front, upwards.
    values : array, shape (n_voxels,)
        NaN in grey.
    """
    known = np.isfinite(values)
    order = np.argsort(np.where(known, np.abs(values), -1.0), kind="stable")  # the strongest on top
    colors = np.where(known[:, None], ScalarMappable(**scale.colored).to_rgba(np.nan_to_num(values)), to_rgba(NO_VALUE))
    height_px = int(0.56 * width_px) + 66 + scale.extra_px(width_px)
    with drawing(width_px, height_px, simulated=simulated, scale=2, colors=COLORS) as drawn:
        axes = drawn.figure.subplots(1, 2)
        for ax, (x, y), words in zip(axes, ((0, 1), (1, 2)), ("L - R, P - A", "P - A, I - S"), strict=True):
            ax.scatter(positions_mm[order, x], positions_mm[order, y], s=max(4.0, 900 / len(values)), c=colors[order],
                       edgecolors=QUIET, linewidths=0.25)  # fmt: skip
            ax.set_aspect("equal")
            ax.set_axis_off()
            ax.set_title(words, fontsize=8, color=QUIET, loc="center", weight="normal", pad=1)
        scale.draw(drawn.figure, list(axes))
    return drawn.png

"""A subject's maps out of a run folder, ready to draw: on fsaverage5, on a mapper's flat map, or on slices.

Columns come as flat arrays whatever they lie on, so that a map can be made from others (which band is best) before it
is drawn.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pandas as pd

from wernicke.core.errors import InputError
from wernicke.core.recording import Surface, Voxels
from wernicke.data.maps import IMAGES, TABLE, read_maps
from wernicke.data.surface_series import read_gifti
from wernicke.report.brain_figures import COLORS, N_VERTICES, Scale, cortex_figure, flatmap_figure, points_figure
from wernicke.report.encoding_figures import Slices, find_slices, slices_figure
from wernicke.report.runs import FinishedRun
from wernicke.report.viewer import surface_view, volume_view

# Where fewer of the voxels of the box around them are kept, a slice shows single dots at best.
SCATTERED = 0.02
FINER = (40_962, 163_842)  # fsaverage6 and fsaverage begin with fsaverage5's vertices


@dataclass(frozen=True)
class SubjectMaps:
    """One model's maps of one subject.

    Attributes
    ----------
    run : FinishedRun
    prefix : str
        Folder within the run, such as ``subjects/DM01/all``.
    table : DataFrame
        One row a voxel or vertex, as `wernicke.data.maps.read_maps` gives it.
    units : Voxels, Surface or None
    """

    run: FinishedRun
    prefix: str
    table: pd.DataFrame
    units: Voxels | Surface | None

    @classmethod
    def open(cls, run: FinishedRun, prefix: str) -> SubjectMaps:
        """Read the table of one unit of a finished run."""
        table, units = read_maps(run.path(f"{prefix}/{TABLE}").parent)
        return cls(run, prefix, table, units)

    @cached_property
    def kind(self) -> str:
        """``cortex``, ``flat``, ``slices``, ``points`` (scattered voxels), or ``none``: units of unknown place."""
        if f"{self.prefix}/{IMAGES}/r.L.func.gii" in self.run.files and len(self._gifti("r", "L")) == N_VERTICES:
            return "cortex"
        if isinstance(self.units, Surface):
            sizes = {len(mask) for mask in (self.units.left, self.units.right) if mask is not None}
            on_fsaverage = sizes <= {N_VERTICES, *FINER} and self.units.mesh.startswith("fsaverage")
            return "cortex" if on_fsaverage else "none"
        if f"{self.prefix}/{IMAGES}/r.flatmap.npy" in self.run.files:
            return "flat"
        if not isinstance(self.units, Voxels):
            return "none"
        where = np.argwhere(self.units.mask)
        box = np.prod(np.ptp(where, axis=0) + 1.0)
        return "slices" if len(where) > SCATTERED * box else "points"

    @property
    def on_own_mesh(self) -> bool:
        """There are maps on a surface, but not on fsaverage5."""
        return f"{self.prefix}/{IMAGES}/r.L.func.gii" in self.run.files and self.kind != "cortex"

    def _gifti(self, column: str, side: str) -> np.ndarray:
        values, _ = read_gifti(self.run.path(f"{self.prefix}/{IMAGES}/{column}.{side}.func.gii"))
        return values[0]

    def has(self, column: str) -> bool:
        return column in self.table.columns

    def column(self, name: str) -> np.ndarray:
        """A column as a flat array over what is drawn: vertices of fsaverage5, pixels or voxels."""
        if self.kind == "flat":
            return self.run.read_npy(f"{self.prefix}/{IMAGES}/{name}.flatmap.npy").astype(float).ravel()
        if self.kind != "cortex":
            return self.table[name].to_numpy(dtype=float)
        if isinstance(self.units, Surface):
            values = self.table[name].to_numpy(dtype=float)
            both = [
                np.full(N_VERTICES, np.nan) if getattr(self.units, side) is None
                else self.units.to_hemisphere(values, side)[:N_VERTICES] for side in ("left", "right")
            ]  # fmt: skip
            return np.concatenate(both)
        return np.concatenate([self._gifti(name, side).astype(float) for side in "LR"])

    @cached_property
    def _slices(self) -> Slices:
        if not isinstance(self.units, Voxels):
            raise InputError("E-META", "no voxels to cut slices from", path=self.run.folder.folder, field=self.prefix)
        return find_slices(self.units.mask, np.asarray(self.units.affine, dtype=float))

    def draw(self, values: np.ndarray, scale: Scale, *, width_px: int = 270) -> bytes:
        """The picture of a flat array that `column` gave, or that was made from such."""
        simulated = self.run.simulated
        if self.kind == "cortex":
            return cortex_figure(_sides(values), scale, simulated=simulated, width_px=width_px)
        if self.kind == "flat":
            shape = self.run.read_npy(f"{self.prefix}/{IMAGES}/r.flatmap.npy").shape
            return flatmap_figure(values.reshape(shape), scale, simulated=simulated, width_px=width_px)
        if self.kind == "points" and isinstance(self.units, Voxels):
            affine = np.asarray(self.units.affine, dtype=float)
            positions_mm = np.argwhere(self.units.mask) @ affine[:3, :3].T + affine[:3, 3]
            return points_figure(positions_mm, values, scale, simulated=simulated, width_px=width_px)
        return slices_figure(self._slices, values, scale, simulated=simulated, width_px=width_px, colors=COLORS)

    def viewer(self, scale: Scale, title: str) -> str | None:
        """nilearn's interactive page of r; None where there is nothing to turn or click through."""
        mark = "SIMULATED: " if self.run.simulated else ""
        if self.kind == "cortex":
            return surface_view(_sides(self.column("r")), scale, mark + title)
        if isinstance(self.units, Voxels):
            return volume_view(self.table["r"].to_numpy(dtype=float), self.units, scale, mark + title)
        return None


def _sides(values: np.ndarray) -> dict[str, np.ndarray]:
    return {"left": values[:N_VERTICES], "right": values[N_VERTICES:]}


def best_of(columns: Sequence[np.ndarray], shown: np.ndarray) -> np.ndarray:
    """Number of the largest column, NaN where nothing is shown or none is above 0."""
    stacked = np.stack(columns)
    top = np.where(np.isfinite(stacked), stacked, -np.inf).max(axis=0)
    best = np.where(np.isfinite(stacked), stacked, -np.inf).argmax(axis=0).astype(float)
    return np.where(shown & (top > 0), best, np.nan)


def limit_of(columns: Sequence[np.ndarray], share: float = 0.995) -> tuple[float, bool]:
    """One limit for several maps, so that they can be compared, and whether values lie beyond it."""
    known = np.abs(np.concatenate([values[np.isfinite(values)] for values in columns]))
    if not len(known) or not known.max():
        return 1.0, False
    limit = float(np.quantile(known, share)) or float(known.max())
    digits = 1 - int(np.floor(np.log10(limit)))
    limit = float(np.ceil(limit * 10**digits) / 10**digits)
    return limit, bool(known.max() > limit)

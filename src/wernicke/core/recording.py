"""One subject's recording: EEG epochs, single-trial betas or a continuous series of volumes, by one type."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from wernicke.core.checks import check_identifier, check_range
from wernicke.core.errors import InputError

REQUIRED_COLUMNS = ("sample_id", "run")
KNOWN_COLUMNS = (*REQUIRED_COLUMNS, "session", "block", "onset_s", "stimulus_id", "label", "n_repeats")


@dataclass(frozen=True)
class Voxels:
    """Where voxels lie.

    Parameters
    ----------
    mask : array of bool, shape (x, y, z)
        True where a voxel is kept; columns of `Recording.values` follow numpy's C order over the mask.
    affine : array, shape (4, 4)
        Voxel indices to world coordinates, mm.
    """

    mask: np.ndarray
    affine: np.ndarray

    def __post_init__(self) -> None:
        if self.mask.ndim != 3 or self.mask.dtype != bool:
            raise InputError(
                "E-SHAPE",
                f"found {self.mask.ndim}-D {self.mask.dtype}, expected a 3-D mask of booleans",
                field="mask",
            )
        if self.affine.shape != (4, 4) or not np.isfinite(self.affine).all() or abs(np.linalg.det(self.affine)) < 1e-12:
            raise InputError("E-HDR", "the affine is singular, not finite or not 4 x 4", field="affine")
        if not self.mask.any():
            raise InputError("E-META", "the mask is empty", field="mask")

    @property
    def n_voxels(self) -> int:
        return int(self.mask.sum())

    def to_volume(self, values: np.ndarray) -> np.ndarray:
        """Put one value a voxel, shape (n_voxels,), back on the grid, shape (x, y, z); NaN outside the mask."""
        volume = np.full(self.mask.shape, np.nan)
        volume[self.mask] = values
        return volume


@dataclass(frozen=True)
class Surface:
    """Vertices of the cortical sheet, and the voxels below it where the file has them (CIFTI's grayordinates).

    Parameters
    ----------
    left, right : array of bool, shape (n_vertices,), optional
        True where a vertex is kept; None for a hemisphere without data. Columns of `Recording.values` are the kept
        vertices of the left hemisphere, then of the right, then the voxels of `volume`.
    mesh : str
        Which mesh the vertices belong to, such as ``fsaverage5``, ``fsLR`` or ``fsnative``.
    volume : Voxels, optional
        Subcortical voxels.
    """

    left: np.ndarray | None
    right: np.ndarray | None
    mesh: str
    volume: Voxels | None = None

    def __post_init__(self) -> None:
        for name, mask in (("left", self.left), ("right", self.right)):
            if mask is not None and (mask.ndim != 1 or mask.dtype != bool):
                raise InputError("E-SHAPE", f"found {mask.ndim}-D {mask.dtype}, expected a 1-D mask of booleans",
                                 field=name)  # fmt: skip
        if not self.mesh:
            raise InputError("E-META", "the mesh has no name", field="mesh")
        if not self.n_units:
            raise InputError("E-META", "no vertex and no voxel is kept", field="surface")

    @property
    def n_units(self) -> int:
        vertices = sum(int(mask.sum()) for mask in (self.left, self.right) if mask is not None)
        return vertices + (self.volume.n_voxels if self.volume is not None else 0)

    def to_hemisphere(self, values: np.ndarray, side: str) -> np.ndarray:
        """Put one value a unit, shape (n_units,), on the vertices of a `side` ("left", "right"); NaN where none is."""
        mask = {"left": self.left, "right": self.right}.get(side)
        if mask is None:
            raise InputError("E-META", f"no data on the {side} hemisphere", field="side")
        start = int(self.left.sum()) if side == "right" and self.left is not None else 0
        out = np.full(len(mask), np.nan)
        out[mask] = values[start : start + int(mask.sum())]
        return out


@dataclass(frozen=True)
class Channels:
    """EEG or MEG channels over time.

    Parameters
    ----------
    names : tuple of str
        One name a channel.
    sfreq_hz : float
        Sampling rate.
    tmin_s : float
        Time of the first sample relative to the event.
    positions_mm : array, shape (n_channels, 3), optional
    """

    names: tuple[str, ...]
    sfreq_hz: float
    tmin_s: float = 0.0
    positions_mm: np.ndarray | None = None

    def __post_init__(self) -> None:
        check_range(self.sfreq_hz, "sfreq_hz", low=0, low_open=True)
        check_range(self.tmin_s, "tmin_s")
        twice = {name for name in self.names if self.names.count(name) > 1}
        if twice:
            raise InputError("E-META", f"duplicate channel {sorted(twice)[0]!r}", field="names")
        if self.positions_mm is not None and self.positions_mm.shape != (len(self.names), 3):
            raise InputError("E-SHAPE", f"found shape {self.positions_mm.shape}, expected ({len(self.names)}, 3)",
                             field="positions_mm")  # fmt: skip


@dataclass(frozen=True)
class Recording:
    """One subject's samples.

    Parameters
    ----------
    subject : str
        Letters and digits only.
    values : array, shape (n_samples, *unit_shape)
        fMRI: (n_samples, n_voxels); EEG: (n_samples, n_channels, n_times). May be memory-mapped. Finite; readers
        establish that once and remember it by fingerprint.
    samples : DataFrame, n_samples rows
        Columns `sample_id` (unique) and `run` are required; `session`, `block`, `onset_s`, `stimulus_id`, `label`
        and `n_repeats` are understood; others are carried along.
    units : Voxels, Surface, Channels or None
        The axes of `unit_shape`.
    tr_s : float, optional
        Repetition time of a continuous series; None for trials.
    keep : array of bool, shape (n_samples,), optional
        False for censored samples.

    Raises
    ------
    InputError
        When lengths do not fit, ids repeat, or a run is not one contiguous segment.
    """

    subject: str
    values: np.ndarray
    samples: pd.DataFrame
    units: Voxels | Surface | Channels | None = None
    tr_s: float | None = None
    keep: np.ndarray | None = None

    def __post_init__(self) -> None:
        check_identifier(self.subject, "subject")
        missing = [name for name in REQUIRED_COLUMNS if name not in self.samples.columns]
        if missing:
            raise InputError("E-META", f"column `{missing[0]}` is missing, found {list(self.samples.columns)}",
                             field="samples")  # fmt: skip
        n = len(self.samples)
        if self.values.ndim < 2 or self.values.shape[0] != n:
            raise InputError("E-SHAPE", f"found values of shape {self.values.shape} for {n} samples", field="values")
        if self.samples["sample_id"].duplicated().any():
            twice = self.samples["sample_id"][self.samples["sample_id"].duplicated()].iloc[0]
            raise InputError("E-META", f"sample_id {twice!r} occurs twice", field="samples")
        for name in REQUIRED_COLUMNS:
            if self.samples[name].isna().any():
                row = int(self.samples[name].isna().to_numpy().argmax())
                raise InputError("E-META", f"row {row} has no {name}", field="samples")
        runs = self.samples["run"].to_numpy()
        if n and 1 + int((runs[1:] != runs[:-1]).sum()) != len(pd.unique(runs)):
            raise InputError("E-META", "a run is split into several segments; runs must be contiguous", field="run")
        if isinstance(self.units, Voxels) and self.values.shape[1:] != (self.units.n_voxels,):
            raise InputError("E-SHAPE", f"found {self.values.shape[1:]} units, the mask has {self.units.n_voxels}",
                             field="values")  # fmt: skip
        if isinstance(self.units, Surface) and self.values.shape[1:] != (self.units.n_units,):
            raise InputError("E-SHAPE", f"found {self.values.shape[1:]} units, the surface has {self.units.n_units}",
                             field="values")  # fmt: skip
        if isinstance(self.units, Channels) and self.values.shape[1] != len(self.units.names):
            raise InputError("E-SHAPE", f"found {self.values.shape[1]} channels, {len(self.units.names)} names",
                             field="values")  # fmt: skip
        if self.tr_s is not None:
            check_range(self.tr_s, "tr_s", low=0, low_open=True)
        if self.keep is not None and (self.keep.shape != (n,) or self.keep.dtype != bool):
            raise InputError("E-SHAPE", f"found {self.keep.dtype} of shape {self.keep.shape}, expected ({n},) booleans",
                             field="keep")  # fmt: skip

    @property
    def n_samples(self) -> int:
        return len(self.samples)

    @property
    def runs(self) -> np.ndarray:
        """The run of each sample, shape (n_samples,)."""
        return self.samples["run"].to_numpy()

"""Motion energy of a film: a small bank of spatio-temporal Gabor filters.

The model of Adelson & Bergen (1985, J Opt Soc Am A 2), in the reduced form of one place-averaged energy a filter:

- Each frame is luma in 0 to 1, averaged down to `size` x `size` pixels (the whole picture, whatever its shape).
- A filter is a complex Gabor over x, y and t: exp(i 2 pi (f (x cos d + y sin d) - w t)) under a Gaussian, with spatial
  frequency f in cycles a picture, direction d in degrees (0: rightward, 90: downward) and temporal frequency w in Hz.
  The Gaussian's standard deviation is half a cycle in each of space and time. The spatial part is made to sum to 0, so
  that uniform light gives nothing; for w = 0 it is a static edge filter, for which only directions below 180 differ.
- The energy of a frame is the squared modulus of the response, averaged over places: real and imaginary parts are the
  quadrature pair. Outside of the picture and of the run there is the mean luma of the run, so edges add no motion.

`frame_difference` is the simplest companion: the mean absolute change of luma since the frame before, a second.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from wernicke.core.checks import check_range
from wernicke.core.errors import InputError
from wernicke.core.features import Features
from wernicke.features.picture_files import check_index, read_picture
from wernicke.features.resample import resample_to_tr


def motion_energy(
    frames: Sequence[Any] | Sequence[str | os.PathLike[str]],
    index: pd.DataFrame,
    *,
    n_tr: Mapping[Any, int],
    tr_s: float,
    fps: float,
    size: int = 32,
    directions_deg: Sequence[float] = (0, 45, 90, 135, 180, 225, 270, 315),
    cycles: Sequence[float] = (2, 4),
    temporal_hz: Sequence[float] = (0, 2, 4),
) -> Features:
    """Return motion energy by filter, and the frame difference, averaged within each TR.

    Parameters
    ----------
    frames : sequence of pictures
        All frames of all runs; see `wernicke.features.picture_files.film_frames` with ``all_frames=True``.
    index : DataFrame
        `run` and `onset_s` of each frame, `fps` a second and in order within a run.
    n_tr, tr_s
        As in `resample_to_tr`.
    fps : float
    size, directions_deg, cycles, temporal_hz
        The bank, see above.

    Returns
    -------
    Features
        Bands ``motion_energy`` (n_samples, n_filters) and ``frame_difference`` (n_samples, 1), float32. The provenance
        lists the filters in the columns' order.

    Raises
    ------
    InputError
        E-META (frames that are not `fps` apart), E-CFG (frequencies beyond what frames or pixels show), and what
        `read_picture` raises.
    """
    table = check_index(index, (), len(frames), "frames")
    bank = filter_bank(directions_deg, cycles, temporal_hz)
    check_range(fps, "fps", low=0, low_open=True)
    check_range(size, "size", low=8, high=512)
    if max(cycles) > size / 4 or max(temporal_hz) > fps / 2:
        raise InputError("E-CFG", f"{max(cycles):g} cycles and {max(temporal_hz):g} Hz, at most {size / 4:g} and "
                         f"{fps / 2:g} can be seen", field="cycles")  # fmt: skip
    energy = np.empty((len(frames), len(bank)), np.float32)
    change = np.empty((len(frames), 1), np.float32)
    for run, rows in table.groupby("run", sort=False).indices.items():
        onset = table["onset_s"].to_numpy(float)[rows]
        if len(rows) > 1 and not np.allclose(np.diff(onset), 1 / fps, rtol=0.05):
            raise InputError("E-META", f"frames of run {run!r} are not {1 / fps:.4g} s apart", field="onset_s")
        film = np.stack([small_luma(frames[i], size) for i in rows])
        energy[rows] = film_energy(film, bank, fps)
        change[rows, 0] = np.abs(np.diff(film, axis=0, prepend=film[:1])).mean((1, 2)) * fps
    provenance = {"kind": "motion energy", "size": size, "fps": float(fps),
                  "filters": [{"direction_deg": d, "cycles": f, "temporal_hz": w} for d, f, w in bank]}  # fmt: skip
    found = Features({"motion_energy": energy, "frame_difference": change}, table, provenance)
    return resample_to_tr(found, n_tr=n_tr, tr_s=tr_s, how="mean")


def filter_bank(
    directions_deg: Sequence[float], cycles: Sequence[float], temporal_hz: Sequence[float]
) -> list[tuple[float, float, float]]:
    """Return (direction, cycles a picture, Hz) of each filter; static ones have no opposite directions."""
    for values, field in ((directions_deg, "directions_deg"), (cycles, "cycles"), (temporal_hz, "temporal_hz")):
        if not len(values):
            raise InputError("E-CFG", "no value given", field=field)
        for value in values:
            check_range(value, field, low=0, low_open=field == "cycles")
    return [
        (float(d), float(f), float(w)) for w in temporal_hz for f in cycles for d in directions_deg if w > 0 or d < 180
    ]


def small_luma(picture: Any, size: int) -> np.ndarray:
    """Return the luma of a picture averaged down to float32 (size, size), 0 to 1."""
    from PIL import Image

    grey = read_picture(picture).convert("L").resize((size, size), Image.Resampling.BOX)
    return np.asarray(grey, np.float32) / 255


def film_energy(film: np.ndarray, bank: Sequence[tuple[float, float, float]], fps: float) -> np.ndarray:
    """Return the place-averaged energy of each frame and filter.

    Parameters
    ----------
    film : array, shape (n_frames, size, size)
    bank : sequence of (direction in degrees, cycles a picture, Hz)
    fps : float

    Returns
    -------
    array, shape (n_frames, n_filters)
    """
    from scipy.signal import oaconvolve

    light = (film - film.mean()).astype(np.float32)
    energy = np.empty((len(film), len(bank)), np.float32)
    for direction, cycles in dict.fromkeys((d, f) for d, f, _ in bank):  # one spatial response in memory at a time
        kernel = spatial_kernel(direction, cycles, film.shape[1])
        still = oaconvolve(light, kernel[None], mode="same", axes=(1, 2))
        for i, (d, f, hz) in enumerate(bank):
            if (d, f) == (direction, cycles):
                moved = oaconvolve(still, temporal_kernel(hz, fps)[:, None, None], mode="same", axes=0) if hz else still
                energy[:, i] = (moved.real**2 + moved.imag**2).mean((1, 2))
    return energy


def spatial_kernel(direction_deg: float, cycles: float, size: int) -> np.ndarray:
    """Return the complex Gabor over places, complex64, that sums to 0; its envelope sums to 1."""
    period = size / cycles
    sigma = period / 2
    half = int(np.ceil(2.5 * sigma))
    y, x = np.mgrid[-half : half + 1, -half : half + 1]
    angle = np.deg2rad(direction_deg)
    envelope = np.exp(-(x**2 + y**2) / (2 * sigma**2))
    envelope /= envelope.sum()
    wave = np.exp(2j * np.pi * (x * np.cos(angle) + y * np.sin(angle)) / period)
    return (envelope * (wave - (envelope * wave).sum())).astype(np.complex64)


def temporal_kernel(hz: float, fps: float) -> np.ndarray:
    """Return the complex Gabor over time, complex64; its envelope sums to 1."""
    sigma = 0.5 / hz * fps
    half = int(np.ceil(2.5 * sigma))
    t = np.arange(-half, half + 1)
    envelope = np.exp(-(t**2) / (2 * sigma**2))
    return (envelope / envelope.sum() * np.exp(-2j * np.pi * hz * t / fps)).astype(np.complex64)

"""What else changes with the stimulus: bands that every language map is also tested against.

Word rate, position in the run, sound level, luminance and head motion, one row a TR. Motion energy is in
`wernicke.features.motion_energy`; the untrained twin of a language model is `wernicke.pretrained.twin.untrained_twin`.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from wernicke.core.checks import check_finite, check_matrix, check_range
from wernicke.core.errors import InputError
from wernicke.core.features import Features
from wernicke.core.study import Events
from wernicke.features.picture_files import check_index, read_picture
from wernicke.features.resample import bins, resample_to_tr
from wernicke.features.sound import Sound, read_sound

HEAD_COLUMNS = ("trans_x", "trans_y", "trans_z", "rot_x", "rot_y", "rot_z")  # fMRIPrep, mm and radians


def word_rate(events: Events, *, n_tr: Mapping[Any, int], tr_s: float) -> Features:
    """Return band ``word_rate``: words a second that begin within each TR, (n_samples, 1).

    Parameters
    ----------
    events : Events
        One row a word; rows whose `text` is missing or blank are none. A row of several words counts as several.

    Raises
    ------
    InputError
        E-META (an event of an unknown run, no `text`), E-CFG.
    """
    check_range(tr_s, "tr_s", low=0, low_open=True)
    if "text" not in events.table.columns:
        raise InputError("E-META", "column `text` is missing", field="events")
    n_words = np.array([len(str(text).split()) for text in events.table["text"].fillna("")])
    onset = events.table["onset_s"].astype(float).to_numpy()
    runs = events.table["run"].to_numpy()
    unknown = set(runs.tolist()) - set(n_tr)
    if unknown:
        raise InputError("E-META", f"events of run {sorted(unknown, key=str)[0]!r}, which has no samples", field="n_tr")
    rates = []
    for run, n in n_tr.items():
        own = runs == run
        place = bins(onset[own], tr_s)
        inside = (place >= 0) & (place < n)
        rates.append(np.bincount(place[inside], weights=n_words[own][inside], minlength=n))
    values = (np.concatenate(rates) / tr_s).astype(np.float32)[:, None]
    return Features({"word_rate": values}, _tr_index(n_tr, tr_s), {"kind": "words a second", "tr_s": float(tr_s)})


def position_in_run(*, n_tr: Mapping[Any, int], tr_s: float, degree: int = 2) -> Features:
    """Return band ``position``: Legendre polynomials 1 to `degree` of time in the run, (n_samples, degree).

    For drifts, habituation and the order of scenes, which features that change slowly can stand for.
    """
    check_range(degree, "degree", low=1, high=20)
    check_range(tr_s, "tr_s", low=0, low_open=True)
    parts = []
    for n in n_tr.values():
        check_range(n, "n_tr", low=2)
        parts.append(np.polynomial.legendre.legvander(np.linspace(-1, 1, n), degree)[:, 1:])
    provenance = {"kind": "Legendre polynomials of the time in a run", "degree": degree}
    return Features({"position": np.concatenate(parts).astype(np.float32)}, _tr_index(n_tr, tr_s), provenance)


def sound_level(
    sounds: Mapping[Any, Sound | str | os.PathLike[str]], *, n_tr: Mapping[Any, int], tr_s: float
) -> Features:
    """Return band ``envelope``: root mean square of the sound within each TR, full scale at 1, (n_samples, 1).

    A TR that the sound does not reach is silent.

    Raises
    ------
    InputError
        E-META (a run without sound), and what `read_sound` raises.
    """
    check_range(tr_s, "tr_s", low=0, low_open=True)
    parts = []
    for run, n in n_tr.items():
        if run not in sounds:
            raise InputError("E-META", f"no sound for run {run!r}", field="sounds")
        given = sounds[run]
        sound = given if isinstance(given, Sound) else read_sound(given)
        edges = np.round(np.arange(n + 1) * tr_s * sound.rate_hz).astype(int)
        power = np.r_[0.0, np.cumsum(sound.values.astype(np.float64) ** 2)][np.minimum(edges, len(sound.values))]
        parts.append(np.sqrt(np.maximum(np.diff(power), 0) / np.diff(edges)))
    values = np.concatenate(parts).astype(np.float32)[:, None]
    return Features({"envelope": values}, _tr_index(n_tr, tr_s), {"kind": "root mean square of the sound"})


def luminance(frames: Sequence[Any], index: pd.DataFrame, *, n_tr: Mapping[Any, int], tr_s: float) -> Features:
    """Return band ``luminance``: mean and standard deviation over the picture, averaged within each TR, (n_samples, 2).

    Luminance is ITU-R 601 luma of the pixel values, 0 to 1, as PIL's mode "L": of the file, not of the screen.

    Parameters
    ----------
    frames : sequence of pictures
        As `wernicke.features.picture_files.read_picture` takes them.
    index : DataFrame
        `run` and `onset_s` of each; see `film_frames`.
    """
    table = check_index(index, (), len(frames), "frames")
    values = np.empty((len(frames), 2), np.float32)
    for i, frame in enumerate(frames):
        grey = np.asarray(read_picture(frame).convert("L"), np.float32) / 255
        values[i] = grey.mean(dtype=np.float64), grey.std(dtype=np.float64)
    found = Features({"luminance": values}, table, {"kind": "mean and standard deviation of luma"})
    return resample_to_tr(found, n_tr=n_tr, tr_s=tr_s, how="mean")


def head_motion(
    parameters: Mapping[Any, pd.DataFrame | np.ndarray], *, n_tr: Mapping[Any, int], tr_s: float, expand: bool = True
) -> Features:
    """Return band ``head_motion``: the six parameters, their differences from TR to TR, and the squares of both.

    24 columns as fMRIPrep's confounds (``derivative1`` and ``power2``; after Friston et al. 1996, Magn Reson Med 35),
    but with 0 for the difference in a run's first TR.

    Parameters
    ----------
    parameters : mapping of run to DataFrame or array, shape (n_tr, 6)
        A DataFrame has fMRIPrep's columns (`HEAD_COLUMNS`); others are ignored.
    expand : bool
        False: the six parameters alone.

    Raises
    ------
    InputError
        E-META (a run or column is missing), E-SHAPE (another number of rows or columns), E-NONFIN.
    """
    check_range(tr_s, "tr_s", low=0, low_open=True)
    parts = []
    for run, n in n_tr.items():
        if run not in parameters:
            raise InputError("E-META", f"no parameters for run {run!r}", field="parameters")
        given = parameters[run]
        if isinstance(given, pd.DataFrame):
            missing = [name for name in HEAD_COLUMNS if name not in given.columns]
            if missing:
                raise InputError("E-META", f"column `{missing[0]}` is missing", field="parameters")
            given = given[list(HEAD_COLUMNS)].to_numpy()
        six = check_matrix(given, "parameters", n_rows=n)
        if six.shape[1] != 6:
            raise InputError("E-SHAPE", f"found {six.shape[1]} columns, expected 6", field="parameters")
        both = np.hstack([six, np.diff(six, axis=0, prepend=six[:1])])
        parts.append(np.hstack([both, both**2]) if expand else six)
    provenance = {"kind": "head motion parameters", "expand": expand}
    return Features({"head_motion": np.concatenate(parts).astype(np.float32)}, _tr_index(n_tr, tr_s), provenance)


def join_bands(*parts: Features) -> Features:
    """Return the bands of several Features with the same rows as one.

    Raises
    ------
    InputError
        E-SHAPE (other rows), E-META (a band's name twice).
    """
    bands: dict[str, np.ndarray] = {}
    for part in parts:
        same = len(part.index) == len(parts[0].index) and all(
            np.array_equal(part.index[c], parts[0].index[c]) for c in ("run", "onset_s")
        )
        if not same:
            raise InputError("E-SHAPE", f"bands {list(part.bands)} have other rows than {list(parts[0].bands)}",
                             field="bands", hint="bring both to the same TR: resample_to_tr")  # fmt: skip
        for name, band in part.bands.items():
            if name in bands:
                raise InputError("E-META", f"band `{name}` is named twice", field="bands")
            bands[name] = check_finite(np.asarray(band), f"band `{name}`")
    provenance = {name: dict(part.provenance) for part in parts for name in part.bands}
    return Features(bands, parts[0].index, provenance)


def _tr_index(n_tr: Mapping[Any, int], tr_s: float) -> pd.DataFrame:
    runs = [run for run, n in n_tr.items() for _ in range(n)]
    return pd.DataFrame({"run": runs, "onset_s": np.concatenate([np.arange(n) * float(tr_s) for n in n_tr.values()])})

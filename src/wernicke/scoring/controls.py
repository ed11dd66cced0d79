"""Controls: pure functions of (study, split, seed) that alter the inputs; the recipe runs them through its own fit.

None looks at a result. What comes out of the same fit and generate is then compared in `wernicke.scoring`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pandas as pd

from wernicke.core.errors import InputError
from wernicke.core.recording import Recording
from wernicke.core.seeds import derive_rng
from wernicke.core.split import Split
from wernicke.core.study import Study

_PAIRED = ("stimulus_id", "label")


def shuffle_pairing(study: Study, split: Split | None, seed: int) -> Study:
    """Exchange within each run which brain response goes with which stimulus; timing and responses stay.

    Blocks (where the samples have them) are exchanged whole among those of the run, else single samples. Shuffling
    within runs keeps what a run has in common; a shuffle across left-out runs would be biased below chance.

    Raises
    ------
    InputError
        E-META when the samples have no stimuli, or a run's blocks cannot be exchanged because it has only one.
    """
    return _with_recordings(study, lambda recording: _shuffle(recording, seed))


def _shuffle(recording: Recording, seed: int) -> Recording:
    samples = recording.samples
    if "stimulus_id" not in samples.columns:
        raise InputError(
            "E-META", "the samples have no stimulus_id, so there is no pairing to shuffle", field="samples"
        )
    columns = [name for name in _PAIRED if name in samples.columns]
    unit = samples["block"] if "block" in samples.columns else samples["sample_id"]
    unit = unit.where(samples["stimulus_id"].notna())
    first = samples.assign(_unit=unit).dropna(subset=["_unit"]).drop_duplicates("_unit").set_index("_unit")
    shuffled = first[columns].copy()
    for run, rows in first.groupby("run", sort=False):
        if len(rows) < 2:
            raise InputError("E-META", f"run {run!r} has a single block, nothing to exchange it with", field="block")
        order = derive_rng(seed, "shuffle_pairing", recording.subject, str(run)).permutation(len(rows))
        shuffled.loc[rows.index] = first.loc[rows.index, columns].to_numpy()[order]
    altered = samples.copy()
    shown = unit.notna()
    for name in columns:
        altered.loc[shown, name] = unit[shown].map(shuffled[name])
    return replace(recording, samples=altered)


def matched_noise(study: Study, split: Split | None, seed: int) -> Study:
    """Replace each run's responses by noise with the same spectrum and the same covariance between units.

    The phases of the run's Fourier transform are drawn anew, the same for every unit (Theiler et al. 1992, Physica D
    58, 77-94; Prichard and Theiler 1994), so what is left of the run is its power and how its voxels hang together,
    not when anything happened.

    Raises
    ------
    InputError
        E-META for trials that are no continuous series (`tr_s` is None).
    """
    return _with_recordings(study, lambda recording: _randomise_phases(recording, seed))


def _randomise_phases(recording: Recording, seed: int) -> Recording:
    if recording.tr_s is None:
        raise InputError("E-META", "found single trials, expected a continuous series with tr_s", field="tr_s")
    values = np.array(recording.values, dtype=np.float64)
    for run in pd.unique(recording.runs):
        rows = recording.runs == run
        part = values[rows]
        spectrum = np.fft.rfft(part, axis=0)
        rng = derive_rng(seed, "matched_noise", recording.subject, str(run))
        phases = np.exp(2j * np.pi * rng.random(len(spectrum)))
        phases[0] = 1.0  # the mean stays
        if len(part) % 2 == 0:
            phases[-1] = rng.choice([-1.0, 1.0])  # the highest frequency of an even length is real
        values[rows] = np.fft.irfft(spectrum * phases[:, None], n=len(part), axis=0)
    return replace(recording, values=values.astype(recording.values.dtype))


def zero_input(study: Study, split: Split | None, seed: int) -> Study:
    """Replace all responses by zeros: what a decoder says to a brain that says nothing."""
    return _with_recordings(study, lambda recording: replace(recording, values=np.zeros_like(recording.values)))


def _with_recordings(study: Study, change: Callable[[Recording], Recording]) -> Study:
    return replace(study, recordings={s: change(r) for s, r in study.recordings.items()})

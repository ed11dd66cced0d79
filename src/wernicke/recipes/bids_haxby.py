"""Haxby et al. 2001 as if it came from BIDS derivatives: the bundled slice, or the folder of nilearn's fetch_haxby."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from wernicke.core.errors import InputError
from wernicke.core.recording import Recording
from wernicke.core.study import Events, Study
from wernicke.data.bids import BidsData
from wernicke.data.confounds import MOTION, Preprocess, prepare_run
from wernicke.data.haxby import load_haxby


def read_haxby(root: Path | None, subjects: Sequence[str] | None, mask: Path | None, settings: Preprocess) -> BidsData:
    """Read one subject's volumes and blocks, each run cleaned by itself.

    Returns
    -------
    BidsData
        Runs are ``run-00``...; events have the category as `text`. Head motion has fMRIPrep's names where the folder
        has estimates.

    Raises
    ------
    InputError
        E-CFG (fMRIPrep's confounds or smoothing asked for, several subjects), and what `load_haxby` raises.
    """
    if settings.confounds or settings.smooth_fwhm_mm:
        field = "preprocess.confounds" if settings.confounds else "preprocess.smooth_fwhm_mm"
        raise InputError("E-CFG", "this folder has no fMRIPrep outputs, and its voxels are read inside the mask",
                         field=field, hint="leave it empty; head motion is a nuisance band")  # fmt: skip
    if subjects is not None and len(subjects) != 1:
        raise InputError("E-CFG", f"found {len(subjects)} subjects, expected one at a time", field="subjects")
    study = load_haxby(root, subject=subjects[0] if subjects else None, mask=mask)
    (recording,) = study.recordings.values()
    runs = np.array([f"run-{run:02d}" for run in recording.runs])
    values, keep, records = recording.values.copy(), np.ones(len(runs), bool), []
    for run in dict.fromkeys(runs):
        rows = runs == run
        prepared = prepare_run(values[rows], recording.tr_s or 0.0, settings)
        values[rows], keep[rows] = prepared.values, prepared.keep
        records.append({"subject": recording.subject, "run": run, "tr_s": recording.tr_s, **prepared.record})
    samples = recording.samples.assign(run=runs).rename(columns=_names(recording.samples))
    cleaned = Recording(recording.subject, values, samples, units=recording.units, tr_s=recording.tr_s,
                        keep=None if keep.all() else keep)  # fmt: skip
    table = study.events.table if study.events is not None else pd.DataFrame()
    events = table.assign(
        run=[f"run-{run:02d}" for run in table["run"]], subject=recording.subject, text=table["stimulus_id"]
    )
    made = Study({recording.subject: cleaned}, study.stimuli, study.source, Events(events))
    return BidsData(made, (), tuple(records))


def _names(samples: pd.DataFrame) -> dict[str, str]:
    """The reader's ``rot_x_rad`` and ``trans_x_mm`` to fMRIPrep's names."""
    return {column: name for name in MOTION for column in samples.columns if str(column).startswith(f"{name}_")}

"""Haxby et al. 2001 (real fMRI, one slice of subject 1), from the OpenfMRI layout into BIDS derivatives."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np

TASK, SPACE, TR_S = "objectviewing", "scanner", 2.5
MOTION = ("rot_x", "rot_y", "rot_z", "trans_x", "trans_y", "trans_z")  # FSL's order: radians, mm


def make_haxby(root: Path, haxby2001: Path, n_runs: int = 12) -> Path:
    """Write the data set with derivatives/fmriprep and return its folder."""
    source = haxby2001 / "openfmri"
    names = {}
    for line in (source / "models" / "model001" / "condition_key.txt").read_text().splitlines():
        _, condition, name = line.split()
        names[condition] = name
    derived, raw = (folder / "sub-01" / "func" for folder in (root / "derivatives" / "fmriprep", root))
    for folder in (derived, raw):
        folder.mkdir(parents=True)
    description = {
        "Name": "Haxby et al. 2001, one slice of subject 1",
        "BIDSVersion": "1.9.0",
        "License": "CC BY-SA 3.0",
    }
    (root / "dataset_description.json").write_text(json.dumps(description))
    for run in range(1, n_runs + 1):
        stem = f"sub-01_task-{TASK}_run-{run:02d}"
        bold = source / "sub001" / "BOLD" / f"task001_run{run:03d}"
        shutil.copy(bold / "bold_1slice.nii.gz", derived / f"{stem}_space-{SPACE}_desc-preproc_bold.nii.gz")
        (derived / f"{stem}_space-{SPACE}_desc-preproc_bold.json").write_text(json.dumps({"RepetitionTime": TR_S}))
        shutil.copy(haxby2001 / "mask.nii.gz", derived / f"{stem}_space-{SPACE}_desc-brain_mask.nii.gz")
        motion = np.loadtxt(bold / "bold_moest.txt")
        rows = ["\t".join(MOTION), *("\t".join(map(repr, map(float, row))) for row in motion)]
        (derived / f"{stem}_desc-confounds_timeseries.tsv").write_text("\n".join(rows) + "\n")
        onsets = source / "sub001" / "model" / "model001" / "onsets" / f"task001_run{run:03d}"
        events = [(*map(float, line.split()[:2]), names[path.stem])
                  for path in sorted(onsets.glob("cond*.txt")) for line in path.read_text().splitlines()]  # fmt: skip
        lines = ["onset\tduration\ttrial_type", *(f"{a}\t{b}\t{c}" for a, b, c in sorted(events))]
        (raw / f"{stem}_events.tsv").write_text("\n".join(lines) + "\n")
    return root

"""drama2brain's recordings as OpenNeuro distributes them: ds005531, folder ``derivatives`` (Yamaguchi et al.).

The run table, file names and sample numbers are those of ``dataInfo.mat`` in nkmjm/fMRI_Narrative_movie (8be5dd9). They
differ from drama2brain's own folders: other names of subjects and titles, one film in two sessions, an eleventh
episode, ``vset_100``, and the first 20 s of *every* run are left out.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd

from wernicke.core.checks import check_file, check_finite, check_folder, check_option
from wernicke.core.errors import InputError
from wernicke.core.features import Features
from wernicke.core.recording import Recording
from wernicke.core.study import Events, Stimuli, Study
from wernicke.data.drama2brain import RunFile, join_runs, join_runs_on_disk, read_tvoxels
from wernicke.data.drama2brain_stimuli import NO_CAPTION, read_annotation
from wernicke.data.drama2brain_tables import SOURCE, TR_S
from wernicke.data.matlab import read_mat

PathLike = str | os.PathLike[str]

SUBJECTS = ("S01", "S02", "S03", "S04", "S05", "S06")
#: Of drama2brain's subjects, in the same order.
DRAMA2BRAIN_SUBJECTS = ("DM01", "DM03", "DM06", "DM07", "DM09", "DM11")
#: Left out at each run's start: scanner transients, and what a run repeats of the one before.
SKIPPED_S = 20
#: The volume that `tvoxels` indexes, MATLAB's order.
GRID = (96, 96, 72)

#: Title, the task's name in file names, number of the first run in them, seconds of each run with those skipped.
EPISODES = (
    ("breakingbad", "breakingbad", 1, (679, 709, 715, 722, 734)),
    ("bigbangtheory", "bigbangtheory", 1, (747, 647)),
    ("bigbangtheory", "bigbangtheory", 3, (663, 623)),
    ("crown", "crown", 1, (638, 625, 711, 844, 769)),
    ("heroes", "heroes", 1, (617, 639, 512, 774, 732)),
    ("suits", "suits", 1, (754, 968, 680)),
    ("dreamgirls", "dreamgirlsSess1", 1, (764, 821, 817, 592, 1118)),
    ("dreamgirls", "dreamgirlsSess2", 1, (691, 883, 684, 1271)),
    ("glee", "glee", 1, (722, 812, 601, 808)),
    ("mentalist", "mentalist", 1, (737, 607, 660, 760)),
    ("gis", "gis", 1, (804, 726)),
    ("gis", "gis", 3, (673, 852)),
)
ANNOTATIONS = {
    "speechTranscription": "Speech", "objectiveAnnot50chara": "Object", "story": "Story",
    "speechTranscription_EN": "Speech",
}  # fmt: skip


class MovieRun(NamedTuple):
    """One run: ``dreamgirlsSess2_run-03``."""

    run: str
    title: str
    seconds: int


RUNS = tuple(
    MovieRun(f"{task}_run-{first + i:02d}", title, seconds)
    for title, task, first, lengths in EPISODES
    for i, seconds in enumerate(lengths)
)


def load_openneuro(
    root: PathLike,
    subjects: Sequence[str] | None = None,
    *,
    annotations: Sequence[str] = (),
    joined: PathLike | None = None,
) -> Study:
    """Read subjects.

    Parameters
    ----------
    root : path-like
        The data set, or its ``derivatives``.
    subjects : sequence of str, optional
        Of ``S01`` to ``S06``; default: all that are there.
    annotations : sequence of str
        Of `ANNOTATIONS`, read into `Study.events`.
    joined : path-like, optional
        As in `wernicke.data.drama2brain.load_drama2brain`.

    Returns
    -------
    Study
        A Recording a subject: `values` float32 (n_samples, n_voxels) in ``tvoxels``'s order, detrended by the authors
        (120-s median); `samples` with `sample_id`, `run`, `title`, `onset_s` (from 20), `stimulus_id` (the run).
        The release tells no affine, so `units` is None; `load_tvoxels` says where the voxels lie on the grid.

    Raises
    ------
    InputError
        E-REF (a run's file or ``vset_100.mat`` is absent), E-SHAPE (a run too short), and what `read_mat` raises.
    """
    folder = _derivatives(root)
    data = check_folder(folder / "preprocessed_data")
    names = list(subjects) if subjects is not None else [s for s in SUBJECTS if (data / f"sub-{s}").is_dir()]
    if not names:
        raise InputError("E-REF", f"found none of sub-{', sub-'.join(SUBJECTS)}", path=data, field="subjects")
    recordings = {}
    for subject in names:
        check_option(subject, SUBJECTS, "subjects")
        runs = _runs(data, subject)
        values = join_runs(runs, subject) if joined is None else join_runs_on_disk(runs, subject, Path(joined))
        rows = row_table()
        ids = subject + "-" + rows["run"] + "-" + rows["onset_s"].astype(int).map("{:04d}".format)
        samples = rows.assign(sample_id=ids, stimulus_id=rows["run"])
        recordings[subject] = Recording(subject, values, samples, tr_s=TR_S)
    catalogue = pd.DataFrame(RUNS).rename(columns={"run": "stimulus_id", "title": "label"})
    tables = [_annotation(folder / "annotation", level) for level in annotations]
    source = replace(SOURCE, url="https://openneuro.org/datasets/ds005531")
    events = Events(pd.concat(tables, ignore_index=True)) if tables else None
    return Study(recordings, Stimuli(catalogue), source, events)


def row_table() -> pd.DataFrame:
    """Return one row a kept second of all 43 runs: `run`, `title`, `onset_s` in the run."""
    parts = [pd.DataFrame({"run": r.run, "title": r.title, "onset_s": np.arange(SKIPPED_S, r.seconds, dtype=float)})
             for r in RUNS]  # fmt: skip
    return pd.concat(parts, ignore_index=True)


def load_tvoxels(root: PathLike, subject: str) -> np.ndarray:
    """Return the columns' indices into the flattened `GRID`, from 0, first axis fastest, shape (n_voxels,)."""
    check_option(subject, SUBJECTS, "subject")
    return read_tvoxels(_derivatives(root) / "preprocessed_data" / f"sub-{subject}" / "vset_100.mat")


def load_openneuro_features(root: PathLike, bands: Sequence[str]) -> Features:
    """Read released features in the rows of `load_openneuro`.

    Parameters
    ----------
    root : path-like
    bands : sequence of str
        Such as ``story_GPT2medium_jp_layer12_mean``: annotation, model, layer, as in the files' names.

    Raises
    ------
    InputError
        E-REF (a run's file is absent), E-SHAPE (fewer rows than the run, another width), E-META (no `stim`), E-UNSAFE.
    """
    folder = check_folder(_derivatives(root) / "feature")
    values = {}
    for band in bands:
        if not band.replace("_", "").replace("-", "").isalnum():
            raise InputError("E-UNSAFE", f"found {band!r}, expected a name such as story_GPT2medium_jp_layer12_mean",
                             field="bands")  # fmt: skip
        parts: list[np.ndarray] = []
        for run in RUNS:
            path = check_file(folder / f"{run.run}_{band}.mat", band)
            stim = read_mat(path, "stim")
            if stim.ndim != 2 or len(stim) < run.seconds or (parts and stim.shape[1] != parts[0].shape[1]):
                width = parts[0].shape[1] if parts else "n_features"
                raise InputError("E-SHAPE", f"found shape {stim.shape}, expected ({run.seconds} or more, {width})",
                                 path=path, field="stim")  # fmt: skip
            parts.append(check_finite(stim[SKIPPED_S : run.seconds], "stim", path))
        values[band] = np.concatenate(parts)
    return Features(values, row_table()[["run", "onset_s"]], {"bands": list(bands), "made_by": "OpenNeuro ds005531"})


def _derivatives(root: PathLike) -> Path:
    folder = check_folder(root, "root")
    return folder if (folder / "preprocessed_data").is_dir() else check_folder(folder / "derivatives")


def _runs(data: Path, subject: str) -> list[RunFile]:
    folder = data / f"sub-{subject}"
    voxels = read_tvoxels(check_file(folder / "vset_100.mat"))
    if voxels.max() >= np.prod(GRID):
        raise InputError("E-META", f"found index {int(voxels.max()) + 1}, the volume has {int(np.prod(GRID))} voxels",
                         path=folder / "vset_100.mat", field="tvoxels")  # fmt: skip
    return [
        RunFile(run.run, check_file(folder / f"sub-{subject}_task-{run.run}.mat"), slice(SKIPPED_S, run.seconds),
                voxels, None)
        for run in RUNS
    ]  # fmt: skip


def _annotation(folder: Path, level: str) -> pd.DataFrame:
    check_option(level, ANNOTATIONS, "annotations")
    tables = []
    for run in RUNS:
        rows = read_annotation(folder / f"{run.run}_{level}_each1sec.txt", run.seconds)
        texts = np.array(rows, dtype=object)
        second, annotator = np.nonzero((texts != NO_CAPTION) & (texts != ""))
        tables.append(
            pd.DataFrame(
                {
                    "run": run.run,
                    "onset_s": second.astype(float),
                    "duration_s": 1.0,
                    "level": ANNOTATIONS[level],
                    "annotator": annotator,
                    "text": texts[second, annotator],
                }
            )  # fmt: skip
        )
    return pd.concat(tables, ignore_index=True)

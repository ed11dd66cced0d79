"""BIDS derivatives in fMRIPrep's layout: volumes, surfaces (GIFTI) or both (CIFTI), with events and confounds.

``load_bids("ds/derivatives/fmriprep", ["01"], space="MNI152NLin2009cAsym")`` reads a subject's runs. Files are found
by name (`wernicke.data.bids_layout`); what is done to each run says `wernicke.data.confounds.Preprocess`.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd

from wernicke.core.checks import check_option
from wernicke.core.errors import InputError
from wernicke.core.recording import Recording, Surface, Voxels
from wernicke.core.study import Events, Study
from wernicke.data.bids_events import read_events, stimuli_of
from wernicke.data.bids_joined import JoinedRuns
from wernicke.data.bids_layout import open_folders
from wernicke.data.bids_runs import ENDINGS, BidsRun, describe_source, find_runs
from wernicke.data.confounds import PreparedRun, Preprocess, load_confounds, prepare_run, read_motion, smooth_volumes
from wernicke.data.nifti import NiftiHeader, read_header, read_mask, read_series, read_volumes
from wernicke.data.surface_series import join_hemispheres, mesh_name, read_cifti, read_gifti
from wernicke.store.fingerprint import fingerprint_array

logger = logging.getLogger(__name__)

PathLike = str | os.PathLike[str]
Kind = Literal["auto", "volume", "surface", "cifti"]


@dataclass(frozen=True)
class BidsData:
    """What `read_bids` returns: a study, the files that it was read from, and what was done to each run.

    Parameters
    ----------
    study : Study
    runs : tuple of BidsRun
    records : tuple of dict
        One a run: subject, run, TR, volumes and how many are kept, names of the confounds; for the manifest.
    """

    study: Study
    runs: tuple[BidsRun, ...]
    records: tuple[dict[str, Any], ...]


def load_bids(root: PathLike, subjects: Sequence[str] | None = None, **settings: Any) -> Study:
    """Read subjects of a BIDS data set; parameters and errors of `read_bids`."""
    return read_bids(root, subjects, **settings).study


def read_bids(
    root: PathLike,
    subjects: Sequence[str] | None = None,
    *,
    task: str | None = None,
    space: str | None = None,
    kind: Kind = "auto",
    sessions: Sequence[str] | None = None,
    runs: Sequence[str] | None = None,
    entities: Mapping[str, str | Sequence[str]] | None = None,
    desc: str = "preproc",
    mask: PathLike | None = None,
    events: bool = True,
    events_root: PathLike | None = None,
    text_column: str | None = None,
    tr_s: float | None = None,
    preprocess: Preprocess | None = None,
    joined: PathLike | None = None,
) -> BidsData:
    """Read subjects.

    Parameters
    ----------
    root : path-like
        fMRIPrep's folder, or the data set that holds it in ``derivatives``.
    subjects : sequence of str, optional
        Labels such as ``01``; all by default.
    task, space, sessions, runs : optional
        Values of these entities; a space or task must be named where there are several. ``func`` is the space of
        volumes without one.
    kind : {"auto", "volume", "surface", "cifti"}
        Which files to read, where a space has several kinds.
    entities : mapping, optional
        Values of other entities, such as ``{"res": "2"}``.
    desc : str
        Of volumes, and of surfaces that have one.
    mask : path-like, optional
        One for all subjects; else the runs' ``desc-brain_mask``, what all runs of a subject have in common.
    events : bool
        Whether every run must have its ``events.tsv``; False: they are not read.
    events_root : path-like, optional
        Where the raw data set lies; see `open_folders`.
    text_column : str, optional
        Column of events that becomes `text`; default: ``text`` or ``word``, where there is one.
    tr_s : float, optional
        Overrules header and sidecar, which must otherwise agree to 1 ms.
    preprocess : Preprocess, optional
        None: values as they are.
    joined : path-like, optional
        Folder for one ``<subject>.npy`` of all runs, which is memory-mapped: then one run at a time is in memory, else
        all of a subject's.

    Returns
    -------
    BidsData
        `study`: a Recording a subject; `samples` with `sample_id`, `run`, `session`, `onset_s` (of the volume in its
        run) and the six motion parameters where there are confounds; `keep` False where a volume was trimmed or
        censored (its values are then zeros). `Study.events` has `subject` besides BIDS's columns.

    Raises
    ------
    InputError
        E-REF (no such subject, run, events or mask), E-CFG (several spaces or tasks), E-META (repetition times that
        disagree, two files of one run, an event after the end), E-SHAPE, E-UNSAFE (a link out of the data set), and
        what the readers of each format raise.
    """
    derived, raw = open_folders(root, events_root)
    check_option(kind, ("auto", *ENDINGS), "kind")
    names = [name.removeprefix("sub-") for name in subjects] if subjects is not None else derived.subjects()
    if not names:
        raise InputError("E-REF", "no sub-* folder here", path=derived.root, field="subjects")
    wanted: dict[str, str | Sequence[str]] = dict(entities or {})
    wanted |= {k: v for k, v in (("task", task), ("ses", sessions), ("run", runs)) if v is not None}
    found: list[BidsRun] = []
    recordings: dict[str, Recording] = {}
    records: list[dict[str, Any]] = []
    tables: list[pd.DataFrame] = []
    for subject in names:
        own = find_runs(derived, raw, subject, wanted, space=space, kind=kind, desc=desc, events=events)
        recording, done = _read_subject(own, mask, tr_s, preprocess, None if joined is None else Path(joined))
        recordings[subject] = recording
        records += done
        found += own
        for run in own:
            if events and run.events is not None:
                seconds = float((recording.runs == run.name).sum()) * (recording.tr_s or 0.0)
                tables.append(read_events(run.events, run.name, seconds, text_column).assign(subject=subject))
    table = pd.concat(tables, ignore_index=True) if tables else None
    study = Study(recordings, stimuli_of(table, raw), describe_source(derived, raw),
                  None if table is None else Events(table))  # fmt: skip
    return BidsData(study, tuple(found), tuple(records))


def _agreed_tr(run: BidsRun, header_s: float | None, given_s: float | None) -> float:
    """The repetition time on which header and sidecar agree; GIFTI files often have none in themselves."""
    if given_s is not None:
        return given_s
    times = {"the header": header_s or None, "the sidecar": run.tr_s}
    known = {where: value for where, value in times.items() if value is not None}
    if not known:
        raise InputError("E-META", "neither header nor sidecar has a repetition time", path=run.images[0],
                         field="RepetitionTime", hint="state it: tr_s")  # fmt: skip
    if len(known) == 2 and abs(known["the header"] - known["the sidecar"]) > 1e-3:
        raise InputError("E-META", f"the header has a repetition time of {known['the header']:g} s, the sidecar "
                         f"{known['the sidecar']:g} s", path=run.images[0], field="RepetitionTime",
                         hint="correct the wrong one, or state the true one: tr_s")  # fmt: skip
    return known.get("the sidecar", known.get("the header", 0.0))


def _read_subject(
    runs: Sequence[BidsRun], mask: PathLike | None, tr_s: float | None, settings: Preprocess | None, joined: Path | None
) -> tuple[Recording, list[dict[str, Any]]]:
    if settings is not None and settings.smooth_fwhm_mm and runs[0].kind != "volume":
        problem = f"found {settings.smooth_fwhm_mm:g} mm for {runs[0].kind} files, which have no grid"
        raise InputError("E-CFG", problem, field="smooth_fwhm_mm", hint="smooth along the surface before")
    samples, keeps, records = [], [], []
    seen: dict[str, str] = {}
    times: dict[str, float] = {}
    places: list[Voxels | Surface] = []
    with JoinedRuns(joined, runs[0].subject) as rows:
        for run, (values, units, header_s) in zip(runs, _read_values(runs, mask, settings), strict=True):
            times[run.name] = _agreed_tr(run, header_s, tr_s)
            _refuse_other_tr(times, run)
            _refuse_copy(values, run, seen)
            prepared = _prepare(run, values, times[run.name], settings)
            rows.append(prepared.values)
            places.append(units)
            keeps.append(prepared.keep)
            samples.append(_samples(run, len(prepared.keep), times[runs[0].name]))
            records.append({"subject": run.subject, "run": run.name, "tr_s": times[run.name], **prepared.record})
    motions = [("trans_x" in table.columns) for table in samples]
    if any(motions) and not all(motions):
        raise InputError("E-REF", f"run {runs[motions.index(False)].name} has no head-motion parameters, others have",
                         path=runs[0].images[0].parent)  # fmt: skip
    keep = np.concatenate(keeps)
    recording = Recording(
        runs[0].subject, rows.values, pd.concat(samples, ignore_index=True), units=places[0], tr_s=times[runs[0].name],
        keep=None if keep.all() else keep,
    )  # fmt: skip
    return recording, records


def _prepare(run: BidsRun, values: np.ndarray, tr_s: float, settings: Preprocess | None) -> PreparedRun:
    n = len(values)
    if settings is None:
        return PreparedRun(values, np.ones(n, dtype=bool), {"n_volumes": n, "n_kept": n, "confounds": []})
    confounds, uncensored = load_confounds(run.images, settings, n)
    try:
        return prepare_run(values, tr_s, settings, confounds=confounds, uncensored=uncensored)
    except InputError as error:
        raise InputError(error.code, error.problem, path=run.images[0], field=error.field,
                         hint=error.hint) from None  # fmt: skip


def _refuse_other_tr(times: Mapping[str, float], run: BidsRun) -> None:
    first, now = next(iter(times.items())), times[run.name]
    if abs(first[1] - now) > 1e-3:
        raise InputError("E-META", f"run {first[0]} has a repetition time of {first[1]:g} s, {run.name} {now:g} s",
                         path=run.images[0].parent, field="RepetitionTime")  # fmt: skip


def _samples(run: BidsRun, n: int, tr_s: float) -> pd.DataFrame:
    table = pd.DataFrame(
        {
            "sample_id": [f"{run.subject}-{run.name}-{i:04d}" for i in range(n)],
            "run": run.name,
            **({"session": run.session} if run.session else {}),
            "onset_s": np.arange(n) * tr_s,
        }
    )
    motion = None if run.confounds is None else read_motion(run.confounds, n)
    return table if motion is None else pd.concat([table, motion], axis=1)


Read = tuple[np.ndarray, "Voxels | Surface", float | None]


def _read_values(runs: Sequence[BidsRun], mask: PathLike | None, settings: Preprocess | None) -> Iterator[Read]:
    """Yield each run's values, shape (n_samples, n_units), where the units lie, and the header's TR."""
    if runs[0].kind == "volume":
        yield from _read_volumes(runs, mask, settings)
        return
    if mask is not None:
        raise InputError("E-CFG", f"{runs[0].kind} files take no mask of voxels", field="mask")
    first: Surface | None = None
    for run in runs:
        space = run.bids.entities.get("space", "")
        if run.kind == "cifti":
            values, surface, step_s = read_cifti(run.images[0], space or "fsLR")
            time_s: float | None = step_s
        else:
            (left, left_s), (right, right_s) = map(read_gifti, run.images)
            mesh = mesh_name(left.shape[1], space, run.images[0])
            values, surface = join_hemispheres(left, right, mesh, run.images[0])
            time_s = left_s or right_s
        first = surface if first is None else first
        if not _same_surface(surface, first):
            raise InputError("E-SHAPE", f"found {surface.n_units} units, run {runs[0].name} has {first.n_units}, or "
                             "they lie elsewhere", path=run.images[0])  # fmt: skip
        yield values, first, time_s


def _same_surface(a: Surface, b: Surface) -> bool:
    volumes = [None if s.volume is None else s.volume.mask for s in (a, b)]
    pairs = ((a.left, b.left), (a.right, b.right), tuple(volumes))
    return all(x is y is None or (x is not None and y is not None and np.array_equal(x, y)) for x, y in pairs)


def _read_volumes(runs: Sequence[BidsRun], mask: PathLike | None, settings: Preprocess | None) -> Iterator[Read]:
    headers = [read_header(run.images[0]) for run in runs]
    masks = []
    for run, header in zip(runs, headers, strict=True):
        if len(header.shape) != 4:
            raise InputError("E-SHAPE", f"found shape {header.shape}, expected 4-D", path=header.path)
        if header.shape[:3] != headers[0].shape[:3] or np.abs(header.affine - headers[0].affine).max() > 1e-3:
            raise InputError("E-SHAPE", f"the grid {header.shape[:3]} or its place differs from {runs[0].name}'s "
                             f"{headers[0].shape[:3]}", path=header.path)  # fmt: skip
        path = mask if mask is not None else run.mask
        if path is None:
            raise InputError("E-REF", f"run {run.name} has no desc-brain_mask beside it", path=header.path,
                             hint="name one: mask")  # fmt: skip
        masks.append(read_mask(path, like=header).mask)
        if mask is not None:
            break
    common = np.logical_and.reduce(masks)
    if not common.any():
        raise InputError("E-META", "the runs' brain masks have no voxel in common", path=headers[0].path)
    logger.info("%s: %d voxels in all of %d masks", runs[0].subject, int(common.sum()), len(masks))
    voxels = Voxels(common, headers[0].affine)
    fwhm_mm = None if settings is None else settings.smooth_fwhm_mm
    for header in headers:
        values = read_series(header, voxels) if fwhm_mm is None else _smoothed(header, voxels, fwhm_mm)
        yield values, voxels, header.tr_s


def _smoothed(header: NiftiHeader, voxels: Voxels, fwhm_mm: float) -> np.ndarray:
    volumes = read_volumes(header, voxels)
    return np.ascontiguousarray(smooth_volumes(volumes, header.affine, fwhm_mm)[voxels.mask].T)


def _refuse_copy(values: np.ndarray, run: BidsRun, seen: dict[str, str]) -> None:
    """A run that occurs twice would stand on both sides of every split."""
    first = seen.setdefault(fingerprint_array(values), run.name)
    if first != run.name:
        raise InputError("E-META", f"runs {first} and {run.name} are identical, value by value", path=run.images[0])

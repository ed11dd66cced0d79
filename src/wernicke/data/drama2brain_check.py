"""Is this folder what drama2brain's readers expect? Headers and small files only; all faults, not the first.

Behind ``wernicke data check drama2brain ROOT``.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from wernicke.core.errors import InputError
from wernicke.data.drama2brain import find_subjects, list_runs
from wernicke.data.drama2brain_folders import Folders, find_folders
from wernicke.data.drama2brain_stimuli import annotation_file, feature_shapes, read_annotation
from wernicke.data.drama2brain_tables import LEVELS, RUNS, SUBJECTS

OK, NOTE, ERROR = "ok", "note", "error"


@dataclass(frozen=True)
class Finding:
    """One line about a folder."""

    state: str
    """"ok", "note" (something optional is absent or unusual) or "error" (it cannot be read)"""
    what: str
    """Subject, band or level"""
    text: str


def check_drama2brain(
    root: str | os.PathLike[str], *, folders: Mapping[str, str | os.PathLike[str]] | None = None
) -> list[Finding]:
    """Check responses, features and annotations under a folder without loading responses.

    Parameters
    ----------
    root, folders
        As in `wernicke.data.drama2brain.load_drama2brain`.

    Returns
    -------
    list of Finding
        Values that are not finite show only when they are read.

    Raises
    ------
    InputError
        E-REF (no such folder), E-CFG, E-META (two places for one kind of files).
    """
    found = find_folders(root, folders)
    return [*_subjects(found, Path(root)), *_features(found), *_annotations(found)]


def _tried(what: str, check: Callable[..., Any], *args: Any) -> tuple[Any, list[Finding]]:
    """Return what `check` returns, or the user's error as a finding."""
    try:
        return check(*args), []
    except InputError as error:
        return None, [Finding(ERROR, what, str(error).replace("\n ", ";"))]


def _subjects(folders: Folders, root: Path) -> Iterator[Finding]:
    there = find_subjects(folders)
    if not there:
        yield Finding(ERROR, "responses", f"none of {', '.join(SUBJECTS)}: expected DM01/Crown_0_CerebCortex.npy or "
                      "DM01/SESSION/FILE.mat")  # fmt: skip
    for subject in there:
        runs, faults = _tried(subject, list_runs, folders, subject, root)
        widths: dict[int, int] = {}
        for run in runs or ():
            shape, fault = _tried(subject, run.shape)
            faults += fault
            if shape:
                widths[shape[1]] = widths.get(shape[1], 0) + 1
        if len(widths) > 1:
            counts = ", ".join(f"{n} runs of {width}" for width, n in sorted(widths.items()))
            faults.append(Finding(ERROR, subject, f"runs differ in voxels: {counts}"))
        yield from faults
        if not faults:
            n_cached = sum(run.voxels is None for run in runs)
            yield Finding(OK, subject, f"41 runs ({n_cached} cached), {next(iter(widths))} voxels")
            if runs[0].n_voxels is None and runs[0].voxels is None:
                yield Finding(NOTE, subject, "no vset_099.mat: maps cannot be put back on the volume")
    for subject in SUBJECTS:
        if there and subject not in there:
            yield Finding(NOTE, subject, "no folder of this subject")


def _features(folders: Folders) -> Iterator[Finding]:
    layers = sorted(folders.stim.glob("*/*/*/layer*")) if folders.stim is not None else []
    if folders.stim is None or not layers:
        yield Finding(NOTE, "features", "no stim_features/MODALITY/HPARAMS/MODEL/layerK")
    for layer in layers:
        band = layer.relative_to(folders.stim).as_posix()  # type: ignore[arg-type]
        shapes, faults = _tried(band, feature_shapes, layer)
        yield from faults
        if shapes:
            yield Finding(OK, band, f"41 runs, {shapes[0][1]} features")


def _annotations(folders: Folders) -> Iterator[Finding]:
    if folders.caption is None:
        yield Finding(NOTE, "annotations", "no files such as Crown_run1_story_each1sec_en.txt")
        return
    for level, (name, n_expected) in LEVELS.items():
        if next(folders.caption.glob(f"*_run*_{level}_each1sec_en.txt"), None) is None:
            yield Finding(NOTE, name, f"no {level} annotation")
            continue
        faults: list[Finding] = []
        widths = set()
        for run in RUNS:
            path = annotation_file(folders.caption, run.title, run.number, level)
            rows, fault = _tried(name, read_annotation, path, run.kept_s)
            faults += fault
            if rows:
                widths.add(len(rows[0]))
        yield from faults
        if widths - {n_expected}:
            yield Finding(NOTE, name, f"found {sorted(widths)} annotators, the paper has {n_expected}")
        if not faults:
            yield Finding(OK, name, f"41 runs of {level}")

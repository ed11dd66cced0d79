"""drama2brain's responses: six subjects, 8.3 h of dubbed series and films, 3 T, one volume a second.

`load_drama2brain("data")` reads the authors' folders. What belongs to the films (features, annotations) is in
`wernicke.data.drama2brain_stimuli`; the tables of runs, splits and folds in `wernicke.data.drama2brain_tables`.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from wernicke.core.checks import check_file, check_finite, check_option
from wernicke.core.errors import InputError
from wernicke.core.recording import Recording
from wernicke.core.study import Events, Stimuli, Study
from wernicke.data.drama2brain_folders import Folders, find_folders
from wernicke.data.drama2brain_stimuli import read_annotations
from wernicke.data.drama2brain_tables import (
    OVERLAP_S,
    RUNS,
    SIMULATED_SOURCE,
    SOURCE,
    SUBJECTS,
    TITLES,
    TR_S,
    row_table,
)
from wernicke.data.matlab import mat_shape, read_mat
from wernicke.store.files import atomic_write, read_json, read_npy, write_json
from wernicke.store.fingerprint import fingerprint, fingerprint_array

logger = logging.getLogger(__name__)

PathLike = str | os.PathLike[str]


def load_drama2brain(
    root: PathLike,
    subjects: Sequence[str] | None = None,
    *,
    folders: Mapping[str, PathLike] | None = None,
    joined: PathLike | None = None,
    annotations: bool = True,
) -> Study:
    """Read subjects.

    Parameters
    ----------
    root : path-like
        Folder that holds the authors' folders, at most five levels down.
    subjects : sequence of str, optional
        Of ``DM01 DM03 DM06 DM07 DM09 DM11``; default: all that are there.
    folders : mapping, optional
        Where a kind of files lies, by the names of `Folders`; the rest is looked for.
    joined : path-like, optional
        Folder for one ``<subject>.npy`` of all runs, which is memory-mapped and used again while the sources stay the
        same. Without it a subject is held in memory: 88,000 voxels are 11 GB.
    annotations : bool
        Read the annotations too, as `Study.events`, where there are any.

    Returns
    -------
    Study
        A Recording a subject: `values` float32 (29999, n_voxels), the order of ``tvoxels``; from the cached ``.npy``
        of a run where there is one, else from the session's ``.mat``. Cut to the kept length, the first 20 s of every
        later run of a title dropped. `samples`: `sample_id`, `run`, `title`, `onset_s` (in the run), `stimulus_id`
        (the run), `part_all`, `part_splitA`, `part_splitB` (TRAIN, VALID or empty), `fold`.
        Where `root` holds ``simulated.json`` the source says that the data are simulated.

    Raises
    ------
    InputError
        E-REF (a run, ``subject.json`` or ``vset_099.mat`` is absent), E-SHAPE (a run too short, another number of
        voxels, a voxel index outside the volume), E-META, E-NONFIN, and what `read_mat` and `read_npy` raise.
    """
    found = find_folders(root, folders)
    names = list(subjects) if subjects is not None else find_subjects(found)
    if not names:
        raise InputError("E-REF", f"found none of {', '.join(SUBJECTS)}", path=Path(root), field="subjects",
                         hint="expected DM01/Crown_0_CerebCortex.npy or DM01/SESSION/FILE.mat below it")  # fmt: skip
    recordings = {}
    for subject in names:
        check_option(subject, SUBJECTS, "subjects")
        runs = list_runs(found, subject, root)
        values = join_runs(runs, subject) if joined is None else join_runs_on_disk(runs, subject, Path(joined))
        recordings[subject] = Recording(subject, values, _samples(subject), tr_s=TR_S)
    catalogue = pd.DataFrame(RUNS).rename(columns={"run": "stimulus_id", "title": "label"})
    events = read_annotations(found.caption) if annotations and found.caption else None
    return Study(
        recordings,
        Stimuli(catalogue[["stimulus_id", "label", "kept_s"]]),
        SIMULATED_SOURCE if (Path(root) / "simulated.json").exists() else SOURCE,
        None if events is None else Events(events),
    )


def find_subjects(folders: Folders) -> list[str]:
    """Return the subjects that have a folder of responses."""
    places = [folder for folder in (folders.fmri_pre, folders.fmri_raw) if folder is not None]
    return [name for name in SUBJECTS if any((place / name).is_dir() for place in places)]


def load_tvoxels(root: PathLike, subject: str, *, folders: Mapping[str, PathLike] | None = None) -> np.ndarray:
    """Return the voxels of a subject's columns as indices into the flattened volume, from 0, shape (n_voxels,).

    The file counts from 1, in MATLAB's order: the first axis of the volume runs fastest.
    """
    check_option(subject, SUBJECTS, "subject")
    return read_tvoxels(find_folders(root, folders).need("fmri_bbregister", root) / subject / "vset_099.mat")


def read_tvoxels(path: Path) -> np.ndarray:
    """Return a ``vset_*.mat``'s indices into the flattened volume, from 0; raises E-SHAPE and E-META."""
    values = read_mat(path, "tvoxels")

    def refuse(code: str, problem: str) -> None:
        raise InputError(code, problem, path=path, field="tvoxels")

    if values.ndim != 1:
        refuse("E-SHAPE", f"found shape {values.shape}, expected one index a voxel")
    if (values != np.floor(values)).any() or values.min() < 1 or values.max() > 2**31:
        bad = values[(values != np.floor(values)) | (values < 1) | (values > 2**31)][0]
        refuse("E-META", f"found index {bad}, expected whole numbers from 1")
    if len(np.unique(values)) != len(values):
        refuse("E-META", "a voxel occurs twice")
    return values.astype(np.int64) - 1


@dataclass(frozen=True)
class RunFile:
    """Where a run's responses are, and which rows of it are kept."""

    run: str
    path: Path
    rows: slice
    voxels: np.ndarray | None
    """Columns of a session's .mat; None for a cached .npy, which holds these columns only."""
    n_voxels: int | None
    """How many columns a cached .npy must have, where that is known."""

    def shape(self) -> tuple[int, int]:
        """Return (n_kept, n_voxels) from the header, after checking it."""
        mapped = read_npy(self.path, mmap=True) if self.voxels is None else None
        shape = mat_shape(self.path, "dataDT") if mapped is None else mapped.shape

        def refuse(code: str, problem: str) -> None:
            raise InputError(code, problem, path=self.path, field=self.run)

        if len(shape) != 2:
            refuse("E-SHAPE", f"found shape {shape}, expected (seconds, voxels)")
        if mapped is not None and mapped.dtype.kind not in "fiu":
            refuse("E-FMT", f"found dtype {mapped.dtype}, expected real numbers")
        if shape[0] < self.rows.stop:
            refuse("E-SHAPE", f"found {shape[0]} seconds, expected at least {self.rows.stop}")
        if self.voxels is not None:
            if self.voxels.max() >= shape[1]:
                refuse("E-SHAPE", f"tvoxels names voxel {int(self.voxels.max()) + 1} of {shape[1]}")
            return self.rows.stop - self.rows.start, len(self.voxels)
        if self.n_voxels is not None and shape[1] != self.n_voxels:
            refuse("E-SHAPE", f"found {shape[1]} voxels, vset_099.mat has {self.n_voxels}")
        return self.rows.stop - self.rows.start, int(shape[1])

    def read(self) -> np.ndarray:
        """Return the kept rows, float32, finite."""
        if self.voxels is None:
            values = np.array(read_npy(self.path, mmap=True)[self.rows], dtype=np.float32)
        else:
            values = read_mat(self.path, "dataDT", columns=self.voxels)[self.rows]
        return check_finite(values, self.run, self.path)


def list_runs(folders: Folders, subject: str, root: PathLike) -> list[RunFile]:
    """Return where the 41 runs of a subject are.

    Raises
    ------
    InputError
        E-REF: a run has neither a cached .npy nor a session's .mat.
    """
    vset = None if folders.fmri_bbregister is None else folders.fmri_bbregister / subject / "vset_099.mat"
    voxels = read_tvoxels(vset) if vset is not None and vset.exists() else None
    sessions: dict[str, list[str]] | None = None
    runs = []
    for row in RUNS:
        rows = slice(row.first_s, row.kept_s)
        cached = None
        if folders.fmri_pre is not None:
            cached = folders.fmri_pre / subject / f"{row.title}_{row.number}_CerebCortex.npy"
        if cached is not None and cached.exists():
            runs.append(RunFile(row.run, cached, rows, None, None if voxels is None else len(voxels)))
            continue
        if folders.fmri_raw is None or folders.fmri_exp2019 is None:
            raise InputError("E-REF", f"run {row.run} is absent", path=cached or Path(root), field=subject,
                             hint="its session's .mat would do too: subject.json and the raw folder are needed for "
                             "that")  # fmt: skip
        sessions = sessions if sessions is not None else _sessions(folders.fmri_exp2019 / "subject.json", subject)
        if voxels is None:
            check_file(folders.need("fmri_bbregister", root) / subject / "vset_099.mat", "tvoxels")
        path = check_file(folders.fmri_raw / subject / sessions[row.title][row.number], f"run {row.run}")
        runs.append(RunFile(row.run, path, rows, voxels, None))
    return runs


def _sessions(path: Path, subject: str) -> dict[str, list[str]]:
    """Return ``session/file.mat`` of every run by title. Subjects stand in the authors' order, without names."""
    content = read_json(path)
    number = SUBJECTS.index(subject)

    def refuse(problem: str, field: str) -> None:
        raise InputError("E-META", problem, path=path, field=field)

    if not isinstance(content, list) or len(content) <= number:
        refuse(f"expected a list of {len(SUBJECTS)} subjects, {subject} being entry {number}", subject)
    found: dict[str, list[str]] = {title: [] for title in TITLES}
    try:
        for film in content[number]["mov"]:
            for run in film["run"] if film["title"] in TITLES else ():
                found[film["title"]].append(_session_file(run["file"], path))
    except (KeyError, TypeError, IndexError):
        refuse("expected `mov` to list `title` and `run`, and each run its `file`", subject)
    for title, (kept, *_) in TITLES.items():
        if len(found[title]) != len(kept):
            refuse(f"found {len(found[title])} runs of {title}, expected {len(kept)}", subject)
    return found


def _session_file(name: Any, path: Path) -> str:
    """Return the third and fourth part of a file's name, as the authors' loader takes them."""
    parts = str(name).split("/")
    if len(parts) < 4 or any(part in ("", ".", "..") or "\\" in part or "\0" in part for part in parts[2:4]):
        raise InputError("E-UNSAFE", f"found {str(name)!r}, expected .../.../SESSION/FILE.mat", path=path, field="file")
    return f"{parts[2]}/{parts[3]}"


def _samples(subject: str) -> pd.DataFrame:
    rows = row_table()
    ids = subject + "-" + rows["run"] + "-" + rows["onset_s"].astype(int).map("{:04d}".format)
    return rows.assign(sample_id=ids, stimulus_id=rows["run"])


def _size(runs: list[RunFile]) -> tuple[int, int]:
    """Check all headers; return the joined shape."""
    shapes = [run.shape() for run in runs]
    for run, (_, n_voxels) in zip(runs, shapes, strict=True):
        if n_voxels != shapes[0][1]:
            raise InputError("E-SHAPE", f"found {n_voxels} voxels, run {runs[0].run} has {shapes[0][1]}", path=run.path,
                             field=run.run)  # fmt: skip
    return sum(n for n, _ in shapes), shapes[0][1]


def _blocks(runs: list[RunFile]) -> Iterator[np.ndarray]:
    """Read run by run. One that occurs twice would stand on both sides of a split."""
    seen: dict[str, str] = {}
    for run in runs:
        values = run.read()
        start = OVERLAP_S - run.rows.start  # the same seconds of every file, however it is cut
        first = seen.setdefault(fingerprint_array(values[start : start + 100]), run.run)
        if first != run.run:
            raise InputError("E-META", f"runs {first} and {run.run} are identical from {OVERLAP_S} s on", path=run.path)
        yield values


def join_runs(runs: list[RunFile], subject: str) -> np.ndarray:
    """Put the kept rows of all runs one under the other, float32, shape (n_samples, n_voxels)."""
    shape = _size(runs)
    values = np.empty(shape, dtype=np.float32)
    start = 0
    for block in _blocks(runs):
        values[start : start + len(block)] = block
        start += len(block)
    logger.info("%s: %d rows of %d voxels", subject, *shape)
    return values


def join_runs_on_disk(runs: list[RunFile], subject: str, folder: Path) -> np.ndarray:
    """Write the joined runs once; read them back while name, size and time of every source stay the same."""
    path, note = folder / f"{subject}.npy", folder / f"{subject}.json"
    stats = [(run.path.resolve(), run.path.stat()) for run in runs]
    tag = {"made_of": fingerprint([[str(name), stat.st_size, stat.st_mtime_ns] for name, stat in stats])}
    if path.exists() and note.exists() and read_json(note) == tag:
        return read_npy(path, mmap=True)
    shape = _size(runs)
    note.unlink(missing_ok=True)
    with atomic_write(path, "wb", size=128 + shape[0] * shape[1] * 4) as file:
        header = {"descr": "<f4", "fortran_order": False, "shape": shape}
        np.lib.format.write_array_header_1_0(file, header)
        for block in _blocks(runs):
            file.write(np.ascontiguousarray(block, dtype="<f4").data)
    write_json(note, tag)
    return read_npy(path, mmap=True)

"""Haxby et al. 2001: pictures of eight categories, fMRI. The bundled slice, or nilearn's download.

`load_haxby()` reads the slice that comes with the package. `load_haxby("nilearn_data/haxby2001", subject=2)` reads the
folder that `nilearn.datasets.fetch_haxby` makes.

Two tables say what was seen. `samples` has one row a volume, and its labels are those of the file: no shift for the
haemodynamic delay. `events` has one row a block, its onset and duration counted in labelled volumes.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path

import numpy as np
import pandas as pd

from wernicke.core.checks import check_finite, check_folder, check_identifier
from wernicke.core.errors import InputError
from wernicke.core.recording import Recording
from wernicke.core.study import Events, Source, Stimuli, Study
from wernicke.data.nifti import check_tr, read_header, read_mask, read_series
from wernicke.store.fingerprint import fingerprint_array

logger = logging.getLogger(__name__)

TR_S = 2.5
CATEGORIES = ("face", "house", "cat", "bottle", "scissors", "shoe", "chair", "scrambledpix")
REST = "rest"
MOTION_COLUMNS = ("rot_x_rad", "rot_y_rad", "rot_z_rad", "trans_x_mm", "trans_y_mm", "trans_z_mm")

# Names of the masks in nilearn's folder, as `fetch_haxby` calls them without `mask_`.
MASKS = {
    "vt": "mask4_vt.nii.gz",
    "face": "mask8b_face_vt.nii.gz",
    "house": "mask8b_house_vt.nii.gz",
    "face_little": "mask8_face_vt.nii.gz",
    "house_little": "mask8_house_vt.nii.gz",
    "brain": "mask.nii.gz",
}

SOURCE = Source(
    name="Haxby et al. 2001, visual object recognition",
    licence="CC BY-SA 3.0",
    terms="Name the authors; share what is adapted from the data under the same licence.",
    citation="Haxby, Gobbini, Furey, Ishai, Schouten & Pietrini (2001). Distributed and overlapping representations of "
    "faces and objects in ventral temporal cortex. Science 293, 2425-2430.",
    bibtex="""@article{haxby2001,
  author  = {Haxby, James V. and Gobbini, M. Ida and Furey, Maura L. and Ishai, Alumit and Schouten, Jennifer L. and
             Pietrini, Pietro},
  title   = {Distributed and overlapping representations of faces and objects in ventral temporal cortex},
  journal = {Science},
  volume  = {293},
  number  = {5539},
  pages   = {2425--2430},
  year    = {2001},
  doi     = {10.1126/science.1063736}
}""",
    url="https://doi.org/10.1126/science.1063736",
)


def load_haxby(
    root: str | os.PathLike[str] | None = None,
    *,
    subject: str | int | None = None,
    mask: str | os.PathLike[str] | None = None,
    tr_s: float | None = None,
    leave_out_runs: Sequence[int] = (),
) -> Study:
    """Read one subject.

    Parameters
    ----------
    root : path-like, optional
        Nothing: the bundled slice of subject 1. Else nilearn's ``haxby2001`` folder, the folder that holds it, one of
        its ``subj*`` folders, or a folder laid out as the bundled one.
    subject : str or int, optional
        Which ``subj*``; needed where there are several.
    mask : str or path-like, optional
        ``"vt"``, ``"face"``, ``"house"``, ``"face_little"``, ``"house_little"`` (nilearn's, drawn for this subject),
        ``"brain"``, or a file. Default: ``"vt"`` in nilearn's folder, whose ``"brain"`` mask is one for all subjects;
        ``"brain"`` for the bundled slice.
    tr_s : float, optional
        Overrules the header's repetition time, which must otherwise be 2.5 s.
    leave_out_runs : sequence of int
        Runs to leave out, by the label file's numbers; run 8 of subject 5 has no labels, for instance.

    Returns
    -------
    Study
        One Recording: `values` float32 (n_volumes, n_voxels), in the scanner's units, not detrended or scaled;
        `samples` with `sample_id`, `run` (the file's number, from 0), `block` (``run00block3``; missing at rest),
        `onset_s` (from the run's first volume), `label` (``rest`` included), `stimulus_id` (the category; missing at
        rest), and `MOTION_COLUMNS` where the folder has ``bold_moest.txt`` (FSL's order; radians and mm).
        Voxels that never change are kept and logged: see `wernicke.data.nifti.constant_voxels`.

    Raises
    ------
    InputError
        E-REF (absent file or folder), E-SHAPE (label file, motion file or mask do not fit), E-META (unknown label, a
        run with no stimulus, two equal runs, repetition time, empty mask, mask elsewhere), and what `read_header`
        raises.
    """
    folder, subject, label_file = _locate(root, subject)
    header = read_header(folder / "bold.nii.gz")
    if len(header.shape) != 4:
        raise InputError("E-SHAPE", f"found shape {header.shape}, expected 4-D (x, y, z, volumes)", path=header.path)
    tr_s = tr_s if tr_s is not None else check_tr(header, TR_S)
    voxels = read_mask(_mask_file(folder, mask, label_file), like=header)
    samples = _samples(label_file, subject, header.shape[3], tr_s)
    motion_file = folder / "bold_moest.txt"
    if motion_file.is_file():
        samples = pd.concat([samples, _motion(motion_file, len(samples))], axis=1)
    kept = _kept_rows(samples, leave_out_runs, label_file)
    values = read_series(header, voxels)
    if not kept.all():
        values, samples = values[kept], samples[kept].reset_index(drop=True)
    _refuse_copies(values, samples["run"].to_numpy(), header.path)
    recording = Recording(subject, values, samples, units=voxels, tr_s=tr_s)
    catalogue = pd.DataFrame({"stimulus_id": CATEGORIES, "label": CATEGORIES})
    return Study({subject: recording}, Stimuli(catalogue), SOURCE, Events(_blocks(samples, tr_s)))


def _locate(root: str | os.PathLike[str] | None, subject: str | int | None) -> tuple[Path, str, Path]:
    """Return the folder with ``bold.nii.gz``, the subject and the label file."""
    wanted = None if subject is None else check_identifier(str(subject), "subject")
    if root is None:
        folder = Path(str(files("wernicke.data") / "haxby2001"))
        if wanted not in (None, "1"):
            raise InputError("E-CFG", f"found {wanted!r}; the bundled slice is of subject 1", field="subject",
                             hint="give the folder of nilearn.datasets.fetch_haxby as root for the others")  # fmt: skip
        return folder, "1", folder / "attributes_literal.txt"
    folder = check_folder(root, "root")
    if (folder / "haxby2001").is_dir() and not (folder / "bold.nii.gz").exists():
        folder = folder / "haxby2001"
    if (folder / "attributes_literal.txt").is_file():
        return folder, wanted or "1", folder / "attributes_literal.txt"
    if not (folder / "labels.txt").exists():
        folder = _subject_folder(folder, wanted)
    name = folder.resolve().name.removeprefix("subj")
    if wanted is not None and folder.name.startswith("subj") and wanted != name:
        raise InputError("E-CFG", f"found {wanted!r}, the folder is of subject {name!r}", path=folder, field="subject")
    for file in ("bold.nii.gz", "labels.txt"):
        if not os.path.lexists(folder / file):
            raise InputError("E-REF", f"no {file} in this folder", path=folder,
                             hint="fetch it again with nilearn.datasets.fetch_haxby")  # fmt: skip
    return folder, check_identifier(wanted or name, "subject", folder), folder / "labels.txt"


def _subject_folder(folder: Path, wanted: str | None) -> Path:
    found = sorted(p.name.removeprefix("subj") for p in folder.glob("subj*") if p.is_dir())
    if wanted is not None and wanted in found:
        return folder / f"subj{wanted}"
    if wanted is None and len(found) == 1:
        return folder / f"subj{found[0]}"
    if not found:
        raise InputError("E-REF", "no subj* folder, labels.txt or attributes_literal.txt here", path=folder,
                         hint="expected the folder haxby2001 that nilearn.datasets.fetch_haxby makes")  # fmt: skip
    problem = f"found subjects {', '.join(found)}" + (f", not {wanted}" if wanted else "; say which")
    raise InputError("E-CFG", problem, path=folder, field="subject")


def _mask_file(folder: Path, mask: str | os.PathLike[str] | None, label_file: Path) -> Path:
    if mask is None:
        mask = "brain" if label_file.name == "attributes_literal.txt" else "vt"
        logger.info("mask: %s (%s)", mask, MASKS[mask])
    if str(mask) not in MASKS:
        path = Path(mask)
        if not path.exists() and os.sep not in str(mask) and "." not in str(mask):
            raise InputError("E-CFG", f"unknown mask {str(mask)!r}", field="mask",
                             hint=f"known: {', '.join(MASKS)}, or the path of a file")  # fmt: skip
        return path
    path = folder / MASKS[str(mask)]
    # nilearn keeps the one brain mask beside the subjects' folders.
    if mask == "brain" and not path.exists():
        path = folder.resolve().parent / MASKS["brain"]
    return path


def _samples(path: Path, subject: str, n_volumes: int, tr_s: float) -> pd.DataFrame:
    """Read one label and one run a volume."""
    try:
        lines = [line.split() for line in path.read_text(encoding="utf-8-sig").splitlines() if line.strip()]
    except UnicodeDecodeError as error:
        raise InputError("E-FMT", f"not text in UTF-8 ({error.reason})", path=path) from None
    if lines and lines[0] == ["labels", "chunks"]:
        lines = lines[1:]
    for number, line in enumerate(lines):
        if len(line) != 2 or not line[1].lstrip("-").isdigit():
            raise InputError(
                "E-FMT", f"entry {number} is {' '.join(line)!r}, expected a label and a run number", path=path
            )
        if line[0] != REST and line[0] not in CATEGORIES:
            raise InputError("E-META", f"unknown label {line[0]!r} in entry {number}", path=path,
                             hint=f"known: {REST}, {', '.join(CATEGORIES)}")  # fmt: skip
    if len(lines) != n_volumes:
        raise InputError("E-SHAPE", f"found {len(lines)} labels, bold.nii.gz has {n_volumes} volumes", path=path)
    labels, runs = np.array([a for a, _ in lines]), np.array([int(b) for _, b in lines])
    if 1 + np.count_nonzero(runs[1:] != runs[:-1]) != len(pd.unique(runs)):
        raise InputError("E-META", "a run is split into several stretches; runs must be contiguous", path=path)
    volume = np.concatenate([np.arange((runs == run).sum()) for run in pd.unique(runs)])
    shown = labels != REST
    return pd.DataFrame(
        {
            "sample_id": [f"{subject}-run{run:02d}-vol{v:03d}" for run, v in zip(runs, volume, strict=True)],
            "run": runs,
            "block": _block_names(labels, runs),
            "onset_s": volume * tr_s,
            "stimulus_id": pd.Series(labels).where(shown),
            "label": labels,
        }
    )


def _block_names(labels: np.ndarray, runs: np.ndarray) -> pd.Series:
    """Name stretches of one category by their order within the run; missing at rest."""
    changes = np.r_[True, (labels[1:] != labels[:-1]) | (runs[1:] != runs[:-1])]
    names: list[str | None] = []
    name, count = None, 0
    for i, (label, run) in enumerate(zip(labels, runs, strict=True)):
        if i == 0 or run != runs[i - 1]:
            count = 0
        if changes[i]:
            name = None if label == REST else f"run{run:02d}block{count}"
            count += label != REST
        names.append(name)
    return pd.Series(names, dtype="object").where(labels != REST)


def _motion(path: Path, n_volumes: int) -> pd.DataFrame:
    try:
        values = np.loadtxt(path, ndmin=2)
    except ValueError as error:
        raise InputError("E-FMT", f"not six numbers a line ({error})", path=path) from None
    if values.shape != (n_volumes, len(MOTION_COLUMNS)):
        raise InputError("E-SHAPE", f"found shape {values.shape}, expected ({n_volumes}, 6): one line a volume",
                         path=path)  # fmt: skip
    return pd.DataFrame(check_finite(values, "motion", path=path), columns=list(MOTION_COLUMNS))


def _kept_rows(samples: pd.DataFrame, leave_out_runs: Sequence[int], path: Path) -> np.ndarray:
    known = set(samples["run"])
    unknown = set(leave_out_runs) - known
    if unknown or known == set(leave_out_runs):
        problem = f"no run {sorted(unknown)[0]}" if unknown else "every run would be left out"
        raise InputError("E-CFG", problem, field="leave_out_runs", hint=f"runs: {', '.join(map(str, sorted(known)))}")
    kept = ~samples["run"].isin(list(leave_out_runs)).to_numpy()
    for run, rows in samples[kept].groupby("run"):
        if rows["stimulus_id"].isna().all():
            raise InputError("E-META", f"run {run} shows no stimulus: all {len(rows)} volumes are rest", path=path,
                             hint=f"leave it out: leave_out_runs=({run},)")  # fmt: skip
    return kept


def _refuse_copies(values: np.ndarray, runs: np.ndarray, path: Path) -> None:
    """A run that occurs twice would stand on both sides of every split."""
    seen: dict[str, int] = {}
    for run in pd.unique(runs):
        first = seen.setdefault(fingerprint_array(values[runs == run]), run)
        if first != run:
            raise InputError("E-META", f"runs {first} and {run} are identical, value by value", path=path,
                             hint=f"if one is a copy, leave it out: leave_out_runs=({run},)")  # fmt: skip


def _blocks(samples: pd.DataFrame, tr_s: float) -> pd.DataFrame:
    blocks = samples.dropna(subset="block").groupby("block", sort=False)
    return pd.DataFrame(
        {
            "run": blocks["run"].first(),
            "onset_s": blocks["onset_s"].first(),
            "duration_s": blocks.size() * tr_s,
            "level": "category",
            "stimulus_id": blocks["stimulus_id"].first(),
        }
    ).reset_index()

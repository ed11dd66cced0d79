"""Small BIDS data sets in fMRIPrep's layout, written with nibabel by BIDS's names: random numbers, no recording."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from nibabel import cifti2
from nibabel.gifti import GiftiDataArray, GiftiImage, GiftiLabel

SHAPE = (4, 5, 3)
AFFINE = np.array([[-2.0, 0, 0, 10], [0, 2, 0, -20], [0, 0, 2.5, 5], [0, 0, 0, 1]])
TR_S = 1.5
MNI = "MNI152NLin2009cAsym"
MASK = np.zeros(SHAPE, bool)
MASK[1:3, 1:4, :] = True


def write_json(path: Path, content: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content))


def write_volume(path: Path, data: np.ndarray, tr_s: float = TR_S, affine: np.ndarray = AFFINE) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    image = nib.Nifti1Image(data, affine)
    if data.ndim == 4:
        image.header.set_zooms((*image.header.get_zooms()[:3], tr_s))
        image.header.set_xyzt_units("mm", "sec")
    nib.save(image, path)


def write_gifti(path: Path, data: np.ndarray) -> None:
    """One array a time point, as fMRIPrep writes; data (n_samples, n_vertices)."""
    path.parent.mkdir(parents=True, exist_ok=True)
    nib.save(GiftiImage(darrays=[GiftiDataArray(row, intent="NIFTI_INTENT_TIME_SERIES") for row in data]), path)


def write_label_gifti(path: Path, numbers: np.ndarray, names: Sequence[str]) -> None:
    """An atlas of one hemisphere, numbers from 0 for the first name."""
    path.parent.mkdir(parents=True, exist_ok=True)
    image = GiftiImage(darrays=[GiftiDataArray((numbers + 1).astype(np.int32), intent="NIFTI_INTENT_LABEL")])
    for number, name in enumerate(["???", *names]):
        label = GiftiLabel(number, 1, 1, 1, 1)
        label.label = name
        image.labeltable.labels.append(label)
    nib.save(image, path)


def cifti_axis(left: np.ndarray, right: np.ndarray, voxels: np.ndarray, n_vertices: int = 12) -> Any:
    """Brain models; the voxels stand between the hemispheres, which CIFTI allows."""
    axis = cifti2.BrainModelAxis
    below = axis(
        np.array(["CIFTI_STRUCTURE_THALAMUS_LEFT"] * len(voxels)), voxel=voxels, affine=AFFINE, volume_shape=SHAPE
    )
    return (
        axis.from_surface(left, n_vertices, "CortexLeft") + below + axis.from_surface(right, n_vertices, "CortexRight")
    )


def write_cifti(path: Path, data: np.ndarray, axis: Any, tr_s: float = TR_S) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    image = cifti2.Cifti2Image(data, (cifti2.SeriesAxis(0, tr_s, len(data)), axis))
    image.nifti_header.set_intent("ConnDenseSeries")
    nib.save(image, path)


def write_confounds(path: Path, n: int, seed: int) -> np.ndarray:
    """fMRIPrep's columns: motion with its 24-column expansion, cosines, white matter, CSF; n/a where it writes n/a."""
    rng = np.random.default_rng(seed)
    names = ("trans_x", "trans_y", "trans_z", "rot_x", "rot_y", "rot_z")
    six = rng.standard_normal((n, 6)).cumsum(axis=0) * 0.01
    columns: dict[str, np.ndarray] = {}
    for i, name in enumerate(names):
        derivative = np.r_[np.nan, np.diff(six[:, i])]
        columns |= {name: six[:, i], f"{name}_derivative1": derivative, f"{name}_power2": six[:, i] ** 2,
                    f"{name}_derivative1_power2": derivative**2}  # fmt: skip
    columns |= {"csf": rng.standard_normal(n), "white_matter": rng.standard_normal(n)}
    columns |= {f"cosine{k:02d}": np.cos(np.pi * (k + 1) * (np.arange(n) + 0.5) / n) for k in range(3)}
    columns["framewise_displacement"] = np.r_[np.nan, np.full(n - 1, 0.1)]
    columns["std_dvars"] = np.r_[np.nan, np.ones(n - 1)]
    path.parent.mkdir(parents=True, exist_ok=True)
    rows = zip(*columns.values(), strict=True)
    cells = ["\t".join("n/a" if np.isnan(v) else repr(float(v)) for v in row) for row in rows]
    path.write_text("\n".join(["\t".join(columns), *cells]) + "\n")
    write_json(path.with_suffix(".json"), {})
    return six


def write_events(path: Path, rows: list[tuple], header: str = "onset\tduration\ttrial_type") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join([header, *("\t".join(map(str, row)) for row in rows)]) + "\n")


def make_volumes(
    root: Path, n: int = 40, n_runs: int = 3, subject: str = "01", task: str = "movie"
) -> list[np.ndarray]:
    """A data set with derivatives/fmriprep; returns the runs' data, (x, y, z, n) float32."""
    func = root / "derivatives" / "fmriprep" / f"sub-{subject}" / "func"
    write_json(root / "dataset_description.json", {"Name": "Random numbers", "BIDSVersion": "1.9.0", "License": "CC0"})
    all_data = []
    for run in range(1, n_runs + 1):
        rng = np.random.default_rng([run, *subject.encode()])
        data = (1000 + 10 * rng.standard_normal((*SHAPE, n))).astype(np.float32)
        stem = f"sub-{subject}_task-{task}_run-{run}"
        write_volume(func / f"{stem}_space-{MNI}_desc-preproc_bold.nii.gz", data)
        write_json(
            func / f"{stem}_space-{MNI}_desc-preproc_bold.json", {"RepetitionTime": TR_S, "SkullStripped": False}
        )
        write_volume(func / f"{stem}_space-{MNI}_desc-brain_mask.nii.gz", MASK.astype(np.uint8))
        write_confounds(func / f"{stem}_desc-confounds_timeseries.tsv", n, run)
        raw = root / f"sub-{subject}" / "func" / f"sub-{subject}_task-{task}_run-{run:02d}"
        words = [(0.5 + 2 * i, 0.4, word) for i, word in enumerate(("null", "NA", '"', "dog", "n/a"))]
        write_events(Path(f"{raw}_events.tsv"), words, "onset\tduration\tword")
        all_data.append(data)
    return all_data

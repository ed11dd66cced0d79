"""The voxelwise-modelling tutorials' HDF5 files: responses with repeats, and features (Dupré la Tour et al. 2025).

``load_voxelwise("shortclips", ["S01"])`` reads ``responses/S01_responses.hdf`` (`Y_train`, `Y_test`, `run_onsets`),
``load_voxelwise_features("shortclips", ["wordnet"])`` reads ``features/wordnet.hdf`` (`X_train`, `X_test`). Mappers are
read by `wernicke.data.mapper`.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from wernicke.core.checks import check_file, check_finite, check_folder, check_identifier, check_matrix
from wernicke.core.errors import InputError
from wernicke.core.features import Features
from wernicke.core.recording import Recording
from wernicke.core.study import Source, Stimuli, Study
from wernicke.data.hdf5 import read_hdf5, read_some

logger = logging.getLogger(__name__)

PathLike = str | os.PathLike[str]
TR_S = 2.0
TEST = "test"

SOURCE = Source(
    name="Short clips, Gallant lab (voxelwise encoding model tutorials)",
    licence="as stated by the distributor (gin.g-node.org/gallantlab/shortclips)",
    terms="Cite the data set and the tutorials; see the distributor's page.",
    citation="Huth, Nishimoto, Vu, Dupré la Tour & Gallant (2022). Gallant Lab Natural Short Clips 3T fMRI Data. "
    "G-Node. Huth, Nishimoto, Vu & Gallant (2012). A continuous semantic space describes the representation of "
    "thousands of object and action categories across the human brain. Neuron 76, 1210-1224.",
    bibtex="""@article{huth2012,
  author  = {Huth, Alexander G. and Nishimoto, Shinji and Vu, An T. and Gallant, Jack L.},
  title   = {A continuous semantic space describes the representation of thousands of object and action categories
             across the human brain},
  journal = {Neuron},
  volume  = {76},
  pages   = {1210--1224},
  year    = {2012}
}""",
    url="https://gin.g-node.org/gallantlab/shortclips",
)


def load_voxelwise(
    root: PathLike, subjects: Sequence[str] | None = None, *, tr_s: float = TR_S, source: Source = SOURCE
) -> Study:
    """Read subjects' responses, training runs first, then each repeat of the test run as a run of its own.

    Parameters
    ----------
    root : path-like
        Folder with ``responses``.
    subjects : sequence of str, optional
        Such as ``S01``; default: all that are there.
    tr_s : float
    source : Source
        For other data in the same format.

    Returns
    -------
    Study
        A Recording a subject: `values` float32, as stored; `samples` with `sample_id`, `run` (``train_00``...,
        ``test_00``... for the repeats), `part` (TRAIN, TEST), `repeat` (from 0; 0 in training), `onset_s`,
        `stimulus_id` (``train_00``..., ``test``). No voxel has a place in space: `units` is None. Voxels that are NaN
        at every sample of training, or of the test run, are left out and counted in the log; `kept_voxels` says which
        are there.

    Raises
    ------
    InputError
        E-REF, E-META (a key is missing, run onsets that are no starts), E-SHAPE, E-NONFIN, and what the HDF5 reader
        raises.
    """
    folder = check_folder(check_folder(root, "root") / "responses")
    names = list(subjects) if subjects is not None else [p.name.split("_")[0] for p in
                                                         sorted(folder.glob("*_responses.hdf"))]  # fmt: skip
    if not names:
        raise InputError("E-REF", "no *_responses.hdf here", path=folder, field="subjects")
    recordings = {subject: _recording(folder, check_identifier(subject, "subjects"), tr_s) for subject in names}
    stimuli = sorted({s for recording in recordings.values() for s in recording.samples["stimulus_id"]})
    return Study(recordings, Stimuli(pd.DataFrame({"stimulus_id": stimuli})), source)


def _recording(folder: Path, subject: str, tr_s: float) -> Recording:
    path = check_file(folder / f"{subject}_responses.hdf")
    train, test = _responses(path)
    starts = _starts(read_hdf5(path, "run_onsets"), len(train), path)
    kept = _with_values(train, test)
    if not kept.all():
        logger.warning(
            "%s: %d of %d voxels have no value in training or in the test run and are left out",
            path.name,
            (~kept).sum(),
            len(kept),
        )
        train, test = train[:, kept], test[..., kept]
    for key, values in (("Y_train", train), ("Y_test", test)):
        check_finite(values, key, path)
    parts = [_rows(f"train_{i:02d}", n, tr_s) for i, n in enumerate(np.diff([*starts, len(train)]))]
    repeats = [_rows(TEST, test.shape[1], tr_s).assign(run=f"{TEST}_{i:02d}", part="TEST", repeat=i)
               for i in range(len(test))]  # fmt: skip
    samples = pd.concat([*parts, *repeats], ignore_index=True)
    number = samples.groupby("run", sort=False).cumcount()
    samples["sample_id"] = [f"{subject}-{run}-{k:04d}" for run, k in zip(samples["run"], number, strict=True)]
    values = np.concatenate([train, test.reshape(-1, test.shape[2])]).astype(np.float32, copy=False)
    return Recording(subject, values, samples, tr_s=tr_s)


def _responses(path: Path) -> tuple[np.ndarray, np.ndarray]:
    train, test = (read_hdf5(path, key, finite=False) for key in ("Y_train", "Y_test"))
    if train.ndim != 2 or test.ndim != 3 or train.shape[1] != test.shape[2]:
        raise InputError("E-SHAPE", f"found Y_train {train.shape} and Y_test {test.shape}, expected (samples, voxels) "
                         "and (repeats, samples, voxels)", path=path)  # fmt: skip
    if not _with_values(train, test).any():
        raise InputError("E-NONFIN", f"all {train.shape[1]} voxels are NaN in training or in the test run", path=path)
    return train, test


def _with_values(train: np.ndarray, test: np.ndarray) -> np.ndarray:
    """Return which voxels are not NaN throughout either part, shape (n_voxels,)."""
    kept: np.ndarray = ~(np.isnan(train).all(axis=0) | np.isnan(test).all(axis=(0, 1)))
    return kept


def kept_voxels(root: PathLike, subject: str) -> np.ndarray:
    """Return the numbers, in the file, of the voxels that `load_voxelwise` keeps, shape (n_kept,).

    ``mapper.take(kept_voxels(root, "S01"))`` is the mapper of the recording's columns.

    Raises
    ------
    InputError
        As `load_voxelwise`.
    """
    folder = check_folder(check_folder(root, "root") / "responses")
    path = check_file(folder / f"{check_identifier(subject, 'subject')}_responses.hdf")
    return np.flatnonzero(_with_values(*_responses(path)))


def _rows(stimulus: str, n: int, tr_s: float) -> pd.DataFrame:
    return pd.DataFrame({"run": stimulus, "part": "TRAIN", "repeat": 0, "onset_s": np.arange(n) * tr_s,
                         "stimulus_id": stimulus})  # fmt: skip


def _starts(values: np.ndarray, n: int, path: Path) -> list[int]:
    """Run onsets: the first sample of each run, from 0, rising."""
    starts = values.astype(np.int64).ravel()
    good = values.dtype.kind in "iu" or (values == np.floor(values)).all()
    if not good or not len(starts) or starts[0] != 0 or (np.diff(starts) < 1).any() or starts[-1] >= n:
        raise InputError("E-META", f"found {values.tolist()[:12]}, expected rising sample numbers from 0 below {n}",
                         path=path, field="run_onsets")  # fmt: skip
    return [int(start) for start in starts]


def repeats_of_test(recording: Recording) -> np.ndarray:
    """Return the test run's repeats, shape (n_repeats, n_samples, n_voxels): what a noise ceiling is made of.

    Raises
    ------
    InputError
        E-META without columns `part` and `repeat` or without test samples; E-SHAPE for repeats of different length.
    """
    samples = recording.samples
    if not {"part", "repeat"} <= set(samples.columns) or not (samples["part"] == "TEST").any():
        raise InputError("E-META", "the samples name no repeats of a test run", field="samples")
    test = (samples["part"] == "TEST").to_numpy()
    repeats = samples["repeat"].to_numpy()
    parts = [recording.values[test & (repeats == i)] for i in sorted(set(repeats[test]))]
    if len({len(part) for part in parts}) > 1:
        raise InputError("E-SHAPE", f"repeats have {sorted({len(p) for p in parts})} samples", field="repeat")
    return np.stack(parts)


def load_voxelwise_features(root: PathLike, names: Sequence[str], *, tr_s: float = TR_S) -> Features:
    """Read feature spaces: a row a sample of the training runs, then of the test run (once).

    Parameters
    ----------
    root : path-like
        Folder with ``features``.
    names : sequence of str
        Such as ``wordnet``, ``motion_energy``; each becomes a band, float32.
    tr_s : float

    Returns
    -------
    Features
        Indexed by `run` (``train_00``..., ``test``) and `onset_s`; `feature_rows` finds the rows of a recording. Runs
        are cut at the file's `run_onsets`, else at those of the responses.

    Raises
    ------
    InputError
        E-REF, E-META (no `X_train`, no run onsets anywhere), E-SHAPE (spaces of other lengths), E-NONFIN.
    """
    top = check_folder(root, "root")
    bands: dict[str, np.ndarray] = {}
    index: pd.DataFrame | None = None
    if not names:
        raise InputError("E-CFG", "no feature space named", field="names")
    for name in names:
        if not name.replace("_", "").replace("-", "").isalnum():
            raise InputError("E-UNSAFE", f"found {name!r}, expected a name such as motion_energy", field="names")
        path = check_file(top / "features" / f"{name}.hdf")
        train, test = (check_matrix(read_hdf5(path, key), key, path=path) for key in ("X_train", "X_test"))
        if train.shape[1] != test.shape[1]:
            raise InputError("E-SHAPE", f"found X_train {train.shape} and X_test {test.shape}", path=path)
        own = _feature_index(top, path, len(train), len(test), tr_s)
        if index is not None and not own.equals(index):
            raise InputError("E-SHAPE", f"found {len(train)} and {len(test)} samples or other runs than `{names[0]}`",
                             path=path)  # fmt: skip
        index = own
        bands[name] = np.concatenate([train, test]).astype(np.float32)
    if index is None:
        raise InputError("E-CFG", "no feature space named", field="names")
    return Features(bands, index, {"bands": list(names), "made_by": "voxelwise_tutorials"})


def _feature_index(top: Path, path: Path, n_train: int, n_test: int, tr_s: float) -> pd.DataFrame:
    found = read_some(path, ("run_onsets",))
    place = path
    if not found:
        responses = sorted((top / "responses").glob("*_responses.hdf"))
        if not responses:
            raise InputError("E-META", "neither this file nor any of the responses has run_onsets", path=path,
                             field="run_onsets")  # fmt: skip
        place = responses[0]
        found = {"run_onsets": read_hdf5(place, "run_onsets")}
    starts = _starts(found["run_onsets"], n_train, place)
    lengths = np.diff([*starts, n_train])
    rows = [_rows(f"train_{i:02d}", n, tr_s) for i, n in enumerate(lengths)] + [_rows(TEST, n_test, tr_s)]
    return pd.concat(rows, ignore_index=True)[["run", "onset_s"]]


def feature_rows(features: Features, recording: Recording) -> np.ndarray:
    """Return the row of `features` for each sample, shape (n_samples,): repeats share the rows of their stimulus.

    Raises
    ------
    InputError
        E-REF for a sample whose stimulus and time have no features.
    """
    index = pd.MultiIndex.from_frame(features.index[["run", "onset_s"]])
    wanted = pd.MultiIndex.from_frame(recording.samples[["stimulus_id", "onset_s"]])
    rows = index.get_indexer(wanted)
    if (rows < 0).any():
        first = recording.samples.iloc[int((rows < 0).argmax())]
        raise InputError("E-REF", f"no features of {first['stimulus_id']} at {first['onset_s']:g} s", field="features")
    return rows

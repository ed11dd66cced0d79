"""One response a trial: least squares separate (LSS), and the outputs of GLMsingle.

Sources: Mumford et al. (2012, NeuroImage 59) and Turner et al. (2012, NeuroImage 62) for LSS; nilearn's beta-series
example for which regressors stand beside the trial; Prince et al. (2022, eLife 11) for GLMsingle.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd

from wernicke.core.checks import check_file, check_finite, check_option, check_range
from wernicke.core.errors import InputError
from wernicke.core.recording import Recording, Surface, Voxels
from wernicke.core.study import Events
from wernicke.data.hdf5 import read_some
from wernicke.data.pickled import read_pickled

HRF_MODELS = ("glover", "spm")


def lss_betas(
    recording: Recording,
    events: Events,
    *,
    trials: Sequence[str] | None = None,
    others: Literal["by_condition", "together"] = "by_condition",
    hrf_model: Literal["glover", "spm"] = "glover",
    drift_model: Literal["cosine", "polynomial"] | None = "cosine",
    high_pass_hz: float = 0.01,
    drift_order: int = 1,
    slice_time_ref: float = 0.0,
    noise_model: Literal["ols", "ar1"] = "ols",
    percent: bool = True,
    confounds: Mapping[str, np.ndarray] | None = None,
) -> Recording:
    """Estimate one response a trial: for each a model of its own, with the trial against all others.

    Parameters
    ----------
    recording : Recording
        A continuous series, not filtered or z-scored; censored samples (`keep`) leave the model.
    events : Events
        `run`, `onset_s`, `duration_s` and `trial_type` (else `label` or `stimulus_id`); rows without one are no trial.
        A `subject` column picks the recording's.
    trials : sequence of str, optional
        Conditions whose events become trials; the others stay as regressors. Default: all.
    others : {"by_condition", "together"}
        The other events: one regressor a condition, as nilearn's example (its LSS), or all in one (Mumford's LSS).
    hrf_model, drift_model, high_pass_hz, drift_order, slice_time_ref
        As in nilearn's FirstLevelModel.
    noise_model : {"ols", "ar1"}
        ``ar1`` is nilearn's `run_glm` for each trial; slow.
    percent : bool
        Responses in per cent of the voxel's mean, FirstLevelModel's ``signal_scaling=0``.
    confounds : mapping of run to array, shape (n_samples_of_the_run, n_confounds), optional

    Returns
    -------
    Recording
        A sample a trial, in order of onset within each run: `sample_id`, `run`, `onset_s`, `label`, `n_repeats` 1,
        and `session` and `stimulus_id` where they are known.

    Raises
    ------
    InputError
        E-META (no TR, no column of conditions, no trial), E-SHAPE (confounds of another length), E-CFG, E-CONST (a
        trial that no kept volume sees).
    """
    check_option(others, ("by_condition", "together"), "others")
    check_option(hrf_model, HRF_MODELS, "hrf_model")
    check_option(noise_model, ("ols", "ar1"), "noise_model")
    check_range(high_pass_hz, "high_pass_hz", low=0)
    if recording.tr_s is None or recording.values.ndim != 2:
        raise InputError("E-META", "expected a series of volumes with a repetition time", field="recording")
    table = _conditions(events.table, recording.subject)
    wanted = set(table["label"]) if trials is None else set(trials)
    unknown = wanted - set(table["label"])
    if unknown:
        there = ", ".join(sorted(set(table["label"])))
        raise InputError("E-META", f"no event of {sorted(unknown)[0]!r}; found {there}", field="trials")
    design = _Design(recording.tr_s, others, hrf_model, drift_model, high_pass_hz, drift_order, slice_time_ref)
    values, rows = [], []
    for run in dict.fromkeys(recording.runs):
        here = recording.runs == run
        keep = np.ones(int(here.sum()), bool) if recording.keep is None else recording.keep[here]
        own = table[table["run"] == run].sort_values("onset_s", kind="stable").reset_index(drop=True)
        is_trial = own["label"].isin(wanted).to_numpy()
        if not is_trial.any():
            raise InputError("E-META", f"run {run} has no trial", field="events")
        extra = None if confounds is None else _confounds_of(confounds, run, len(keep))
        matrices = design.build(own, is_trial, len(keep), extra)
        series = np.asarray(recording.values[here], dtype=np.float64)[keep]
        if percent:
            series = _percent(series)
        values.append(_estimate(series, [m[keep] for m in matrices], noise_model, str(run)))
        rows.append(_trial_rows(recording, str(run), own[is_trial], here))
    samples = pd.concat(rows, ignore_index=True)
    return Recording(recording.subject, np.concatenate(values).astype(np.float32), samples, units=recording.units)


def _conditions(table: pd.DataFrame, subject: str) -> pd.DataFrame:
    """Events of the subject that have a condition, as `label`."""
    if "subject" in table.columns:
        table = table[table["subject"] == subject]
    source = next((name for name in ("trial_type", "label", "stimulus_id") if name in table.columns), None)
    if source is None:
        raise InputError("E-META", f"found columns {', '.join(table.columns)}, expected trial_type", field="events")
    table = table.assign(label=table[source])[table[source].notna()]
    for name in ("onset_s", "duration_s"):
        table[name] = table[name].astype(float)
    return table


@dataclass(frozen=True)
class _Design:
    tr_s: float
    others: str
    hrf_model: str
    drift_model: str | None
    high_pass_hz: float
    drift_order: int
    slice_time_ref: float

    def build(self, events: pd.DataFrame, is_trial: np.ndarray, n: int, extra: np.ndarray | None) -> list[np.ndarray]:
        """Return a design matrix for each trial, shape (n, n_regressors): the trial first."""
        from nilearn.glm.first_level import make_first_level_design_matrix
        from nilearn.glm.first_level.hemodynamic_models import compute_regressor

        times = self.tr_s * (np.arange(n) + self.slice_time_ref)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            drift = make_first_level_design_matrix(
                times, drift_model=self.drift_model, high_pass=self.high_pass_hz, drift_order=self.drift_order
            ).to_numpy()
            # Convolution is linear, so each event is convolved once and "all others" is a sum.
            single = np.column_stack([
                compute_regressor(np.array([[onset], [duration], [1.0]]), self.hrf_model, times)[0][:, 0]
                for onset, duration in zip(events["onset_s"], events["duration_s"], strict=True)
            ])  # fmt: skip
        fixed = [drift] if extra is None else [drift, extra]
        labels = events["label"].to_numpy() if self.others == "by_condition" else np.full(len(events), "other")
        matrices = []
        for trial in np.flatnonzero(is_trial):
            rest = np.arange(len(events)) != trial
            columns = [single[:, rest & (labels == label)].sum(axis=1) for label in dict.fromkeys(labels[rest])]
            matrices.append(np.column_stack([single[:, trial], *columns, *fixed]))
        return matrices


def _percent(series: np.ndarray) -> np.ndarray:
    from nilearn.glm.first_level import mean_scaling

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return mean_scaling(series)[0]


def _estimate(series: np.ndarray, matrices: list[np.ndarray], noise_model: str, run: str) -> np.ndarray:
    """Return the first regressor's weight under each design, shape (n_trials, n_voxels)."""
    for i, matrix in enumerate(matrices):
        if np.abs(matrix[:, 0]).max() < 1e-8:
            raise InputError("E-CONST", f"no kept volume of run {run} sees trial {i}", field="events",
                             hint="it lies at the run's end, or its volumes are censored")  # fmt: skip
    if noise_model == "ols":
        return np.stack([np.linalg.pinv(matrix)[0] for matrix in matrices]) @ series
    from nilearn.glm.first_level import run_glm

    betas = np.empty((len(matrices), series.shape[1]))
    for i, matrix in enumerate(matrices):
        labels, results = run_glm(series, matrix, noise_model=noise_model)
        for label, result in results.items():
            betas[i, labels == label] = result.theta[0]
    return betas


def _confounds_of(confounds: Mapping[str, np.ndarray], run: Any, n: int) -> np.ndarray:
    if run not in confounds:
        raise InputError("E-META", f"no confounds of run {run!r}", field="confounds")
    extra = np.asarray(confounds[run], dtype=np.float64)
    if extra.ndim != 2 or len(extra) != n:
        raise InputError("E-SHAPE", f"found shape {extra.shape} for run {run}, expected ({n}, n_confounds)",
                         field="confounds")  # fmt: skip
    return check_finite(extra, "confounds")


def _trial_rows(recording: Recording, run: str, events: pd.DataFrame, here: np.ndarray) -> pd.DataFrame:
    table = pd.DataFrame(
        {
            "sample_id": [f"{recording.subject}-{run}-trial{i:03d}" for i in range(len(events))],
            "run": recording.runs[here][0],
            "onset_s": events["onset_s"].to_numpy(),
            "label": events["label"].to_numpy(),
            "n_repeats": 1,
        }
    )
    if "session" in recording.samples.columns:
        table["session"] = recording.samples.loc[here, "session"].iloc[0]
    if "stimulus_id" in events.columns:
        table["stimulus_id"] = events["stimulus_id"].to_numpy()
    return table


@dataclass(frozen=True)
class GLMsingle:
    """GLMsingle's results of one subject.

    Parameters
    ----------
    recording : Recording
        `values` (n_trials, n_units), per cent signal change, in order of time; `n_repeats` 1.
    maps : mapping of str to array, shape (n_units,)
        Of ``R2``, ``HRFindex`` (from 0 in either language), ``FRACvalue``, ``meanvol`` what the file holds; NaN stays.
    """

    recording: Recording
    maps: Mapping[str, np.ndarray]


def load_glmsingle(
    path: str | os.PathLike[str],
    trials: pd.DataFrame,
    *,
    subject: str,
    units: Voxels | Surface | None = None,
) -> GLMsingle:
    """Read ``TYPEB_FITHRF``, ``TYPEC_...`` or ``TYPED_FITHRF_GLMDENOISE_RR`` as ``.npy``, ``.hdf5`` or ``.mat``.

    Parameters
    ----------
    path : path-like
        Python's output (``.npy`` is a pickled dictionary, read without running it; ``.hdf5``) or MATLAB's (v7.3).
    trials : DataFrame, n_trials rows
        In order of time, with `run`; `label`, `stimulus_id`, `session`, `onset_s` are carried along.
    subject : str
    units : Voxels or Surface, optional
        Where the units lie. With `Voxels` the file's grid must be the mask's and the mask's voxels are taken; else
        the file's units stay in its order (a grid's flattened, the last axis fastest).

    Raises
    ------
    InputError
        E-META (no betas, no `run`), E-SHAPE (another number of trials or units, another grid), E-NONFIN (betas that
        are NaN inside the mask: voxels that GLMsingle left out), and what the formats' readers raise.
    """
    path = check_file(path)
    betas, maps = _read_glmsingle(path)
    if betas.ndim < 2:
        raise InputError("E-SHAPE", f"found betas of shape {betas.shape}, expected trials last", path=path)
    if betas.shape[-1] != len(trials):
        raise InputError("E-SHAPE", f"found {betas.shape[-1]} trials, the table has {len(trials)}", path=path,
                         field="trials")  # fmt: skip
    if "run" not in trials.columns:
        raise InputError("E-META", "column `run` is missing", field="trials")
    grid = betas.shape[:-1]
    taken = _taken(grid, units, path)
    values = np.ascontiguousarray(betas.reshape(-1, betas.shape[-1])[taken].T, dtype=np.float32)
    check_finite(values, "betas", path=path)
    samples = trials.reset_index(drop=True)
    ids = [f"{subject}-{run}-trial{i:04d}" for i, run in enumerate(samples["run"])]
    samples = samples.assign(sample_id=ids, n_repeats=1)
    flat = {}
    for name, found in maps.items():
        if found.size != np.prod(grid):
            raise InputError("E-SHAPE", f"found shape {found.shape}, the betas have {grid}", path=path, field=name)
        flat[name] = np.asarray(found, dtype=np.float64).reshape(-1)[taken]
    return GLMsingle(Recording(subject, values, samples, units=units), flat)


_MAPS = ("R2", "HRFindex", "FRACvalue", "meanvol")


def _read_glmsingle(path: Path) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """Return betas, trials last, and the maps, on the file's grid in numpy's order of axes."""
    content: dict[str, Any]
    if path.suffix == ".mat":
        # MATLAB saves the betas as `modelmd`; HDF5 holds its axes in reverse.
        content = {key: values.T for key, values in read_some(path, ("modelmd", *_MAPS), finite=False).items()}
        content["betasmd"] = content.get("modelmd")
        if "HRFindex" in content:
            content["HRFindex"] = content["HRFindex"] - 1  # MATLAB counts the library from 1, Python's argmax from 0
    else:
        content = read_pickled(path) if path.suffix == ".npy" else read_some(path, ("betasmd", *_MAPS), finite=False)
    if not isinstance(content.get("betasmd"), np.ndarray):
        raise InputError("E-META", f"found {', '.join(list(content)[:12])}, expected `betasmd` (MATLAB: "
                         "`modelmd`)", path=path, field="betasmd")  # fmt: skip
    return content["betasmd"], {name: content[name] for name in _MAPS if isinstance(content.get(name), np.ndarray)}


def _taken(grid: tuple[int, ...], units: Voxels | Surface | None, path: Path) -> np.ndarray:
    """Which of the file's units, flattened, are the recording's, in its order."""
    n = int(np.prod(grid))
    if units is None:
        return np.arange(n)
    if isinstance(units, Voxels):
        expected = tuple(m for m in units.mask.shape if m != 1)
        if tuple(m for m in grid if m != 1) == expected:
            return np.flatnonzero(units.mask)
        if n == units.n_voxels:
            return np.arange(n)  # the mask's voxels alone, in their order
        raise InputError("E-SHAPE", f"found a grid of {grid}, the mask has {units.mask.shape} with {units.n_voxels} "
                         "voxels", path=path)  # fmt: skip
    if n != units.n_units:
        raise InputError("E-SHAPE", f"found {n} units, the surface has {units.n_units}", path=path)
    return np.arange(n)

"""Which samples a fold learns from and tests, as a user may give them, and what must not stand on both sides."""

from __future__ import annotations

import logging
from collections.abc import Hashable, Iterable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd

from wernicke.core.errors import InputError
from wernicke.core.recording import Recording
from wernicke.core.split import Split, leave_one_group_out
from wernicke.encoding.by_run import varies_by_run

log = logging.getLogger(__name__)

STIMULUS = "stimulus_id"
Folds = Iterable[Split | tuple[np.ndarray, np.ndarray]]


def samples_of_runs(runs: np.ndarray) -> pd.DataFrame:
    """Return a samples table for plain arrays: a running `sample_id` and the run."""
    return pd.DataFrame({"sample_id": [f"s{i:06d}" for i in range(len(runs))], "run": runs})


def stimuli_of_samples(
    stimuli: Sequence[Any] | np.ndarray | Recording, n_samples: int, *, baseline: Hashable = "rest"
) -> pd.Series:
    """Return one stimulus a sample, shape (n_samples,), missing where nothing was shown.

    Parameters
    ----------
    stimuli : sequence, shape (n_samples,), or Recording
        Identifiers, missing or `baseline` where there was none; a Recording gives its samples' `stimulus_id`.

    Raises
    ------
    InputError
        E-META for a Recording without `stimulus_id`, E-SHAPE for another number than of samples.
    """
    if isinstance(stimuli, Recording):
        if STIMULUS not in stimuli.samples.columns:
            raise InputError("E-META", f"the recording's samples have no {STIMULUS}, found "
                             f"{list(stimuli.samples.columns)}", field="stimuli",
                             hint="give one identifier a sample")  # fmt: skip
        stimuli = stimuli.samples[STIMULUS].to_numpy()
    shape = np.shape(stimuli)
    if shape != (n_samples,):
        raise InputError("E-SHAPE", f"found shape {shape}, expected one entry for each of {n_samples} samples",
                         field="stimuli")  # fmt: skip
    given = pd.Series(list(stimuli), dtype=object)
    return given.mask(given == baseline)


def resolve_folds(
    splits: Folds | None,
    runs: np.ndarray,
    *,
    stimuli: pd.Series | None = None,
    accepted_leaks: Sequence[str] = (),
) -> tuple[Split, ...]:
    """Return the folds as `Split`, leave-one-run-out where none are given.

    A run, and a stimulus where stimuli are known (from `stimuli`, or from the samples of a Split), must not stand on
    both sides of a fold unless accepted by name.

    Parameters
    ----------
    splits : iterable of Split, or of (train rows, test rows), or None
        Rows as scikit-learn's splitters give them: numbers or booleans.
    runs : array, shape (n_samples,)
    stimuli : Series, shape (n_samples,), optional
    accepted_leaks : sequence of str
        ``"run"``, ``"stimulus_id"``; besides what a Split accepts itself.

    Raises
    ------
    InputError
        E-SPLIT: no fold, rows that are not there, a Split of another number of samples, a sample that two folds test,
        a run or a stimulus on both sides.
    """
    accepted = tuple(accepted_leaks)
    keys: tuple[str, ...] = ("run",)
    table = samples_of_runs(runs)
    if stimuli is not None:
        table, keys = table.assign(**{STIMULUS: stimuli.to_numpy()}), ("run", STIMULUS)
    if splits is None:
        return tuple(leave_one_group_out(table, keys=keys, accepted_leaks=accepted))
    folds = tuple(
        _with_stimuli(fold, len(runs), stimuli, accepted) if isinstance(fold, Split)
        else _from_rows(fold, table, keys, accepted, f"splits[{i}]")
        for i, fold in enumerate(splits)
    )  # fmt: skip
    if not folds:
        raise InputError("E-SPLIT", "no fold given", field="splits")
    tested = np.concatenate([fold.test_rows for fold in folds])
    twice = len(tested) - len(np.unique(tested))
    if twice:
        raise InputError("E-SPLIT", f"{twice} samples are tested by several folds, expected once each", field="splits",
                         hint="fit the folds one by one, each with a call of its own")  # fmt: skip
    return folds


def _with_stimuli(fold: Split, n_samples: int, stimuli: pd.Series | None, accepted: tuple[str, ...]) -> Split:
    if len(fold.samples) != n_samples:
        raise InputError("E-SPLIT", f"a Split of {len(fold.samples)} samples, expected {n_samples}", field="splits")
    samples = fold.samples if stimuli is None else fold.samples.assign(**{STIMULUS: stimuli.to_numpy()})
    allowed = tuple(dict.fromkeys((*fold.accepted_leaks, *accepted)))
    watched = (*fold.keys, *fold.accepted_leaks)
    keys = fold.keys if STIMULUS in watched or STIMULUS not in samples.columns else (*fold.keys, STIMULUS)
    return replace(fold, samples=samples, keys=keys, accepted_leaks=allowed)


def _from_rows(fold: Any, table: pd.DataFrame, keys: tuple[str, ...], accepted: tuple[str, ...], field: str) -> Split:
    if not isinstance(fold, (tuple, list)) or len(fold) != 2:
        raise InputError("E-SPLIT", "expected a Split or a pair (train rows, test rows)", field=field)
    ids = table["sample_id"].to_numpy()
    train, test = (tuple(ids[_row_numbers(rows, len(ids), field)]) for rows in fold)
    return Split(table, train, test, keys=keys, accepted_leaks=accepted)


def _row_numbers(rows: Any, n: int, field: str) -> np.ndarray:
    numbers = np.asarray(rows)
    if numbers.dtype == bool and numbers.shape == (n,):
        return np.flatnonzero(numbers)
    whole = numbers.ndim == 1 and numbers.dtype.kind in "iu"
    if not whole or (len(numbers) and not 0 <= numbers.min() <= numbers.max() < n):
        raise InputError("E-SPLIT", f"expected row numbers from 0 to {n - 1}, or {n} booleans", field=field)
    return numbers


def scored_samples(splits: Sequence[Split], n_samples: int) -> np.ndarray:
    """Return which samples a fold tests, shape (n_samples,)."""
    scored = np.zeros(n_samples, dtype=bool)
    for split in splits:
        scored[split.test_rows] = True
    return scored


def scorable_voxels(responses: np.ndarray, runs: np.ndarray, splits: Sequence[Split]) -> np.ndarray:
    """Return which voxels every fold can learn and some fold can test, shape (n_voxels,); the others are counted.

    A voxel must vary within a run of each fold's training rows, and within a run of some fold's test rows: leaving
    one run out, within two runs.

    Raises
    ------
    InputError
        E-CONST where no voxel does.
    """

    def varies(rows: np.ndarray) -> np.ndarray:
        return np.any(varies_by_run(responses[rows], runs[rows]), axis=0)

    learnt = np.all([varies(split.train_rows) for split in splits], axis=0)
    kept = learnt & np.any([varies(split.test_rows) for split in splits], axis=0)
    if not kept.any():
        raise InputError("E-CONST", f"all {len(kept)} voxels are constant within every run, or in those that a fold "
                         "learns from", field="responses")  # fmt: skip
    if not kept.all():
        log.warning("%d of %d voxels vary in too few runs and are left out: NaN in every map", (~kept).sum(), len(kept))
    return kept

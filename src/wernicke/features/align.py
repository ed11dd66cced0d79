"""From features of stimuli to columns of a design matrix: rows by sample, delays within runs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from wernicke.core.checks import check_labels, check_matrix
from wernicke.core.errors import InputError
from wernicke.core.features import Features


def align_to_stimuli(features: Features, samples: pd.DataFrame) -> dict[str, np.ndarray]:
    """Give each sample the features of its stimulus.

    Parameters
    ----------
    features : Features
        Indexed by `stimulus_id`, one row each.
    samples : DataFrame, n_samples rows
        With column `stimulus_id`; missing where nothing was shown.

    Returns
    -------
    dict of str to array, shape (n_samples, n_features)
        By band, in the band's dtype; zeros for samples without a stimulus.

    Raises
    ------
    InputError
        E-META (no `stimulus_id`, or several rows of one stimulus), E-REF (a stimulus without features).
    """
    for name, table in (("features", features.index), ("samples", samples)):
        if "stimulus_id" not in table.columns:
            raise InputError("E-META", f"found columns {list(table.columns)}, expected stimulus_id", field=name)
    ids = features.index["stimulus_id"]
    if ids.duplicated().any():
        raise InputError("E-META", f"several rows of stimulus {ids[ids.duplicated()].iloc[0]!r}", field="features",
                         hint="average annotators or repeats first")  # fmt: skip
    shown = samples["stimulus_id"].notna().to_numpy()
    rows = pd.Index(ids).get_indexer(pd.Index(samples["stimulus_id"][shown]))
    if (rows < 0).any():
        unknown = samples["stimulus_id"][shown].iloc[int((rows < 0).argmax())]
        raise InputError("E-REF", f"stimulus {unknown!r} of the samples has no features", field="stimulus_id",
                         hint=f"features have {', '.join(map(str, ids[:8]))}")  # fmt: skip
    aligned = {}
    for name, band in features.bands.items():
        values = np.zeros((len(samples), band.shape[1]), dtype=band.dtype)
        values[shown] = np.asarray(band)[rows]
        aligned[name] = values
    return aligned


def delay(X: np.ndarray, delays_tr: Sequence[int], runs: Sequence[Any] | np.ndarray) -> np.ndarray:
    """Return finite-impulse-response columns: one shifted copy of all features a delay, never across runs.

    The definition of voxelwise_tutorials' `Delayer` (Dupré la Tour et al. 2024), run by run: the first `d` rows of
    each run are zero in the copy of delay `d`.

    Parameters
    ----------
    X : array, shape (n_samples, n_features)
    delays_tr : sequence of int
        In samples. Negative ones look ahead (a control: the brain does not).
    runs : array, shape (n_samples,)
        Run of each sample; each run one contiguous segment.

    Returns
    -------
    array, shape (n_samples, n_delays * n_features)
        Grouped by delay: all features at the first delay, then all at the second, ...

    Raises
    ------
    InputError
        E-CFG (no delay, not whole, twice, or as long as a run), E-META (a run in several segments), E-SHAPE.
    """
    X = check_matrix(X, "X")
    delays = _check_delays(delays_tr)
    n_features = X.shape[1]
    delayed = np.zeros((X.shape[0], len(delays) * n_features), dtype=X.dtype)
    for start, stop in _segments(runs, X.shape[0], "runs", max(map(abs, delays))):
        for i, d in enumerate(delays):
            columns = slice(i * n_features, (i + 1) * n_features)
            if d >= 0:
                delayed[start + d : stop, columns] = X[start : stop - d]
            else:
                delayed[start : stop + d, columns] = X[start - d : stop]
    return delayed


def mean_delay(X: np.ndarray, delays_tr: Sequence[int], groups: Sequence[Any] | np.ndarray) -> np.ndarray:
    """Return the mean of shifted copies, drama2brain's ``--time_delays a b``: a box of ``b - a + 1`` samples.

    Rows before a group's start count as zeros, so the first rows are damped.

    Parameters
    ----------
    X : array, shape (n_samples, n_features)
    delays_tr : sequence of int
        All delays of the box: drama2brain's ``3 5`` is ``(3, 4, 5)``.
    groups : array, shape (n_samples,)
        Within which to shift: the title for drama2brain, the run elsewhere. Contiguous.

    Returns
    -------
    array, shape (n_samples, n_features)

    Raises
    ------
    InputError
        As `delay`.
    """
    X = check_matrix(X, "X")
    delays = _check_delays(delays_tr)
    total = np.zeros_like(X)
    for start, stop in _segments(groups, X.shape[0], "groups", max(map(abs, delays))):
        for d in delays:
            if d >= 0:
                total[start + d : stop] += X[start : stop - d]
            else:
                total[start : stop + d] += X[start - d : stop]
    return total / X.dtype.type(len(delays))


def _check_delays(delays_tr: Sequence[int]) -> tuple[int, ...]:
    delays = list(delays_tr)
    if not delays:
        raise InputError("E-CFG", "no delay given", field="delays_tr")
    for d in delays:
        if isinstance(d, bool) or not isinstance(d, (int, np.integer)):
            raise InputError("E-CFG", f"found {d!r}, expected whole numbers of samples", field="delays_tr")
    if len(set(delays)) != len(delays):
        raise InputError("E-CFG", f"found a delay twice in {delays}", field="delays_tr")
    return tuple(int(d) for d in delays)


def _segments(runs: Any, n_samples: int, field: str, longest: int) -> list[tuple[int, int]]:
    """Return start and stop of each run, checked to be contiguous and longer than the longest delay."""
    runs = check_labels(runs, field, n_samples)
    starts = np.flatnonzero(np.r_[True, runs[1:] != runs[:-1]])
    if len(starts) != len(pd.unique(runs)):
        raise InputError("E-META", "a run is split into several segments; runs must be contiguous", field=field)
    segments = list(zip(starts.tolist(), [*starts[1:].tolist(), n_samples], strict=True))
    for start, stop in segments:
        if stop - start <= longest:
            raise InputError("E-CFG", f"run {runs[start]!r} has {stop - start} samples, a delay has {longest}",
                             field="delays_tr")  # fmt: skip
    return segments

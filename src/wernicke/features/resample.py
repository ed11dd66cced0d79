"""Features at their own times (words, frames, seconds) -> one row a TR."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import numpy as np
import pandas as pd

from wernicke.core.checks import check_matrix, check_option, check_range
from wernicke.core.errors import InputError
from wernicke.core.features import Features


def resample_to_tr(
    features: Features,
    *,
    n_tr: Mapping[Any, int],
    tr_s: float,
    how: Literal["mean", "lanczos", "last"],
    lanczos_window: int = 3,
    lanczos_cutoff: float = 1.0,
) -> Features:
    """Bring features to the samples of the brain recording, run by run.

    Parameters
    ----------
    features : Features
        Indexed by `run` and `onset_s`, in any order within a run.
    n_tr : mapping of run to int
        Samples of each run, in the order wanted. TR k is [k tr_s, (k + 1) tr_s).
    tr_s : float
    how : str
        ``"mean"``: over the rows that begin within the TR. ``"last"``: the latest of them. ``"lanczos"``: the low-pass
        filter of the Huth lab (`lanczosinterp2D` of their released code), at the middle of each TR; as theirs it sums,
        so that more words in a TR give larger values.
    lanczos_window : int
        Lobes of the kernel; 3 in their code.
    lanczos_cutoff : float
        As a multiple of 1 / tr_s; 1 in their code.

    Returns
    -------
    Features
        Index `run`, `onset_s` of the TR; bands as floating numbers (float64 of integers and booleans). Zeros in TRs
        without a row, counted in the provenance (`n_empty`), as are rows outside of the runs' samples (`n_outside`;
        ``"lanczos"`` still weighs those that are near).

    Raises
    ------
    InputError
        E-META (no times, no row in a run, or an unknown run), E-CFG, E-NONFIN.
    """
    check_option(how, ("mean", "lanczos", "last"), "how")
    check_range(tr_s, "tr_s", low=0, low_open=True)
    check_range(lanczos_window, "lanczos_window", low=1)
    check_range(lanczos_cutoff, "lanczos_cutoff", low=0, low_open=True)
    onset, runs = _times(features), features.index["run"].to_numpy()
    known = set(n_tr)
    unknown = [run for run in dict.fromkeys(runs.tolist()) if run not in known]
    if unknown:
        raise InputError("E-META", f"features of run {unknown[0]!r}, which has no samples", field="n_tr")
    bands: dict[str, list[np.ndarray]] = {name: [] for name in features.bands}
    rows: list[pd.DataFrame] = []
    n_empty = n_outside = 0
    for run, n in n_tr.items():
        check_range(n, "n_tr", low=1)
        own = np.flatnonzero(runs == run)
        if not len(own):
            raise InputError(
                "E-META", f"no features of run {run!r}; found {sorted(set(map(str, runs)))[:8]}", field="n_tr"
            )
        own = own[np.argsort(onset[own], kind="stable")]
        times = onset[own]
        if how == "lanczos":
            weights = lanczos_weights(times, (np.arange(n) + 0.5) * tr_s, lanczos_cutoff / tr_s, lanczos_window)
        else:
            weights = _bin_weights(times, n, tr_s, how)
        n_empty += int((np.diff(weights.indptr) == 0).sum())
        n_outside += int(((times < 0) | (bins(times, tr_s) >= n)).sum())
        for name, band in features.bands.items():
            values = check_matrix(band[own], f"band `{name}`")  # integers and booleans have means between them
            values = values.astype(values.dtype.newbyteorder("="), copy=False)  # scipy's matrices are native
            bands[name].append(np.asarray(weights.astype(values.dtype) @ values))
        rows.append(pd.DataFrame({"run": [run] * n, "onset_s": np.arange(n) * float(tr_s)}))
    resampled = {"how": how, "tr_s": float(tr_s), "n_empty": n_empty, "n_outside": n_outside}
    if how == "lanczos":
        resampled |= {"lanczos_window": lanczos_window, "lanczos_cutoff": lanczos_cutoff}
    stacked = {name: np.concatenate(parts) for name, parts in bands.items()}
    provenance = {**features.provenance, "resampled": resampled}
    return Features(stacked, pd.concat(rows, ignore_index=True), provenance)


def lanczos_weights(times_s: np.ndarray, at_s: np.ndarray, cutoff_hz: float, window: int) -> Any:
    """Return the kernel sinc(t) sinc(t / window), t = cutoff_hz (at_s - times_s), as CSR (len(at_s), len(times_s)).

    Zero where abs(t) > window.
    """
    from scipy.sparse import csr_matrix

    half = window / cutoff_hz
    first = np.searchsorted(times_s, at_s - half, side="left")
    last = np.searchsorted(times_s, at_s + half, side="right")
    counts = last - first
    columns = np.concatenate([np.arange(a, b) for a, b in zip(first, last, strict=True)]) if len(at_s) else first
    t = cutoff_hz * (np.repeat(at_s, counts) - times_s[columns])
    kernel = np.where(np.abs(t) <= window, np.sinc(t) * np.sinc(t / window), 0.0)
    return csr_matrix((kernel, columns, np.r_[0, np.cumsum(counts)]), shape=(len(at_s), len(times_s)))


def bins(times_s: np.ndarray, tr_s: float) -> np.ndarray:
    """Return the TR of each time; a time that misses the next TR by rounding only (0.3 s at 0.1 s) belongs to it."""
    return np.floor(times_s / tr_s + 1e-9).astype(int)


def _bin_weights(times_s: np.ndarray, n: int, tr_s: float, how: str) -> Any:
    from scipy.sparse import csr_matrix

    place = bins(times_s, tr_s)
    columns = np.flatnonzero((place >= 0) & (place < n))
    place = place[columns]
    if how == "last":
        keep = np.r_[place[1:] != place[:-1], True] if len(place) else np.zeros(0, bool)
        columns, place = columns[keep], place[keep]
        weights = np.ones(len(place))
    else:
        weights = 1 / np.bincount(place, minlength=n)[place] if len(place) else np.zeros(0)
    return csr_matrix((weights, (place, columns)), shape=(n, len(times_s)))


def _times(features: Features) -> np.ndarray:
    if not {"run", "onset_s"} <= set(features.index.columns):
        raise InputError("E-META", f"found columns {list(features.index.columns)}, expected run and onset_s",
                         field="features", hint="features of stimuli are aligned by `align_to_stimuli`")  # fmt: skip
    onset = pd.to_numeric(features.index["onset_s"], errors="coerce").to_numpy(dtype=float)
    if not np.isfinite(onset).all():
        raise InputError("E-NONFIN", f"row {int((~np.isfinite(onset)).argmax())} has no time", field="onset_s")
    return onset

"""From drama2brain's files to design matrices: which seconds count, bands reduced, shifted and scaled."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

from wernicke.core.checks import check_option
from wernicke.core.errors import InputError
from wernicke.core.study import Events
from wernicke.core.units import seconds_to_tr
from wernicke.data.drama2brain_stimuli import load_drama2brain_annotations, load_drama2brain_features
from wernicke.data.drama2brain_tables import RUNS, TR_S, row_table
from wernicke.features.align import delay, mean_delay
from wernicke.features.nuisance import position_in_run, word_rate
from wernicke.features.reduce import Projection, fit_pca, fit_srp
from wernicke.recipes.drama2brain_bands import Band, Drama2brainData, Model, naming_simulated_configs

NUISANCES = ("word_rate", "position")


@dataclass(frozen=True)
class Rows:
    """Which seconds are trained on, scored, and held out together."""

    table: pd.DataFrame
    """All 29,999 kept seconds (`wernicke.data.drama2brain_tables.row_table`)"""
    train: np.ndarray
    valid: np.ndarray
    """Row numbers"""
    cv: list[tuple[np.ndarray, np.ndarray]]
    """Folds of whole titles: positions in `train` to fit on, and to choose penalties on"""


def choose_rows(data: Drama2brainData) -> Rows:
    """Return rows by the published split, without each title's start and a gap before runs that are scored."""
    table = row_table()
    part = table[f"part_{data.dataset}"].to_numpy()
    titles = table["title"].to_numpy()
    in_title = table.groupby("title", sort=False).cumcount().to_numpy()
    known = in_title >= data.trim_s
    before = np.zeros(len(table), dtype=bool)
    valid = np.asarray(part == "VALID")
    for first in np.flatnonzero(valid & ~np.r_[False, valid[:-1]]).tolist():
        rows = np.arange(max(0, first - int(np.ceil(data.gap_s))), first)
        before[rows[titles[rows] == titles[first]]] = True
    train = np.flatnonzero((part == "TRAIN") & known & ~before)
    folds = table["fold"].to_numpy()[train]
    cv = [(np.flatnonzero(folds != fold), np.flatnonzero(folds == fold)) for fold in np.unique(folds)]
    return Rows(table, train, np.flatnonzero(valid & known), cv)


def read_features(model: Model, data: Drama2brainData) -> dict[str, np.ndarray]:
    """Return each band's features as they are on disk, (29999, n_features), half precision as float32.

    Raises
    ------
    InputError
        What `wernicke.data.drama2brain_stimuli.load_drama2brain_features` raises.
    """
    with naming_simulated_configs(data):
        found = load_drama2brain_features(
            data.need_root(), {name: band.folder for name, band in model.bands.items()}, folders=data.folders
        )
    return {
        name: values.astype(np.float32) if values.dtype != np.float64 else values
        for name, values in found.bands.items()
    }


def nuisance_features(names: Sequence[str], data: Drama2brainData) -> dict[str, np.ndarray]:
    """Return features that need no model, (29999, n_features): words a second of the speech annotation, time in run.

    Raises
    ------
    InputError
        E-CFG (unknown name), E-REF (no annotation of speech).
    """
    n_tr = {run.run: run.kept_s for run in RUNS}
    kept = np.concatenate([np.arange(run.kept_s) >= run.first_s for run in RUNS])
    found: dict[str, np.ndarray] = {}
    for name in names:
        if check_option(name, NUISANCES, "nuisance") == "position":
            found[name] = position_in_run(n_tr=n_tr, tr_s=TR_S).bands["position"][kept]
            continue
        speech = load_drama2brain_annotations(data.need_root(), ["speechTranscription"], folders=data.folders)
        found[name] = word_rate(Events(speech), n_tr=n_tr, tr_s=TR_S).bands["word_rate"][kept]
    return found


@dataclass(frozen=True)
class Design:
    """A band's columns of the design matrix.

    Attributes
    ----------
    columns : array, shape (29999, n_columns), float32
        Reduced, shifted, centred, and divided by `scale`.
    scale : float
        Square root of the training rows' total variance.
    n_features : int
        Columns of the band's files.
    explained : float or None
        Share of the training rows' variance that the principal components keep.
    projection : Projection or None
        The fitted reduction.
    """

    columns: np.ndarray
    scale: float
    n_features: int
    explained: float | None = None
    projection: Projection | None = None


def design(values: np.ndarray, band: Band, rows: Rows, *, seed: int, name: str = "band") -> Design:
    """Return a band's design.

    Reduced by what the training rows show, then shifted within a title, whose runs are one film: a run that is scored
    knows what the run before it showed. A total variance of 1 lets one grid of penalties fit bands of any scale and
    width.

    Raises
    ------
    InputError
        E-CFG (more components than features, no whole seconds), E-CONST.
    """
    n_features, explained, fitted = values.shape[1], None, None
    if band.reduction is not None:
        kind, amount = band.reduction
        training = values[rows.train]
        try:
            if kind == "pca":
                fitted = fit_pca(training, int(amount), seed=seed)
                explained = float(fitted.explained_variance_ratio.sum())
            else:
                fitted = fit_srp(training, eps=amount, seed=seed)
        except InputError as error:
            if error.code != "E-CFG":
                raise
            raise InputError("E-CFG", error.problem, field=f"bands.{name}.{kind}",
                             hint=f"{band.folder} has {values.shape[1]} features") from None  # fmt: skip
        values = fitted.transform(values)
    titles = rows.table["title"].to_numpy()
    if band.shifts_s is not None:
        columns = mean_delay(values, range(band.shifts_s[0], band.shifts_s[1] + 1), titles)
    else:
        columns = delay(values, seconds_to_tr(band.delays_s or [], TR_S, f"bands.{name}.delays_s"), titles)
    return replace(scaled(columns, rows, name, n_features, explained), projection=fitted)


def nuisance_design(values: np.ndarray, name: str, delays_s: Sequence[float], rows: Rows) -> Design:
    """Return the design of `word_rate` (FIR delays) or of `position` (as it is)."""
    if name == "word_rate":
        delays = seconds_to_tr(delays_s, TR_S, "nuisance_delays_s")
        return scaled(delay(values, delays, rows.table["title"].to_numpy()), rows, name, values.shape[1])
    return scaled(values, rows, name, values.shape[1])


def scaled(columns: np.ndarray, rows: Rows, name: str, n_features: int, explained: float | None = None) -> Design:
    """Centre columns and give them a total variance of 1 in the training rows."""
    training = columns[rows.train]
    mean = training.mean(axis=0, dtype=np.float64)
    total = float(training.var(axis=0, dtype=np.float64).sum())
    if not total > 0:
        raise InputError("E-CONST", "all training rows are equal", field=f"bands.{name}")
    scale = float(np.sqrt(total))
    return Design(np.asarray((columns - mean) / scale, dtype=np.float32), scale, n_features, explained)

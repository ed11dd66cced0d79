"""Left-out runs' predictions scored over all runs: r with its null, and what language adds to nuisance bands."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from wernicke.encoding.partition_fit import leading_directions
from wernicke.recipes.bids_bands import Bands
from wernicke.recipes.bids_fit import Fold, Responses, tiles
from wernicke.ridge import r2_score
from wernicke.stats.autocorrelation import TIMES_PER_BLOCK, cap_blocks, slower_times
from wernicke.stats.detrend import detrend_runs
from wernicke.stats.fdr import fdr
from wernicke.stats.permutation import permutation_test
from wernicke.stats.segments import centre_by_run, run_segments

if TYPE_CHECKING:
    from wernicke.recipes.bids_encode import Config

_VOXELS_FOR_BLOCKS = 2000


@dataclass(frozen=True)
class Fitted:
    """What one subject's fits came to.

    Parameters
    ----------
    columns : dict of str to array, shape (n_voxels,) or (n_layers, n_voxels)
        NaN where a voxel is constant within all runs but one.
    facts : dict
        The test, the split, the audit, layers, r by run of each model.
    """

    columns: dict[str, np.ndarray]
    facts: dict[str, Any]


@dataclass(frozen=True)
class LeftOut:
    """Every fold's predictions of its left-out run, put together."""

    folds: Sequence[Fold]
    n_rows: int

    def read(self, name: str, where: slice | np.ndarray) -> np.ndarray:
        """Return the predictions of some of the voxels that vary, float32, (n_kept, n_voxels)."""
        parts = [(fold.rows, np.asarray(fold.array(name)[:, where])) for fold in self.folds]
        values = np.empty((self.n_rows, parts[0][1].shape[1]), dtype=np.float32)
        for rows, part in parts:
            values[rows] = part
        return values

    def mean(self, name: str) -> np.ndarray:
        """Return the mean over folds of an array that each fold has, NaN (a constant voxel) as 0."""
        return np.asarray(np.mean([np.nan_to_num(fold.array(name)) for fold in self.folds], axis=0, dtype=np.float64))


def score(
    config: Config, bands: Bands, responses: Responses, voxels: np.ndarray, folds: Sequence[Fold], save_to: Path | None
) -> Fitted:
    """Score all folds together, tile by tile; `save_to`: a file for the full model's predictions."""
    names, models = list(bands.features), list(folds[0].facts["models"])
    left_out = LeftOut(folds, responses.shape[0])
    n_voxels = responses.shape[1]
    columns = fold_columns(left_out, names, models, bands)
    blocks = find_blocks(left_out, responses, voxels, config.tile)
    nuisance = nuisance_directions(folds, bands, responses.runs) if len(models) > 1 else None
    kept = None
    if save_to is not None:
        shape = (responses.shape[0], n_voxels)
        kept = np.lib.format.open_memmap(save_to, mode="w+", dtype="<f4", shape=shape)
        kept[:] = np.nan
    for where, some in tiles(voxels, config.tile):
        scored = score_tile(config, left_out, models, nuisance, responses.read(some), responses.runs, where, blocks)
        for name, values in scored.items():
            columns.setdefault(name, np.full(len(voxels), np.nan))[where] = values
        if kept is not None:
            kept[:, some] = left_out.read("full", where)
    if kept is not None:
        kept.flush()
    for name in [column for column in columns if column == "p" or column.endswith("_p")]:
        columns[f"{name}_fdr"] = fdr(columns[name]).p_adjusted
    columns["p_by"] = fdr(columns["p"], "by").p_adjusted
    if "slow" in columns:
        blocks["n_slow_significant"] = int(((columns["slow"] == 1) & (columns["p_fdr"] <= 0.05)).sum())
    by_run = np.array([np.nan_to_num(fold.array("r")).mean(axis=1, dtype=np.float64) for fold in folds])
    facts = {
        "n_constant": n_voxels - len(voxels),
        "r_by_run": {model: by_run[:, i].tolist() for i, model in enumerate(models)},
        "null": {"type": "block permutation", "n_permutations": config.n_permutations, "tail": config.tail, **blocks},
        **({"n_slow": int(columns["slow"].sum())} if "slow" in columns else {}),
        "n_columns": folds[0].facts["n_columns"],
        "layers": layer_facts(left_out, bands),
        "layer_by_fold": [fold.facts["layer"] for fold in folds],
    }  # fmt: skip
    return Fitted({name: on_all_voxels(values, voxels, n_voxels) for name, values in columns.items()}, facts)


def on_all_voxels(values: np.ndarray, voxels: np.ndarray, n_voxels: int) -> np.ndarray:
    """Put the values of those that vary among all; NaN elsewhere."""
    full = np.full((*values.shape[:-1], n_voxels), np.nan)
    full[..., voxels] = values
    return full


def fold_columns(left_out: LeftOut, names: Sequence[str], models: Sequence[str], bands: Bands) -> dict[str, np.ndarray]:
    """Return what follows from single folds: r, cross-validated r on training rows, shares of r, penalties."""
    columns = {}
    for name in ("r", "cv_r"):
        for model, values in zip(models, left_out.mean(name), strict=True):
            columns[name if model == "full" else f"{name}_{model}"] = values
    if len(names) > 1:
        columns |= {f"share_{name}": share for name, share in zip(names, left_out.mean("share_r"), strict=True)}
    columns["alpha"] = np.exp(np.mean([np.log(fold.array("alpha")) for fold in left_out.folds], axis=0))
    if len(bands.layers) > 1:
        by_layer = {name: left_out.mean(name) for name in ("layer_cv_r", "layer_r")}
        best = np.asarray(bands.layers, dtype=float)[by_layer["layer_cv_r"].argmax(axis=0)]
        columns |= {**by_layer, "best_layer": best}
    return columns


def layer_facts(left_out: LeftOut, bands: Bands) -> list[dict[str, Any]]:
    """Each layer's means over voxels: cross-validated r on training rows, r of left-out runs, folds that chose it."""
    if len(bands.layers) < 2:
        return []
    chosen = [fold.facts["layer"] for fold in left_out.folds]
    cv_r, r = left_out.mean("layer_cv_r"), left_out.mean("layer_r")
    best = int(cv_r.mean(axis=1).argmax())
    return [
        {"layer": layer, "cv_r": float(cv_r[i].mean()), "r": float(r[i].mean()), "n_voxels": r.shape[1],
         "sem": float(r[i].std(ddof=1) / np.sqrt(r.shape[1])) if r.shape[1] > 1 else None,
         "n_folds": chosen.count(layer), "best": i == best}
        for i, layer in enumerate(bands.layers)
    ]  # fmt: skip


def find_blocks(left_out: LeftOut, responses: Responses, voxels: np.ndarray, tile: int) -> dict[str, Any]:
    """One block length for all voxels, from some of every tile (`cap_blocks`)."""
    stretches = list(tiles(voxels, tile))
    each = -(-_VOXELS_FOR_BLOCKS // len(stretches))
    predicted, truth = [], []
    for where, some in stretches:
        places = np.unique(np.linspace(0, len(some) - 1, min(each, len(some))).round().astype(int))
        predicted.append(left_out.read("full", np.arange(where.start, where.stop)[places]))
        truth.append(responses.read(some)[:, places])
    scaled, measured = (
        detrend_runs(np.concatenate(parts, axis=1), responses.runs, order=0) for parts in (predicted, truth)
    )
    return cap_blocks(scaled, measured.astype(np.float64), responses.runs)


def score_tile(
    config: Config,
    left_out: LeftOut,
    models: Sequence[str],
    nuisance: np.ndarray | None,
    values: np.ndarray,
    runs: np.ndarray,
    where: slice,
    blocks: dict[str, Any],
) -> dict[str, np.ndarray]:
    """Return R2, p, and what language adds, of some voxels; `blocks` learns how many blocks there are."""

    def test(prediction: np.ndarray, response: np.ndarray) -> np.ndarray:
        tested = permutation_test(
            prediction, response, runs, block_length=blocks["block_length_tr"], n_permutations=config.n_permutations,
            tail=config.tail, seed=config.seed,
        )  # fmt: skip
        blocks["n_blocks"] = tested.n_blocks
        # A model that predicts the same for every row predicts nothing.
        return np.where(np.isnan(tested.p), 1.0, tested.p)

    truth = detrend_runs(values, runs, order=0).astype(np.float64)
    predicted = {model: left_out.read(model, where).astype(np.float64) for model in models}
    found = {
        "r2" if model == "full" else f"r2_{model}": np.asarray(r2_score(values.astype(np.float64), prediction))
        for model, prediction in predicted.items()
    }
    scaled = detrend_runs(predicted["full"], runs, order=0)
    found["p"] = test(scaled, truth)
    if "autocorrelation_tr" in blocks:
        found["slow"] = slower_times(scaled, truth, runs) * TIMES_PER_BLOCK > blocks["block_length_tr"]
    if nuisance is not None:
        found["unique_language"] = found["r2"] - found["r2_nuisance"]
        found["unique_nuisance"] = found["r2"] - found["r2_language"]
        own, rest = beyond(nuisance, left_out.read("share", where), truth, runs)
        found["unique_language_p"] = np.where(own.any(axis=0), test(own, rest), 1.0)
    return found


def nuisance_directions(folds: Sequence[Fold], bands: Bands, runs: np.ndarray) -> np.ndarray:
    """Return orthonormal columns that span the nuisance features of all kept rows, centred within runs.

    The untrained twin's layer is the one that most folds chose. Components, where asked for, are of all rows: nothing
    is fitted to responses with them.
    """
    chosen = [fold.facts["layer"] for fold in folds]
    layer = max(dict.fromkeys(chosen), key=chosen.count)
    every = np.arange(len(runs))
    names = [name for name in bands.features if name != "language"]
    features = np.hstack([*bands.columns(layer, every, names).values()]).astype(np.float64)
    return leading_directions(centre_by_run(features, run_segments(runs, len(runs))), len(runs) // 10)


def beyond(basis: np.ndarray, share: np.ndarray, truth: np.ndarray, runs: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Take what the nuisance features predict linearly off the language band's share and off the response.

    Their correlation is the partial one that `wernicke.encoding.partition` tests: what a fit gains over a reduced one
    also depends on how well either was tuned. Zeros where the share lies within the nuisance features: under 0.01 % of
    its variance is its own.
    """
    segments = run_segments(runs, len(runs))
    share, truth = (centre_by_run(values.astype(np.float64), segments) for values in (share, truth))
    own, rest = (values - basis @ (basis.T @ values) for values in (share, truth))
    return np.where((own**2).sum(axis=0) > 1e-4 * (share**2).sum(axis=0), own, 0.0), rest

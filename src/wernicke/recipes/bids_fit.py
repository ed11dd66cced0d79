"""One run left out at a time: layers compared, bands fitted together and apart, left-out runs predicted.

Everything is chosen on the other runs: penalty and balance of bands for each voxel, the layer for all voxels. A fold's
results are a folder of arrays in the run's ``.work``; a fold that is finished is not fitted again.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from tqdm import tqdm

from wernicke.core.errors import InputError
from wernicke.core.seeds import derive_rng
from wernicke.core.split import Split
from wernicke.encoding.crossval import SMALL_WORK, one_thread
from wernicke.pretrained.llm import resolve_device
from wernicke.recipes.bids_bands import Bands
from wernicke.ridge import correlation_score, correlation_score_split
from wernicke.ridge.draws import Subset, draw_balances
from wernicke.ridge.partition import SubModel, SubModels
from wernicke.stats.correlation import columnwise_correlation
from wernicke.store.files import read_json, read_npy, write_json, write_npy
from wernicke.store.sealed import MANIFEST, building, discard, find_faults

if TYPE_CHECKING:
    from wernicke.recipes.bids_encode import Config


@dataclass(frozen=True)
class Responses:
    """A subject's kept rows, in memory or on disk, read some voxels at a time."""

    values: np.ndarray
    """(n_samples, n_voxels); may be memory-mapped"""
    kept: np.ndarray
    """Row numbers"""
    runs: np.ndarray
    """(n_kept,)"""

    @property
    def shape(self) -> tuple[int, int]:
        return len(self.kept), self.values.shape[1]

    def read(self, voxels: np.ndarray) -> np.ndarray:
        """Return some voxels of the kept rows, float32, (n_kept, n_voxels); `voxels` ascend."""
        if not len(voxels):
            return np.empty((len(self.kept), 0), dtype=np.float32)
        # A stretch of columns is read, and then chosen from: what lies between them is on the same pages of the disk.
        stretch = np.asarray(self.values[:, voxels[0] : voxels[-1] + 1], dtype=np.float32)
        return np.ascontiguousarray(stretch[self.kept][:, voxels - voxels[0]])

    def varying(self, tile: int) -> np.ndarray:
        """Return the voxels that vary within two runs or more, so that they do in any fold's training rows."""
        found = []
        for start in range(0, self.shape[1], tile):
            values = self.read(np.arange(start, min(start + tile, self.shape[1])))
            within = [np.ptp(values[self.runs == run], axis=0) > 0 for run in dict.fromkeys(self.runs.tolist())]
            found.append(start + np.flatnonzero(np.sum(within, axis=0) >= 2))
        voxels = np.concatenate(found)
        if not len(voxels):
            raise InputError("E-CONST", f"all {self.shape[1]} voxels are constant within every run", field="responses")
        return voxels


class FoldModels:
    """What one fold learns from its training rows: design, layer and, tile by tile, the models.

    Attributes
    ----------
    names : list of str
        Bands, ``language`` first.
    subsets : dict of model to band numbers
        ``full``; and ``nuisance``, ``language`` where there are nuisance bands.
    """

    def __init__(
        self, config: Config, bands: Bands, runs: np.ndarray, train_rows: np.ndarray, layer: int | None,
        names: Sequence[str] | None = None,
    ) -> None:  # fmt: skip
        columns = bands.columns(layer, train_rows, names)
        self.names, self.train_rows = list(columns), train_rows
        self.device = resolve_device(config.device)
        design, self.scales = [], []
        for values in columns.values():
            inside = values[train_rows]
            mean, spread = inside.mean(axis=0, dtype=np.float64), np.sqrt(inside.var(axis=0, dtype=np.float64).sum())
            self.scales.append(float(spread) if spread > 0 else 1.0)
            design.append(np.asarray((values - mean) / self.scales[-1], dtype=np.float32))
        ends = np.cumsum([part.shape[1] for part in design]).tolist()
        self.parts = [slice(end - part.shape[1], end) for end, part in zip(ends, design, strict=True)]
        self.X = torch.from_numpy(np.concatenate(design, axis=1)).to(self.device)
        every = tuple(range(len(design)))
        self.subsets: dict[str, Subset] = {"full": every}
        if len(every) > 1:
            self.subsets |= {"nuisance": every[1:], "language": (0,)}
        inner = runs[train_rows]
        cv = [(np.flatnonzero(inner != run), np.flatnonzero(inner == run)) for run in dict.fromkeys(inner.tolist())]
        subsets = list(self.subsets.values())
        self.solver = SubModels(
            [self.X[train_rows][:, part] for part in self.parts], config.alphas, subsets=subsets, cv=cv,
            score_func=correlation_score, n_iter=draw_balances(subsets, config.n_iter, config.seed),
            fit_intercept=True, random_state=config.seed,
        )  # fmt: skip

    @property
    def n_columns(self) -> dict[str, int]:
        return {name: part.stop - part.start for name, part in zip(self.names, self.parts, strict=True)}

    def fit(self, responses: np.ndarray) -> Iterator[tuple[str, SubModel]]:
        """Yield the models of some voxels, `responses` on all kept rows, one by one."""
        training = np.ascontiguousarray(responses[self.train_rows])
        small = training.size * self.X.shape[1] < SMALL_WORK
        with one_thread() if small else nullcontext():
            yield from zip(self.subsets, self.solver.fit(training), strict=True)

    def predict(self, model: SubModel, rows: np.ndarray) -> np.ndarray:
        """Return what a model says of some rows, (n_rows, n_voxels)."""
        return np.asarray((self.X[rows] @ model.coef + model.intercept).cpu().numpy())

    def shares(self, model: SubModel, rows: np.ndarray) -> np.ndarray:
        """Return what each band adds to that, about its mean, (n_bands, n_rows, n_voxels)."""
        found = np.stack([(self.X[rows][:, part] @ model.coef[part]).cpu().numpy() for part in self.parts])
        return found - found.mean(axis=1, keepdims=True)


@dataclass(frozen=True)
class Fold:
    """A finished fold: arrays of the voxels that vary, memory-mapped.

    ``<model>.npy`` (predictions, n_test x n_voxels), ``share.npy`` (language's part of them), ``cv_r.npy`` and
    ``r.npy`` (n_models x n_voxels), ``share_r.npy`` (n_bands x n_voxels), ``alpha.npy``; and for layers that are
    compared ``layer_cv_r.npy`` and ``layer_r.npy`` (n_layers x n_voxels).
    """

    folder: Path
    rows: np.ndarray

    @property
    def facts(self) -> dict[str, Any]:
        return dict(read_json(self.folder / "fold.json"))

    def array(self, name: str) -> np.ndarray:
        return read_npy(self.folder / f"{name}.npy", mmap=True)


def fit_folds(
    config: Config, bands: Bands, responses: Responses, voxels: np.ndarray, splits: Sequence[Split], work: Path
) -> list[Fold]:
    """Fit every fold that is not finished yet."""
    folds = []
    for number, split in enumerate(tqdm(splits, desc="folds", disable=None)):
        folder = work / f"fold-{number:03d}"
        if not (folder / MANIFEST).is_file() or find_faults(folder):
            if folder.is_dir():
                discard(folder)
            with building(folder) as temporary:
                fit_fold(config, bands, responses, voxels, split, temporary)
        folds.append(Fold(folder, split.test_rows))
    return folds


def tiles(voxels: np.ndarray, tile: int) -> Iterator[tuple[slice, np.ndarray]]:
    """Yield neighbours some at a time: where they stand among `voxels`, and their numbers."""
    for start in range(0, len(voxels), tile):
        where = slice(start, min(start + tile, len(voxels)))
        yield where, voxels[where]


def fit_fold(
    config: Config, bands: Bands, responses: Responses, voxels: np.ndarray, split: Split, folder: Path
) -> None:
    """Choose the layer, fit all models on the training rows, predict the run that was left out."""
    test, runs = split.test_rows, responses.runs
    layer = bands.layers[0]
    if len(bands.layers) > 1:
        layer = compare_layers(config, bands, responses, voxels, split, folder)
    models = FoldModels(config, bands, runs, split.train_rows, layer)
    n_models, n_voxels = len(models.subsets), len(voxels)
    shape = {"cv_r": (n_models, n_voxels), "r": (n_models, n_voxels), "alpha": (n_voxels,),
             "share_r": (len(models.names), n_voxels)}  # fmt: skip
    found = {name: np.empty(size, dtype=np.float32) for name, size in shape.items()}
    mapped = {name: np.lib.format.open_memmap(folder / f"{name}.npy", mode="w+", dtype="<f4",
                                              shape=(len(test), n_voxels))
              for name in (*models.subsets, "share")}  # fmt: skip
    for where, some in tqdm(list(tiles(voxels, config.tile)), desc="tiles", disable=None, leave=False):
        values = responses.read(some)
        for i, (name, model) in enumerate(models.fit(values)):
            prediction = models.predict(model, test)
            mapped[name][:, where] = prediction
            found["cv_r"][i, where] = np.asarray(model.cv_scores.cpu())
            found["r"][i, where] = columnwise_correlation(prediction, values[test])
            if name == "full":
                shares, truth = models.shares(model, test), values[test] - values[test].mean(axis=0)
                mapped["share"][:, where] = shares[0]
                found["share_r"][:, where] = correlation_score_split(truth, shares)
                found["alpha"][where] = np.asarray(model.best_alphas.cpu())
    for array in mapped.values():
        array.flush()
    for name, values in found.items():
        write_npy(folder / f"{name}.npy", values)
    write_json(folder / "fold.json", {"layer": layer, "models": list(models.subsets), "n_columns": models.n_columns})


def compare_layers(
    config: Config, bands: Bands, responses: Responses, voxels: np.ndarray, split: Split, folder: Path
) -> int | None:
    """Return the layer whose language band alone has the highest cross-validated r on training rows, over voxels.

    What each layer says of the left-out run is kept beside it, for the curve over layers; it chooses nothing.
    """
    cv_r, r = (np.empty((len(bands.layers), len(voxels)), dtype=np.float32) for _ in range(2))
    for i, layer in enumerate(tqdm(bands.layers, desc="layers", disable=None, leave=False)):
        models = FoldModels(config, bands, responses.runs, split.train_rows, layer, ("language",))
        for where, some in tiles(voxels, config.tile):
            values = responses.read(some)
            ((_, model),) = models.fit(values)
            cv_r[i, where] = np.asarray(model.cv_scores.cpu())
            r[i, where] = columnwise_correlation(models.predict(model, split.test_rows), values[split.test_rows])
    write_npy(folder / "layer_cv_r.npy", cv_r)
    write_npy(folder / "layer_r.npy", r)
    return bands.layers[int(cv_r.mean(axis=1, dtype=np.float64).argmax())]


def poison_audit(
    config: Config, bands: Bands, responses: Responses, voxels: np.ndarray, split: Split
) -> dict[str, bool]:
    """Does anything that a fold learns change when its left-out run is replaced by nonsense? On the first few voxels.

    Nothing may change: what a fold learnt cannot depend on rows it must not see (reliability V11).
    """
    quick = replace(config, n_iter=1)
    clean = responses.read(voxels[:8])
    rng = derive_rng(config.seed, "poison audit")

    def poison(values: np.ndarray, rows: np.ndarray) -> np.ndarray:
        made = values.copy()
        made[rows] = 1e6 * rng.standard_normal(made[rows].shape)
        return made

    rows = bands.runs == responses.runs[split.test_rows[0]]
    features = {name: {layer: poison(values, rows) for layer, values in by_layer.items()}
                for name, by_layer in bands.features.items()}  # fmt: skip
    pairs = ((bands, clean), (replace(bands, features=features), poison(clean, split.test_rows)))
    before, after = (learnt(quick, some, values, responses.runs, split.train_rows) for some, values in pairs)
    return {name: before[name] != after[name] for name in before}


def learnt(
    config: Config, bands: Bands, values: np.ndarray, runs: np.ndarray, train_rows: np.ndarray
) -> Mapping[str, bytes]:
    """Everything that a fold learns of some voxels, as bytes by name."""
    cv_r = []
    for layer in bands.layers if len(bands.layers) > 1 else ():
        ((_, model),) = FoldModels(config, bands, runs, train_rows, layer, ("language",)).fit(values)
        cv_r.append(float(model.cv_scores.double().mean()))
    layer = bands.layers[int(np.argmax(cv_r))] if cv_r else bands.layers[0]
    models = FoldModels(config, bands, runs, train_rows, layer)
    _, full = next(iter(models.fit(values)))
    arrays = {
        **({"layer": np.asarray(cv_r)} if cv_r else {}), "feature scale": np.asarray(models.scales),
        "training features": models.X[train_rows].cpu().numpy(), "alpha": full.best_alphas.cpu().numpy(),
        "weights": full.coef.cpu().numpy(), "intercept": full.intercept.cpu().numpy(),
        "inner CV score": full.cv_scores.cpu().numpy(),
    }  # fmt: skip
    return {name: array.tobytes() for name, array in arrays.items()}

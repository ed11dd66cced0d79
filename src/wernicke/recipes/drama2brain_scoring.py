"""Finished tiles scored on rows that no fit has seen: r with its null, what each band adds, what it shares."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from wernicke.encoding.contrasts import correlation_by_run
from wernicke.encoding.partition import commonality
from wernicke.encoding.partition_fit import PartitionData, PartitionMaps
from wernicke.pretrained.llm import resolve_device
from wernicke.recipes.drama2brain_bands import CEILING_REASON, Fitted, Model
from wernicke.ridge.draws import Subset
from wernicke.ridge.partition import SubModel
from wernicke.stats.autocorrelation import TIMES_PER_BLOCK, cap_blocks, slower_times
from wernicke.stats.fdr import fdr
from wernicke.stats.permutation import permutation_test
from wernicke.stats.segments import run_segments, segment_lengths
from wernicke.store.files import read_safetensors

if TYPE_CHECKING:
    from wernicke.recipes.drama2brain_encode import Config

log = logging.getLogger(__name__)

_VOXELS_FOR_BLOCKS = 2000


class FinishedTiles:
    """What `wernicke.ridge.partition.SubModels` would yield for a tile of voxels, read from files of finished jobs."""

    def __init__(self, jobs: Mapping[Subset, Path], subject: str, widths: list[int], device: str) -> None:
        self.jobs, self.subject = dict(jobs), subject
        self.side = SimpleNamespace(device=device)
        ends = np.cumsum(widths).tolist()
        self.parts = [slice(end - width, end) for end, width in zip(ends, widths, strict=True)]
        self.subsets = list(self.jobs)
        self.number = 0

    def fit(self, Y: Any) -> Iterator[SubModel]:
        """Yield the models of tile `number`, in the order of `subsets`."""
        for subset in self.subsets:
            yield self.read(subset, self.number)

    def read(self, subset: Subset, number: int) -> SubModel:
        """Return one model of one tile, its weights among those of all bands."""
        arrays = read_safetensors(self.jobs[subset] / self.subject / f"tile_{number:06d}.safetensors")
        found = {name: torch.from_numpy(array).to(self.side.device) for name, array in arrays.items()}
        coef = found["coef"].new_zeros((self.parts[-1].stop, found["coef"].shape[1]))
        coef[np.concatenate([np.r_[self.parts[i]] for i in subset])] = found["coef"]
        return SubModel(subset, found["best_alphas"], found["best_scores"], coef, found["intercept"])

    def predict(self, test: torch.Tensor, subset: Subset, number: int, most: int | None = None) -> np.ndarray:
        """Return what a model says of the rows of `test`, for a tile's first `most` voxels."""
        model = self.read(subset, number)
        return (test @ model.coef[:, :most] + model.intercept[:most]).cpu().numpy()


def score(
    config: Config, model: Model, data: PartitionData, jobs: Mapping[Subset, Path], subject: str, facts: dict[str, Any]
) -> Fitted:
    """Score a subject's models on the rows that no fit has seen, tile by tile."""
    n_voxels, names = data.responses.shape[1], data.names
    tiles = FinishedTiles(jobs, subject, [part.shape[1] for part in data.train], resolve_device(config.device))
    test = torch.from_numpy(data.test).to(tiles.side.device)
    language = find_subset(model, names, "language")
    stretches = [slice(at, min(at + config.tile, len(data.varying))) for at in range(0, len(data.varying), config.tile)]
    blocks: dict[str, Any] = {"block_length_tr": config.block_tr}
    if config.block_tr is None:
        blocks = find_blocks(data, tiles, test, language, stretches)
    solver: Any = tiles
    maps = PartitionMaps(
        data, solver, score="r2", n_bootstrap=config.n_bootstrap, n_permutations=config.n_permutations,
        tail=config.tail, block_tr=int(blocks["block_length_tr"]), level=0.95,
        keep_coef=config.save_coef or config.authors_files or config.weight_pca > 0, seed=config.seed,
    )  # fmt: skip
    found: dict[str, np.ndarray] = {name: np.full(n_voxels, np.nan) for name in ("p", "slow")}
    keep = config.save_pred or config.authors_files
    kept = np.full((len(data.test_rows), n_voxels), np.nan, dtype=np.float32) if keep else None
    by_run: dict[str, Any] = {}
    for number, columns in enumerate(stretches):
        voxels, tiles.number = data.varying[columns], number
        maps.add(voxels)
        truth, predictions = data.responses[:, voxels][data.test_rows], tiles.predict(test, language, number)
        for kind in ("language", "nuisance", "full"):
            subset = find_subset(model, names, kind)
            if subset in jobs and (kind == "language" or subset != language):
                other = predictions if kind == "language" else tiles.predict(test, subset, number)
                by_run[kind] = by_run.get(kind, 0.0) + sum_by_run(other, truth, data)
        for name, values in permute_tile(config, data, predictions, truth, blocks).items():
            found[name][voxels] = values
        if kept is not None:
            kept[:, voxels] = predictions
    lengths = segment_lengths(run_segments(data.test_runs, len(data.test_rows)))
    facts |= {
        "n_constant": n_voxels - len(data.varying),
        "edge_share": float(np.isin(maps.maps["alpha", ""], [min(config.alphas), max(config.alphas)]).mean()),
        "r_by_run": {name: (total / len(data.varying)).tolist() for name, total in by_run.items()},
        "null": {"type": "block permutation", "n_permutations": config.n_permutations, "tail": config.tail,
                 "n_blocks": int((lengths // blocks["block_length_tr"]).sum()), **blocks},
        "ceiling": {"reason": CEILING_REASON},
    }  # fmt: skip
    made = columns_of(config, model, names, maps, found["p"])
    if "autocorrelation_tr" in blocks:
        made["slow"] = found["slow"]
        facts["n_slow"] = int(np.nansum(found["slow"]))
        facts["null"]["n_slow_significant"] = int(((found["slow"] == 1) & (made["p_fdr"] <= 0.05)).sum())
    parts = {"all": {"r": made["r"], "p": made["p_fdr"]}}
    parts |= {name: {"r": maps.maps["product_r", name]} for name in names if len(names) > 1}
    return Fitted(
        made, facts, {name: maps.maps["coef", name] for name in names} if maps.keep_coef else {},
        {} if kept is None else {"all": kept}, None, parts,
    )  # fmt: skip


def sum_by_run(predictions: np.ndarray, truth: np.ndarray, data: PartitionData) -> np.ndarray:
    """Return r within each scored run, summed over voxels, shape (n_runs,)."""
    by_run = correlation_by_run(predictions, truth, np.asarray(data.test_runs))
    return np.asarray(np.nan_to_num(by_run).sum(axis=1))


def permute_tile(
    config: Config, data: PartitionData, predictions: np.ndarray, truth: np.ndarray, blocks: Mapping[str, Any]
) -> dict[str, np.ndarray]:
    """Return p, and which voxels are too slow for the blocks where those are shorter than they should be."""
    tested = permutation_test(
        predictions, truth, data.test_runs, block_length=int(blocks["block_length_tr"]),
        n_permutations=config.n_permutations, tail=config.tail, seed=config.seed,
    )  # fmt: skip
    # A model that predicts the same for every row predicts nothing.
    found = {"p": np.where(np.isnan(tested.p), 1.0, tested.p)}
    if "autocorrelation_tr" in blocks:
        times = slower_times(predictions, truth, data.test_runs)
        found["slow"] = times * TIMES_PER_BLOCK > tested.block_length
    return found


def find_subset(model: Model, names: Sequence[str], kind: str) -> Subset:
    """Return the numbers of all bands, of those that are asked about, or of the nuisances."""
    return tuple(
        i for i, name in enumerate(names) if kind == "full" or (name in model.language) == (kind == "language")
    )


def find_blocks(
    data: PartitionData, tiles: FinishedTiles, test: torch.Tensor, subset: Subset, stretches: list[slice]
) -> dict[str, Any]:
    """Return one block length for all voxels, from some of every tile (`cap_blocks`)."""
    each = -(-_VOXELS_FOR_BLOCKS // len(stretches))
    predictions, responses = [], []
    for number, columns in enumerate(stretches):
        predictions.append(tiles.predict(test, subset, number, each))
        responses.append(data.responses[:, data.varying[columns][:each]][data.test_rows])
    return cap_blocks(np.concatenate(predictions, axis=1), np.concatenate(responses, axis=1), data.test_runs)


def columns_of(
    config: Config, model: Model, names: tuple[str, ...], maps: PartitionMaps, p: np.ndarray
) -> dict[str, np.ndarray]:
    """Return all maps by name."""
    full, language, nuisance = (find_subset(model, names, kind) for kind in ("full", "language", "nuisance"))
    of = {subset: maps.of_model(subset) for subset in maps.solver.subsets}
    r2 = {subset: found["r2"] for subset, found in of.items()}
    cv = "cv_r" if config.score == "correlation" else "cv_r2"
    columns = {
        "r": of[language]["r"], "r2": r2[language], "p": p, "p_fdr": fdr(p).p_adjusted,
        "p_by": fdr(p, "by").p_adjusted, cv: of[language]["cv"], "alpha": maps.maps["alpha", ""],
    }  # fmt: skip
    if nuisance:
        columns |= {"r_full": of[full]["r"], "r2_full": r2[full]}
    else:
        columns |= {"r2_low": maps.maps["score_low", ""], "r2_high": maps.maps["score_high", ""]}
    for i in full if len(names) > 1 else ():
        name, without = names[i], tuple(j for j in full if j != i)
        columns[f"share_{name}"] = maps.maps["product_r", name]
        if without in of:
            columns[f"unique_{name}"] = r2[full] - r2[without]
            for what in ("low", "high", "p"):
                columns[f"unique_{name}_{what}"] = maps.maps[what, name]
            columns[f"unique_{name}_p_fdr"] = fdr(maps.maps["p", name]).p_adjusted
    if nuisance and nuisance in of:
        columns |= {"r_nuisance": of[nuisance]["r"], "unique_language": r2[full] - r2[nuisance]}
    if config.partition == "all" and 1 < len(language) <= 4:
        # What the nuisances explain is taken off first.
        base = r2[nuisance] if nuisance else 0.0
        gains = {
            tuple(names[i] for i in subset if i in language): values - base
            for subset, values in r2.items()
            if set(nuisance) <= set(subset) and set(subset) - set(nuisance)
        }
        columns |= {"shared_" + "+".join(some): v for some, v in commonality(gains).items() if len(some) > 1}
    return columns

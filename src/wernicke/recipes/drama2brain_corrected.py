"""drama2brain's models as they should be tested: fitted in tiles of voxels, partitioned, and held against a null.

The features' side of the work (reduction, decomposition) is done once for all subjects. Responses lie on disk and are
fitted some voxels at a time, here or by dask workers; a tile that is done is never done again.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from wernicke.core.errors import InputError
from wernicke.core.recording import Recording
from wernicke.encoding.contrasts import correlation_by_run
from wernicke.encoding.partition import commonality
from wernicke.encoding.partition_fit import PartitionData, PartitionMaps
from wernicke.pretrained.llm import resolve_device
from wernicke.recipes.drama2brain_bands import CEILING_REASON, Fitted, Model, Subject
from wernicke.recipes.drama2brain_design import Design, Rows, choose_rows, design, nuisance_design
from wernicke.ridge import fit_tiles
from wernicke.ridge.partition import SubModel
from wernicke.stats.autocorrelation import block_length
from wernicke.stats.detrend import detrend_runs
from wernicke.stats.fdr import fdr
from wernicke.stats.permutation import permutation_test
from wernicke.stats.segments import centre_by_run, run_segments
from wernicke.store.atomic import atomic_path, check_free_space
from wernicke.store.files import read_safetensors
from wernicke.store.fingerprint import fingerprint
from wernicke.store.units import WORK

if TYPE_CHECKING:
    from wernicke.recipes.drama2brain_encode import Config

log = logging.getLogger(__name__)

Subset = tuple[int, ...]

_VOXELS_FOR_BLOCKS = 2000


@dataclass(frozen=True)
class Responses:
    """A subject's responses, each voxel standardised within each run when it is read."""

    values: np.ndarray
    runs: np.ndarray
    how: str

    @property
    def shape(self) -> tuple[int, ...]:
        return self.values.shape

    def __getitem__(self, index: tuple[slice, Any]) -> np.ndarray:
        """Return some voxels of all rows, float32."""
        values = np.asarray(self.values[:, index[1]], dtype=np.float32)
        if self.how == "zscore":
            return detrend_runs(values, self.runs, order=0)[index[0]].astype(np.float32)
        if self.how == "centre":
            return centre_by_run(values, run_segments(self.runs, len(values)))[index[0]].astype(np.float32)
        return values[index[0]]


def fit(
    config: Config,
    run: Path,
    model: Model,
    features: Mapping[str, np.ndarray],
    subjects: Mapping[str, Subject],
) -> Iterator[tuple[str, Fitted]]:
    """Yield each subject's result."""
    if not subjects:
        return
    rows = choose_rows(config.data)
    designs = {
        name: nuisance_design(values, name, config.nuisance_delays_s, rows)
        if name in config.nuisance
        else design(values, model.bands[name], rows, seed=config.seed, name=name)
        for name, values in features.items()
    }
    subsets = choose_subsets(config, model, list(designs))
    data = {name: prepare(config, subject.recording, designs, rows) for name, subject in subjects.items()}
    work = run / WORK / "jobs" / model.name / fingerprint(sorted(subjects))[:12]
    files = {name: training_file(run / WORK / "responses", subjects[name], d, config) for name, d in data.items()}
    jobs: dict[Subset, Path] = {}
    with workers(config.cluster, run / WORK / "dask") as client:
        for subset in subsets:
            jobs[subset] = fit_tiles(
                [next(iter(data.values())).train[i] for i in subset], files, work / "-".join(map(str, subset)),
                alphas=config.alphas, cv=rows.cv, score=config.score, n_iter=config.n_iter, seed=config.seed,
                fit_intercept=True, tile=config.tile, device=resolve_device(config.device), client=client,
            )  # fmt: skip
    for name, of_subject in data.items():
        audited = poison_audit(config, model, features, subjects[name].recording, rows)
        yield name, score(config, model, of_subject, jobs, name, describe(designs, rows, audited))


def choose_subsets(config: Config, model: Model, names: list[str]) -> list[Subset]:
    """Return which models are fitted, by the numbers of their bands; the full one first."""
    import itertools

    language = [i for i, name in enumerate(names) if name in model.language]
    nuisance = [i for i in range(len(names)) if i not in language]
    wanted = [tuple(range(len(names)))]
    if config.partition != "none":
        wanted += [tuple(i for i in wanted[0] if i != left_out) for left_out in language]
        wanted += [tuple(language), tuple(nuisance)]
    if config.partition == "all" and len(language) <= 4:
        for size in range(1, len(language)):
            wanted += [tuple(sorted((*some, *nuisance))) for some in itertools.combinations(language, size)]
    return [subset for subset in dict.fromkeys(wanted) if subset]


def prepare(config: Config, recording: Recording, designs: Mapping[str, Design], rows: Rows) -> PartitionData:
    """Bring a subject's responses and the designs together."""
    responses = Responses(recording.values, recording.runs, config.data.standardise)
    varying = []
    for start in range(0, responses.shape[1], config.tile):
        values = np.asarray(recording.values[:, start : start + config.tile])
        varies = [np.ptp(values[part], axis=0) > 0 for part in (rows.train, rows.valid)]
        varying.append(start + np.flatnonzero(varies[0] & varies[1]))
    found = np.concatenate(varying)
    if not len(found):
        raise InputError("E-CONST", f"all {responses.shape[1]} voxels are constant", field=recording.subject)
    return PartitionData(
        names=tuple(designs),
        train=[one.columns[rows.train] for one in designs.values()],
        test=np.concatenate([one.columns[rows.valid] for one in designs.values()], axis=1),
        scales=[one.scale for one in designs.values()],
        responses=responses,
        train_rows=rows.train,
        test_rows=rows.valid,
        test_runs=recording.runs[rows.valid],
        cv=rows.cv,
        varying=found,
    )


def training_file(folder: Path, subject: Subject, data: PartitionData, config: Config) -> Path:
    """Write the standardised training rows of voxels that vary, some voxels at a time, unless they are there."""
    made_of = {"responses": subject.fingerprint, "data": {k: str(v) for k, v in vars(config.data).items()}}
    path = folder / f"{subject.recording.subject}-{fingerprint(made_of)[:12]}.npy"
    if path.exists():
        return path
    shape = (len(data.train_rows), len(data.varying))
    check_free_space(folder, 4 * shape[0] * shape[1])
    with atomic_path(path) as temporary:
        mapped = np.lib.format.open_memmap(temporary, mode="w+", dtype="<f4", shape=shape)
        for at in range(0, shape[1], config.tile):
            columns = slice(at, at + config.tile)
            mapped[:, columns] = data.responses[:, data.varying[columns]][data.train_rows]
        mapped.flush()
        del mapped
    return path


class FinishedTiles:
    """What `SubModels` would yield for a tile of voxels, read from the files of finished jobs."""

    def __init__(self, jobs: Mapping[Subset, Path], subject: str, widths: list[int]) -> None:
        self.jobs, self.subject = dict(jobs), subject
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
        found = read_safetensors(self.jobs[subset] / self.subject / f"tile_{number:06d}.safetensors")
        coef = np.zeros((self.parts[-1].stop, found["coef"].shape[1]), dtype=found["coef"].dtype)
        columns = np.concatenate([np.r_[self.parts[i]] for i in subset])
        coef[columns] = found["coef"]
        return SubModel(subset, found["best_alphas"], found["best_scores"], coef, found["intercept"])


def score(
    config: Config, model: Model, data: PartitionData, jobs: Mapping[Subset, Path], subject: str, facts: dict[str, Any]
) -> Fitted:
    """Score a subject's models on the rows that no fit has seen, tile by tile."""
    n_voxels = data.responses.shape[1]
    tiles = FinishedTiles(jobs, subject, [part.shape[1] for part in data.train])
    full = tiles.subsets[0]
    stretches = [slice(at, min(at + config.tile, len(data.varying))) for at in range(0, len(data.varying), config.tile)]
    block_tr = find_block_length(data, tiles, full, stretches)
    solver: Any = tiles
    maps = PartitionMaps(
        data, solver, score="r2", n_bootstrap=config.n_bootstrap, n_permutations=config.n_permutations,
        tail=config.tail, block_tr=block_tr, level=0.95, keep_coef=config.save_coef or config.authors_files,
        seed=config.seed,
    )  # fmt: skip
    ends = np.array([min(config.alphas), max(config.alphas)])
    test_runs = np.asarray(data.test_runs)
    p = np.full(n_voxels, np.nan)
    keep = config.save_pred or config.authors_files
    kept = np.full((len(data.test_rows), n_voxels), np.nan, dtype=np.float32) if keep else None
    nuisance = tuple(i for i, name in enumerate(data.names) if name not in model.language)
    by_run = {"full": full} | ({"nuisance": nuisance} if nuisance in jobs else {})
    r_by_run: dict[str, Any] = dict.fromkeys(by_run, 0.0)
    n_blocks = n_edge = 0
    for number, columns in enumerate(stretches):
        voxels, tiles.number = data.varying[columns], number
        maps.add(voxels)
        one, truth = tiles.read(full, number), data.responses[:, voxels][data.test_rows]
        prediction = data.test @ one.coef + one.intercept
        for name, subset in by_run.items():
            other = one if subset == full else tiles.read(subset, number)
            found = correlation_by_run(data.test @ other.coef + other.intercept, truth, test_runs)
            r_by_run[name] += np.nan_to_num(found).sum(axis=1)
        tested = permutation_test(
            prediction, truth, test_runs, block_length=block_tr,
            n_permutations=config.n_permutations, tail=config.tail, seed=config.seed,
        )  # fmt: skip
        # A model that predicts the same for every row predicts nothing.
        p[voxels], n_blocks = np.where(np.isnan(tested.p), 1.0, tested.p), tested.n_blocks
        n_edge += int(np.isin(one.best_alphas, ends).sum())
        if kept is not None:
            kept[:, voxels] = prediction
    facts |= {
        "n_constant": n_voxels - len(data.varying),
        "edge_share": n_edge / len(data.varying),
        "r_by_run": {name: (total / len(data.varying)).tolist() for name, total in r_by_run.items()},
        "null": {"type": "block permutation", "n_permutations": config.n_permutations, "block_length_tr": block_tr,
                 "n_blocks": n_blocks, "tail": config.tail},
        "ceiling": {"reason": CEILING_REASON},
    }  # fmt: skip
    names = data.names
    return Fitted(
        columns_of(config, model, names, maps, p),
        facts,
        {name: maps.maps["coef", name] for name in names} if maps.keep_coef else {},
        {} if kept is None else {"all": kept},
        None,
        {"all": {"r": maps.of_model(full)["r"], "p": fdr(p).p_adjusted}}
        | {name: {"r": maps.maps["product_r", name]} for name in names if len(names) > 1},
    )


def find_block_length(data: PartitionData, tiles: FinishedTiles, full: Subset, stretches: list[slice]) -> int:
    """Return one block length for all voxels, from some of every tile."""
    each = -(-_VOXELS_FOR_BLOCKS // len(stretches))
    predictions, truth = [], []
    for number, columns in enumerate(stretches):
        model = tiles.read(full, number)
        predictions.append(data.test @ model.coef[:, :each] + model.intercept[:each])
        truth.append(data.responses[:, data.varying[columns][:each]][data.test_rows])
    return block_length(np.concatenate(predictions, axis=1), np.concatenate(truth, axis=1), data.test_runs)


def columns_of(
    config: Config, model: Model, names: tuple[str, ...], maps: PartitionMaps, p: np.ndarray
) -> dict[str, np.ndarray]:
    """Return all maps by name."""
    full = tuple(range(len(names)))
    of = {subset: maps.of_model(subset) for subset in maps.solver.subsets}
    r2 = {subset: found["r2"] for subset, found in of.items()}
    cv = "cv_r" if config.score == "correlation" else "cv_r2"
    columns = {
        "r": of[full]["r"], "r2": r2[full], "p": p, "p_fdr": fdr(p).p_adjusted, "p_by": fdr(p, "by").p_adjusted,
        cv: of[full]["cv"], "alpha": maps.maps["alpha", ""], "r2_low": maps.maps["score_low", ""],
        "r2_high": maps.maps["score_high", ""],
    }  # fmt: skip
    language = tuple(i for i in full if names[i] in model.language)
    nuisance = tuple(i for i in full if i not in language)
    for i in full if len(names) > 1 else ():
        name, without = names[i], tuple(j for j in full if j != i)
        columns[f"share_{name}"] = maps.maps["product_r2", name]
        if without in of:
            columns[f"unique_{name}"] = r2[full] - r2[without]
            for what in ("low", "high", "p"):
                columns[f"unique_{name}_{what}"] = maps.maps[what, name]
            columns[f"unique_{name}_p_fdr"] = fdr(maps.maps["p", name]).p_adjusted
    if nuisance and nuisance in of:
        columns |= {"r_nuisance": of[nuisance]["r"], "unique_language": r2[full] - r2[nuisance]}
        if language in of:
            columns |= {"r_language": of[language]["r"], "r2_language": r2[language]}
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


def describe(designs: Mapping[str, Design], rows: Rows, audited: dict[str, bool]) -> dict[str, Any]:
    """How the models were fitted, as plain values."""
    return {
        "n_train": len(rows.train), "n_valid": len(rows.valid), "n_folds": len(rows.cv), "poison_audit": audited,
        "bands": {
            name: {"n_features": one.n_features, "n_columns": one.columns.shape[1], "explained": one.explained}
            for name, one in designs.items()
        },
    }  # fmt: skip


def poison_audit(
    config: Config, model: Model, features: Mapping[str, np.ndarray], recording: Recording, rows: Rows
) -> dict[str, bool]:
    """Does anything that was fitted change when the scored rows are replaced by nonsense? On the first few voxels."""
    from wernicke.core.seeds import derive_rng
    from wernicke.ridge import correlation_score, solve_ridge_cv

    name, band = next(iter(model.bands.items()))
    rng = derive_rng(config.seed, "poison audit")
    clean = features[name], np.array(recording.values[:, :8], dtype=np.float32)
    poisoned = tuple(array.copy() for array in clean)
    for array in poisoned:
        array[rows.valid] = 1e6 * rng.standard_normal(array[rows.valid].shape)
    learnt = []
    for values, responses in (clean, poisoned):
        made = design(values, band, rows, seed=config.seed, name=name)
        Y = Responses(responses, recording.runs, config.data.standardise)[:, :][rows.train]
        Y = Y[:, np.ptp(clean[1][rows.train], axis=0) > 0]
        found = {"feature scale": np.float64(made.scale), "training features": made.columns[rows.train]}
        if Y.shape[1]:
            fitted = solve_ridge_cv(
                made.columns[rows.train], Y, alphas=config.alphas, cv=rows.cv, score_func=correlation_score,
                fit_intercept=True, warn=False,
            )  # fmt: skip
            found |= {"alpha": fitted.best_alphas, "weights": fitted.coef, "intercept": fitted.intercept}
        learnt.append({key: np.asarray(value).tobytes() for key, value in found.items()})
    return {key: learnt[0][key] != learnt[1][key] for key in learnt[0]}


@contextmanager
def workers(cluster: str | None, folder: Path) -> Iterator[Any]:
    """Yield a dask client, or None to work here.

    Raises
    ------
    InputError
        E-CFG for neither ``local:N`` nor an address, E-REF without the package or where nobody answers.
    """
    if cluster is None:
        yield None
        return
    local = re.fullmatch(r"local:([1-9]\d{0,3})", cluster)
    if local is None and not re.fullmatch(r"[a-z]+://\S+", cluster):
        raise InputError("E-CFG", f"found {cluster!r}, expected local:N, or an address such as tcp://node1:8786",
                         field="cluster")  # fmt: skip
    try:
        from distributed import Client, LocalCluster
    except ImportError as error:
        raise InputError("E-REF", "dask needs the package `distributed`", field="cluster",
                         hint='pip install "wernicke[cluster]"') from error  # fmt: skip
    if local is None:
        try:
            client = Client(cluster, timeout=20)
        except OSError as error:
            raise InputError("E-REF", f"no scheduler answers at {cluster}", field="cluster") from error
        with client:
            yield client
        return
    folder.mkdir(parents=True, exist_ok=True)
    settings: dict[str, Any] = {"n_workers": int(local[1]), "threads_per_worker": 1, "dashboard_address": None}
    with LocalCluster(**settings, host="127.0.0.1", local_directory=str(folder)) as made, Client(made) as client:
        yield client

"""Out of core: responses read from disk in tiles of voxels, results written tile by tile, resumable, on many machines.

A job is a folder. ``job.json`` and ``features.safetensors`` say what is to be done; ``bases/`` holds what depends on
features only, computed once for all tiles, subjects and machines; ``<subject>/tile_000000.safetensors`` holds a tile's
results. Every file is written atomically and depends on nothing but the job, so a job killed at any point goes on
where it stopped, and the bytes do not depend on who computed them.
"""

from __future__ import annotations

import functools
import hashlib
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tqdm import tqdm

from wernicke.core.checks import check_identifier, check_option
from wernicke.core.errors import InputError
from wernicke.ridge.arrays import Array, check_finite_tensor, to_torch
from wernicke.ridge.basis import FoldBasis
from wernicke.ridge.draws import make_gammas
from wernicke.ridge.folds import Fold, make_folds
from wernicke.ridge.responses import ResponseFile
from wernicke.ridge.scores import correlation_score, l2_neg_loss, r2_score
from wernicke.ridge.search import TILE, BasisCache, Choice, Search, fit_weights, make_side, search_draws
from wernicke.ridge.solvers import check_alphas, check_constant, check_xy
from wernicke.ridge.targets import Side, read_tile
from wernicke.store.files import read_json, read_safetensors, write_json, write_safetensors

logger = logging.getLogger(__name__)

SCORES = {"correlation": correlation_score, "r2": r2_score, "l2": l2_neg_loss}
_BASIS_ARRAYS = ("eigenvalues", "vectors", "test_factor", "test_gram", "test_mean", "train_mean")


@dataclass
class Job:
    """A job folder, read once by every process that works on it."""

    folder: Path
    settings: dict[str, Any]
    side: Side
    search: Search
    gammas: np.ndarray
    cache: DiskBases

    @property
    def tiles(self) -> list[tuple[str, int]]:
        """Every (subject, tile number) of the job."""
        size = self.settings["tile"]
        return [(name, i) for name, s in self.settings["subjects"].items() for i in range(-(-s["n_targets"] // size))]

    def tile_path(self, subject: str, number: int) -> Path:
        """Return where a tile's results stand."""
        return self.folder / subject / f"tile_{number:06d}.safetensors"


class DiskBases(BasisCache):
    """Bases by draw, computed once and kept in files."""

    def __init__(self, side: Side, folder: Path) -> None:
        super().__init__(side, keep=False)
        self.folder = folder

    def folds(self, draw: int, gamma: np.ndarray) -> list[FoldBasis]:
        """Return every fold's basis for one draw of band weights."""
        return [self._fold(draw, k, gamma) for k in range(len(self.side.folds))]

    def _fold(self, draw: int, k: int, gamma: np.ndarray) -> FoldBasis:
        path, fold = self.folder / f"draw_{draw:06d}_fold_{k:03d}.safetensors", self.side.folds[k]
        if not path.exists():
            basis = self.side.fold_basis(k, gamma)
            present = {name: getattr(basis, name) for name in _BASIS_ARRAYS if getattr(basis, name) is not None}
            write_safetensors(path, {name: tensor.cpu().numpy() for name, tensor in present.items()})
        found = {name: torch.from_numpy(a).to(self.side.device) for name, a in read_safetensors(path).items()}
        return FoldBasis(
            found["eigenvalues"], found["vectors"], found.get("test_factor"), found.get("test_gram"),
            found["test_mean"], found.get("train_mean"), len(fold.train), len(fold.test),
        )  # fmt: skip

    def refit(self, draw: int, gamma: np.ndarray) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Return the decomposition over all samples for one draw."""
        path = self.folder / f"draw_{draw:06d}_all.safetensors"
        if not path.exists():
            parts = zip(("eigenvalues", "inside", "outside"), self.side.refit_basis(gamma), strict=True)
            write_safetensors(path, {name: tensor.cpu().numpy() for name, tensor in parts})
        found = read_safetensors(path)
        eigenvalues, inside, outside = (
            torch.from_numpy(found[name]).to(self.side.device) for name in ("eigenvalues", "inside", "outside")
        )
        return eigenvalues, inside, outside


def fit_tiles(
    Xs: Sequence[Array] | Array,
    responses: str | Path | ResponseFile | Mapping[str, str | Path | ResponseFile],
    path: str | Path,
    *,
    alphas: Any,
    cv: Any = 5,
    score: str = "correlation",
    n_iter: int | np.ndarray | None = None,
    concentration: float | Sequence[float] = (0.1, 1.0),
    seed: int = 0,
    fit_intercept: bool = False,
    exhaustive: bool = False,
    tile: int = 4096,
    device: str = "cpu",
    client: Any = None,
) -> Path:
    """Fit ridge or banded ridge to responses on disk, tile by tile; call again with the same arguments to resume.

    Parameters
    ----------
    Xs : array of shape (n_samples, n_features), or sequence of them, one a band
    responses : path, ResponseFile, or mapping of subject to either
        Each (n_samples, n_targets) in npy, Zarr or HDF5. Subjects saw the same stimuli: all share the work on features.
    path : path-like
        The job's folder, made if it does not exist.
    alphas, cv, concentration, fit_intercept, exhaustive
        As in `solve_group_ridge`.
    score : {"correlation", "r2", "l2"}
    n_iter : int or array, optional
        As in `solve_group_ridge`; with one band not used.
    seed : int
        Of the draws of band weights.
    tile : int
        Voxels held at a time; memory is proportional to it, see `plan_tiles`.
    device : str
    client : distributed.Client or str, optional
        Do the tiles as dask tasks, on a client or a scheduler's address; workers must see the same file system. A
        worker that dies is survived: its tiles are done again. Else they are done one after the other, here.

    Returns
    -------
    Path
        The job's folder; `read_tiles` reads results from it.

    Raises
    ------
    InputError
        E-CFG: the folder holds another job; else as in `solve_group_ridge`, and what reading the files raises.
    """
    folder = Path(path)
    settings, arrays = _describe(Xs, responses, alphas, cv, score, n_iter, concentration, seed, fit_intercept, tile)
    settings |= {"exhaustive": bool(exhaustive), "device": device}
    _write_job(folder, settings, arrays)
    job = open_job(str(folder), settings["fingerprint"])
    for draw, gamma in enumerate(tqdm(job.gammas, desc="bases", disable=None)):
        job.cache.folds(draw, gamma)  # every worker reads the same bytes
        job.cache.refit(draw, gamma)
    missing = [(name, number) for name, number in job.tiles if not job.tile_path(name, number).exists()]
    logger.info("%d of %d tiles are to be done", len(missing), len(job.tiles))
    if client is None:
        for name, number in tqdm(missing, desc="tiles", disable=None):
            run_tile(str(folder), settings["fingerprint"], name, number)
    else:
        _run_on_dask(client, str(folder), settings["fingerprint"], missing)
    return folder


def _describe(
    Xs: Any, responses: Any, alphas: Any, cv: Any, score: str, n_iter: Any, concentration: Any, seed: int,
    fit_intercept: bool, tile: int,
) -> tuple[dict[str, Any], dict[str, np.ndarray]]:  # fmt: skip
    """Return the job's settings and its arrays, all checked."""
    bands = [to_torch(X) for X in (Xs if isinstance(Xs, (list, tuple)) else [Xs])]
    bands, _ = check_xy(bands, torch.zeros((len(bands[0]), 1)))
    check_option(score, list(SCORES), "score")
    if not isinstance(tile, int) or tile < 1:
        raise InputError("E-CFG", f"found {tile!r}, expected a whole number above 0", field="tile")
    n_samples = bands[0].shape[0]
    sources = dict(responses) if isinstance(responses, Mapping) else {"responses": responses}
    subjects = {}
    for name, given in sources.items():
        source = given if isinstance(given, ResponseFile) else ResponseFile(Path(given))
        rows, n_targets = source.shape
        if rows != n_samples:
            raise InputError("E-SHAPE", f"found {rows} rows, expected {n_samples} as in the features", path=source.path)
        subjects[check_identifier(name, "responses")] = {
            "path": str(Path(source.path).resolve()), "key": source.key, "n_targets": n_targets,
            "sample": source.sample(),
        }  # fmt: skip
    n_bands = len(bands)
    gammas = make_gammas(
        np.ones((1, 1)) if n_bands == 1 else 100 if n_iter is None else n_iter, n_bands, concentration, seed
    )
    arrays = {"X": torch.cat(bands, 1).cpu().numpy(), "alphas": check_alphas(alphas), "gammas": gammas}
    for k, fold in enumerate(make_folds(cv, n_samples)):
        arrays |= {f"train_{k:03d}": fold.train, f"test_{k:03d}": fold.test}
    settings = {
        "subjects": subjects, "score": score, "widths": [band.shape[1] for band in bands], "tile": tile,
        "fit_intercept": bool(fit_intercept),
    }  # fmt: skip
    return settings, arrays


def _write_job(folder: Path, settings: dict[str, Any], arrays: dict[str, np.ndarray]) -> None:
    """Write the job's description, or make sure that the folder holds this very job."""
    parts = {
        name: hashlib.sha256(np.ascontiguousarray(array).tobytes()).hexdigest()
        for name, array in sorted(arrays.items())
    }
    known = {key: value for key, value in settings.items() if key != "subjects"}
    known["subjects"] = {name: {k: v for k, v in s.items() if k != "path"} for name, s in settings["subjects"].items()}
    settings["parts"] = parts
    settings["fingerprint"] = hashlib.sha256(repr(sorted((known | {"parts": parts}).items())).encode()).hexdigest()
    description = folder / "job.json"
    if description.exists():
        found = read_json(description)
        if found.get("fingerprint") != settings["fingerprint"]:
            differing = [k for k in sorted(known) if k != "subjects" and found.get(k) != known[k]]
            differing += [k for k in parts if found.get("parts", {}).get(k) != parts[k]] or ["responses"]
            raise InputError("E-CFG", f"this folder holds another job; {', '.join(differing[:5])} differ",
                             path=folder, hint="choose a new folder, or remove this one")  # fmt: skip
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "bases").mkdir(exist_ok=True)
    for name in settings["subjects"]:
        (folder / name).mkdir(exist_ok=True)
    if not (folder / "features.safetensors").exists():
        write_safetensors(folder / "features.safetensors", arrays)
    write_json(description, settings)


@functools.lru_cache(maxsize=1)
def open_job(folder: str, fingerprint: str) -> Job:
    """Read a job folder; `fingerprint` tells one job in it from another that once stood there."""
    path = Path(folder)
    settings = read_json(path / "job.json")
    if settings["fingerprint"] != fingerprint:
        raise InputError("E-CFG", "the folder holds another job than the one asked for", path=path)
    arrays = read_safetensors(path / "features.safetensors")
    n_samples, n_folds = len(arrays["X"]), sum(name.startswith("test_") for name in arrays)
    folds = []
    for k in range(n_folds):
        train, test = arrays[f"train_{k:03d}"], arrays[f"test_{k:03d}"]
        seen = np.bincount(np.concatenate([train, test]), minlength=n_samples)
        folds.append(Fold(train, test, complementary=bool((seen == 1).all())))
    search = Search(
        folds, arrays["alphas"], SCORES[settings["score"]], settings["fit_intercept"], exhaustive=settings["exhaustive"]
    )
    X = torch.from_numpy(arrays["X"]).to(settings["device"])
    side = make_side(X, settings["widths"], search)
    return Job(path, settings, side, search, arrays["gammas"], DiskBases(side, path / "bases"))


def run_tile(folder: str, fingerprint: str, subject: str, number: int) -> None:
    """Do one tile, if nobody has done it yet."""
    job = open_job(folder, fingerprint)
    target = job.tile_path(subject, number)
    if target.exists():
        return
    source = job.settings["subjects"][subject]
    start = number * job.settings["tile"]
    columns = slice(start, min(start + job.settings["tile"], source["n_targets"]))
    file = ResponseFile(Path(source["path"]), source["key"])
    Y = to_torch(file.read(columns))
    name = f"{subject}, targets {columns.start} to {columns.stop}"
    check_constant(check_finite_tensor(Y, name), first=columns.start)
    write_safetensors(target, solve_tile(job, Y))


def solve_tile(job: Job, Y: torch.Tensor) -> dict[str, np.ndarray]:
    """Return a tile's results by name; arrays end with the axis of targets."""
    side, n_targets = job.side, Y.shape[1]
    choice = Choice.empty(n_targets, side.device)
    cv_scores = torch.zeros((len(job.gammas), n_targets), dtype=side.dtype, device=side.device)
    coef = torch.zeros((side.n_features, n_targets), dtype=side.dtype, device=side.device)
    parts = [
        read_tile(side, Y, slice(at, min(at + TILE, n_targets)), job.search.folds, job.search.fit_intercept)
        for at in range(0, n_targets, TILE)
    ]
    search_draws(job.cache, parts, job.search, job.gammas, np.ones(len(job.gammas)), choice, cv_scores)
    n_floored = fit_weights(job.cache, parts, choice, job.gammas, coef)
    mean = torch.cat([part.mean for part in parts])
    intercept = mean if side.shift is None else mean - side.shift.to(side.dtype) @ coef
    grid = job.search.alphas
    edge = (choice.alpha <= grid[0]) | (choice.alpha >= grid[-1])
    results = {
        "best_alphas": choice.alpha, "best_draws": choice.draw, "best_scores": choice.score, "cv_scores": cv_scores,
        "coef": coef, "intercept": intercept, "n_floored": torch.tensor([n_floored]),
        "n_edge": edge.sum()[None] if len(grid) > 1 else torch.zeros(1, dtype=torch.int64),
    }  # fmt: skip
    return {name: tensor.cpu().numpy() for name, tensor in results.items()}


def _run_on_dask(client: Any, folder: str, fingerprint: str, tiles: list[tuple[str, int]]) -> None:
    """Do tiles as dask tasks; the scheduler gives those of a dead worker to another."""
    try:
        from distributed import Client, as_completed
    except ImportError as error:
        raise InputError("E-REF", "dask needs the package `distributed`", field="client",
                         hint='pip install "wernicke[cluster]"') from error  # fmt: skip
    own = isinstance(client, str)
    connected = Client(client) if own else client
    try:
        tasks = [connected.submit(run_tile, folder, fingerprint, *tile, pure=False, retries=3) for tile in tiles]
        for task in tqdm(as_completed(tasks), total=len(tasks), desc="tiles", disable=None):
            task.result()
    finally:
        if own:
            connected.close()


def read_tiles(path: str | Path, name: str, subject: str | None = None) -> np.ndarray:
    """Return one result of a finished job for all targets of a subject.

    Parameters
    ----------
    path : path-like
        The job's folder.
    name : str
        ``best_alphas``, ``best_draws``, ``best_scores``, ``cv_scores`` (n_draws, n_targets), ``coef`` (n_features,
        n_targets), ``intercept``; or ``n_floored``, ``n_edge``: the number of such targets in each tile.
    subject : str, optional
        Not needed where there is one.
    """
    from safetensors import safe_open

    folder = Path(path)
    settings = read_json(folder / "job.json")
    subject = subject if subject is not None else next(iter(settings["subjects"]))
    check_option(subject, list(settings["subjects"]), "subject", path=folder)
    n_tiles = -(-settings["subjects"][subject]["n_targets"] // settings["tile"])
    files = [folder / subject / f"tile_{number:06d}.safetensors" for number in range(n_tiles)]
    missing = [file for file in files if not file.exists()]
    if missing:
        raise InputError("E-TRUNC", f"{len(missing)} of {n_tiles} tiles are not done", path=folder,
                         hint="run the job again: it goes on where it stopped")  # fmt: skip
    parts = []
    for file in files:
        with safe_open(file, "numpy") as tensors:
            check_option(name, list(tensors.keys()), "name", path=file)
            parts.append(tensors.get_tensor(name))
    return np.concatenate(parts, axis=-1)

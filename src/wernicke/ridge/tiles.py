"""Out of core: responses read from disk in tiles of voxels, results written tile by tile, resumable, on many machines.

A job is a folder. ``job.json`` and ``features.safetensors`` say what is to be done; ``bases/`` holds what depends on
features only, computed once for all tiles, subjects and machines; ``<subject>/tile_000000.safetensors`` holds a tile's
results. Every file is written atomically and depends on nothing but the job, so a job killed at any point goes on
where it stopped, and the bytes do not depend on who computed them.
"""

from __future__ import annotations

import logging
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tqdm import tqdm

from wernicke.core.checks import check_option
from wernicke.core.errors import InputError
from wernicke.ridge.arrays import Array, check_finite_tensor, to_torch
from wernicke.ridge.inputs import check_constant
from wernicke.ridge.job import Job, describe_job, open_job, write_job
from wernicke.ridge.responses import ResponseFile
from wernicke.ridge.search import TILE, Choice, fit_weights, search_draws
from wernicke.ridge.targets import read_tile
from wernicke.store.files import read_json, write_safetensors

logger = logging.getLogger(__name__)


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
    settings, arrays = describe_job(Xs, responses, alphas, cv, score, n_iter, concentration, seed, fit_intercept, tile)
    settings |= {"exhaustive": bool(exhaustive), "device": device}
    write_job(folder, settings, arrays)
    job = open_job(str(folder), settings["fingerprint"])
    missing = [(name, number) for name, number in job.tiles if not job.tile_path(name, number).exists()]
    logger.info("%d of %d tiles are to be done", len(missing), len(job.tiles))
    if not missing:
        return folder
    for draw, gamma in enumerate(tqdm(job.gammas, desc="bases", disable=None)):
        job.cache.folds(draw, gamma)  # every worker reads the same bytes
        job.cache.refit(draw, gamma)
    if client is None:
        for name, number in tqdm(missing, desc="tiles", disable=None):
            run_tile(str(folder), settings["fingerprint"], name, number)
    else:
        _run_on_dask(client, str(folder), settings["fingerprint"], missing)
    return folder


def drop_bases(path: str | Path) -> None:
    """Remove what the tiles of a finished job had in common, by far its largest part; its results stay.

    Not while another process works in the same folder.

    Raises
    ------
    InputError
        E-TRUNC: tiles are not done, which would have to compute it all again.
    """
    folder = Path(path)
    for subject in read_json(folder / "job.json")["subjects"]:
        _finished_tiles(folder, subject)
    shutil.rmtree(folder / "bases")
    (folder / "bases").mkdir()


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
    try:
        connected = Client(client, timeout=20) if own else client
    except (OSError, ValueError) as error:
        raise InputError("E-REF", f"no scheduler answers at {client}: {error}", field="client") from None
    try:
        tasks = [connected.submit(run_tile, folder, fingerprint, *tile, pure=False, retries=3) for tile in tiles]
        done = as_completed(tasks, loop=connected.loop)  # the caller may have a client of its own
        for task in tqdm(done, total=len(tasks), desc="tiles", disable=None):
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
    parts = []
    for file in _finished_tiles(folder, subject):
        with safe_open(file, "numpy") as tensors:
            check_option(name, list(tensors.keys()), "name", path=file)
            parts.append(tensors.get_tensor(name))
    return np.concatenate(parts, axis=-1)


def _finished_tiles(folder: Path, subject: str) -> list[Path]:
    """Return a subject's files of results; one that is missing is refused."""
    settings = read_json(folder / "job.json")
    n_tiles = -(-settings["subjects"][subject]["n_targets"] // settings["tile"])
    files = [folder / subject / f"tile_{number:06d}.safetensors" for number in range(n_tiles)]
    n_missing = sum(not file.exists() for file in files)
    if n_missing:
        raise InputError("E-TRUNC", f"{n_missing} of {n_tiles} tiles are not done", path=folder,
                         hint="run the job again: it goes on where it stopped")  # fmt: skip
    return files

"""A job of tiles: its folder, what stands in it, and the features' share of the work kept in files."""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from wernicke.core.checks import check_identifier, check_option
from wernicke.core.errors import InputError
from wernicke.ridge.arrays import to_torch
from wernicke.ridge.basis import FoldBasis
from wernicke.ridge.draws import make_gammas
from wernicke.ridge.folds import Fold, make_folds
from wernicke.ridge.inputs import check_alphas, check_xy
from wernicke.ridge.responses import ResponseFile
from wernicke.ridge.scores import correlation_score, l2_neg_loss, r2_score
from wernicke.ridge.search import BasisCache, Search, make_side
from wernicke.ridge.targets import Side
from wernicke.store.files import read_json, read_safetensors, write_json, write_safetensors

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


def describe_job(
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


def write_job(folder: Path, settings: dict[str, Any], arrays: dict[str, np.ndarray]) -> None:
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

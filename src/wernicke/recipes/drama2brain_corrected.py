"""drama2brain's models as they should be tested: fitted in tiles of voxels, each reduced model tuned by itself.

The features' side of the work (reduction, decomposition) is done once for all subjects. Responses lie on disk and are
fitted some voxels at a time, here or by dask workers; a tile that is done is never done again.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from wernicke.core.errors import InputError
from wernicke.pretrained.llm import resolve_device
from wernicke.recipes.drama2brain_bands import Fitted, Model, Subject
from wernicke.recipes.drama2brain_design import Design, Rows, choose_rows, design, nuisance_design
from wernicke.recipes.drama2brain_responses import poison_audit, prepare, training_file
from wernicke.recipes.drama2brain_scoring import find_subset, score
from wernicke.ridge import drop_bases, fit_tiles
from wernicke.ridge.draws import Subset, draw_balances
from wernicke.store.fingerprint import fingerprint
from wernicke.store.units import WORK

if TYPE_CHECKING:
    from wernicke.recipes.drama2brain_encode import Config


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
    gammas = draw_balances(subsets, config.n_iter, config.seed)
    jobs: dict[Subset, Path] = {}
    with workers(config.cluster, run / WORK / "dask") as client:
        for subset in subsets:
            jobs[subset] = fit_tiles(
                [next(iter(data.values())).train[i] for i in subset], files, work / "-".join(map(str, subset)),
                alphas=config.alphas, cv=rows.cv, score=config.score, n_iter=gammas[subset],
                fit_intercept=True, tile=config.tile, device=resolve_device(config.device), client=client,
            )  # fmt: skip
            drop_bases(jobs[subset])
    for name, of_subject in data.items():
        audited = poison_audit(config, model, features, subjects[name].recording, rows)
        fitted = score(config, model, of_subject, jobs, name, describe(designs, rows, audited))
        reduced = {band: one.projection for band, one in designs.items() if one.projection is not None}
        yield name, replace(fitted, projections=reduced)


def choose_subsets(config: Config, model: Model, names: list[str]) -> list[Subset]:
    """Return which models are fitted, by the numbers of their bands; the full one first."""
    language, nuisance = find_subset(model, names, "language"), find_subset(model, names, "nuisance")
    wanted = [tuple(range(len(names))), language]
    if config.partition != "none":
        wanted += [tuple(i for i in wanted[0] if i != left_out) for left_out in language] + [nuisance]
    if config.partition == "all" and len(language) <= 4:
        for size in range(1, len(language)):
            wanted += [tuple(sorted((*some, *nuisance))) for some in itertools.combinations(language, size)]
    return [subset for subset in dict.fromkeys(wanted) if subset]


def describe(designs: Mapping[str, Design], rows: Rows, audited: dict[str, bool]) -> dict[str, Any]:
    """How the models were fitted, as plain values."""
    return {
        "n_train": len(rows.train), "n_valid": len(rows.valid), "n_folds": len(rows.cv), "poison_audit": audited,
        "bands": {
            name: {"n_features": one.n_features, "n_columns": one.columns.shape[1], "explained": one.explained}
            for name, one in designs.items()
        },
    }  # fmt: skip


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

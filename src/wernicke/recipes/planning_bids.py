"""What an encoding model of a BIDS data set takes: `wernicke plan --config bids_encode`."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from math import prod
from typing import TYPE_CHECKING, Any

from wernicke.core.errors import InputError
from wernicke.recipes.planning import LIBRARIES_BYTES, Estimate, describe_size, time_of

if TYPE_CHECKING:
    from wernicke.recipes.bids_encode import Config
    from wernicke.ridge.plan import TilePlan

#: Without a data set: ten runs of 300 volumes, 100,000 voxels, about a brain at 2.5 to 3 mm.
ASSUMED = (10, 300, 100_000)
#: Below it products are so small that their number counts, not their size: a fold is timed.
SMALL_FLOPS = 3e12
VECTOR_WIDTH = 300  # of word2vec and GloVe
#: Columns of bands that have no model, before delays.
WIDTHS = {"word_rate": 1, "on_off": 1, "position": 2, "head_motion": 24}


@dataclass(frozen=True)
class Sizes:
    """One subject's recording."""

    n_runs: int
    n_volumes: int
    """Of all runs"""
    n_voxels: int
    grid: int
    """Values of a volume on disk, before the mask"""


def plan_bids(config: Config) -> Estimate:
    """Return what `wernicke encode --config bids_encode` takes, subject after subject.

    Without a data set ten runs of 300 volumes and 100,000 voxels are assumed; censored volumes are counted.

    Raises
    ------
    InputError
        E-SPLIT with fewer than three runs; what finding files and reading headers raises.
    """
    sizes = subject_sizes(config)
    fewest = min(size.n_runs for size in sizes.values())
    if fewest < 3:
        raise InputError("E-SPLIT", f"found {fewest} runs, expected at least 3", path=config.data.root, field="runs")
    widths, n_layers, model_bytes = band_widths(config)
    largest = max(sizes.values(), key=lambda size: size.n_volumes * size.n_voxels)
    plans = {name: plan_fold(config, size, list(widths.values()), n_layers) for name, size in sizes.items()}
    flops = sum(sizes[name].n_runs * plan.flops for name, plan in plans.items())
    n, n_models = largest.n_volumes, 1 if len(widths) == 1 else 3
    features = 4.0 * n * (sum(widths.values()) + (n_layers - 1) * widths["language"])
    tile = min(config.tile, largest.n_voxels)
    columns = 8.0 * largest.n_voxels * (12 + len(widths) + 2 * (n_layers if n_layers > 1 else 0))
    peaks = {
        "reading": 4.0 * n / largest.n_runs * (largest.grid + 3 * largest.n_voxels),
        "text": model_bytes + features,
        "fitting": features + max(plan.peak_bytes for plan in plans.values()) + columns
        + 4.0 * tile * (2 * n + (2 + len(widths)) * n / largest.n_runs),
        "scoring": features + 2 * columns + 8.0 * tile * n * 12,
    }  # fmt: skip
    # Runs joined, and every fold's predictions (language's share among them), until the subject is done.
    work = 4.0 * n * largest.n_voxels * (1 + n_models + (n_models > 1))
    kept = sum(4.0 * s.n_voxels * (3 * (12 + len(widths)) + (s.n_volumes if config.save_pred else 0))
               for s in sizes.values())  # fmt: skip
    seconds, note = time_of(flops)
    if flops < SMALL_FLOPS:
        seconds = largest.n_runs * len(sizes) * timed_fold(config, largest, list(widths.values()))
        seconds += (
            largest.n_runs * len(sizes) * max(0, n_layers - 1) * timed_fold(config, largest, [widths["language"]])
        )
        note = "one left-out run timed here on random numbers"
    step = max(peaks, key=peaks.__getitem__)
    return Estimate(
        describe(config, sizes, widths, n_layers), LIBRARIES_BYTES + peaks[step],
        f"while {step}; one run is in memory at a time, and {tile:,} voxels; mapped files come on top",
        work + kept, seconds,
        f"{note}; reading, the language model and tests come on top",
    )  # fmt: skip


def describe(config: Config, sizes: dict[str, Sizes], widths: dict[str, int], n_layers: int) -> list[str]:
    """Return the sizes that the numbers follow from."""
    first = next(iter(sizes.values()))
    assumed = " (assumed: no data.root given)" if config.data.layout == "bids" and config.data.root is None else ""
    each = describe_size(4.0 * first.n_volumes * first.n_voxels)
    layers = f", {n_layers} layers of language compared" if n_layers > 1 else ""
    return [
        f"data     {len(sizes)} subjects, the first with {first.n_volumes:,} volumes in {first.n_runs} runs x "
        f"{first.n_voxels:,} voxels, {each}{assumed}",
        f"fit      {first.n_runs} runs left out one by one; columns: "
        + ", ".join(f"{name} {width:,}" for name, width in widths.items()) + layers,
    ]  # fmt: skip


@dataclass(frozen=True)
class FoldPlan:
    """One left-out run of one subject."""

    peak_bytes: float
    flops: float


def plan_fold(config: Config, size: Sizes, widths: Sequence[int], n_layers: int) -> FoldPlan:
    """Return what one left-out run takes: all bands, the nuisance bands, language, and each layer of language."""
    from wernicke.ridge.partition import KEPT_BYTES
    from wernicke.ridge.plan import plan_tiles

    n_train = size.n_volumes - size.n_volumes // size.n_runs
    folds = [n_train // (size.n_runs - 1)] * (size.n_runs - 1)
    # All alike, each alone, all but each, random ones (`wernicke.ridge.draws.draw_balances`).
    n_draws = 1 + 2 * len(widths) + config.n_iter

    def plan(some: Sequence[int], n_targets: int) -> TilePlan:
        return plan_tiles(n_train, some, [n_targets], folds, len(config.alphas), n_draws if len(some) > 1 else 1,
                          config.tile)  # fmt: skip

    models = [list(widths)] if len(widths) == 1 else [list(widths), list(widths[1:]), [widths[0]]]
    models += [[widths[0]]] * (n_layers if n_layers > 1 else 0)
    rank = min(n_train, sum(widths))
    bases = sum((n_draws if len(some) > 1 else 1) * size.n_runs for some in models[:3]) * 8 * rank**2
    times = 1 if bases <= KEPT_BYTES else -(-size.n_voxels // config.tile)
    flops = 0.0
    for some in models:
        features = plan(some, 0).flops
        flops += plan(some, size.n_voxels).flops + (times - 1) * features
    full = plan(models[0], size.n_voxels)
    return FoldPlan(full.peak_bytes + min(bases, KEPT_BYTES), flops)


def timed_fold(config: Config, size: Sizes, widths: Sequence[int]) -> float:
    """Return how long one left-out run takes, in seconds: two draws of band weights, on random numbers."""
    import numpy as np

    from wernicke.encoding.crossval import one_thread
    from wernicke.ridge import correlation_score
    from wernicke.ridge.partition import SubModels

    n_train = size.n_volumes - size.n_volumes // size.n_runs
    tile = min(config.tile, size.n_voxels)
    rng = np.random.default_rng(config.seed)
    bands = [rng.standard_normal((n_train, width), dtype=np.float32) for width in widths]
    every = tuple(range(len(bands)))
    subsets = [every, every[1:]] if len(every) > 1 else [every]
    with one_thread():
        models = SubModels(bands, config.alphas, subsets=subsets, cv=size.n_runs - 1, score_func=correlation_score,
                           n_iter=2, fit_intercept=True, random_state=config.seed)  # fmt: skip
        responses = rng.standard_normal((n_train, tile), dtype=np.float32)
        list(models.fit(responses[:, :2]))
        start = time.perf_counter()
        list(models.fit(responses))
        seconds = time.perf_counter() - start
    draws = (1 + 2 * len(widths) + config.n_iter) / 2 if len(widths) > 1 else 1
    return seconds * draws * size.n_voxels / tile


def band_widths(config: Config) -> tuple[dict[str, int], int, float]:
    """Return each band's number of columns, how many layers are compared, and the language model's bytes."""
    from wernicke.recipes.bids_bands import MODELLED, UNDELAYED, USUAL_DELAYS_S

    width, n_states, n_bytes = VECTOR_WIDTH, 1, 0.0
    if config.word_vectors is None:
        width, n_states, n_bytes = _model_size(config.llm)
    if config.text.sentences:
        width = min(width, len(config.text.sentences) + 1)  # rotated onto the space that so many rows span
    n_delays = len(config.delays_s or USUAL_DELAYS_S)
    found = {}
    for name in ("language", *config.nuisance):
        columns = WIDTHS[name] if name not in MODELLED else config.pca or width
        found[name] = columns * (1 if name in UNDELAYED else n_delays)
    return found, n_states if config.layer == "all" else 1, n_bytes


def _model_size(llm: str) -> tuple[int, int, float]:
    """Return hidden size, number of hidden states and bytes of the weights."""
    from wernicke.pretrained.locate import locate_llm
    from wernicke.store.files import read_json

    folder = locate_llm(llm).folder
    found: dict[str, Any] = read_json(folder / "config.json")
    found = found.get("text_config", found)
    width = int(found.get("hidden_size") or found.get("n_embd") or found.get("d_model") or 768)
    n_layers = int(found.get("num_hidden_layers") or found.get("n_layer") or 12)
    weights = sum(file.stat().st_size for file in folder.glob("*.safetensors"))
    return width, n_layers + 1, 2.0 * weights


def subject_sizes(config: Config) -> dict[str, Sizes]:
    """Return each subject's sizes from the files' headers; of surfaces the first run is read, others taken as long."""
    data = config.data
    if data.layout == "haxby":
        return {s: _loaded(config, s) for s in config.subjects or data.subjects()}
    if data.root is None:
        n_runs, n_tr, n_voxels = ASSUMED
        names = config.subjects or ["01"]
        return {s: Sizes(n_runs, n_runs * n_tr, n_voxels, 5 * n_voxels) for s in names}
    return {s: _from_headers(config, s) for s in (config.subjects or data.subjects())}


def _loaded(config: Config, subject: str) -> Sizes:
    found = config.data.load([subject], config.preprocess, config.text.column)
    (recording,) = found.study.recordings.values()
    n, n_voxels = recording.values.shape
    return Sizes(len(dict.fromkeys(recording.runs.tolist())), n, n_voxels, n_voxels)


def _from_headers(config: Config, subject: str) -> Sizes:
    from wernicke.data.bids_layout import open_folders
    from wernicke.data.bids_runs import find_runs
    from wernicke.data.nifti import read_header, read_mask
    from wernicke.data.surface_series import read_cifti, read_gifti

    data = config.data
    derived, raw = open_folders(data.need_root(), data.events_root)
    wanted: dict[str, Any] = dict(data.entities)
    wanted |= {k: v for k, v in (("task", data.task), ("ses", data.sessions), ("run", data.runs)) if v is not None}
    runs = find_runs(derived, raw, subject.removeprefix("sub-"), wanted, space=data.space, kind=data.kind,
                     desc=data.desc, events=True)  # fmt: skip
    if runs[0].kind == "cifti":
        values, surface, _ = read_cifti(runs[0].images[0])
        return Sizes(len(runs), len(runs) * len(values), surface.n_units, surface.n_units)
    if runs[0].kind == "surface":
        sides = [read_gifti(path)[0] for path in runs[0].images]
        n_vertices = sum(side.shape[1] for side in sides)
        return Sizes(len(runs), len(runs) * len(sides[0]), n_vertices, n_vertices)
    headers = [read_header(run.images[0]) for run in runs]
    mask = data.mask if data.mask is not None else runs[0].mask
    grid = prod(headers[0].shape[:3])
    n_voxels = grid if mask is None else int(read_mask(mask, like=headers[0]).mask.sum())
    return Sizes(len(runs), sum(header.shape[3] for header in headers), n_voxels, grid)

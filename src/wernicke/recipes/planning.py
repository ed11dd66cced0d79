"""`wernicke plan`: how long an encoding run takes, in how much memory and disk, before it starts."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING, Any

from wernicke.core.errors import EXIT_USER, InputError
from wernicke.recipes.arguments import Arguments

if TYPE_CHECKING:
    from wernicke.recipes.bids_encode import Config as BidsConfig
    from wernicke.recipes.drama2brain_bands import Band
    from wernicke.recipes.drama2brain_encode import Config as DramaConfig
    from wernicke.recipes.haxby_encode import Config as HaxbyConfig
    from wernicke.ridge.plan import TilePlan

#: Python with numpy, scipy, torch, scikit-learn and what they load: measured 0.4 GB with torch for CPUs, and some room.
LIBRARIES_BYTES = 450_000_000
#: What the solvers reach of the speed of large matrix products (measured .6 to .9; benchmarks/README.md).
EFFICIENCY = 0.75
#: As published: voxels of DM01, the subject whose map can be had.
DRAMA_VOXELS = 87_969
TILED = "in each process; it does not grow with the number of voxels"


@dataclass(frozen=True)
class Estimate:
    """What a run takes."""

    what: list[str]
    """Sizes that the numbers follow from, one line each"""
    peak_bytes: float
    """At a time, in each process, libraries included"""
    memory_note: str
    disk_bytes: float
    seconds: float
    time_note: str


def main(argv: Sequence[str]) -> int | None:
    """State time, memory and disk of an encoding run: of a config, or of plain sizes."""
    words = list(argv)
    if any(word.split("=")[0] == "--config" for word in words):
        estimate = _of_config(words)
    else:
        parser = _sizes_parser()
        if not words:
            parser.print_help()
            return EXIT_USER
        estimate = of_sizes(**vars(parser.parse_args(words)))
    sys.stdout.write("\n".join(describe(estimate)) + "\n")
    return None


def describe(estimate: Estimate) -> list[str]:
    """Return the lines that the command prints."""
    return [
        *estimate.what,
        f"memory   {describe_size(estimate.peak_bytes)} at most, {estimate.memory_note}",
        f"disk     {describe_size(estimate.disk_bytes)}",
        f"time     {_duration(estimate.seconds)} ({estimate.time_note})",
    ]


def _sizes_parser() -> Arguments:
    parser = Arguments(
        prog="wernicke plan", description=main.__doc__,
        usage="wernicke plan --config NAME|FILE [--KEY VALUE ...]\n"
        "       wernicke plan --n_samples N --n_features P [P ...] --n_targets V [V ...] [options]",
    )  # fmt: skip
    parser.add_argument("--n_samples", type=int, required=True, help="training samples (TR)")
    parser.add_argument("--n_features", type=int, required=True, nargs="+", help="one number a band")
    parser.add_argument("--n_targets", type=int, required=True, nargs="+", help="voxels, one number a subject")
    parser.add_argument("--n_alphas", type=int, default=25, help="penalties (%(default)s)")
    parser.add_argument("--n_folds", type=int, default=4, help="equal folds (%(default)s)")
    parser.add_argument("--n_iter", type=int, default=100, help="draws of band weights (%(default)s; one band has 1)")
    parser.add_argument("--tile", type=int, default=4096, help="voxels at a time (%(default)s)")
    parser.add_argument("--n_workers", type=int, default=1, help="processes that share the voxels (%(default)s)")
    return parser


def of_sizes(
    n_samples: int,
    n_features: Sequence[int],
    n_targets: Sequence[int],
    n_alphas: int = 25,
    n_folds: int = 4,
    n_iter: int = 100,
    tile: int = 4096,
    n_workers: int = 1,
) -> Estimate:
    """Return what `wernicke.ridge.fit_tiles` takes for plain sizes.

    Raises
    ------
    InputError
        E-CFG for sizes below 1 or more folds than samples.
    """
    from wernicke.ridge.plan import plan_tiles

    sizes = {"n_samples": [n_samples], "n_features": n_features, "n_targets": n_targets, "n_alphas": [n_alphas],
             "n_folds": [n_folds], "n_iter": [n_iter], "tile": [tile], "n_workers": [n_workers]}  # fmt: skip
    for name, values in sizes.items():
        if min(values) < 1:
            raise InputError("E-CFG", f"found {min(values)}, expected at least 1", field=f"--{name}")
    if not 2 <= n_folds <= n_samples:
        raise InputError("E-CFG", f"found {n_folds}, expected 2 to the {n_samples} samples", field="--n_folds")
    folds = [n_samples // n_folds + (k < n_samples % n_folds) for k in range(n_folds)]
    n_draws = n_iter if len(n_features) > 1 else 1
    plan = plan_tiles(n_samples, n_features, n_targets, folds, n_alphas, n_draws, tile)
    seconds, note = time_of(plan.flops / n_workers)
    what = [
        f"fit      {n_samples:,} samples x {' + '.join(f'{p:,}' for p in n_features)} features, {n_alphas} penalties, "
        f"{n_folds} folds" + (f", {n_draws} draws of band weights" if n_draws > 1 else ""),
        f"         {' + '.join(f'{n:,}' for n in n_targets)} voxels in {plan.n_tiles} tiles of {tile:,}, float32",
    ]
    return Estimate(what, LIBRARIES_BYTES + plan.peak_bytes, TILED, plan.disk_bytes, seconds, note)


def _of_config(words: list[str]) -> Estimate:
    from wernicke.recipes.config import build, load_config

    parser = Arguments(prog="wernicke plan", add_help=False)
    parser.add_argument("--config", required=True)
    given, rest = parser.parse_known_args(words)
    recipe, values, path = load_config(given.config)
    if recipe not in PLANS:
        raise InputError("E-CFG", f"`{recipe}` has no plan of its own", path=path, field="recipe",
                         hint="give plain sizes: `wernicke plan --help`")  # fmt: skip
    module = import_module(f"wernicke.recipes.{recipe}")
    return PLANS[recipe](build(module.Config, values, path, rest, f"wernicke plan --config {given.config}"))


def plan_haxby(config: HaxbyConfig) -> Estimate:
    """Return what `wernicke encode --config haxby_encode` takes: one fold is timed on random numbers."""
    import numpy as np
    import pandas as pd

    from wernicke.encoding.crossval import fit_fold, one_thread

    recording = next(iter(config.data.load().recordings.values()))
    n_samples, n_voxels = recording.values.shape
    runs = recording.runs
    n_runs = len(pd.unique(runs))
    n_fits = {"none": 0, "fast": config.n_repeats, "full": 5 * config.n_repeats}[config.controls]
    # The language model and its audit, five fixed comparisons, three controls that are drawn at random.
    n_models = 3 + 5 + 3 * n_fits
    rng = np.random.default_rng(config.seed)
    width = len(config.sentences) * len(config.delays_s)
    bands, responses = [rng.standard_normal((n_samples, width))], rng.standard_normal((n_samples, n_voxels))
    rows = np.flatnonzero(runs != runs[0])
    with one_thread():
        fit_fold(bands, responses[:, :2], runs, rows, config.alphas)
        start = time.perf_counter()
        fit_fold(bands, responses, runs, rows, config.alphas)
        seconds = (time.perf_counter() - start) * n_runs * n_models
    held = 8 * n_samples * (6 * n_voxels + 4 * width)
    return Estimate(
        [
            f"fit      {n_samples:,} samples in {n_runs} runs x {width} features, {n_voxels:,} voxels",
            f"         {n_models} models and controls, each left-out run predicted: {n_models * n_runs:,} fits",
        ],
        LIBRARIES_BYTES + 700e6 + held + 8 * config.n_permutations * n_voxels,
        "with all voxels and the language model",
        8 * 3 * n_samples * n_voxels,
        seconds,
        "one fit timed here on random numbers; the language model, tests and the report come on top",
    )  # fmt: skip


def plan_drama2brain(config: DramaConfig) -> Estimate:
    """Return what `wernicke encode --config drama2brain_mono|multi` takes.

    Without `data.root` six subjects of 87,969 voxels are assumed, and every band needs `pca`.
    """
    from wernicke.data.drama2brain_tables import SUBJECTS
    from wernicke.recipes.drama2brain_bands import list_models
    from wernicke.recipes.drama2brain_corrected import choose_subsets
    from wernicke.recipes.drama2brain_design import choose_rows
    from wernicke.ridge.plan import plan_tiles

    rows, faithful = choose_rows(config.data), config.mode == "faithful"
    if config.data.root is None:
        n_voxels = dict.fromkeys(config.subjects or SUBJECTS, DRAMA_VOXELS)
    else:
        n_voxels = _voxels_there(config)
    n_all, n_train = len(rows.table), len(rows.train)
    folds = [len(test) for _, test in rows.cv]
    models = list_models(config.bands, config.reg_type, config.data)
    fixed = {"word_rate": len(config.nuisance_delays_s), "position": 1}
    plans: list[TilePlan] = []
    peak, largest, n_weights = 0.0, max(n_voxels.values()), 0
    for model in models:
        sizes = {name: _columns(name, band, config, n_train) for name, band in model.bands.items()}
        sizes |= {name: (fixed[name], fixed[name]) for name in config.nuisance}
        names = list(sizes)
        subsets = _published_subsets(config, len(names)) if faithful else choose_subsets(config, model, names)
        of_model = [
            plan_tiles(
                n_train, [sizes[names[i]][1] for i in subset], list(n_voxels.values()), folds,
                25 if faithful else len(config.alphas), config.n_iter if len(subset) > 1 else 1,
                largest if faithful else config.tile,
            )
            for subset in subsets
        ]  # fmt: skip
        plans += of_model
        read = 4.0 * n_all * sum(raw + 3 * columns for raw, columns in sizes.values())
        n_weights += sum(columns for _, columns in sizes.values())
        peak = max(peak, read + max(plan.peak_bytes for plan in of_model))
    responses = 4.0 * sum(n_voxels.values()) * (n_all if faithful else n_all + n_train)
    results = sum(plan.disk_bytes - plan.bases_bytes for plan in plans)
    disk = responses + results + max(plan.bases_bytes for plan in plans)  # one fit after the other
    if config.save_coef or config.authors_files or config.weight_pca:
        disk += 4.0 * sum(n_voxels.values()) * n_weights
    seconds, note = time_of(sum(plan.flops for plan in plans))
    voxels = ", ".join(f"{name} {n:,}" for name, n in n_voxels.items())
    assumed = " (assumed: no data.root given)" if config.data.root is None else ""
    what = [
        f"fit      {n_train:,} training seconds, {len(rows.valid):,} scored; {len(models)} models, {len(plans)} fits "
        "with their reduced models",
        f"voxels   {voxels}{assumed}" + ("" if faithful else f"; {config.tile:,} at a time"),
        f"reading  {describe_size(sum(plan.read_bytes for plan in plans))} in all (each tile reads what all have in "
        "common: a larger --tile reads less and needs more memory)",
    ]
    return Estimate(
        what, LIBRARIES_BYTES + peak + (8.0 * n_all * largest if faithful else 0),
        "with all voxels of a subject" if faithful else TILED, disk, seconds,
        f"{note}; reading, reductions and tests come on top",
    )  # fmt: skip


def _voxels_there(config: DramaConfig) -> dict[str, int]:
    from wernicke.data.drama2brain import list_runs
    from wernicke.data.drama2brain_folders import find_folders
    from wernicke.recipes.drama2brain_encode import find_subjects

    root = config.data.need_root()
    folders = find_folders(root, config.data.folders)
    return {name: list_runs(folders, name, root)[0].shape()[1] for name in find_subjects(config)}


def _columns(name: str, band: Band, config: DramaConfig, n_train: int) -> tuple[int, int]:
    """Return a band's number of features on disk (as many as are kept, if that is not known) and of columns."""
    from wernicke.data.drama2brain_folders import find_folders
    from wernicke.data.drama2brain_stimuli import feature_shapes

    n_shifts = 1 if band.shifts_s is not None else len(band.delays_s or [])
    if config.data.root is None and band.pca is None:
        raise InputError("E-CFG", "its width is not known without the features", field=f"bands.{name}",
                         hint="add `--data.root DIR`, or give plain sizes: `wernicke plan --help`")  # fmt: skip
    if config.data.root is None:
        return int(band.pca or 0), int(band.pca or 0) * n_shifts
    root = config.data.need_root()
    raw = feature_shapes(find_folders(root, config.data.folders).need("stim", root) / band.folder)[0][1]
    kept = raw
    if band.pca is not None:
        kept = band.pca
    elif band.srp is not None:
        from sklearn.random_projection import johnson_lindenstrauss_min_dim

        kept = int(johnson_lindenstrauss_min_dim(n_train, eps=band.srp))
    return raw, kept * n_shifts


def _published_subsets(config: DramaConfig, n_bands: int) -> list[tuple[int, ...]]:
    everything = tuple(range(n_bands))
    if n_bands == 1 or config.partition == "none":
        return [everything]
    return [everything] + [tuple(i for i in everything if i != left_out) for left_out in everything]


def plan_bids(config: BidsConfig) -> Estimate:
    """Return what `wernicke encode --config bids_encode` takes."""
    from wernicke.recipes import planning_bids

    return planning_bids.plan_bids(config)


PLANS: dict[str, Callable[[Any], Estimate]] = {
    "haxby_encode": plan_haxby, "drama2brain_encode": plan_drama2brain, "bids_encode": plan_bids,
}  # fmt: skip


def product_rate() -> float:
    """Return how many operations a second float32 matrix products do here and now: with all threads, or with one.

    On a machine that others use too, several threads wait for each other and can be slower than one.
    """
    import numpy as np
    from threadpoolctl import threadpool_limits

    A = np.ones((1024, 1024), dtype=np.float32)
    fastest = float("inf")
    for n_threads in (None, 1):
        with threadpool_limits(n_threads):
            for _ in range(4):
                start = time.perf_counter()
                A @ A
                fastest = min(fastest, time.perf_counter() - start)
    return 2 * 1024**3 / fastest


def time_of(flops: float) -> tuple[float, str]:
    rate = product_rate()
    return flops / (EFFICIENCY * rate), f"{flops:.1e} operations; products run at {rate / 1e9:.0f} GFLOP/s here"


def describe_size(n_bytes: float) -> str:
    if n_bytes >= 1e12:
        return f"{n_bytes / 1e12:.1f} TB"
    return f"{n_bytes / 1e9:.1f} GB" if n_bytes >= 1e9 else f"{n_bytes / 1e6:.0f} MB"


def _duration(seconds: float) -> str:
    for unit, length in (("days", 86400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * length:
            return f"about {seconds / length:.1f} {unit}"
    return f"about {max(seconds, 1):.0f} s"

"""How much memory, disk and arithmetic a job of tiles takes, stated before it starts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from wernicke.ridge.search import TILE


@dataclass(frozen=True)
class TilePlan:
    """What `fit_tiles` will take, apart from Python and its libraries (about 0.45 GB)."""

    peak_bytes: int
    """Memory at a time in each process; it does not depend on the number of targets."""
    disk_bytes: int
    """Results and shared bases."""
    bases_bytes: int
    """The share of the bases, which `drop_bases` gives back once all tiles are done."""
    read_bytes: int
    """Read over all tiles, each of which reads every basis: fewer, larger tiles read less."""
    flops: float
    """Floating-point operations, a multiply-add counted as two, in units of large float32 products."""
    n_tiles: int


def plan_tiles(
    n_samples: int,
    widths: Sequence[int],
    n_targets: Sequence[int],
    fold_sizes: Sequence[int],
    n_alphas: int,
    n_draws: int = 1,
    tile: int = 4096,
    itemsize: int = 4,
) -> TilePlan:
    """Return what a job takes.

    Parameters
    ----------
    n_samples : int
    widths : sequence of int
        Number of features of each band.
    n_targets : sequence of int
        One a subject.
    fold_sizes : sequence of int
        Number of test samples of each fold.
    n_alphas, n_draws, tile : int
        As given to `fit_tiles`.
    itemsize : int
        4 for float32 features, 8 for float64.
    """
    p, n_folds = sum(widths), len(fold_sizes)
    dual = p > n_samples
    rank = n_samples if dual else p
    tests = [min(size, rank) for size in fold_sizes]
    basis = sum(rank * rank + size * rank for size in tests) * itemsize + rank * rank * itemsize
    refit = rank * (rank + (p if dual else rank)) * itemsize
    statistics = (len(widths) + 1 if dual else n_folds + 1) * rank * rank * 8
    cross = 0 if dual else (n_folds + 1) * p
    part = min(tile, TILE)
    search = part * (2 * n_folds * rank + 4 * rank + 10 * n_folds * n_alphas) * itemsize
    held = tile * (3 * n_samples + cross + 2 * p + n_draws) * itemsize
    inputs = 2 * n_samples * p * itemsize
    peak = inputs + statistics + max(5 * rank * rank * 8, 2 * basis + 2 * refit + held + search)
    total = sum(n_targets)
    ranks = [n_samples - size if dual else p for size in fold_sizes]
    # Of every target: its cross products, each fold's two projections and about 2.2 exact evaluations, the refit.
    per_target = (0 if dual else 2.0 * n_samples * p) + 2.0 * rank * (rank + p)
    per_target += n_draws * sum(2.0 * r * r + 5.0 * min(size, r) * r for r, size in zip(ranks, fold_sizes, strict=True))
    # An eigendecomposition takes as long as large float32 products of 13 r^3 operations do.
    features = n_draws * sum(13.0 * r**3 for r in (*ranks, rank)) + 2.0 * n_samples * p * min(n_samples, p)
    flops = total * per_target + features
    n_tiles = sum(-(-n // tile) for n in n_targets)
    bases = n_draws * (basis + refit)
    disk = total * (p + n_draws + 4) * itemsize + bases + n_samples * p * itemsize
    read = n_tiles * bases + total * n_samples * itemsize
    return TilePlan(int(peak), int(disk), int(bases), int(read), float(flops), n_tiles)

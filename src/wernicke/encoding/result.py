"""What `wernicke.encode` returns."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass

import numpy as np

from wernicke.core.split import Split


@dataclass(frozen=True)
class EncodingResult:
    """One value a voxel, NaN where a voxel does not vary in enough runs.

    Attributes
    ----------
    r : array, shape (n_voxels,)
        Pearson r of held-out predictions, computed within each left-out run and averaged, weighted by run length, over
        the runs in which the voxel varies.
    r_by_run : array, shape (n_scored_runs, n_voxels)
        One row for each of `scored_runs`. NaN where the voxel is constant in the run; 0 where it varies and its
        prediction does not.
    p, p_fdr, p_fwe : array, shape (n_voxels,)
        Block permutation, one-sided; adjusted by Benjamini-Hochberg; corrected by the maximum statistic.
    contrast_r : array, shape (n_voxels,), or None
        Correlation of predicted with measured condition contrasts (block responses less the run's mean over
        conditions), over all runs and conditions.
    contrast_p, contrast_p_fdr : array, shape (n_voxels,), or None
        Conditions shuffled within runs, one-sided.
    ceiling, ceiling_se : array, shape (n_voxels,), or None
        Noise ceiling of `contrast_r`: the correlation that the true contrasts would reach with single runs, from the
        split-half reliability over runs. NaN where the reliability is not above 0.
    ceiling_reason : str
        Why `contrast_r` and `ceiling` are None; empty otherwise.
    predictions : array, shape (n_samples, n_voxels)
        Held out; NaN for samples that no fold tests.
    alphas : array, shape (n_folds, n_voxels)
        Penalties chosen inside each fold's training runs.
    splits : tuple of Split
        With what they accept as a leak; `Split.overlaps` counts it.
    scored : array of bool, shape (n_samples,)
        Samples that a fold tests: all others count in no score, test or ceiling.
    scored_runs : tuple
        The runs that they are from, in order of appearance.
    edge_share : float
        Share of voxels and folds whose penalty is the grid's smallest or largest; a large share asks for a wider grid
        where the voxel is predicted at all.
    block_length_tr, n_blocks, n_permutations : int
    n_constant : int
        Voxels that were left out because they vary in too few runs: in none, or in so few that a fold had nothing to
        learn from.
    """

    r: np.ndarray
    r_by_run: np.ndarray
    p: np.ndarray
    p_fdr: np.ndarray
    p_fwe: np.ndarray | None
    contrast_r: np.ndarray | None
    contrast_p: np.ndarray | None
    contrast_p_fdr: np.ndarray | None
    ceiling: np.ndarray | None
    ceiling_se: np.ndarray | None
    ceiling_reason: str
    predictions: np.ndarray
    alphas: np.ndarray
    splits: tuple[Split, ...]
    scored: np.ndarray
    scored_runs: tuple[Hashable, ...]
    edge_share: float
    block_length_tr: int
    n_blocks: int
    n_permutations: int
    n_constant: int

    @property
    def n_scored(self) -> int:
        """Number of samples that a fold tests."""
        return int(self.scored.sum())

    def __str__(self) -> str:
        lines = [
            f"voxels        {len(self.r)}" + (f" ({self.n_constant} constant, left out)" if self.n_constant else ""),
            f"r             mean {np.nanmean(self.r):.3f}, best {np.nanmax(self.r):.3f} ({self._scheme()})",
            *(f"accepted leak {text}" for text in self._leaks()),
            f"FDR .05       {int(np.nansum(self.p_fdr <= 0.05))} voxels (block permutation, {self.n_permutations} "
            f"draws, {self.n_blocks} blocks of {self.block_length_tr} TR)",
        ]
        if self.contrast_r is not None:
            lines.append(f"contrasts     mean r {np.nanmean(self.contrast_r):.3f}")
        if self.ceiling is not None:
            lines.append(
                f"ceiling       mean {np.nanmean(self.ceiling):.3f} over the {int(np.isfinite(self.ceiling).sum())} "
                "voxels that have one"
            )
        else:
            lines.append(f"ceiling       none: {self.ceiling_reason}")
        return "\n".join(lines)

    def _scheme(self) -> str:
        if self.scored.all() and len(self.splits) == len(self.scored_runs):
            return f"{len(self.splits)} runs, one left out at a time"
        folds = "1 fold" if len(self.splits) == 1 else f"{len(self.splits)} folds"
        runs = "1 run" if len(self.scored_runs) == 1 else f"{len(self.scored_runs)} runs"
        return f"{folds}; {self.n_scored} of {len(self.scored)} samples scored, in {runs}"

    def _leaks(self) -> list[str]:
        most: dict[str, int] = {}
        for split in self.splits:
            for key, n in split.overlaps().items():
                most[key] = max(n, most.get(key, 0))
        return [f"{key}: up to {n} on both sides of a fold" for key, n in most.items() if n]

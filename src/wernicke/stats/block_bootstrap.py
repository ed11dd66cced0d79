"""Intervals of a prediction's score, and of the difference of two, by resampling blocks of samples.

A block's sums are enough for r and R2, so that a thousand resamples of a whole brain are a matrix product.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from wernicke.core.checks import check_range
from wernicke.core.errors import InputError
from wernicke.core.seeds import derive_rng
from wernicke.stats.autocorrelation import MINIMUM_BLOCKS
from wernicke.stats.correlation import check_pair, column_batches
from wernicke.stats.segments import run_segments

_VOXELS_AT_ONCE = 256

Sums = dict[str, np.ndarray]


@dataclass(frozen=True)
class BlockBootstrap:
    """Blocks of samples and how often each resample has them.

    Resampled are the samples on which a fitted model is scored, not the fit: intervals hold for these weights.

    Attributes
    ----------
    starts : array, shape (n_blocks,)
        First sample of each block. What a run's last block leaves over belongs to that block.
    weights : array, shape (n_resamples, n_blocks)
    level : float
    """

    starts: np.ndarray
    weights: np.ndarray
    level: float

    @staticmethod
    def draw(
        runs: Sequence[Any] | np.ndarray | None, n_samples: int, length: int, n_resamples: int, level: float, seed: int
    ) -> BlockBootstrap:
        """Cut samples into blocks of at least `length` within runs (a shorter run is one block), and draw resamples.

        Raises
        ------
        InputError
            E-SIZE for fewer than 10 blocks; E-CFG, E-META.
        """
        check_range(length, "block_tr", low=1)
        check_range(n_resamples, "n_bootstrap", low=100)
        check_range(level, "level", low=0.5, high=0.9999)
        starts: list[int] = []
        for segment in run_segments(runs, n_samples):
            n_blocks = max(1, (segment.stop - segment.start) // length)
            starts += [segment.start + i * length for i in range(n_blocks)]
        if len(starts) < MINIMUM_BLOCKS:
            raise InputError("E-SIZE", f"{len(starts)} blocks of {length} samples fit, expected at least "
                             f"{MINIMUM_BLOCKS}", field="block_tr", hint="score on more samples")  # fmt: skip
        rng = derive_rng(seed, "block bootstrap")
        weights = rng.multinomial(len(starts), np.full(len(starts), 1 / len(starts)), size=n_resamples)
        return BlockBootstrap(np.array(starts), weights.astype(np.float64), level)

    @property
    def n_blocks(self) -> int:
        return len(self.starts)

    def sums(self, truth: np.ndarray, prediction: np.ndarray) -> Sums:
        """Each block's sums, (n_blocks, n_voxels), of responses and predictions (n_samples, n_voxels)."""
        truth, prediction = check_pair(truth, prediction, ("truth", "prediction"))
        ends = np.append(self.starts[1:], len(truth))
        out = {name: np.empty((self.n_blocks, truth.shape[1])) for name in ("y", "p", "yy", "pp", "yp")}
        for columns in column_batches(*truth.shape):
            y, p = truth[:, columns].astype(np.float64), prediction[:, columns].astype(np.float64)
            mean = y.mean(axis=0)  # off both: R2 stays as it is, and large means do not eat the digits
            y, p = y - mean, p - mean
            for name, values in (("y", y), ("p", p), ("yy", y * y), ("pp", p * p), ("yp", y * p)):
                out[name][:, columns] = np.add.reduceat(values, self.starts, axis=0)
        out["n"] = (ends - self.starts).astype(np.float64)[:, None]
        return out

    def interval(
        self, first: Sums, second: Sums | None, score: Literal["r", "r2"]
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """Interval of score(first), less score(second) where given.

        Returns
        -------
        low, high, se, p : arrays, shape (n_voxels,)
            Percentile interval; standard deviation over resamples; one-sided p, (1 + resamples at most 0) / (1 + all).
        """
        tails = ((1 - self.level) / 2, (1 + self.level) / 2)
        n_voxels = first["y"].shape[1]
        out = np.empty((4, n_voxels))
        for at in range(0, n_voxels, _VOXELS_AT_ONCE):
            columns = slice(at, min(at + _VOXELS_AT_ONCE, n_voxels))
            values = self._score(first, columns, score)
            if second is not None:
                values -= self._score(second, columns, score)
            out[:2, columns] = np.quantile(values, tails, axis=0)
            out[2, columns] = values.std(axis=0, ddof=1)
            out[3, columns] = (1 + (values <= 0).sum(axis=0)) / (1 + len(values))
        return out[0], out[1], out[2], out[3]

    def _score(self, sums: Sums, columns: slice, score: str) -> np.ndarray:
        n = self.weights @ sums["n"]
        y, p, yy, pp, yp = (self.weights @ sums[name][:, columns] for name in ("y", "p", "yy", "pp", "yp"))
        total = yy - y * y / n
        with np.errstate(invalid="ignore", divide="ignore"):
            if score == "r2":
                return np.where(total > 0, 1 - (yy - 2 * yp + pp) / total, 0.0)
            spread = total * (pp - p * p / n)
            return np.where(spread > 0, (yp - y * p / n) / np.sqrt(np.maximum(spread, 0)), 0.0)

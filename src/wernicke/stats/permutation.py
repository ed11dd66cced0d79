"""Significance of held-out predictions: block permutation, its closed-form moments, circular shifts.

One statistic serves all methods: the sum over samples of prediction times response, each about its run's mean, over
the norms of the whole columns. What does not move under permutation (run means, the incomplete block at a run's end)
stays in place and adds the same constant to the observed and to every permuted correlation, so on whole blocks of
data centred by run the statistic is Pearson's r itself.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from scipy import fft, sparse, stats

from wernicke.core.checks import check_option, check_range
from wernicke.core.errors import InputError
from wernicke.core.seeds import derive_rng
from wernicke.stats.autocorrelation import MINIMUM_BLOCKS
from wernicke.stats.autocorrelation import block_length as estimate_block_length
from wernicke.stats.correlation import check_pair, unit_columns
from wernicke.stats.segments import block_indices, centre_by_run, run_segments, segment_lengths
from wernicke.stats.tail import tail_p

_GRAM_LIMIT = 512
_ELEMENTS_PER_BATCH = 1_000_000
_TIE = 1e-12


@dataclass(frozen=True)
class PermutationResult:
    """What the permutation test found; arrays have one entry a voxel, NaN where a series is constant.

    Attributes
    ----------
    r : numpy.ndarray
        Pearson r over all samples.
    p : numpy.ndarray
        One-sided, not corrected: how often the null reaches r.
    p_fwe : numpy.ndarray or None
        Corrected for all voxels by the maximum of the standardised statistic; None without permutations.
    null_mean, null_sd : numpy.ndarray
        Moments of r under the null: exact over all permutations for blocks, over the draws for circular shifts.
    null_q95 : numpy.ndarray
        95 % quantile of r under the null.
    block_length, n_blocks : int
        Length in samples; number of complete blocks over all runs.
    n_permutations : int
        0 for the normal approximation.
    method : str
        In words, for tables.
    """

    r: np.ndarray
    p: np.ndarray
    p_fwe: np.ndarray | None
    null_mean: np.ndarray
    null_sd: np.ndarray
    null_q95: np.ndarray
    block_length: int
    n_blocks: int
    n_permutations: int
    method: str

    @property
    def n_tested(self) -> int:
        """Number of voxels with a p value."""
        return int(np.isfinite(self.p).sum())

    @property
    def smallest_p(self) -> float | None:
        """Smallest p value that counting can give, 1 / (n_permutations + 1); None where p is not counted."""
        counted = self.n_permutations > 0 and "Pareto" not in self.method
        return 1.0 / (self.n_permutations + 1) if counted else None


def permutation_test(
    prediction: Any,
    response: Any,
    runs: Sequence[Any] | np.ndarray | None = None,
    *,
    n_permutations: int = 999,
    block_length: int | None = None,
    method: Literal["block", "normal", "circular"] = "block",
    tail: Literal["counted", "pareto"] = "counted",
    seed: int = 0,
) -> PermutationResult:
    """Test held-out predictions against responses, many voxels at once, one-sided.

    Parameters
    ----------
    prediction, response : array-like, shape (n_samples, n_voxels)
        Predictions must come from models that did not see these samples.
    runs : sequence, shape (n_samples,), optional
        Run label of each sample. Blocks never cross a border; runs are taken to be independent of one another, so
        blocks are exchanged over all of them. A film shown in parts without a break is one run.
    n_permutations : int
    block_length : int, optional
        In samples; by default from the data (`wernicke.stats.autocorrelation.block_length`).
    method : {"block", "normal", "circular"}
        ``"block"``: blocks of the prediction are permuted without replacement, p = (b + 1) / (m + 1) (Phipson and
        Smyth 2010, doi:10.2202/1544-6115.1585). ``"normal"``: the exact mean and variance over all permutations of
        blocks, p from a normal distribution, which is an approximation. ``"circular"``: the prediction is shifted
        around within each run, by at least a block or a quarter of the run in either direction.
    tail : {"counted", "pareto"}
        ``"pareto"``: where fewer than 10 permutations reach r, p comes from a generalised Pareto fit to the largest
        tenth (at most 250) of each voxel's null (`wernicke.stats.tail`): for whole-brain maps, where
        1 / (m + 1) is too coarse for a correction; at least 500 permutations, better 4,999. No p is below 1e-7.
    seed : int
        All voxels share the same permutations.

    Returns
    -------
    PermutationResult

    Raises
    ------
    InputError
        E-SIZE where fewer than 10 blocks fit; E-SHAPE, E-FMT, E-NONFIN, E-META, E-CFG.
    """
    check_option(method, ("block", "normal", "circular"), "method")
    check_option(tail, ("counted", "pareto"), "tail")
    check_range(n_permutations, "n_permutations", low=500 if tail == "pareto" else 19)
    prediction, response = check_pair(prediction, response, ("prediction", "response"))
    segments = run_segments(runs, prediction.shape[0])
    if block_length is None:
        block_length = estimate_block_length(prediction, response, runs)
    check_range(block_length, "block_length", low=1)
    n_blocks = int((segment_lengths(segments) // block_length).sum())
    if n_blocks < MINIMUM_BLOCKS:
        raise InputError(
            "E-SIZE",
            f"{n_blocks} blocks of {block_length} samples fit, expected at least {MINIMUM_BLOCKS}",
            field="block_length",
            hint="test on more samples, or leave block_length out to take it from the data",
        )
    rng = derive_rng(seed, "permutation_test", method)
    blocks = block_indices(segments, block_length)
    null: Callable[[np.ndarray, np.ndarray], _Null]
    if method == "circular":
        null = _CircularShifts(segments, block_length, n_permutations, rng)
    elif method == "block":
        null = _BlockPermutations(blocks, n_permutations, rng)
    else:
        null = _BlockMoments(blocks)
    drawn = 0 if method == "normal" else n_permutations
    words = {"block": "block permutation", "normal": "normal approximation", "circular": "circular shift"}[method]
    words += ", generalised Pareto tail" if tail == "pareto" and drawn else ""
    columns, p_fwe = _test_columns(prediction, response, segments, null, drawn, len(blocks), tail)
    r, p, null_mean, null_sd, null_q95 = columns
    return PermutationResult(r, p, p_fwe, null_mean, null_sd, null_q95, block_length, n_blocks, drawn, words)


@dataclass(frozen=True)
class _Null:
    """Null of one batch: moments (n_columns,), draws (n_permutations, n_columns) or None, observed (n_columns,)."""

    mean: np.ndarray
    sd: np.ndarray
    draws: np.ndarray | None
    observed: np.ndarray


def _test_columns(
    prediction: np.ndarray,
    response: np.ndarray,
    segments: list[slice],
    null: Callable[[np.ndarray, np.ndarray], _Null],
    n_permutations: int,
    n_blocks: int,
    tail: str,
) -> tuple[np.ndarray, np.ndarray | None]:
    """Rows r, p, null mean, null sd, null 95 % quantile (each (n_voxels,)), and the corrected p values."""
    n_samples, n_voxels = prediction.shape
    columns = np.full((5, n_voxels), np.nan)
    standardised = np.full(n_voxels, np.nan)
    largest = np.full(n_permutations, -np.inf)
    elements = max(n_samples, n_permutations, n_blocks**2 if n_blocks <= _GRAM_LIMIT else 0)
    width = max(1, min(256, _ELEMENTS_PER_BATCH // elements))
    for start in range(0, n_voxels, width):
        x = unit_columns(prediction[:, start : start + width])
        y = unit_columns(response[:, start : start + width])
        r = np.clip(np.einsum("nv,nv->v", x, y), -1.0, 1.0)
        columns[0, start : start + width] = r
        x, y = centre_by_run(x, segments), centre_by_run(y, segments)
        varies = np.isfinite(r) & (np.abs(x).max(axis=0) > _TIE) & (np.abs(y).max(axis=0) > _TIE)
        if not varies.any():
            continue
        where = start + np.flatnonzero(varies)
        r = r[varies]
        batch = null(x[:, varies], y[:, varies])
        constant = r - batch.observed
        with np.errstate(invalid="ignore", divide="ignore"):
            z = (batch.observed - batch.mean) / batch.sd
        if batch.draws is None:
            p, q95 = stats.norm.sf(z), batch.mean + batch.sd * stats.norm.ppf(0.95)
        else:
            reached = (batch.draws >= batch.observed - _TIE).sum(axis=0)
            p = (reached + 1.0) / (n_permutations + 1.0)
            if tail == "pareto":
                rare = reached < 10
                p[rare] = tail_p(batch.draws[:, rare], batch.observed[rare])
            q95 = np.quantile(batch.draws, 0.95, axis=0)
            largest = np.maximum(largest, ((batch.draws - batch.mean) / batch.sd).max(axis=1))
        columns[1:, where] = p, constant + batch.mean, batch.sd, constant + q95
        standardised[where] = z
    if n_permutations == 0:
        return columns, None
    reached = n_permutations - np.searchsorted(np.sort(largest), standardised - _TIE, side="left")
    return columns, np.where(np.isnan(standardised), np.nan, (reached + 1.0) / (n_permutations + 1.0))


class _BlockMoments:
    """Exact mean and variance of sum_i <x_block(pi(i)), y_block(i)> over all permutations pi, without drawing any."""

    def __init__(self, blocks: np.ndarray) -> None:
        self.blocks = blocks

    def __call__(self, x: np.ndarray, y: np.ndarray) -> _Null:
        """Null of columns x, y, shape (n_samples, n_columns), centred by run."""
        x, y = self._cut(x), self._cut(y)
        return _Null(*self._moments(x, y), None, np.einsum("vbl,vbl->v", x, y))

    def _cut(self, values: np.ndarray) -> np.ndarray:
        """Columns as (n_columns, n_blocks, block_length)."""
        return np.ascontiguousarray(values[self.blocks].transpose(2, 0, 1))

    @staticmethod
    def _moments(x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Mean and standard deviation, each (n_columns,).

        With G the Gram matrix of blocks, the mean is its sum over n_blocks and the variance the squared norm of the
        doubly centred G over n_blocks - 1 (Hoeffding 1951). The latter equals the inner product of the two
        block_length x block_length Gram matrices, which is what is computed where blocks are many and short.
        """
        n_blocks, length = x.shape[1:]
        mean = np.einsum("vl,vl->v", x.sum(axis=1), y.sum(axis=1)) / n_blocks
        x, y = x - x.mean(axis=1, keepdims=True), y - y.mean(axis=1, keepdims=True)
        if length < n_blocks:
            squares = np.einsum("vij,vij->v", x.transpose(0, 2, 1) @ x, y.transpose(0, 2, 1) @ y)
        else:
            gram = x @ y.transpose(0, 2, 1)
            squares = np.einsum("vij,vij->v", gram, gram)
        return mean, np.sqrt(squares / (n_blocks - 1))


class _BlockPermutations(_BlockMoments):
    """Draws from the null of `_BlockMoments`, the same permutations for every column.

    A permuted sum picks one entry a row from the Gram matrix of blocks, so all draws are one product of a sparse
    0/1 matrix (n_permutations, n_blocks^2) with the Gram matrices of a batch of columns; no series is ever shuffled.
    """

    def __init__(self, blocks: np.ndarray, n_permutations: int, rng: np.random.Generator) -> None:
        super().__init__(blocks)
        n_blocks = len(blocks)
        self.orders = rng.permuted(np.tile(np.arange(n_blocks), (n_permutations, 1)), axis=1)
        entries = self.orders * n_blocks + np.arange(n_blocks)
        bounds = np.arange(n_permutations + 1) * n_blocks
        self.picks = sparse.csr_array(
            (np.ones(entries.size), entries.ravel(), bounds), shape=(n_permutations, n_blocks**2)
        )

    def __call__(self, x: np.ndarray, y: np.ndarray) -> _Null:
        """Null of columns x, y, shape (n_samples, n_columns), centred by run."""
        x, y = self._cut(x), self._cut(y)
        n_columns, n_blocks, _ = x.shape
        if n_blocks <= _GRAM_LIMIT:
            gram = (x @ y.transpose(0, 2, 1)).reshape(n_columns, n_blocks**2)
            draws = self.picks @ np.ascontiguousarray(gram.T)
        else:
            draws = np.stack([np.einsum("vbl,vbl->v", x[:, order], y) for order in self.orders])
        return _Null(*self._moments(x, y), draws, np.einsum("vbl,vbl->v", x, y))


class _CircularShifts:
    """Each run's prediction turned around within the run, by its own random shift in every draw."""

    def __init__(self, segments: list[slice], length: int, n_permutations: int, rng: np.random.Generator) -> None:
        self.segments = segments
        self.shifts = []
        for n_samples in segment_lengths(segments):
            least = min(length, n_samples // 4)
            self.shifts.append(rng.integers(least, n_samples - least + 1, n_permutations) % n_samples)

    def __call__(self, x: np.ndarray, y: np.ndarray) -> _Null:
        """Null of columns x, y, shape (n_samples, n_columns), centred by run."""
        draws = np.zeros((len(self.shifts[0]), x.shape[1]))
        for segment, shifts in zip(self.segments, self.shifts, strict=True):
            n_samples = segment.stop - segment.start
            spectrum = np.conj(fft.rfft(x[segment], axis=0)) * fft.rfft(y[segment], axis=0)
            draws += fft.irfft(spectrum, n_samples, axis=0)[shifts]
        return _Null(draws.mean(axis=0), draws.std(axis=0, ddof=1), draws, np.einsum("nv,nv->v", x, y))

"""Runs as contiguous segments of samples, and equal blocks inside them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from wernicke.core.checks import check_labels
from wernicke.core.errors import InputError


def run_segments(runs: Sequence[Any] | np.ndarray | None, n_samples: int) -> list[slice]:
    """Return one slice a run, in order; ``None`` means that all samples are one run.

    Raises
    ------
    InputError
        E-SHAPE for another number of labels than samples, E-META where a run is not contiguous.
    """
    if runs is None:
        return [slice(0, n_samples)]
    labels = check_labels(runs, "runs", n_samples)
    starts = np.flatnonzero(np.concatenate([[True], labels[1:] != labels[:-1]]))
    first = labels[starts].tolist()
    if len(set(first)) != len(first):
        again = next(label for i, label in enumerate(first) if label in first[:i])
        raise InputError(
            "E-META",
            f"run {again!r} is interrupted by other runs, expected contiguous runs",
            field="runs",
            hint="sort the samples by run and time, or give each stretch its own label",
        )
    stops = [*starts[1:].tolist(), n_samples]
    return [slice(int(start), int(stop)) for start, stop in zip(starts, stops, strict=True)]


def segment_lengths(segments: list[slice]) -> np.ndarray:
    """Number of samples of each segment, shape (n_segments,)."""
    return np.array([segment.stop - segment.start for segment in segments])


def block_indices(segments: list[slice], length: int) -> np.ndarray:
    """Sample indices of the complete blocks, shape (n_blocks, length).

    Blocks are counted from each run's first sample and never cross a border; the incomplete block at a run's end
    is left out.
    """
    starts = [np.arange(s.start, s.stop - length + 1, length) for s in segments]
    return np.concatenate(starts)[:, None] + np.arange(length)


def centre_by_run(values: np.ndarray, segments: list[slice]) -> np.ndarray:
    """Copy of `values` (n_samples, n_columns) with each run's mean taken off each column."""
    centred = values.copy()
    for segment in segments:
        centred[segment] -= centred[segment].mean(axis=0)
    return centred

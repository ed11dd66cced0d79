"""Spin tests of several maps at once: every pair, against the same rotations."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from wernicke.core.checks import check_option
from wernicke.core.errors import InputError
from wernicke.stats.spin import SMALLEST_OVERLAP, Alternative, Sphere, as_map, as_sphere, p_values, spin_indices


@dataclass(frozen=True)
class PairSpins:
    """One entry a pair, in the order in which pairs were given.

    Attributes
    ----------
    r : array, shape (n_pairs,)
        Pearson correlation over the vertices that all maps have.
    p, z : array, shape (n_pairs,)
        As `wernicke.stats.spin.SpinResult` has them.
    n_vertices : int
        With a value in all maps.
    n_permutations : int
        Rotations that left enough vertices in common.
    alternative : str
    """

    r: np.ndarray
    p: np.ndarray
    z: np.ndarray
    n_vertices: int
    n_permutations: int
    alternative: str


def spin_pairs(
    maps: Any,
    pairs: Sequence[tuple[int, int]],
    *,
    sphere: Sphere | str = "fsaverage5",
    alternative: Alternative = "two-sided",
    n_permutations: int = 1000,
    seed: int = 0,
) -> PairSpins:
    """Test pairs of surface maps as `wernicke.stats.spin.spin_test` does, over the vertices that all maps have.

    Parameters
    ----------
    maps : array-like, shape (n_maps, n_left + n_right)
        NaN where there is no value.
    pairs : sequence of (int, int)
        Numbers of maps; the first of each pair is rotated.
    sphere, alternative, n_permutations, seed
        As in `spin_test`; all pairs cost about as much as one.

    Raises
    ------
    InputError
        E-SHAPE, E-FMT, E-CONST (a map without variance), E-SIZE (too few vertices in common), E-META (no pair, or of
        a map that is not there).
    """
    check_option(alternative, ("two-sided", "greater", "less"), "alternative")
    sphere = as_sphere(sphere)
    values = np.stack([as_map(one, f"maps, {k}", sphere) for k, one in enumerate(maps)])
    first, second = np.array(pairs, dtype=int).reshape(-1, 2).T
    if not len(first) or min(first.min(), second.min()) < 0 or max(first.max(), second.max()) >= len(values):
        raise InputError("E-META", f"found {list(pairs)[:4]}, expected pairs of {len(values)} maps", field="pairs")
    known = np.isfinite(values).all(axis=0)
    n_vertices = int(known.sum())
    if n_vertices < 10:
        raise InputError(
            "E-SIZE", f"{n_vertices} vertices have a value in all maps, expected at least 10", field="maps"
        )
    values = np.where(known, values, 0.0)

    def correlate(index: np.ndarray) -> np.ndarray:
        both = known & known[index]
        if both.sum() < max(3, SMALLEST_OVERLAP * n_vertices):
            return np.full(len(first), np.nan)
        turned, still = (m - m.mean(axis=1, keepdims=True) for m in (values[:, index[both]], values[:, both]))
        with np.errstate(invalid="ignore"):  # 0 / 0 where a map is constant over what is in common: no correlation
            return ((turned @ still.T)[first, second]
                    / np.sqrt((turned**2).sum(axis=1)[first] * (still**2).sum(axis=1)[second]))  # fmt: skip

    r = correlate(np.arange(values.shape[1]))
    if not np.isfinite(r).all():
        raise InputError("E-CONST", "a map has the same value on all vertices in common", field="maps")
    null = np.stack([correlate(index) for index in spin_indices(sphere, n_permutations=n_permutations, seed=seed)])
    null = null[np.isfinite(null).all(axis=1)]
    if len(null) < n_permutations / 2:
        raise InputError("E-SIZE", f"{n_permutations - len(null)} of {n_permutations} rotations leave nearly no "
                         "vertex in common", field="maps",
                         hint="the maps cover too little of the sphere for a spin test")  # fmt: skip
    z = (r - null.mean(axis=0)) / null.std(axis=0, ddof=1)
    return PairSpins(r, p_values(null, r, alternative), z, n_vertices, len(null), alternative)

"""Which band weights (gammas) a random search tries."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from wernicke.core.errors import InputError

Subset = tuple[int, ...]
"""The bands of a model, by number."""

#: Bands weaker than this share of the strongest one are raised to it: in float32 nothing below it is computable.
SMALLEST_RATIO = 1e-8


def generate_dirichlet_samples(
    n_samples: int,
    n_kernels: int,
    concentration: float | Sequence[float] = (0.1, 1.0),
    random_state: int | np.random.RandomState | None = None,
) -> np.ndarray:
    """Draw band weights on the simplex, alternating between concentrations, as himalaya 0.4.11 draws them.

    The legacy ``RandomState`` is used on purpose: the same seed gives himalaya's draws.

    Parameters
    ----------
    n_samples, n_kernels : int
        Numbers of draws and of bands.
    concentration : float or sequence of float
        1 is uniform on the simplex, below 1 favours few bands, ``inf`` weighs all bands alike.
    random_state : int, RandomState or None

    Returns
    -------
    array of shape (n_samples, n_kernels), float64, rows sum to 1
    """
    rng = random_state if isinstance(random_state, np.random.RandomState) else np.random.RandomState(random_state)  # noqa: NPY002
    concentrations = np.atleast_1d(np.asarray(concentration, dtype=np.float64))
    if concentrations.ndim != 1 or concentrations.size == 0 or not (concentrations > 0).all():
        raise InputError("E-CFG", f"found {concentration!r}, expected positive numbers", field="concentration")
    each = -(-n_samples // len(concentrations))
    draws = [
        np.full((each, n_kernels), 1 / n_kernels) if np.isinf(c) else rng.dirichlet([c] * n_kernels, each)
        for c in concentrations
    ]
    return np.stack(draws, axis=1).reshape(-1, n_kernels)[:n_samples]


def make_gammas(
    n_iter: int | np.ndarray,
    n_bands: int,
    concentration: float | Sequence[float],
    random_state: int | np.random.RandomState | None,
) -> np.ndarray:
    """Return the gammas to try, shape (n_iter, n_bands): drawn (the first weighs all bands alike) or as given.

    A given weight of exactly 0 leaves the band out. A positive weight below 1e-8 of the row's largest is raised to
    that: there float32 scores, himalaya's as well as these, are off their own float64 values by up to .14.
    """
    if isinstance(n_iter, (int, np.integer)) and not isinstance(n_iter, bool):
        if n_iter < 1:
            raise InputError("E-CFG", f"found {n_iter}, expected at least 1", field="n_iter")
        gammas = generate_dirichlet_samples(int(n_iter), n_bands, concentration, random_state)
        gammas[0] = 1 / n_bands
    else:
        gammas = np.array(n_iter, dtype=np.float64)
        if gammas.ndim != 2 or gammas.shape[1] != n_bands or len(gammas) == 0:
            raise InputError(
                "E-SHAPE",
                f"found shape {gammas.shape}, expected (n_iter, {n_bands}), one weight a band",
                field="n_iter",
            )
        if not np.isfinite(gammas).all() or (gammas < 0).any() or (gammas.max(1) <= 0).any():
            raise InputError("E-CFG", "found a row that is negative, not finite or all 0, expected band weights",
                             field="n_iter")  # fmt: skip
    return clamp_gammas(gammas)


def clamp_gammas(gammas: np.ndarray) -> np.ndarray:
    """Raise positive weights to at least `SMALLEST_RATIO` of their row's largest."""
    smallest = SMALLEST_RATIO * gammas.max(1, keepdims=True)
    return np.where((gammas > 0) & (gammas < smallest), smallest, gammas)


def is_clamped(gammas: np.ndarray) -> np.ndarray:
    """Return whether each row has a weight that `clamp_gammas` raised, or that stands at its limit anyway."""
    limit = SMALLEST_RATIO * (1 + 1e-9) * gammas.max(1, keepdims=True)
    return ((gammas > 0) & (gammas <= limit)).any(1)


def refine_gammas(gammas: np.ndarray, chosen: np.ndarray, n_refine: int, rng: np.random.Generator) -> np.ndarray:
    """Return new gammas around those that most targets chose.

    Parameters
    ----------
    gammas : array of shape (n_iter, n_bands)
    chosen : array of shape (n_targets,), int
        Row of `gammas` that each target chose.
    n_refine : int
    rng : numpy Generator

    Returns
    -------
    array of shape (n_refine, n_bands)
        A winner, picked in proportion to the targets that chose it, with each weight multiplied by exp(N(0, .7)).
    """
    votes = np.bincount(chosen, minlength=len(gammas)).astype(np.float64)
    parents = gammas[rng.choice(len(gammas), size=n_refine, p=votes / votes.sum())]
    children = parents * np.exp(0.7 * rng.standard_normal(parents.shape))
    return clamp_gammas(children / children.sum(1, keepdims=True))


def draw_balances(subsets: list[Subset], n_iter: int, seed: int) -> dict[Subset, np.ndarray]:
    """Return the band weights that each model tries, (n_draws, n_bands of the model).

    All bands alike, each alone, all but each, then `n_iter` random draws (Dirichlet, as himalaya's). A reduced model
    tries the full one's, without the bands that it lacks: where a band adds nothing, both come to the same fit.
    """
    full = max(subsets, key=len)
    n_bands = len(full)
    alike = np.ones((1, n_bands)) / n_bands
    if n_bands == 1:
        return dict.fromkeys(subsets, alike)
    alone = np.eye(n_bands)
    random = make_gammas(n_iter + 1, n_bands, (0.1, 1.0), seed)[1:]
    draws = np.concatenate([alike, alone, (1 - alone) / (n_bands - 1), random])
    found = {}
    for subset in subsets:
        part = draws[:, list(subset)]
        part = part[part.sum(axis=1) > 1e-6]
        part = part / part.sum(axis=1, keepdims=True)
        _, first = np.unique(part.round(9), axis=0, return_index=True)
        found[subset] = clamp_gammas(part[np.sort(first)])
    return found

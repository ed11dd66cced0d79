"""Ridge solvers as functions: arrays in, a frozen result out. The estimators are thin layers over these."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from tqdm import tqdm

from wernicke.core.errors import InputError
from wernicke.ridge.arrays import Array, give_back, is_torch, to_torch
from wernicke.ridge.basis import ALPHA_FLOOR
from wernicke.ridge.draws import is_clamped, make_gammas, refine_gammas
from wernicke.ridge.folds import make_folds
from wernicke.ridge.inputs import check_alphas, check_constant, check_xy
from wernicke.ridge.scores import l2_neg_loss
from wernicke.ridge.search import TILE, BasisCache, Choice, Search, fit_weights, make_side, search_draws
from wernicke.ridge.targets import Side, read_tile


class AlphaGridWarning(UserWarning):
    """Alphas too small to be told apart, or choices on the grid's edge."""


@dataclass(frozen=True)
class RidgeSolution:
    """What a cross-validated solver found; arrays are of the input's kind."""

    best_alphas: Any
    """(n_targets,)"""
    deltas: Any
    """(n_bands, n_targets): log(gamma / alpha); -inf for a band that was left out"""
    coef: Any
    """(n_features, n_targets)"""
    cv_scores: Any
    """(n_iter, n_targets): at each draw's best alpha, averaged over folds"""
    intercept: Any
    """(n_targets,), zeros without an intercept"""
    n_floored: int
    """Targets whose chosen alpha is below 1e-8 of the largest eigenvalue, and was raised to that"""
    n_edge: int
    """Targets whose chosen alpha is the smallest or the largest of the grid"""
    n_clamped: int
    """Targets whose chosen draw has a band weight that was raised to 1e-8 of the largest"""


def solve_ridge(
    X: Array, Y: Array, alpha: float | Array = 1.0, *, fit_intercept: bool = False, n_targets_batch: int | None = None
) -> tuple[Array, Array, int]:
    """Solve ``argmin_b |X b - y|^2 + alpha |b|^2`` for every target.

    Parameters
    ----------
    X : array of shape (n_samples, n_features)
    Y : array of shape (n_samples, n_targets)
    alpha : float or array of shape (n_targets,)
        Below 1e-8 of the largest eigenvalue it is raised to that.
    fit_intercept : bool
    n_targets_batch : int, optional
        Targets at a time.

    Returns
    -------
    coef : array of shape (n_features, n_targets)
    intercept : array of shape (n_targets,)
    n_floored : int
    """
    bands, responses = check_xy([X], Y)
    n_targets = responses.shape[1]
    alphas = to_torch(alpha).to(bands[0].device, torch.float64).reshape(-1)
    if alphas.shape[0] not in (1, n_targets) or not bool(torch.isfinite(alphas).all()) or bool((alphas < 0).any()):
        raise InputError(
            "E-CFG", f"found {alphas.shape[0]} values from {float(alphas.min()):g}, expected 1 or {n_targets}, "
            "none negative", field="alpha",
        )  # fmt: skip
    search = Search(folds=[], alphas=np.ones(1), fit_intercept=fit_intercept)
    side = make_side(bands[0], [bands[0].shape[1]], search)
    result, cache = _Result.empty(side, 1, n_targets), BasisCache(side, keep=True)
    result.choice.alpha = alphas.expand(n_targets)
    for columns in _stretches(n_targets, min(n_targets_batch or TILE, TILE)):
        tile = read_tile(side, responses, columns, [], fit_intercept)
        result.n_floored += fit_weights(cache, [tile], result.choice, np.ones((1, 1)), result.coef)
        result.intercept[columns] = _intercept(side, tile.mean, result.coef[:, columns])
    return give_back(result.coef, X), give_back(result.intercept, X), result.n_floored


def solve_ridge_cv(
    X: Array,
    Y: Array,
    alphas: Any = 1.0,
    *,
    fit_intercept: bool = False,
    score_func: Callable[[Any, Any], Any] = l2_neg_loss,
    cv: Any = 5,
    local_alpha: bool = True,
    exhaustive: bool = False,
    conservative: bool = False,
    n_targets_batch: int | None = None,
    Y_in_cpu: bool = False,
    warn: bool = True,
) -> RidgeSolution:
    """Solve ridge with a grid search over alphas for every target: `solve_group_ridge` with one band."""
    return solve_group_ridge(
        [X], Y, n_iter=np.ones((1, 1)), alphas=alphas, fit_intercept=fit_intercept, score_func=score_func, cv=cv,
        local_alpha=local_alpha, exhaustive=exhaustive, conservative=conservative, n_targets_batch=n_targets_batch,
        Y_in_cpu=Y_in_cpu, warn=warn,
    )  # fmt: skip


def solve_group_ridge(
    Xs: Sequence[Array],
    Y: Array,
    *,
    n_iter: int | np.ndarray = 100,
    concentration: float | Sequence[float] = (0.1, 1.0),
    alphas: Any = 1.0,
    fit_intercept: bool = False,
    score_func: Callable[[Any, Any], Any] = l2_neg_loss,
    cv: Any = 5,
    local_alpha: bool = True,
    jitter_alphas: bool = False,
    random_state: int | None = None,
    n_refine: int = 0,
    exhaustive: bool = False,
    conservative: bool = False,
    n_targets_batch: int | None = None,
    Y_in_cpu: bool = False,
    progress_bar: bool = False,
    warn: bool = True,
) -> RidgeSolution:
    """Solve banded ridge: search band weights on the simplex and alphas on a grid, for every target.

    Minimises ``|sum_i sqrt(g_i) X_i b_i - y|^2 + alpha |b|^2`` (Nunez-Elizalde et al. 2019; random search as in
    Dupre la Tour et al. 2022).

    Parameters
    ----------
    Xs : sequence of arrays of shape (n_samples, n_features_i)
        One a band.
    Y : array of shape (n_samples, n_targets)
    n_iter : int or array of shape (n_iter, n_bands)
        Number of random draws of band weights, the first being equal weights; or the weights themselves.
    concentration : float or sequence of float
        Of the Dirichlet distribution; cycled through.
    alphas : float or array of shape (n_alphas,)
    fit_intercept : bool
        Without it X and Y are taken as they are.
    score_func : callable
        ``correlation_score``, ``r2_score`` and ``l2_neg_loss`` are computed from moments; any other function of
        (y_true, y_pred) works, from predictions and slowly.
    cv : int, scikit-learn splitter or iterable of (train, test)
    local_alpha : bool
        Choose alphas per target; else one for all.
    jitter_alphas : bool
        Shift the grid by up to half a decade at each draw.
    n_refine : int
        Further draws around those that won, after the random ones.
    exhaustive : bool
        Evaluate every alpha of every draw exactly; else scores are screened, then verified near the optimum.
    conservative : bool
        Take the largest alpha within one standard deviation over folds of the best.
    n_targets_batch : int, optional
        Targets searched at a time: bounds memory at the price of decomposing the features once a batch and draw.
    Y_in_cpu : bool
        Leave `Y` in main memory when the features are on a GPU; tiles of it travel.
    progress_bar, warn : bool
        Show progress over draws; warn of alphas below the floor and choices on the grid's edge.

    Returns
    -------
    RidgeSolution

    Raises
    ------
    InputError
        E-SHAPE, E-NONFIN, E-CONST, E-SPLIT, E-CFG.
    """
    bands, responses = check_xy(Xs, Y)
    folds = make_folds(cv, responses.shape[0])
    check_constant(responses)
    if not Y_in_cpu:
        responses = responses.to(bands[0].device)
    if conservative and not local_alpha:
        raise InputError("E-CFG", "conservative=True needs local_alpha=True", field="conservative")
    gammas = make_gammas(n_iter, len(bands), concentration, random_state)
    search = Search(
        folds, check_alphas(alphas), score_func, fit_intercept, local_alpha, conservative,
        exhaustive, like=None if not is_torch(Xs[0]) else bands[0],
    )  # fmt: skip
    side = make_side(torch.cat(bands, 1) if len(bands) > 1 else bands[0], [b.shape[1] for b in bands], search)
    shifts = np.ones(len(gammas) + n_refine)
    if jitter_alphas:
        stream = np.random.RandomState(random_state)  # noqa: NPY002  (himalaya's stream)
        shifts = 10 ** (np.array([stream.rand() for _ in shifts]) - 0.5)
    n_targets = responses.shape[1]
    # One draw needs nothing of a target twice: it is read, searched and fitted before the next tile.
    batch = n_targets_batch or (TILE if len(gammas) == 1 else n_targets)
    if n_refine or not local_alpha:
        batch = n_targets
    result = _Result.empty(side, len(gammas) + n_refine, n_targets)
    cache = BasisCache(side, keep=len(gammas) == 1)
    for columns in _stretches(n_targets, batch):
        tiles = [
            read_tile(side, responses, part, search.folds, fit_intercept)
            for part in _stretches(columns.stop, TILE if local_alpha else n_targets, columns.start)
        ]
        draws = tqdm(gammas, desc="band draws", disable=None if progress_bar else True)
        search_draws(cache, tiles, search, draws, shifts, result.choice, result.cv_scores)
        if n_refine:
            rng = np.random.default_rng(None if random_state is None else int(random_state))
            new = refine_gammas(gammas, result.choice.draw.cpu().numpy(), n_refine, rng)
            search_draws(cache, tiles, search, new, shifts, result.choice, result.cv_scores, first=len(gammas))
            gammas = np.concatenate([gammas, new])
        result.n_floored += fit_weights(cache, tiles, result.choice, gammas, result.coef)
        for tile in tiles:
            result.intercept[tile.columns] = _intercept(side, tile.mean, result.coef[:, tile.columns])
    return _finish(result, gammas, shifts, search, Xs[0], warn)


@dataclass
class _Result:
    """A call's outputs, filled batch by batch."""

    choice: Choice
    cv_scores: torch.Tensor
    coef: torch.Tensor
    intercept: torch.Tensor
    n_floored: int = 0

    @staticmethod
    def empty(side: Side, n_draws: int, n_targets: int) -> _Result:
        """Return outputs of the right shapes."""

        def zeros(*shape: int) -> torch.Tensor:
            return torch.zeros(shape, dtype=side.dtype, device=side.device)

        return _Result(
            Choice.empty(n_targets, side.device), zeros(n_draws, n_targets),
            zeros(side.n_features, n_targets), zeros(n_targets),
        )  # fmt: skip


def _stretches(stop: int, size: int, start: int = 0) -> list[slice]:
    """Return consecutive slices of at most `size` from `start` to `stop`."""
    return [slice(at, min(at + size, stop)) for at in range(start, stop, size)]


def _intercept(side: Side, mean: torch.Tensor, coef: torch.Tensor) -> torch.Tensor:
    return mean if side.shift is None else mean - side.shift.to(side.dtype) @ coef


def _finish(
    result: _Result, gammas: np.ndarray, shifts: np.ndarray, search: Search, like: Any, warn: bool
) -> RidgeSolution:
    """Return the outputs in the input's kind, and warn once of what the grid could not do."""
    alphas = result.choice.alpha
    weights = torch.from_numpy(gammas).to(alphas.device)[result.choice.draw].T
    n_edge, n_targets = 0, len(alphas)
    if len(search.alphas) > 1:
        of_grid = alphas / torch.from_numpy(shifts).to(alphas.device)[result.choice.draw]
        low, high = search.alphas[0] * (1 + 1e-9), search.alphas[-1] * (1 - 1e-9)
        n_edge = int(((of_grid <= low) | (of_grid >= high)).sum())
    problems = []
    if result.n_floored:
        problems.append(f"{result.n_floored} of {n_targets} targets chose an alpha below {ALPHA_FLOOR:g} of the "
                        "largest eigenvalue, raised to that")  # fmt: skip
    if n_edge and len(search.alphas) > 2:
        problems.append(f"{n_edge} of {n_targets} targets chose the smallest or largest alpha of the grid")
    if warn and problems:
        warnings.warn("; ".join(problems) + " (warn=False silences this)", AlphaGridWarning, stacklevel=3)
    n_clamped = int(torch.from_numpy(is_clamped(gammas)).to(alphas.device)[result.choice.draw].sum())
    dtype = result.coef.dtype
    return RidgeSolution(
        give_back(alphas.to(dtype), like), give_back((weights.log() - alphas.log()).to(dtype), like),
        give_back(result.coef, like), give_back(result.cv_scores, like), give_back(result.intercept, like),
        result.n_floored, n_edge, n_clamped,
    )  # fmt: skip

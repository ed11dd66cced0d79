"""Variance partitioning: every sub-model of up to four bands from one pass over the responses."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from wernicke.core.errors import InputError
from wernicke.ridge.arrays import Array, give_back
from wernicke.ridge.draws import make_gammas
from wernicke.ridge.folds import make_folds
from wernicke.ridge.inputs import check_alphas, check_constant, check_xy
from wernicke.ridge.scores import l2_neg_loss
from wernicke.ridge.search import TILE, BasisCache, Choice, Search, fit_weights, make_side, search_draws
from wernicke.ridge.targets import read_tile


@dataclass(frozen=True)
class SubModel:
    """One sub-model, with hyper-parameters of its own for every target."""

    bands: tuple[int, ...]
    best_alphas: Any
    """(n_targets,)"""
    cv_scores: Any
    """(n_targets,): averaged over folds, at the best draw and alpha"""
    coef: Any
    """(n_features, n_targets), zero for features of other bands: predictions are ``X @ coef``"""


def solve_submodels(
    Xs: Sequence[Array],
    Y: Array,
    alphas: Any,
    *,
    cv: Any = 5,
    score_func: Callable[[Any, Any], Any] = l2_neg_loss,
    n_iter: int = 1,
    random_state: int | None = None,
    exhaustive: bool = False,
) -> dict[tuple[int, ...], SubModel]:
    """Fit every non-empty subset of the bands, each tuned by itself.

    A sub-model is a sub-block of the full model's statistics (a band's weight set to 0), so features and responses
    are multiplied once for all of them. Unique variance of band i is score(all) - score(all but i), shared variance
    follows by inclusion and exclusion (Lescroart et al. 2015).

    Parameters
    ----------
    Xs : sequence of 1 to 4 arrays of shape (n_samples, n_features_i)
    Y : array of shape (n_samples, n_targets)
    alphas : array of shape (n_alphas,)
    cv, score_func, exhaustive
        As in `solve_group_ridge`.
    n_iter : int
        Draws of band weights for each sub-model of more than one band; 1 is plain ridge on its bands.
    random_state : int, optional

    Returns
    -------
    dict of tuple of int to SubModel
        By the bands' numbers, such as ``(0, 2)``.
    """
    bands, responses = check_xy(Xs, Y)
    if not 1 <= len(bands) <= 4:
        raise InputError("E-CFG", f"found {len(bands)} bands, expected 1 to 4 (15 sub-models)", field="Xs")
    search = Search(
        make_folds(cv, responses.shape[0]), check_alphas(alphas), score_func, exhaustive=exhaustive, like=Xs[0]
    )
    check_constant(responses)
    side = make_side(torch.cat(bands, 1), [band.shape[1] for band in bands], search)
    subsets = [s for size in range(1, len(bands) + 1) for s in itertools.combinations(range(len(bands)), size)]
    gammas = {subset: _draws(subset, len(bands), n_iter, random_state) for subset in subsets}
    n_targets = responses.shape[1]
    kind: dict[str, Any] = {"dtype": side.dtype, "device": side.device}
    choices = {subset: Choice.empty(n_targets, side.device) for subset in subsets}
    coefs = {subset: torch.zeros((side.n_features, n_targets), **kind) for subset in subsets}
    tiles = [
        read_tile(side, responses, slice(at, min(at + TILE, n_targets)), search.folds, False)
        for at in range(0, n_targets, TILE)
    ]
    cache = BasisCache(side, keep=False)
    for subset in subsets:
        scores = torch.zeros((len(gammas[subset]), n_targets), **kind)
        shifts = np.ones(len(gammas[subset]))
        search_draws(cache, tiles, search, gammas[subset], shifts, choices[subset], scores)
        fit_weights(cache, tiles, choices[subset], gammas[subset], coefs[subset])
    return {
        subset: SubModel(
            subset, give_back(choices[subset].alpha.to(side.dtype), Xs[0]),
            give_back(choices[subset].score.to(side.dtype), Xs[0]), give_back(coefs[subset], Xs[0]),
        )
        for subset in subsets
    }  # fmt: skip


def _draws(subset: tuple[int, ...], n_bands: int, n_iter: int, random_state: int | None) -> np.ndarray:
    """Return the band weights that a sub-model tries, zero for other bands; the first is plain ridge on its bands."""
    draws = np.zeros((n_iter if len(subset) > 1 else 1, n_bands))
    if len(subset) > 1 and n_iter > 1:
        draws[:, list(subset)] = make_gammas(n_iter, len(subset), (0.1, 1.0), random_state)
    draws[0, list(subset)] = 1.0
    return draws

"""Variance partitioning: sub-models of several bands from one pass over the responses."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from wernicke.core.errors import InputError
from wernicke.ridge.arrays import Array, give_back
from wernicke.ridge.draws import Subset, make_gammas
from wernicke.ridge.folds import make_folds
from wernicke.ridge.inputs import check_alphas, check_constant, check_xy
from wernicke.ridge.scores import l2_neg_loss
from wernicke.ridge.search import TILE, BasisCache, Choice, Search, fit_weights, make_side, search_draws
from wernicke.ridge.targets import read_tile

#: All subsets of more bands than this are not fitted: 31 models for five.
MOST_BANDS_OF_ALL_SUBSETS = 4
#: Decompositions are kept between calls of `SubModels.fit` where all of them take no more than this, else made anew.
KEPT_BYTES = 1_000_000_000


@dataclass(frozen=True)
class SubModel:
    """One sub-model, with hyper-parameters of its own for every target."""

    bands: Subset
    best_alphas: Any
    """(n_targets,)"""
    cv_scores: Any
    """(n_targets,): averaged over folds, at the best draw and alpha"""
    coef: Any
    """(n_features, n_targets), zero for features of other bands: predictions are ``X @ coef + intercept``"""
    intercept: Any
    """(n_targets,), zeros without an intercept"""


def all_subsets(n_bands: int) -> list[Subset]:
    """Return every non-empty subset of up to four bands, by size."""
    if not 1 <= n_bands <= MOST_BANDS_OF_ALL_SUBSETS:
        raise InputError("E-CFG", f"found {n_bands} bands, expected 1 to 4 (15 sub-models)", field="Xs",
                         hint="with more, leave_one_out_subsets(n_bands) gives the full model and each "
                         "without one band")  # fmt: skip
    return [s for size in range(1, n_bands + 1) for s in itertools.combinations(range(n_bands), size)]


def leave_one_out_subsets(n_bands: int) -> list[Subset]:
    """Return the set of all bands, then each set without one band; the number of bands has no limit."""
    everything = tuple(range(n_bands))
    return [everything, *(everything[:i] + everything[i + 1 :] for i in everything if n_bands > 1)]


class SubModels:
    """The features' side of several sub-models, for responses that come some voxels at a time.

    Parameters are those of `solve_submodels`, without the responses. `n_iter` may also be a mapping of each subset to
    the band weights that it tries, (n_draws, n_bands_of_the_subset).
    """

    def __init__(
        self,
        Xs: Sequence[Array],
        alphas: Any,
        *,
        subsets: Iterable[Sequence[int]] | None = None,
        cv: Any = 5,
        score_func: Callable[[Any, Any], Any] = l2_neg_loss,
        n_iter: int | Mapping[Subset, np.ndarray] = 1,
        fit_intercept: bool = False,
        random_state: int | None = None,
        exhaustive: bool = False,
    ) -> None:
        bands, _ = check_xy(Xs, Xs[0] if len(Xs) else np.zeros((0, 0)))
        self.like, self.first = Xs[0], bands[0]
        self.subsets = all_subsets(len(bands)) if subsets is None else _check_subsets(subsets, len(bands))
        self.search = Search(
            make_folds(cv, bands[0].shape[0]), check_alphas(alphas), score_func, fit_intercept,
            exhaustive=exhaustive, like=self.like,
        )  # fmt: skip
        self.side = make_side(torch.cat(bands, 1), [band.shape[1] for band in bands], self.search)
        self.gammas = {
            subset: _draws(subset, len(bands), n_iter[subset] if isinstance(n_iter, Mapping) else n_iter, random_state)
            for subset in self.subsets
        }
        rank = min(self.side.n_features, self.side.n_samples)
        n_bases = sum(len(gammas) for gammas in self.gammas.values()) * (len(self.search.folds) + 1)
        keep = n_bases * 2 * rank**2 * self.side.X.element_size() <= KEPT_BYTES
        self.caches = {subset: BasisCache(self.side, keep) for subset in self.subsets}

    def fit(self, Y: Array) -> Iterator[SubModel]:
        """Yield the sub-models of responses (n_samples, n_targets) one by one, in the order of `subsets`.

        The responses are multiplied with the features before the first of them, and then no more.
        """
        _, responses = check_xy([self.first], Y)
        check_constant(responses)
        side, n_targets = self.side, responses.shape[1]
        tiles = [
            read_tile(side, responses, slice(at, min(at + TILE, n_targets)), self.search.folds,
                      self.search.fit_intercept)
            for at in range(0, n_targets, TILE)
        ]  # fmt: skip
        kind: dict[str, Any] = {"dtype": side.dtype, "device": side.device}
        for subset in self.subsets:
            cache, gammas, choice = self.caches[subset], self.gammas[subset], Choice.empty(n_targets, side.device)
            scores = torch.zeros((len(gammas), n_targets), **kind)
            search_draws(cache, tiles, self.search, gammas, np.ones(len(gammas)), choice, scores)
            coef, intercept = torch.zeros((side.n_features, n_targets), **kind), torch.zeros(n_targets, **kind)
            fit_weights(cache, tiles, choice, gammas, coef)
            for tile in tiles:
                # Without an intercept the tile's mean is 0 and the features have no shift.
                part = (
                    tile.mean if side.shift is None else tile.mean - side.shift.to(side.dtype) @ coef[:, tile.columns]
                )
                intercept[tile.columns] = part
            yield SubModel(
                subset, give_back(choice.alpha.to(side.dtype), self.like),
                give_back(choice.score.to(side.dtype), self.like), give_back(coef, self.like),
                give_back(intercept, self.like),
            )  # fmt: skip


def solve_submodels(
    Xs: Sequence[Array],
    Y: Array,
    alphas: Any,
    *,
    subsets: Iterable[Sequence[int]] | None = None,
    cv: Any = 5,
    score_func: Callable[[Any, Any], Any] = l2_neg_loss,
    n_iter: int = 1,
    fit_intercept: bool = False,
    random_state: int | None = None,
    exhaustive: bool = False,
) -> dict[Subset, SubModel]:
    """Fit several subsets of the bands, each tuned by itself.

    A sub-model is a sub-block of the full model's statistics (a band's weight set to 0), so features and responses
    are multiplied once for all of them. Unique variance of band i is score(all) - score(all but i), shared variance
    follows by inclusion and exclusion (Lescroart et al. 2015).

    Parameters
    ----------
    Xs : sequence of arrays of shape (n_samples, n_features_i)
    Y : array of shape (n_samples, n_targets)
    alphas : array of shape (n_alphas,)
    subsets : iterable of sequences of int, optional
        Which bands each sub-model has; by default every non-empty subset, for up to 4 bands.
        `leave_one_out_subsets` is for any number of bands.
    cv, score_func, fit_intercept, exhaustive
        As in `solve_group_ridge`.
    n_iter : int
        Draws of band weights for each sub-model of more than one band, those of `solve_group_ridge` on its bands;
        1 is plain ridge on its bands (all weights 1).
    random_state : int, optional

    Returns
    -------
    dict of tuple of int to SubModel
        By the bands' numbers, such as ``(0, 2)``.

    Raises
    ------
    InputError
        E-CFG (more than 4 bands without `subsets`, a subset that is empty or names no band), E-SHAPE, E-NONFIN,
        E-CONST, E-SPLIT.
    """
    models = SubModels(
        Xs, alphas, subsets=subsets, cv=cv, score_func=score_func, n_iter=n_iter, fit_intercept=fit_intercept,
        random_state=random_state, exhaustive=exhaustive,
    )  # fmt: skip
    return {model.bands: model for model in models.fit(Y)}


def _check_subsets(subsets: Iterable[Sequence[int]], n_bands: int) -> list[Subset]:
    """Return subsets as sorted tuples of band numbers, each once."""
    found: dict[Subset, None] = {}
    for subset in subsets:
        numbers = tuple(sorted(int(i) for i in subset))
        if not numbers or len(set(numbers)) != len(numbers) or numbers[0] < 0 or numbers[-1] >= n_bands:
            raise InputError("E-CFG", f"found subset {tuple(subset)!r}, expected different band numbers from 0 to "
                             f"{n_bands - 1}", field="subsets")  # fmt: skip
        found[numbers] = None
    if not found:
        raise InputError("E-CFG", "found no subset, expected at least one", field="subsets")
    return list(found)


def _draws(subset: Subset, n_bands: int, n_iter: int | np.ndarray, random_state: int | None) -> np.ndarray:
    """Return the band weights that a sub-model tries, zero for other bands.

    Where they are drawn, the first weighs its bands alike; a single band, and a single draw, weigh 1.
    """
    plain = isinstance(n_iter, (int, np.integer)) and (n_iter == 1 or len(subset) == 1)
    own = np.ones((1, len(subset))) if plain else make_gammas(n_iter, len(subset), (0.1, 1.0), random_state)
    draws = np.zeros((len(own), n_bands))
    draws[:, list(subset)] = own
    return draws

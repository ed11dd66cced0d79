"""Variance partitioning on held-out rows: what each band of features explains alone, together, and no other band.

All models (every subset of up to four bands; beyond, the full model and each without one band) come from one pass over
the responses. Unique: score(full) - score(without the band). Shared: inclusion and exclusion over all subsets
(commonality; Lescroart et al. 2015). Product measure: the full model's score divided among its bands (Pratt 1987;
St-Yves & Naselaris 2018).
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import torch

from wernicke.core.checks import check_option, check_range
from wernicke.encoding.partition_fit import PartitionData, PartitionMaps
from wernicke.ridge import correlation_score, r2_score
from wernicke.ridge.partition import MOST_BANDS_OF_ALL_SUBSETS, SubModels, all_subsets, leave_one_out_subsets

#: drama2brain's grid, for `faithful`.
FAITHFUL_ALPHAS = np.logspace(-12, 12, 25)
#: For bands scaled to a total variance of 1 in the training rows, for `corrected`.
CORRECTED_ALPHAS = np.logspace(-3, 6, 19)

Names = tuple[str, ...]


@dataclass(frozen=True)
class Partition:
    """One value a voxel everywhere, shape (n_voxels,); NaN where a voxel is constant in training or test rows.

    Attributes
    ----------
    bands : tuple of str
    mode : {"faithful", "corrected"}
    score : {"r", "r2"}
        Which score `unique`, `shared` and the intervals are of: r in `faithful`, R2 in `corrected`.
    r, r2, cv : array
        Full model: Pearson's r and R2 on test rows, and the score by which its penalties were chosen on training rows.
    subsets : dict of band names to dict
        ``"r"``, ``"r2"`` and ``"cv"`` of every model that was fitted, each tuned by itself.
    unique : dict of band name to array
    unique_low, unique_high, unique_se : dict of band name to array
        Block bootstrap over test rows, weights held fixed: the uncertainty of these test rows, not of training.
    unique_p : dict of band name to array
        One-sided: does the band's share of the full prediction go with the response, given the other bands? Partial
        correlation on test rows (the other bands' features, or their leading components, at most a tenth as many as
        rows, are regressed out of both) by block permutation (`wernicke.stats.permutation`; Freedman & Lane 1983); not
        corrected for voxels. It asks about the band, where the unique score also depends on how well this training
        set tuned either model.
    unique_p_bootstrap : dict of band name to array
        One-sided: (1 + resamples with unique at most 0) / (1 + resamples), the published bootstrap's question: whether
        this full model predicts better than this reduced one.
    score_low, score_high : array
        Interval of the full model's `score`.
    shared : dict of band names to array, or None
        What exactly these bands have in common, over all subsets; single bands are `unique`, the sum over all is the
        full model's score. None beyond four bands. Negative values are possible (suppression, or noise).
    product_r, product_r2 : dict of band name to array
        Product measure. They sum to `r`, and to the R2 that the full model has once prediction and response have
        their means over the test rows removed.
    coef : dict of band name to array, shape (n_features, n_voxels), or None
        Weights of the full model in the given features' units, when asked for.
    best_alphas : array
        Of the full model.
    block_tr, n_blocks, n_bootstrap, n_permutations : int
    """

    bands: Names
    mode: str
    score: str
    r: np.ndarray
    r2: np.ndarray
    cv: np.ndarray
    subsets: dict[Names, dict[str, np.ndarray]] = field(repr=False)
    unique: dict[str, np.ndarray]
    unique_low: dict[str, np.ndarray] = field(repr=False)
    unique_high: dict[str, np.ndarray] = field(repr=False)
    unique_se: dict[str, np.ndarray] = field(repr=False)
    unique_p: dict[str, np.ndarray] = field(repr=False)
    unique_p_bootstrap: dict[str, np.ndarray] = field(repr=False)
    score_low: np.ndarray = field(repr=False)
    score_high: np.ndarray = field(repr=False)
    shared: dict[Names, np.ndarray] | None = field(repr=False)
    product_r: dict[str, np.ndarray] = field(repr=False)
    product_r2: dict[str, np.ndarray] = field(repr=False)
    coef: dict[str, np.ndarray] | None = field(repr=False)
    best_alphas: np.ndarray = field(repr=False)
    block_tr: int
    n_blocks: int
    n_bootstrap: int
    n_permutations: int

    def columns(self) -> dict[str, np.ndarray]:
        """Return all maps by a flat name: ``r``, ``r2``, ``cv_r`` (``cv_r2``), ``unique_<band>``,
        ``unique_<band>_low``, ``_high``, ``_p``, ``share_<band>`` (product measure of `score`) and
        ``shared_<band>+<band>``.
        """  # fmt: skip
        out = {"r": self.r, "r2": self.r2, f"cv_{self.score}": self.cv, "alpha": self.best_alphas}
        product = self.product_r if self.score == "r" else self.product_r2
        for band in self.bands:
            out[f"unique_{band}"] = self.unique[band]
            out[f"unique_{band}_low"], out[f"unique_{band}_high"] = self.unique_low[band], self.unique_high[band]
            out[f"unique_{band}_p"] = self.unique_p[band]
            out[f"share_{band}"] = product[band]
        for names, values in (self.shared or {}).items():
            if len(names) > 1:
                out["shared_" + "+".join(names)] = values
        return out


def partition(
    bands: Mapping[str, Any],
    responses: Any,
    *,
    train_rows: Sequence[int] | np.ndarray,
    test_rows: Sequence[int] | np.ndarray,
    folds: int | Sequence[Any] | np.ndarray = 5,
    runs: Sequence[Any] | np.ndarray | None = None,
    mode: Literal["faithful", "corrected"] = "corrected",
    subsets: Literal["auto", "leave-one-out"] = "auto",
    alphas: Sequence[float] | np.ndarray | None = None,
    n_iter: int = 20,
    n_bootstrap: int = 1000,
    n_permutations: int = 999,
    tail: Literal["counted", "pareto"] = "counted",
    block_tr: int | None = None,
    level: float = 0.95,
    keep_coef: bool = False,
    exhaustive: bool = False,
    voxels_at_once: int = 4096,
    device: str = "cpu",
    seed: int = 42,
) -> Partition:
    """Fit the full model and its sub-models on training rows, and divide the score on test rows among the bands.

    `faithful`: as drama2brain publishes it (Nakagi, Matsuyama et al. 2024), one banded model with and one without each
    band, tuned by correlation, no intercept, features centred and not scaled; unique is r(full) - r(reduced).
    `corrected`: with an intercept, each band scaled to a total variance of 1 in the training rows, tuned by R2; unique
    is R2(full) - R2(reduced). In both, each reduced model is tuned by itself (band weights and penalty).

    Parameters
    ----------
    bands : mapping of band name to array, shape (n_rows, n_features)
        Two or more; delayed (and reduced) already.
    responses : array, shape (n_rows, n_voxels)
        A memory map is read some voxels at a time.
    train_rows, test_rows : arrays of int
        Without a row in common.
    folds : int, or one label for each training row
        Inner cross-validation: contiguous folds, or whole labels (titles, runs) left out.
    runs : one label for each of the n_rows, optional
        Blocks of test rows do not cross a border between runs.
    subsets : {"auto", "leave-one-out"}
        ``"auto"``: every subset for up to four bands, which `shared` needs; leave-one-out beyond.
    alphas : sequence of float, optional
        ``logspace(-12, 12, 25)`` in `faithful`, ``logspace(-3, 6, 19)`` in `corrected`.
    n_iter : int
        Random draws of band weights for every model of several bands (drama2brain: 100, seed 42).
    n_bootstrap, n_permutations : int
    tail : {"counted", "pareto"}
        As in `wernicke.stats.permutation.permutation_test`: ``"pareto"`` for maps that are to be corrected for many
        voxels.
    block_tr : int, optional
        Length of the blocks for intervals and p values; by default from the data (evenly spaced voxels).
    level : float
        Of the intervals.
    keep_coef : bool
        Return the full model's weights, (n_features, n_voxels) in all.
    exhaustive : bool
        Evaluate every alpha exactly, as published; else screened and verified near the best.
    voxels_at_once : int
        Bounds memory; results differ with it only by rounding (and through `block_tr` where that is estimated).
    device : str
        Where torch computes; tests and resamples stay on the CPU.
    seed : int

    Returns
    -------
    Partition

    Raises
    ------
    InputError
        E-CFG, E-SHAPE, E-NONFIN, E-META, E-SPLIT (rows on both sides), E-CONST (no voxel varies), E-SIZE (fewer than
        10 blocks).

    Examples
    --------
    >>> found = partition(bands, Y, train_rows=train, test_rows=test, folds=titles)  # doctest: +SKIP
    >>> found.unique["story"], found.unique_p["story"], found.shared["speech", "story"]  # doctest: +SKIP
    """
    check_option(mode, ("faithful", "corrected"), "mode")
    check_option(subsets, ("auto", "leave-one-out"), "subsets")
    check_range(voxels_at_once, "voxels_at_once", low=1)
    data = PartitionData.check(bands, responses, train_rows, test_rows, folds, runs, scaled=mode == "corrected")
    n_bands = len(data.names)
    wanted = leave_one_out_subsets(n_bands)  # the full model first: the others are compared with it
    if subsets == "auto" and n_bands <= MOST_BANDS_OF_ALL_SUBSETS:
        wanted += [subset for subset in all_subsets(n_bands) if subset not in wanted]
    if alphas is None:
        alphas = FAITHFUL_ALPHAS if mode == "faithful" else CORRECTED_ALPHAS
    solver = SubModels(
        [torch.from_numpy(band).to(device) for band in data.train], alphas, subsets=wanted, cv=data.cv,
        score_func=correlation_score if mode == "faithful" else r2_score, n_iter=n_iter,
        fit_intercept=mode == "corrected", random_state=seed, exhaustive=exhaustive,
    )  # fmt: skip
    maps = PartitionMaps(
        data, solver, score="r" if mode == "faithful" else "r2", n_bootstrap=n_bootstrap, n_permutations=n_permutations,
        tail=tail, block_tr=block_tr, level=level, keep_coef=keep_coef, seed=seed,
    )  # fmt: skip
    # Every n-th voxel together, so that the first tile stands for the whole brain when block lengths are estimated.
    n_tiles = -(-len(data.varying) // voxels_at_once)
    for first in range(n_tiles):
        maps.add(data.varying[first::n_tiles])
    return _collect(maps, mode)


def _collect(maps: PartitionMaps, mode: str) -> Partition:
    names, score = maps.data.names, maps.score
    scores = {tuple(names[i] for i in subset): maps.of_model(subset) for subset in maps.solver.subsets}
    full, of = scores[names], {key: values[score] for key, values in scores.items()}
    by_band = {kind: {name: maps.maps[kind, name] for name in names}
               for kind in ("low", "high", "se", "p", "p_bootstrap", "product_r", "product_r2")}  # fmt: skip
    return Partition(
        bands=names, mode=mode, score=score, r=full["r"], r2=full["r2"], cv=full["cv"], subsets=scores,
        unique={name: of[names] - of[tuple(n for n in names if n != name)] for name in names},
        unique_low=by_band["low"], unique_high=by_band["high"], unique_se=by_band["se"],
        unique_p=by_band["p"], unique_p_bootstrap=by_band["p_bootstrap"],
        score_low=maps.maps["score_low", ""], score_high=maps.maps["score_high", ""],
        shared=commonality(of) if len(of) == 2 ** len(names) - 1 else None,
        product_r=by_band["product_r"], product_r2=by_band["product_r2"],
        coef={name: maps.maps["coef", name] for name in names} if maps.keep_coef else None,
        best_alphas=maps.maps["alpha", ""], block_tr=maps.resampling.block_tr,
        n_blocks=maps.resampling.bootstrap.n_blocks, n_bootstrap=maps.n_bootstrap,
        n_permutations=maps.n_permutations,
    )  # fmt: skip


def commonality(scores: Mapping[Names, np.ndarray]) -> dict[Names, np.ndarray]:
    """Divide the full model's score into what exactly each set of bands has in common.

    With f(S) the score of the bands S and g(A) = f(all) - f(all but A), the part of exactly A is the sum over B within
    A of (-1)^(|A| - |B|) g(B) (inclusion and exclusion; f of no band is 0). The parts sum to f(all); those of single
    bands are the unique scores.

    Parameters
    ----------
    scores : mapping of band names to array
        Every non-empty subset of the bands.
    """
    everything = max(scores, key=len)

    def gain(names: Names) -> np.ndarray:
        rest = tuple(name for name in everything if name not in names)
        return scores[everything] - scores[rest] if rest else scores[everything]

    parts = {}
    for size in range(1, len(everything) + 1):
        for names in itertools.combinations(everything, size):
            inside = [b for k in range(1, size + 1) for b in itertools.combinations(names, k)]
            parts[names] = np.sum([(-1) ** (size - len(b)) * gain(b) for b in inside], axis=0)
    return parts

"""Cluster bootstrap: confidence intervals that resample whole runs, stimuli or subjects, never single samples."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from scipy import stats

from wernicke.core.checks import check_finite, check_labels, check_option, check_range
from wernicke.core.errors import InputError
from wernicke.core.seeds import derive_rng


@dataclass(frozen=True)
class Interval:
    """A statistic with its confidence interval; floats, or arrays where the statistic is one.

    Attributes
    ----------
    estimate, low, high, se : float or numpy.ndarray
        The statistic on all data, the interval's ends, the standard deviation of the resampled statistic.
    level : float
    n_groups, n_resamples : int
    method : str
    """

    estimate: Any
    low: Any
    high: Any
    se: Any
    level: float
    n_groups: int
    n_resamples: int
    method: str


def bootstrap_interval(
    values: Any,
    groups: Sequence[Any] | np.ndarray,
    statistic: Callable[[np.ndarray], Any] | None = None,
    *,
    level: float = 0.95,
    n_resamples: int = 2000,
    method: Literal["percentile", "bca"] = "percentile",
    seed: int = 0,
) -> Interval:
    """Confidence interval of a statistic by resampling whole groups with replacement.

    Parameters
    ----------
    values : array-like, shape (n_items, ...)
        Scores, one a sample, caption or block.
    groups : sequence, shape (n_items,)
        What is independent: run, stimulus or subject of each item. All items of a drawn group are taken, as often
        as it is drawn.
    statistic : callable, optional
        Takes values (n_drawn_items, ...) and returns a float or an array; by default the mean over items.
    level : float
    n_resamples : int
    method : {"percentile", "bca"}
        ``"bca"`` corrects bias and acceleration by leaving out one group at a time (Efron 1987); better for skewed
        statistics and 10 groups or more.
    seed : int

    Returns
    -------
    Interval

    Raises
    ------
    InputError
        E-SIZE for fewer than 2 groups; E-NONFIN where values, or the statistic of a resample, are not finite;
        E-SHAPE, E-META, E-CFG.
    """
    values = check_finite(np.asarray(values), "values")
    if values.ndim == 0 or values.shape[0] == 0:
        raise InputError("E-SHAPE", f"found shape {values.shape}, expected one row an item", field="values")
    labels = check_labels(groups, "groups", values.shape[0])
    check_range(level, "level", low=0.5, high=0.9999)
    check_range(n_resamples, "n_resamples", low=100)
    check_option(method, ("percentile", "bca"), "method")
    members = _members(labels)
    if len(members) < 2:
        raise InputError("E-SIZE", "found 1 group, expected at least 2", field="groups",
                         hint="an interval needs several runs, stimuli or subjects to resample")  # fmt: skip
    if statistic is None:
        statistic = _mean
    estimate: Any = np.asarray(statistic(values), dtype=np.float64)
    rng = derive_rng(seed, "bootstrap_interval")
    draws = rng.integers(0, len(members), (n_resamples, len(members)))
    resampled = np.stack([_evaluate(statistic, values, members, draw) for draw in draws])
    tail = (1.0 - level) / 2.0
    if method == "percentile":
        low, high = np.quantile(resampled, [tail, 1.0 - tail], axis=0)
    else:
        everyone = np.arange(len(members))
        left_out = np.stack([_evaluate(statistic, values, members, np.delete(everyone, i)) for i in everyone])
        low, high = _bias_corrected(estimate, resampled, left_out, tail)
    se = resampled.std(axis=0, ddof=1)
    if estimate.ndim == 0:
        estimate, low, high, se = float(estimate), float(low), float(high), float(se)
    words = f"cluster bootstrap, {'percentile' if method == 'percentile' else 'BCa'}"
    return Interval(estimate, low, high, se, level, len(members), n_resamples, words)


def bootstrap_difference(
    a: Any,
    b: Any,
    groups: Sequence[Any] | np.ndarray,
    statistic: Callable[[np.ndarray], Any] | None = None,
    *,
    level: float = 0.95,
    n_resamples: int = 2000,
    method: Literal["percentile", "bca"] = "percentile",
    seed: int = 0,
) -> Interval:
    """Interval of ``statistic(a) - statistic(b)`` for paired items: both are resampled by the same groups.

    Parameters
    ----------
    a, b : array-like, shape (n_items, ...)
        Scores of two systems for the same items, in the same order.

    Other parameters, the result and the errors are those of `bootstrap_interval`.
    """
    a, b = np.asarray(a), np.asarray(b)
    if a.shape != b.shape:
        raise InputError("E-SHAPE", f"found shape {b.shape}, expected {a.shape} as in a", field="b")
    one = _mean if statistic is None else statistic
    both = np.stack([check_finite(a, "a"), check_finite(b, "b")], axis=1)

    def difference(pair: np.ndarray) -> Any:
        return np.asarray(one(pair[:, 0])) - np.asarray(one(pair[:, 1]))

    return bootstrap_interval(both, groups, difference, level=level, n_resamples=n_resamples, method=method, seed=seed)


def _mean(values: np.ndarray) -> np.ndarray:
    return values.mean(axis=0, dtype=np.float64)


def _members(labels: np.ndarray) -> list[np.ndarray]:
    """Item indices of each group, groups in order of first appearance."""
    seen: dict[Any, list[int]] = {}
    for i, label in enumerate(labels.tolist()):
        seen.setdefault(label, []).append(i)
    return [np.array(indices) for indices in seen.values()]


def _evaluate(
    statistic: Callable[[np.ndarray], Any], values: np.ndarray, members: list[np.ndarray], draw: np.ndarray
) -> np.ndarray:
    """Statistic of the groups in `draw`, checked to be finite."""
    result = np.asarray(statistic(values[np.concatenate([members[i] for i in draw])]), dtype=np.float64)
    return check_finite(result, "statistic")


def _bias_corrected(
    estimate: np.ndarray, resampled: np.ndarray, left_out: np.ndarray, tail: float
) -> tuple[np.ndarray, np.ndarray]:
    """BCa ends, each of the statistic's shape (Efron 1987; bias from the resamples, acceleration from the jackknife).

    Ties count by half in the bias. Where a statistic never varies, both ends are the estimate.
    """
    n_resamples = len(resampled)
    share = ((resampled < estimate).sum(axis=0) + 0.5 * (resampled == estimate).sum(axis=0)) / n_resamples
    bias = stats.norm.ppf(np.clip(share, 0.5 / n_resamples, 1 - 0.5 / n_resamples))
    deviation = left_out.mean(axis=0) - left_out
    squares = (deviation**2).sum(axis=0)
    acceleration = (deviation**3).sum(axis=0) / (6.0 * np.where(squares > 0, squares, 1.0) ** 1.5)
    ends = []
    for quantile in stats.norm.ppf([tail, 1.0 - tail]):
        shifted = bias + quantile
        level = np.atleast_1d(stats.norm.cdf(bias + shifted / (1.0 - acceleration * shifted)))
        columns = resampled.reshape(n_resamples, -1)
        picked = [np.quantile(columns[:, i], level.ravel()[i]) for i in range(columns.shape[1])]
        ends.append(np.reshape(picked, estimate.shape))
    return ends[0], ends[1]

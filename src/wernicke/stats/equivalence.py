"""Whether a score is equivalent to chance: by an interval and a margin that was stated before."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from scipy import stats

from wernicke.core.checks import check_finite, check_range
from wernicke.core.errors import InputError
from wernicke.stats.bootstrap import Interval

Verdict = Literal["equivalent", "not equivalent", "undetermined"]

MINIMUM_SEEDS = 5


@dataclass(frozen=True)
class Equivalence:
    """A verdict and what it rests on.

    Attributes
    ----------
    verdict : {"equivalent", "not equivalent", "undetermined"}
    difference, low, high : float
        Score less chance, with its interval.
    margin : float
        Smallest effect of interest, as stated.
    level : float
        Of the interval; .90 for two one-sided tests at .05.
    n : int
        Number of seeds, runs or groups behind the interval.
    """

    verdict: Verdict
    difference: float
    low: float
    high: float
    margin: float
    level: float
    n: int


def equivalence_to_chance(scores: Any, chance: float, margin: float, *, alpha: float = 0.05) -> Equivalence:
    """Judge independent repeats (seeds, say) of a score against chance by two one-sided t tests.

    The interval at level 1 - 2 alpha decides (Schuirmann 1987): inside chance +- margin "equivalent"; wholly outside
    on one side "not equivalent"; else "undetermined". That a difference from chance is not significant never makes
    a score equivalent to it.

    Parameters
    ----------
    scores : array-like, shape (n_repeats,)
        At least 5 independent repeats.
    chance : float
    margin : float
        Smallest effect of interest in units of the score, above 0, stated before the scores were seen.
    alpha : float

    Raises
    ------
    InputError
        E-SIZE for fewer than 5 repeats; E-SHAPE, E-NONFIN, E-CFG.
    """
    scores = check_finite(np.asarray(scores, dtype=np.float64), "scores")
    if scores.ndim != 1:
        raise InputError("E-SHAPE", f"found shape {scores.shape}, expected (n_repeats,)", field="scores")
    if scores.size < MINIMUM_SEEDS:
        raise InputError("E-SIZE", f"found {scores.size} repeats, expected at least {MINIMUM_SEEDS}", field="scores")
    check_range(alpha, "alpha", low=0.0, high=0.25, low_open=True)
    difference = float(scores.mean() - chance)
    half = float(stats.t.ppf(1 - alpha, scores.size - 1) * scores.std(ddof=1) / np.sqrt(scores.size))
    return _judge(difference, difference - half, difference + half, margin, 1 - 2 * alpha, scores.size)


def equivalence_of_interval(interval: Interval, chance: float, margin: float) -> Equivalence:
    """Judge an interval that was made elsewhere, a cluster bootstrap's for instance, against chance.

    Parameters
    ----------
    interval : Interval
        Of a single number; level .90 gives two one-sided tests at .05.
    chance, margin : float
        As in `equivalence_to_chance`.
    """
    if np.ndim(interval.estimate) != 0:
        raise InputError("E-SHAPE", "found an interval of an array, expected that of one number", field="interval")
    difference, low, high = (float(end) - chance for end in (interval.estimate, interval.low, interval.high))
    return _judge(difference, low, high, margin, interval.level, interval.n_groups)


def _judge(difference: float, low: float, high: float, margin: float, level: float, n: int) -> Equivalence:
    check_range(margin, "margin", low=0.0, low_open=True)
    verdict: Verdict = "undetermined"
    if -margin < low and high < margin:
        verdict = "equivalent"
    elif low > margin or high < -margin:
        verdict = "not equivalent"
    return Equivalence(verdict, difference, low, high, float(margin), level, n)

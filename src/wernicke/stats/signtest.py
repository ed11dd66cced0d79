"""Group level: one statistic a subject first, then over subjects."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import stats

from wernicke.core.checks import check_finite, check_range
from wernicke.core.errors import InputError
from wernicke.core.seeds import derive_rng

#: Up to this many subjects every pattern of signs is used.
ENUMERATED_SUBJECTS = 12


@dataclass(frozen=True)
class SignFlipResult:
    """Attributes: mean over subjects, one-sided p, p corrected over columns, number of flips, smallest reachable p."""

    mean: np.ndarray
    p: np.ndarray
    p_fwe: np.ndarray
    n_flips: int
    smallest_p: float


@dataclass(frozen=True)
class CountResult:
    """``k`` of ``n`` subjects at `alpha`, and the binomial probability of that many or more if none had an effect."""

    k: int
    n: int
    alpha: float
    p: float


def sign_flip_test(differences: Any, *, n_permutations: int = 4999, seed: int = 0) -> SignFlipResult:
    """Is the mean over subjects above 0, given that each subject's value could as well have had the other sign?

    With up to 12 subjects all 2^n sign patterns are enumerated (smallest p = 2^-n: with 4 subjects .0625, so
    nothing can be significant at .05, which `smallest_p` says); with more, patterns are drawn and
    p = (b + 1) / (m + 1). One-sided.

    Parameters
    ----------
    differences : array-like, shape (n_subjects,) or (n_subjects, n_columns)
        Score less chance, or less the other model's score; symmetric about 0 under the null.
    n_permutations : int
        Used above 12 subjects.
    seed : int

    Returns
    -------
    SignFlipResult
        Arrays of shape (n_columns,), () for one-dimensional input. `p_fwe` is from the maximum over columns of the
        mean over its root mean square.

    Raises
    ------
    InputError
        E-SIZE for fewer than 2 subjects; E-SHAPE, E-NONFIN.
    """
    values = check_finite(np.asarray(differences, dtype=np.float64), "differences")
    if values.ndim not in (1, 2):
        raise InputError("E-SHAPE", f"found shape {values.shape}, expected (n_subjects[, n_columns])",
                         field="differences")  # fmt: skip
    n_subjects = values.shape[0]
    if n_subjects < 2:
        raise InputError("E-SIZE", f"found {n_subjects} subject, expected at least 2", field="differences")
    table = values.reshape(n_subjects, -1)
    scale = np.sqrt((table**2).mean(axis=0))
    table = table / np.where(scale > 0, scale, 1.0)
    observed = table.mean(axis=0)
    if n_subjects <= ENUMERATED_SUBJECTS:
        bits = (np.arange(2**n_subjects)[:, None] >> np.arange(n_subjects)) & 1
        extra = 0
    else:
        check_range(n_permutations, "n_permutations", low=19)
        bits = derive_rng(seed, "sign_flip_test").integers(0, 2, (n_permutations, n_subjects))
        extra = 1
    flips = 1.0 - 2.0 * bits
    reached, largest = np.zeros(table.shape[1]), np.full(len(flips), -np.inf)
    for start in range(0, table.shape[1], 1024):
        null = flips @ table[:, start : start + 1024] / n_subjects
        reached[start : start + 1024] = (null >= observed[start : start + 1024] - 1e-12).sum(axis=0)
        largest = np.maximum(largest, null.max(axis=1))
    total = len(flips) + extra
    over = len(flips) - np.searchsorted(np.sort(largest), observed - 1e-12, side="left")
    shape = values.shape[1:]
    return SignFlipResult(
        values.mean(axis=0),
        ((reached + extra) / total).reshape(shape),
        ((over + extra) / total).reshape(shape),
        len(flips),
        1.0 / total,
    )


def count_significant(p: Any, *, alpha: float = 0.05) -> CountResult:
    """How many subjects are significant each by itself: the statement that is left with few of them.

    Parameters
    ----------
    p : array-like, shape (n_subjects,)
        Each subject's own p value, from independent data.
    alpha : float

    Raises
    ------
    InputError
        E-SHAPE, E-NONFIN, E-SIZE (outside [0, 1]), E-CFG.
    """
    p = check_finite(np.asarray(p, dtype=np.float64), "p")
    if p.ndim != 1 or p.size == 0:
        raise InputError("E-SHAPE", f"found shape {p.shape}, expected (n_subjects,)", field="p")
    if p.min() < 0 or p.max() > 1:
        raise InputError("E-SIZE", f"found {p.min():g} to {p.max():g}, expected 0 to 1", field="p")
    check_range(alpha, "alpha", low=0.0, high=0.5, low_open=True)
    k = int((p <= alpha).sum())
    return CountResult(k, p.size, alpha, float(stats.binom.sf(k - 1, p.size, alpha)))

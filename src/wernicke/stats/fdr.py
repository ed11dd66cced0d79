"""False discovery rate over voxels: Benjamini and Hochberg (1995), Benjamini and Yekutieli (2001)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from wernicke.core.checks import check_option, check_range
from wernicke.core.errors import InputError


@dataclass(frozen=True)
class FdrResult:
    """Adjusted p values and what was reachable at all.

    Attributes
    ----------
    p_adjusted : numpy.ndarray, shape of the p values
        NaN where the p value was NaN.
    method : str
        ``"bh"`` or ``"by"``.
    n_tests : int
        Number of p values that are not NaN.
    smallest_p : float or None
        Smallest p value that the test could give, 1 / (n_permutations + 1); None if not told.
    hits_needed : int or None
        How many voxels must reach `smallest_p` together for any of them to be found at `alpha`. Above `n_tests`
        nothing can be found, whatever the data.
    alpha : float
    """

    p_adjusted: np.ndarray
    method: str
    n_tests: int
    smallest_p: float | None
    hits_needed: int | None
    alpha: float

    @property
    def significant(self) -> np.ndarray:
        """Whether each adjusted p value is at most `alpha`; False where it is NaN."""
        return self.p_adjusted <= self.alpha


def fdr(
    p: Any, method: Literal["bh", "by"] = "bh", *, alpha: float = 0.05, n_permutations: int | None = None
) -> FdrResult:
    """Adjust p values for the false discovery rate, leaving NaN out.

    ``"bh"`` holds for independent and positively dependent tests, ``"by"`` for any dependence.

    Parameters
    ----------
    p : array-like
        p values in [0, 1] or NaN (voxels that were not tested).
    method : {"bh", "by"}
    alpha : float
        Rate for `FdrResult.significant` and `FdrResult.hits_needed`.
    n_permutations : int, optional
        Of the test that gave `p`, to report what is reachable.

    Raises
    ------
    InputError
        E-CFG, E-FMT, or E-SIZE for values outside [0, 1].
    """
    check_option(method, ("bh", "by"), "method")
    check_range(alpha, "alpha", low=0.0, high=1.0, low_open=True)
    p = np.asarray(p)
    if p.dtype.kind not in "fiu":
        raise InputError("E-FMT", f"found dtype {p.dtype}, expected numbers", field="p")
    p = p.astype(np.float64)
    tested = ~np.isnan(p)
    values = p[tested]
    if values.size and not ((values >= 0) & (values <= 1)).all():
        raise InputError("E-SIZE", f"found {values.min():g} to {values.max():g}, expected 0 to 1", field="p")
    adjusted = np.full(p.shape, np.nan)
    penalty = _penalty(method, values.size)
    if values.size:
        order = np.argsort(values)
        scaled = values[order] * penalty * values.size / np.arange(1, values.size + 1)
        result = np.empty_like(values)
        result[order] = np.minimum(np.minimum.accumulate(scaled[::-1])[::-1], 1.0)
        adjusted[tested] = result
    smallest_p = hits = None
    if n_permutations is not None:
        check_range(n_permutations, "n_permutations", low=1)
        smallest_p = 1.0 / (n_permutations + 1)
        hits = int(np.ceil(np.round(smallest_p * penalty * values.size / alpha, 9)))
    return FdrResult(adjusted, method, int(values.size), smallest_p, hits, alpha)


def _penalty(method: str, n_tests: int) -> float:
    """Yekutieli's factor for arbitrary dependence, 1 for Hochberg's procedure."""
    return float((1.0 / np.arange(1, n_tests + 1)).sum()) if method == "by" else 1.0

import numpy as np
import pytest
from scipy.stats import false_discovery_control

from wernicke.core.errors import InputError
from wernicke.stats.fdr import fdr


@pytest.mark.parametrize("method", ["bh", "by"])
def test_agrees_with_scipy_with_ties_and_nan(method):
    p = np.random.default_rng(0).uniform(size=200) ** 3
    p[:20] = p[20]
    p[-1], p[-2] = 0.0, 1.0
    holes = np.insert(p, [5, 100], np.nan)
    result = fdr(holes, method)
    np.testing.assert_allclose(result.p_adjusted[~np.isnan(holes)], false_discovery_control(p, method=method))
    assert np.isnan(result.p_adjusted).sum() == 2
    assert result.n_tests == 200
    assert not result.significant[np.isnan(holes)].any()


def test_reachable_p_and_hits_needed():
    p = np.full(80_000, 0.5)
    result = fdr(p, n_permutations=999)
    assert result.smallest_p == 0.001
    assert result.hits_needed == 1600
    p[:1599] = 0.001
    assert not fdr(p).significant.any()
    p[:1600] = 0.001
    assert fdr(p).significant.sum() == 1600


def test_nothing_tested():
    assert np.isnan(fdr([np.nan, np.nan]).p_adjusted).all()


def test_values_that_are_not_p_are_refused():
    with pytest.raises(InputError, match="expected 0 to 1"):
        fdr([0.5, 1.5])
    with pytest.raises(InputError, match="E-CFG method"):
        fdr([0.5], "holm")

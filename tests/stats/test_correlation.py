import numpy as np
import pytest
from scipy import stats

from wernicke.core.errors import InputError
from wernicke.stats.correlation import columnwise_correlation


def test_agrees_with_scipy_in_float32_and_far_from_zero():
    rng = np.random.default_rng(0)
    a = (rng.standard_normal((300, 5)) + 1000).astype(np.float32)
    b = (a + rng.standard_normal((300, 5))).astype(np.float32)
    wanted = [stats.pearsonr(a[:, i].astype(float), b[:, i].astype(float)).statistic for i in range(5)]
    np.testing.assert_allclose(columnwise_correlation(a, b), wanted, rtol=0, atol=1e-12)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_constant_column_is_nan_without_warning(dtype):
    a = np.random.default_rng(0).standard_normal((50, 3)).astype(dtype)
    b = a.copy()
    a[:, 0], b[:, 1] = 0.1, 3.3
    r = columnwise_correlation(a, b)
    assert np.isnan(r[:2]).all()
    assert r[2] == pytest.approx(1.0)


def test_small_variation_on_a_large_offset_is_not_constant():
    a = 1e6 + 1e-3 * np.random.default_rng(0).standard_normal((100, 1))
    assert columnwise_correlation(a, -a)[0] == pytest.approx(-1.0)


def test_shapes_that_differ_are_refused():
    with pytest.raises(InputError, match="E-SHAPE b: found shape"):
        columnwise_correlation(np.eye(3), np.eye(4))

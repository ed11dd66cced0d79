import numpy as np
import pytest
from scipy import stats

from wernicke.core.errors import InputError
from wernicke.stats.bootstrap import bootstrap_difference, bootstrap_interval


@pytest.mark.parametrize("method", ["percentile", "bca"])
def test_agrees_with_scipy_where_each_group_is_one_item(method):
    values = np.random.default_rng(0).gamma(2.0, size=40)
    ours = bootstrap_interval(values, np.arange(40), method=method, n_resamples=4000, level=0.9)
    scipy_method = {"percentile": "percentile", "bca": "BCa"}[method]
    rival = stats.bootstrap((values,), np.mean, n_resamples=4000, confidence_level=0.9, method=scipy_method, rng=1)
    tolerance = 0.1 * rival.standard_error
    assert ours.low == pytest.approx(rival.confidence_interval.low, abs=tolerance)
    assert ours.high == pytest.approx(rival.confidence_interval.high, abs=tolerance)
    assert ours.se == pytest.approx(rival.standard_error, rel=0.05)
    assert ours.estimate == values.mean()


def test_coverage_with_dependent_items_needs_the_groups():
    # 30 runs of 10 items that share the run's mean; truth 0.
    with_groups = without = 0
    for seed in range(50):
        rng = np.random.default_rng(seed)
        values = np.repeat(rng.standard_normal(30), 10) + 0.3 * rng.standard_normal(300)
        interval = bootstrap_interval(values, np.repeat(np.arange(30), 10), n_resamples=200, seed=seed)
        single = bootstrap_interval(values, np.arange(300), n_resamples=200, seed=seed)
        with_groups += interval.low <= 0 <= interval.high
        without += single.low <= 0 <= single.high
    assert with_groups >= 42
    assert without < 35


def test_unequal_groups_and_array_statistics():
    rng = np.random.default_rng(2)
    values = rng.standard_normal((60, 3)) + [0.0, 1.0, 2.0]
    groups = np.repeat(["a", "b", "c", "d", "e", "f"], [5, 15, 10, 10, 12, 8])
    for method in ("percentile", "bca"):
        interval = bootstrap_interval(values, groups, method=method, n_resamples=500)
        assert interval.low.shape == (3,)
        assert (interval.low < interval.estimate).all()
        assert (interval.estimate < interval.high).all()
        assert interval.n_groups == 6
    again = bootstrap_interval(values, groups, n_resamples=500)
    np.testing.assert_array_equal(again.low, bootstrap_interval(values, groups, n_resamples=500).low)


def test_paired_difference_is_narrower_than_its_parts():
    rng = np.random.default_rng(3)
    shared = 5 * rng.standard_normal(80)
    a, b = shared + 0.5 + 0.2 * rng.standard_normal(80), shared + 0.2 * rng.standard_normal(80)
    groups = np.repeat(np.arange(20), 4)
    difference = bootstrap_difference(a, b, groups, n_resamples=500)
    assert difference.low < 0.5 < difference.high
    assert difference.low > 0.3
    alone = bootstrap_interval(a, groups, n_resamples=500)
    assert alone.high - alone.low > 10 * (difference.high - difference.low)


def test_constant_scores_give_a_point():
    interval = bootstrap_interval(np.ones(10), np.arange(10), method="bca", n_resamples=100)
    assert (interval.low, interval.high, interval.se) == (1.0, 1.0, 0.0)


def test_errors_say_what_is_wrong():
    with pytest.raises(InputError, match="found 1 group"):
        bootstrap_interval([1.0, 2.0], ["a", "a"])
    with pytest.raises(InputError, match="E-NONFIN values"):
        bootstrap_interval([1.0, np.nan], [0, 1])
    with pytest.raises(InputError, match="E-SHAPE b"):
        bootstrap_difference([1.0, 2.0], [1.0], [0, 1])
    with pytest.raises(InputError, match="E-SHAPE groups"):
        bootstrap_interval([1.0, 2.0], [0])

import numpy as np
import pytest
from scipy import stats

from wernicke.core.errors import InputError
from wernicke.stats.bootstrap import bootstrap_interval
from wernicke.stats.equivalence import equivalence_of_interval, equivalence_to_chance


def test_verdict_follows_two_one_sided_t_tests():
    rng = np.random.default_rng(0)
    seen = set()
    for spread in (0.001, 0.01, 0.05):
        for shift in (0.0, 0.01, 0.03, -0.05):
            scores = 0.125 + shift + spread * rng.standard_normal(8)
            result = equivalence_to_chance(scores, 0.125, 0.02)
            above = stats.ttest_1samp(scores, 0.125 - 0.02, alternative="greater").pvalue
            below = stats.ttest_1samp(scores, 0.125 + 0.02, alternative="less").pvalue
            assert (result.verdict == "equivalent") == (max(above, below) < 0.05)
            outside = min(
                stats.ttest_1samp(scores, 0.125 - 0.02, alternative="less").pvalue,
                stats.ttest_1samp(scores, 0.125 + 0.02, alternative="greater").pvalue,
            )
            assert (result.verdict == "not equivalent") == (outside < 0.05)
            seen.add(result.verdict)
    assert seen == {"equivalent", "not equivalent", "undetermined"}


def test_wide_scores_around_chance_are_undetermined_not_equivalent():
    assert equivalence_to_chance([0.0, 0.3, -0.3, 0.2, -0.2], 0.0, 0.05).verdict == "undetermined"


def test_bootstrap_interval_is_judged_the_same_way():
    values = np.random.default_rng(1).normal(0.5, 0.01, 200)
    interval = bootstrap_interval(values, np.repeat(np.arange(20), 10), level=0.9, n_resamples=300)
    assert equivalence_of_interval(interval, 0.5, 0.01).verdict == "equivalent"
    assert equivalence_of_interval(interval, 0.45, 0.01).verdict == "not equivalent"
    assert equivalence_of_interval(interval, 0.5, 1e-4).verdict == "undetermined"


def test_four_seeds_or_no_margin_are_refused():
    with pytest.raises(InputError, match="found 4 repeats, expected at least 5"):
        equivalence_to_chance([0.1] * 4, 0.1, 0.02)
    with pytest.raises(InputError, match="E-CFG margin"):
        equivalence_to_chance([0.1] * 5, 0.1, 0.0)

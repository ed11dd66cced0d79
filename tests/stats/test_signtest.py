import itertools

import numpy as np
import pytest
from scipy import stats

from wernicke.core.errors import InputError
from wernicke.stats.signtest import count_significant, sign_flip_test


def test_agrees_with_enumeration_and_scipy():
    values = np.random.default_rng(0).normal(0.3, 1, (7, 4))
    result = sign_flip_test(values)
    signs = np.array(list(itertools.product([1, -1], repeat=7)))
    null = signs @ values / 7
    np.testing.assert_allclose(result.p, (null >= values.mean(axis=0) - 1e-12).mean(axis=0))
    rival = stats.permutation_test(
        (values[:, 0],), np.mean, permutation_type="samples", alternative="greater", n_resamples=np.inf
    )  # fmt: skip
    assert result.p[0] == pytest.approx(rival.pvalue)
    assert result.n_flips == 128
    assert (result.p_fwe >= result.p).all()


def test_many_subjects_are_drawn_and_p_is_never_zero():
    result = sign_flip_test(np.full(20, 0.5), n_permutations=199)
    assert result.p == 1 / 200
    assert result.p.shape == ()
    assert result.smallest_p == 1 / 200


def test_few_subjects_cannot_be_significant():
    assert sign_flip_test([1.0, 2.0, 3.0, 4.0]).smallest_p == 1 / 16


def test_drawn_flips_are_calibrated():
    values = np.random.default_rng(1).standard_normal((15, 1000))
    result = sign_flip_test(values, n_permutations=499)
    assert stats.kstest(result.p, "uniform").pvalue > 0.01
    assert result.p_fwe.min() > 0.001


def test_one_hero_does_not_make_a_group():
    # V16: one of eight subjects planted; pooled it would be significant, over subjects it is not.
    rng = np.random.default_rng(2)
    scores = 0.01 * rng.standard_normal(8)
    scores[3] += 1.0
    assert sign_flip_test(scores).p > 0.05


def test_k_of_n():
    result = count_significant([0.01, 0.04, 0.2, 0.6, 0.03, 0.5])
    assert (result.k, result.n) == (3, 6)
    assert result.p == pytest.approx(stats.binomtest(3, 6, 0.05, alternative="greater").pvalue)


def test_errors_say_what_is_wrong():
    with pytest.raises(InputError, match="found 1 subject"):
        sign_flip_test([0.1])
    with pytest.raises(InputError, match="expected 0 to 1"):
        count_significant([0.1, 2.0])
    with pytest.raises(InputError, match="E-NONFIN"):
        sign_flip_test([0.1, np.nan])

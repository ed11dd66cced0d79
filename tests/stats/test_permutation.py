import itertools

import numpy as np
import pytest
from scipy import stats
from scipy.signal import lfilter

from wernicke.core.errors import InputError
from wernicke.stats import permutation
from wernicke.stats.correlation import columnwise_correlation
from wernicke.stats.permutation import permutation_test
from wernicke.stats.segments import block_indices, run_segments
from wernicke.stats.tail import tail_p


def autoregressive(rng, phi, n_samples, n_columns):
    return lfilter([1.0], [1.0, -phi], rng.standard_normal((n_samples + 300, n_columns)), axis=0)[300:]


def test_moments_equal_brute_force_over_all_permutations(monkeypatch):
    # 6 blocks: all 720 orders, with a remainder in place and two runs; more rows than blocks and the reverse.
    rng = np.random.default_rng(0)
    monkeypatch.setattr(permutation, "MINIMUM_BLOCKS", 6)
    for n_samples, length in ((68, 10), (20, 3)):
        runs = np.repeat([0, 1], n_samples // 2)
        x, y = rng.standard_normal((2, n_samples, 3))
        for column in (x, y):
            for run in (0, 1):
                column[runs == run] -= column[runs == run].mean(axis=0)
        blocks = block_indices(run_segments(runs, n_samples), length)
        assert len(blocks) == 6
        draws = []
        for order in itertools.permutations(range(6)):
            shuffled = x.copy()
            shuffled[blocks] = x[blocks][list(order)]
            draws.append((shuffled * y).sum(axis=0))
        draws = np.array(draws) / np.linalg.norm(x, axis=0) / np.linalg.norm(y, axis=0)
        result = permutation_test(x, y, runs, block_length=length, method="normal")
        np.testing.assert_allclose(result.null_mean, draws.mean(axis=0), atol=1e-12)
        np.testing.assert_allclose(result.null_sd, draws.std(axis=0), rtol=1e-10)
        np.testing.assert_allclose(result.r, columnwise_correlation(x, y))
        assert result.method == "normal approximation"


@pytest.mark.parametrize("gram_limit", [512, 2])
def test_p_equals_a_plain_loop_over_the_same_orders(monkeypatch, gram_limit):
    monkeypatch.setattr(permutation, "_GRAM_LIMIT", gram_limit)
    rng = np.random.default_rng(1)
    x, y = autoregressive(rng, 0.7, 300, 8), autoregressive(rng, 0.5, 300, 8)
    y[:, :4] += 0.4 * x[:, :4]
    result = permutation_test(x, y, block_length=15, n_permutations=199, seed=3)
    orders = permutation._BlockPermutations(
        block_indices([slice(0, 300)], 15), 199, permutation.derive_rng(3, "permutation_test", "block")
    ).orders
    null = np.array([columnwise_correlation(x.reshape(20, 15, 8)[order].reshape(300, 8), y) for order in orders])
    np.testing.assert_allclose(result.p, ((null >= result.r - 1e-12).sum(axis=0) + 1) / 200)
    np.testing.assert_allclose(result.null_q95, np.quantile(null, 0.95, axis=0), atol=1e-12)
    z, observed = (null - result.null_mean) / result.null_sd, (result.r - result.null_mean) / result.null_sd
    fwe = [(np.sum(z.max(axis=1) >= o - 1e-12) + 1) / 200 for o in observed]
    np.testing.assert_allclose(result.p_fwe, fwe)
    assert (result.p_fwe >= result.p).all()


def test_signal_is_found_and_noise_is_not():
    rng = np.random.default_rng(2)
    prediction = autoregressive(rng, 0.8, 2000, 40)
    response = autoregressive(rng, 0.6, 2000, 40)
    response[:, :20] += 0.4 * prediction[:, :20]
    for method in ("block", "normal", "circular"):
        result = permutation_test(prediction, response, method=method)
        assert (result.p[:20] < 0.01).all()
        assert (result.p[20:] < 0.01).sum() <= 2
    assert permutation_test(prediction, response).p_fwe[20:].min() > 0.01


def test_smallest_p_is_never_zero_and_negative_r_is_not_significant():
    x = autoregressive(np.random.default_rng(3), 0.5, 600, 2)
    result = permutation_test(x, x * [1.0, -1.0], n_permutations=99)
    np.testing.assert_allclose(result.p, [0.01, 1.0])
    assert result.smallest_p == 0.01


def test_constant_voxels_get_nan_and_do_not_enter_the_correction():
    rng = np.random.default_rng(4)
    x, y = rng.standard_normal((2, 400, 5))
    y[:, 0] += x[:, 0]
    alone = permutation_test(x, y, block_length=10)
    wide_x, wide_y = np.insert(x, 2, 0.1, axis=1), np.insert(y, 2, rng.standard_normal(400), axis=1)
    wide = permutation_test(wide_x, wide_y, block_length=10)
    for name in ("r", "p", "p_fwe", "null_mean", "null_sd", "null_q95"):
        values = getattr(wide, name)
        assert np.isnan(values[2])
        np.testing.assert_allclose(np.delete(values, 2), getattr(alone, name), rtol=1e-12)
    assert wide.n_tested == 5


def test_offsets_between_runs_do_not_count_as_signal():
    # Unrelated noise, both series with large offsets by run: r is anything, p must stay uniform.
    rng = np.random.default_rng(5)
    runs = np.repeat(np.arange(6), 100)
    x, y = (rng.standard_normal((600, 300)) + 2 * rng.standard_normal((6, 300))[runs] for _ in range(2))
    result = permutation_test(x, y, runs, block_length=20, n_permutations=199)
    assert np.abs(result.r).max() > 0.5
    assert (result.p <= 0.05).sum() <= stats.binom.ppf(0.999, 300, 0.05)
    shift = permutation_test(x, y, runs, block_length=20, n_permutations=199, method="circular")
    assert (shift.p <= 0.05).sum() <= stats.binom.ppf(0.999, 300, 0.05)


def test_voxels_do_not_depend_on_the_batch_and_seeds_repeat(monkeypatch):
    rng = np.random.default_rng(6)
    x, y = rng.standard_normal((2, 500, 7)).astype(np.float32)
    one = permutation_test(x, y, n_permutations=99, block_length=20)
    monkeypatch.setattr(permutation, "_ELEMENTS_PER_BATCH", 1)
    two = permutation_test(x, y, n_permutations=99, block_length=20)
    np.testing.assert_array_equal(one.p, two.p)
    np.testing.assert_array_equal(one.p_fwe, two.p_fwe)
    assert (permutation_test(x, y, n_permutations=99, block_length=20, seed=1).p != one.p).any()


def test_circular_shift_equals_rolling_each_run():
    rng = np.random.default_rng(7)
    runs = np.repeat([0, 1], [50, 70])
    segments = run_segments(runs, 120)
    x, y = rng.standard_normal((2, 120, 3))
    null = permutation._CircularShifts(segments, 5, 4, np.random.default_rng(0))
    draws = null(x, y).draws
    for i in range(4):
        rolled = np.concatenate([np.roll(x[s], null.shifts[j][i], axis=0) for j, s in enumerate(segments)])
        np.testing.assert_allclose(draws[i], (rolled * y).sum(axis=0), atol=1e-12)


def test_family_wise_error_is_held_over_dependent_voxels():
    # 100 independent maps of 20 voxels that share most of their noise.
    hits = 0
    for seed in range(100):
        rng = np.random.default_rng(100 + seed)
        x = rng.standard_normal((240, 20)) + 2 * rng.standard_normal((240, 1))
        y = rng.standard_normal((240, 20)) + 2 * rng.standard_normal((240, 1))
        hits += permutation_test(x, y, n_permutations=99, block_length=10, seed=seed).p_fwe.min() <= 0.05
    assert hits <= stats.binom.ppf(0.999, 100, 0.05)
    assert hits >= 1


def test_tail_follows_a_known_distribution_far_out_and_is_never_zero():
    rng = np.random.default_rng(8)
    for n_permutations, low, high in ((999, 0.8, 5.0), (4999, 0.8, 2.5)):
        null = rng.standard_normal((n_permutations, 400))
        for true_p in (1e-2, 1e-3, 1e-4, 1e-5):
            fitted = tail_p(null, np.full(400, stats.norm.isf(true_p)))
            assert low * true_p < np.median(fitted) < high * true_p
        np.testing.assert_array_equal(tail_p(null, np.full(400, 1e6)), 1e-7)
        heavy = tail_p(rng.exponential(size=(n_permutations, 400)), np.full(400, -np.log(1e-4)))
        assert 0.8e-4 < np.median(heavy) < 3e-4


def test_tail_is_used_only_where_counts_are_small():
    rng = np.random.default_rng(9)
    x = autoregressive(rng, 0.5, 1000, 20)
    y = autoregressive(rng, 0.5, 1000, 20)
    y[:, :5] += x[:, :5]
    counted, fitted = permutation_test(x, y), permutation_test(x, y, tail="pareto")
    assert (fitted.p[:5] < 1e-4).all()
    assert (counted.p[:5] == 0.001).all()
    common = counted.p >= 0.011
    np.testing.assert_array_equal(counted.p[common], fitted.p[common])
    assert "Pareto" in fitted.method
    assert fitted.smallest_p is None


def test_too_few_blocks_are_refused():
    x = np.random.default_rng(0).standard_normal((100, 2))
    with pytest.raises(InputError, match="E-SIZE block_length: 5 blocks of 20 samples fit"):
        permutation_test(x, x, block_length=20)
    with pytest.raises(InputError, match="n_permutations"):
        permutation_test(x, x, n_permutations=0)
    with pytest.raises(InputError, match="did you mean `block`"):
        permutation_test(x, x, method="blocks")
    x[3, 1] = np.nan
    with pytest.raises(InputError, match="E-NONFIN prediction"):
        permutation_test(x, x)

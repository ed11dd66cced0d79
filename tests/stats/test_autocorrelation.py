import numpy as np
import pytest
from scipy.signal import lfilter

from wernicke.core.errors import InputError
from wernicke.stats.autocorrelation import MINIMUM_BLOCKS, block_length, integrated_autocorrelation_time
from wernicke.stats.segments import block_indices, run_segments


def autoregressive(rng, coefficients, n_samples, n_columns):
    noise = rng.standard_normal((n_samples + 500, n_columns))
    return lfilter([1.0], np.concatenate([[1.0], -np.asarray(coefficients)]), noise, axis=0)[500:]


@pytest.mark.parametrize("phi", [0.0, 0.6, 0.8, 0.95])
def test_time_of_first_order_series(phi):
    values = autoregressive(np.random.default_rng(1), [phi], 7737, 60)
    assert integrated_autocorrelation_time(values).mean() == pytest.approx((1 + phi) / (1 - phi), rel=0.04)


def test_time_of_second_order_series():
    # rho follows from Yule-Walker: spectrum at zero over variance for phi = (.5, .3) is 6.5.
    values = autoregressive(np.random.default_rng(2), [0.5, 0.3], 7737, 60)
    first = 0.5 / (1 - 0.3)
    variance = 1 / (1 - 0.5 * first - 0.3 * (0.5 * first + 0.3))
    assert integrated_autocorrelation_time(values).mean() == pytest.approx(1 / 0.2**2 / variance, rel=0.04)


def test_time_is_not_fooled_by_offsets_between_runs():
    rng = np.random.default_rng(3)
    values = rng.standard_normal((1200, 20))
    runs = np.repeat(np.arange(12), 100)
    shifted = values + 5 * rng.standard_normal((12, 20))[runs]
    together = integrated_autocorrelation_time(values, runs)
    np.testing.assert_allclose(integrated_autocorrelation_time(shifted, runs), together, rtol=1e-9)
    assert integrated_autocorrelation_time(shifted).mean() > 5
    assert together.mean() == pytest.approx(1.0, abs=0.1)


def test_constant_column_has_no_time():
    values = np.random.default_rng(0).standard_normal((100, 2)).astype(np.float32)
    values[:, 1] = 0.1
    assert np.isnan(integrated_autocorrelation_time(values)).tolist() == [False, True]


def test_block_length_covers_three_times_of_the_slower_series():
    rng = np.random.default_rng(4)
    slow, fast = autoregressive(rng, [0.9], 7737, 50), autoregressive(rng, [0.3], 7737, 50)
    for pair in ((slow, fast), (fast, slow)):
        assert 3 * 19 * 0.95 <= block_length(*pair) <= 3 * 19 * 1.3


def test_a_slow_fifth_of_the_voxels_sets_the_length_and_noise_does_not():
    rng = np.random.default_rng(8)
    fast, slow = autoregressive(rng, [0.6], 7737, 40), autoregressive(rng, [0.95], 7737, 10)
    response = rng.standard_normal((7737, 50))
    assert 0.8 * 117 <= block_length(np.hstack([fast, slow]), response) <= 1.3 * 117
    alike = autoregressive(rng, [0.8], 1452, 200)
    assert np.quantile(integrated_autocorrelation_time(alike), 0.95) > 9 * 1.1
    assert 0.9 * 27 <= block_length(alike, rng.standard_normal((1452, 200))) <= 1.15 * 27


def test_block_length_is_stretched_to_leave_few_samples_over():
    rng = np.random.default_rng(5)
    prediction, response = (autoregressive(rng, [0.8], 1452, 30) for _ in range(2))
    length = block_length(prediction, response)
    assert 1452 - 1452 // length * length <= 1452 // length
    assert 1452 // (length + 1) < 1452 // length


def test_whole_runs_are_blocks_where_runs_are_short():
    rng = np.random.default_rng(6)
    prediction, response = (autoregressive(rng, [0.99], 1452, 10) for _ in range(2))
    assert block_length(prediction, response, np.repeat(np.arange(12), 121)) == 121


def test_slow_data_are_refused_with_the_reason():
    drift = np.linspace(-1, 1, 1452)[:, None] + 0.01 * np.random.default_rng(0).standard_normal((1452, 4))
    with pytest.raises(InputError, match=rf"E-SIZE block_length: . blocks of .* at least {MINIMUM_BLOCKS}"):
        block_length(drift, drift)
    with pytest.raises(InputError, match="E-CONST"):
        block_length(np.ones((100, 2)), drift[:100, :2])


def test_blocks_never_straddle_runs():
    segments = run_segments(["a"] * 25 + ["b"] * 9 + ["c"] * 31, 65)
    blocks = block_indices(segments, 10)
    assert blocks[:, 0].tolist() == [0, 10, 34, 44, 54]
    assert (np.diff(blocks, axis=1) == 1).all()


def test_interrupted_runs_are_refused():
    with pytest.raises(InputError, match="E-META runs: run 1 is interrupted"):
        run_segments([1, 1, 2, 1], 4)

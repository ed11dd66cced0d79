import numpy as np
import pytest
from scipy.stats import zscore

from wernicke.core.errors import InputError
from wernicke.stats import ceiling
from wernicke.stats.correlation import columnwise_correlation


def simulate(seed, n_runs, n_conditions, n_voxels, reliability):
    """Signal (n_conditions, n_voxels) of exactly that variance, plus white noise; total variance 1."""
    rng = np.random.default_rng(seed)
    signal = zscore(rng.standard_normal((n_conditions, n_voxels)), axis=0, ddof=1) * np.sqrt(reliability)
    noise = rng.standard_normal((n_runs, n_conditions, n_voxels)) * np.sqrt(1 - reliability)
    return signal, signal + noise


@pytest.mark.parametrize("reliability", [0.1, 0.3, 0.6])
@pytest.mark.parametrize(("n_runs", "n_conditions"), [(3, 300), (12, 60)])
def test_explainable_variance_is_within_five_percent_of_the_truth(n_runs, n_conditions, reliability):
    signal, responses = simulate(0, n_runs, n_conditions, 2000, reliability)
    assert ceiling.explainable_variance(responses).mean() == pytest.approx(reliability, rel=0.05)
    uncorrected = ceiling.explainable_variance(responses, bias_correction=False).mean()
    assert uncorrected == pytest.approx(reliability + (1 - reliability) / n_runs, rel=0.05)


def test_few_conditions_bias_both_ceilings_as_documented():
    # 12 runs of 8 conditions, as in block designs: z-scoring 8 values costs some percent, stepping down adds more.
    _, responses = simulate(0, 12, 8, 4000, 0.2)
    assert 0.92 < ceiling.explainable_variance(responses).mean() / 0.2 < 1.0
    assert 1.05 < np.nanmean(ceiling.split_half_reliability(responses, n_splits=10).single_run) / 0.2 < 1.25


def test_explainable_variance_is_the_tutorials_definition():
    _, responses = simulate(1, 4, 50, 6, 0.4)
    z = zscore(responses * 3 + 100, axis=1)
    ev = z.mean(axis=0).var(axis=0, ddof=1) / z.var(axis=1, ddof=1).mean(axis=0)
    np.testing.assert_allclose(ceiling.explainable_variance(responses, bias_correction=False), ev)
    np.testing.assert_allclose(ceiling.explainable_variance(responses * 7), ev - (1 - ev) / 3)


@pytest.mark.parametrize("reliability", [0.1, 0.3, 0.6])
@pytest.mark.parametrize(("n_runs", "n_conditions"), [(2, 400), (3, 400), (12, 60)])
def test_split_half_is_within_five_percent_of_the_truth(n_runs, n_conditions, reliability):
    _, responses = simulate(2, n_runs, n_conditions, 1000, reliability)
    result = ceiling.split_half_reliability(responses, n_splits=10)
    assert np.nanmean(result.single_run) == pytest.approx(reliability, rel=0.05)
    k = n_runs * reliability / (1 + (n_runs - 1) * reliability)
    assert np.nanmean(result.all_runs) == pytest.approx(k, rel=0.05)


def test_perfect_prediction_reaches_the_ceiling():
    signal, responses = simulate(3, 8, 200, 400, 0.25)
    result = ceiling.split_half_reliability(responses, n_splits=20)
    single = np.mean([columnwise_correlation(signal, run) for run in responses])
    assert ceiling.correlation_ceiling(result.single_run).mean() == pytest.approx(single, rel=0.05)
    averaged = columnwise_correlation(signal, responses.mean(axis=0)).mean()
    assert ceiling.correlation_ceiling(result.single_run, 8).mean() == pytest.approx(averaged, rel=0.05)


def test_standard_errors_match_the_spread_over_voxels():
    _, responses = simulate(4, 12, 60, 800, 0.3)
    result = ceiling.split_half_reliability(responses, n_splits=20)
    assert 0.8 < np.median(result.single_run_se) / result.single_run.std() < 1.5
    ev = ceiling.explainable_variance(responses)
    assert 0.8 < np.median(ceiling.repeat_jackknife_se(responses)) / ev.std() < 1.5


def test_no_signal_has_no_ceiling():
    _, responses = simulate(5, 6, 40, 500, 0.0)
    result = ceiling.split_half_reliability(responses, n_splits=10)
    np.testing.assert_array_equal(np.isnan(result.single_run), result.half <= 0)
    assert 0.3 < np.isnan(result.single_run).mean() < 0.7
    assert np.isnan(ceiling.correlation_ceiling([0.0, -0.1, np.nan])).all()
    assert np.isnan(ceiling.snr_ceiling([0.0], 3)).all()


def test_what_all_conditions_of_a_run_share_is_not_reliability():
    _, responses = simulate(6, 6, 40, 300, 0.3)
    shifted = responses + 10 * np.random.default_rng(0).standard_normal((6, 1, 300))
    one, two = (ceiling.split_half_reliability(r, n_splits=10).half for r in (responses, shifted))
    np.testing.assert_allclose(one, two, atol=1e-9)


def test_splits_are_disjoint_and_all_used_where_few():
    assert len(ceiling._halves(4, 100, 0)) == 3
    assert len(ceiling._halves(3, 100, 0)) == 3
    assert len(ceiling._halves(12, 100, 0)) == 100
    for first, second in ceiling._halves(5, 100, 0):
        assert len(first) == len(second) == 2
        assert not set(first) & set(second)


def test_noise_ceiling_snr_with_unequal_repeats():
    rng = np.random.default_rng(7)
    counts = np.concatenate([np.full(200, 3), np.full(100, 2), np.full(100, 1)])
    stimuli = rng.permutation(np.repeat(np.arange(400), counts))
    truth = 0.6
    signal = truth * zscore(rng.standard_normal((400, 500)), axis=0)
    snr = ceiling.noise_ceiling_snr(signal[stimuli] + rng.standard_normal((len(stimuli), 500)), stimuli)
    assert snr.mean() == pytest.approx(truth, rel=0.05)
    share = (200 / 3 + 100 / 2 + 100 / 1) / 400
    wanted = truth**2 / (truth**2 + share)
    assert ceiling.snr_ceiling(truth, counts) == pytest.approx(wanted)
    averaged = np.stack([(signal[i] + rng.standard_normal((n, 500)).mean(axis=0)) for i, n in enumerate(counts)])
    explained = (columnwise_correlation(signal, averaged) ** 2).mean()
    assert explained == pytest.approx(wanted, rel=0.05)


def test_noise_ceiling_snr_is_nsds_formula_for_three_repeats_of_many():
    rng = np.random.default_rng(8)
    signal = rng.standard_normal((2000, 1, 20)) * 0.5
    betas = signal + rng.standard_normal((2000, 3, 20))
    betas = (betas - betas.mean(axis=(0, 1))) / betas.std(axis=(0, 1))
    noise = np.sqrt((betas.std(axis=1, ddof=1) ** 2).mean(axis=0))
    published = np.sqrt(np.maximum(1 - noise**2, 0)) / noise
    ours = ceiling.noise_ceiling_snr(betas.reshape(-1, 20), np.repeat(np.arange(2000), 3))
    np.testing.assert_allclose(ours, published, rtol=1e-3)
    np.testing.assert_allclose(ceiling.snr_ceiling(ours, 3), ours**2 / (ours**2 + 1 / 3))


def test_constant_voxel_is_nan():
    _, responses = simulate(9, 4, 20, 3, 0.3)
    responses[:, :, 1] = 0.1
    assert np.isnan(ceiling.explainable_variance(responses)).tolist() == [False, True, False]
    assert np.isnan(ceiling.split_half_reliability(responses).half).tolist() == [False, True, False]
    snr = ceiling.noise_ceiling_snr(responses.reshape(-1, 3), np.tile(np.arange(20), 4))
    assert np.isnan(snr).tolist() == [False, True, False]


def test_errors_say_what_is_missing():
    one = np.zeros((1, 10, 2))
    with pytest.raises(InputError, match="E-META repeats: found 1 repeat"):
        ceiling.explainable_variance(one)
    with pytest.raises(InputError, match="found 2 conditions"):
        ceiling.split_half_reliability(np.ones((4, 2, 3)))
    with pytest.raises(InputError, match="E-META stimuli: found 10 trials of 10 stimuli"):
        ceiling.noise_ceiling_snr(np.eye(10), np.arange(10))
    with pytest.raises(InputError, match="E-SHAPE"):
        ceiling.explainable_variance(np.zeros((3, 4)))

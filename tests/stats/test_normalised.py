"""Normalised scores: definitions from the literature written out, and coverage on SIMULATED voxels."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import signal as filters

from wernicke.core.errors import InputError
from wernicke.stats import ceiling
from wernicke.stats.correlation import columnwise_correlation
from wernicke.stats.normalised import normalise_score


def simulate(seed, n_repeats, n_samples, n_voxels, reliability, phi=0.0):
    rng = np.random.default_rng(seed)
    series = filters.lfilter([np.sqrt(1 - phi**2)], [1.0, -phi], rng.standard_normal((n_repeats + 2, n_samples + 200,
                             n_voxels)), axis=1)[:, 200:]  # fmt: skip
    truth = series[0]
    return truth, series[1], np.sqrt(reliability) * truth + np.sqrt(1 - reliability) * series[2:]


def test_explainable_variance_is_sahani_and_lindens_signal_power():
    """Signal power over total power; and Schoppe's CC_norm for the mean over repeats, from its own formula."""
    truth, other, repeats = simulate(0, 5, 400, 6, 0.4)
    prediction = truth + other
    z = (repeats - repeats.mean(axis=1, keepdims=True)) / repeats.std(axis=1, keepdims=True)
    n = len(z)
    power = (z.sum(axis=0).var(axis=0) - z.var(axis=1).sum(axis=0)) / (n * (n - 1))
    ev = ceiling.explainable_variance(repeats)
    np.testing.assert_allclose(ev, power, atol=1e-12)
    mean = z.mean(axis=0)
    covariance = ((mean - mean.mean(axis=0)) * (prediction - prediction.mean(axis=0))).mean(axis=0)
    schoppe = covariance / np.sqrt(power * prediction.var(axis=0))
    r = columnwise_correlation(prediction, mean)
    found = normalise_score(r, ev, 0.0, minimum_ceiling=0.0, n_averaged=n)
    np.testing.assert_allclose(found.value, schoppe, atol=1e-10)


def test_split_half_ceiling_is_hsus():
    """Hsu et al. 2004: CC_max = sqrt(2 / (1 + sqrt(1 / CC_half^2))) for the mean over all repeats."""
    _, _, repeats = simulate(1, 6, 300, 8, 0.3)
    found = ceiling.split_half_reliability(repeats, n_splits=10)
    hsu = np.sqrt(2 / (1 + np.sqrt(1 / found.half**2)))
    np.testing.assert_allclose(np.sqrt(found.all_runs), hsu, atol=1e-12)
    np.testing.assert_allclose(ceiling.correlation_ceiling(found.single_run, 6), hsu, atol=1e-12)


@pytest.mark.parametrize(("n_repeats", "phi"), [(2, 0.0), (4, 0.0), (4, 0.7)])
def test_intervals_cover_the_planted_score(n_repeats, phi):
    """A prediction whose correlation with the true signal is .6, on test responses of one repeat."""
    truth, other, repeats = simulate(2, n_repeats + 1, 900, 400, 0.3, phi)
    prediction = 0.6 * truth + 0.8 * other
    tested, repeats = repeats[0], repeats[1:]
    r = columnwise_correlation(prediction, tested)
    n_effective = 900 * (1 - phi**2) / (1 + phi**2)
    found = normalise_score(
        r, ceiling.explainable_variance(repeats), ceiling.sample_jackknife_se(repeats), minimum_ceiling=0.1,
        r_se=(1 - r**2) / np.sqrt(n_effective),
    )  # fmt: skip
    assert np.nanmedian(found.value) == pytest.approx(0.6, rel=0.05)
    covered = ((found.low < 0.6) & (found.high > 0.6))[np.isfinite(found.low)].mean()
    assert 0.90 < covered < 0.99
    assert np.nanmedian(found.se) == pytest.approx(np.nanstd(found.value), rel=0.25)
    only_ceiling = normalise_score(
        r, ceiling.explainable_variance(repeats), ceiling.sample_jackknife_se(repeats), minimum_ceiling=0.1
    )
    assert (only_ceiling.se < found.se)[np.isfinite(found.se)].all()


def test_voxels_below_the_stated_ceiling_are_masked_and_counted():
    found = normalise_score([0.2, 0.2, 0.2, 0.0], [0.25, 0.01, -0.1, 0.25], [0.01] * 4, minimum_ceiling=0.2)
    np.testing.assert_allclose(found.value, [0.4, np.nan, np.nan, 0.0])
    np.testing.assert_allclose(found.ceiling, [0.5, 0.1, np.nan, 0.5])
    assert (found.n_below, found.n_without_ceiling) == (1, 1)
    assert "2 of 4 voxels; masked: 1 without a ceiling, 1 with one below 0.2" in str(found)


def test_an_uncertain_ceiling_gives_no_interval():
    found = normalise_score([0.1, 0.1], [0.09, 0.09], [0.2, 0.01], minimum_ceiling=0.0, r_se=[0.01, 0.01])
    assert np.isnan(found.low[0])
    assert np.isfinite(found.value).all()
    assert found.low[1] < found.value[1] < found.high[1]


def test_shapes_are_checked():
    with pytest.raises(InputError, match="E-SHAPE reliability"):
        normalise_score([0.1, 0.2], [0.1], [0.1], minimum_ceiling=0.1)

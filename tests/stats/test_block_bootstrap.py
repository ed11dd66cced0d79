"""Resampled sums against resampled samples."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import r2_score

from wernicke.core.errors import InputError
from wernicke.stats.block_bootstrap import BlockBootstrap


def test_every_resample_equals_scores_of_the_resampled_rows():
    rng = np.random.default_rng(0)
    truth = rng.standard_normal((230, 3)) + 100
    first, second = truth + rng.standard_normal((2, 230, 3))
    runs = np.repeat([0, 1], [97, 133])
    blocks = BlockBootstrap.draw(runs, 230, 10, 120, 0.9, 0)
    assert blocks.n_blocks == 9 + 13
    rows = np.split(np.arange(230), blocks.starts[1:])
    sums = [blocks.sums(truth, prediction) for prediction in (first, second)]
    r2, r = np.empty((2, 120, 3))
    for i, weights in enumerate(blocks.weights.astype(int)):
        drawn = np.concatenate([rows[b] for b, times in enumerate(weights) for _ in range(times)])
        one, two = (r2_score(truth[drawn], p[drawn], multioutput="raw_values") for p in (first, second))
        r2[i] = one - two
        r[i] = [np.corrcoef(truth[drawn, v], first[drawn, v])[0, 1] for v in range(3)]
    low, high, se, p = blocks.interval(sums[0], sums[1], "r2")
    np.testing.assert_allclose([low, high], np.quantile(r2, [0.05, 0.95], axis=0), atol=1e-8)
    np.testing.assert_allclose(se, r2.std(axis=0, ddof=1), atol=1e-8)
    np.testing.assert_allclose(p, (1 + (r2 <= 0).sum(axis=0)) / 121)
    low, high, *_ = blocks.interval(sums[0], None, "r")
    np.testing.assert_allclose([low, high], np.quantile(r, [0.05, 0.95], axis=0), atol=1e-8)


def test_interval_covers_the_truth_on_slow_series():
    """90 % intervals of r by blocks cover more often than those by samples, which are too narrow (SIMULATED)."""
    from scipy import signal

    rng = np.random.default_rng(1)
    series = signal.lfilter([1.0], [1.0, -0.8], rng.standard_normal((2, 900, 400)), axis=1)[:, 100:]
    truth, prediction = series[0], series[0] + series[1]  # r = 1 / sqrt(2)
    covered = {}
    for length in (1, 40):
        blocks = BlockBootstrap.draw(None, 800, length, 300, 0.9, 0)
        low, high, *_ = blocks.interval(blocks.sums(truth, prediction), None, "r")
        covered[length] = ((low < 2**-0.5) & (high > 2**-0.5)).mean()
    assert covered[1] < 0.7
    assert 0.83 < covered[40] < 0.95


def test_too_few_blocks_are_refused():
    with pytest.raises(InputError, match="9 blocks of 10"):
        BlockBootstrap.draw(None, 99, 10, 100, 0.95, 0)

"""Alignment and delays against loops written from their definitions."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from wernicke.core.errors import InputError
from wernicke.core.features import Features
from wernicke.features.align import align_to_stimuli, delay, mean_delay

RNG = np.random.default_rng(0)


def by_definition(X, delays, runs):
    """Sample t of delay d holds sample t - d of the same run, else zero."""
    n, p = X.shape
    out = np.zeros((n, len(delays), p))
    for t in range(n):
        for i, d in enumerate(delays):
            if 0 <= t - d < n and runs[t - d] == runs[t]:
                out[t, i] = X[t - d]
    return out


def voxelwise_tutorials(X, delays):
    """The published `Delayer` for one run: shift all rows, zero what came from elsewhere, stack by delay."""
    copies = []
    for d in delays:
        copy = np.roll(X, d, axis=0)
        if d > 0:
            copy[:d] = 0
        elif d < 0:
            copy[d:] = 0
        copies.append(copy)
    return np.hstack(copies)


@given(
    lengths=st.lists(st.integers(5, 9), min_size=1, max_size=4),
    delays=st.lists(st.integers(-4, 4), min_size=1, max_size=4, unique=True),
    n_features=st.integers(1, 3),
)
def test_delay_is_its_definition(lengths, delays, n_features):
    runs = np.repeat(np.arange(len(lengths)), lengths)
    X = np.random.default_rng(sum(lengths)).standard_normal((len(runs), n_features))
    expected = by_definition(X, delays, runs)
    np.testing.assert_array_equal(delay(X, delays, runs), expected.reshape(len(X), -1))
    np.testing.assert_allclose(mean_delay(X, delays, runs), expected.mean(1), atol=1e-12)


def test_delay_is_voxelwise_tutorials_run_by_run():
    runs = np.repeat(["b", "a", "c"], [7, 5, 9])
    X = RNG.standard_normal((21, 3)).astype(np.float32)
    delays = (1, 2, 3, 4)
    expected = np.vstack([voxelwise_tutorials(X[runs == run], delays) for run in ("b", "a", "c")])
    found = delay(X, delays, runs)
    assert found.dtype == np.float32
    assert found.shape == (21, 12)
    np.testing.assert_array_equal(found, expected)


def test_a_run_never_reaches_into_the_next():
    runs = np.repeat([0, 1], 6)
    X = np.where(runs[:, None] == 0, 1.0, 0.0)
    assert delay(X, (1, 2, 3), runs)[6:].sum() == 0
    assert mean_delay(X, (1, 2, 3), runs)[6:].sum() == 0


def test_drama2brains_box():
    """``--time_delays 3 5``: the mean of the copies shifted by 3, 4 and 5, zeros before the start."""
    X = np.arange(1.0, 9.0)[:, None]
    found = mean_delay(X, (3, 4, 5), np.zeros(8, int))[:, 0]
    np.testing.assert_allclose(found, [0, 0, 0, 1 / 3, (2 + 1) / 3, (3 + 2 + 1) / 3, 9 / 3, 12 / 3])


@pytest.mark.parametrize("call", [delay, mean_delay])
def test_delays_that_cannot_be(call):
    X, runs = np.ones((8, 2)), np.repeat([0, 1], 4)
    for delays in ((), (1.5,), (True,), (1, 1), (4,), (-4,)):
        with pytest.raises(InputError, match="E-CFG"):
            call(X, delays, runs)
    with pytest.raises(InputError, match="contiguous"):
        call(X, (1,), np.array([0, 0, 1, 1, 0, 0, 1, 1]))
    with pytest.raises(InputError, match="E-SHAPE"):
        call(X, (1,), runs[:-1])
    with pytest.raises(InputError, match="E-NONFIN"):
        call(np.full((8, 2), np.nan), (1,), runs)


def features():
    return Features(
        {"low": RNG.standard_normal((3, 2)), "high": RNG.standard_normal((3, 4)).astype(np.float32)},
        pd.DataFrame({"stimulus_id": ["cat", "face", "house"]}),
    )


def test_each_sample_gets_its_stimulus():
    given_, samples = features(), pd.DataFrame({"stimulus_id": ["face", None, "cat", "face", np.nan]})
    aligned = align_to_stimuli(given_, samples)
    assert list(aligned) == ["low", "high"]
    for name, band in given_.bands.items():
        expected = np.array([band[1], band[1] * 0, band[0], band[1], band[1] * 0])
        np.testing.assert_array_equal(aligned[name], expected)
        assert aligned[name].dtype == band.dtype
    numbers = Features({"a": np.eye(2)}, pd.DataFrame({"stimulus_id": [7, 3]}))
    samples = pd.DataFrame({"stimulus_id": [3, 7]})
    np.testing.assert_array_equal(align_to_stimuli(numbers, samples)["a"], np.eye(2)[::-1])


def test_alignments_that_cannot_be():
    with pytest.raises(InputError, match="stimulus 'dog' of the samples has no features"):
        align_to_stimuli(features(), pd.DataFrame({"stimulus_id": ["cat", "dog"]}))
    with pytest.raises(InputError, match="expected stimulus_id"):
        align_to_stimuli(features(), pd.DataFrame({"label": ["cat"]}))
    twice = Features({"a": np.ones((2, 1))}, pd.DataFrame({"stimulus_id": ["cat", "cat"]}))
    with pytest.raises(InputError, match="several rows of stimulus 'cat'"):
        align_to_stimuli(twice, pd.DataFrame({"stimulus_id": ["cat"]}))

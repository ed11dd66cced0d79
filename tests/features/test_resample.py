"""Resampling to TR against sums written out."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest

from wernicke.core.errors import InputError
from wernicke.core.features import Features
from wernicke.features.resample import resample_to_tr


def features(times, values, run="r"):
    runs = [run] * len(times) if isinstance(run, str) else run
    return Features({"b": np.asarray(values)}, pd.DataFrame({"run": runs, "onset_s": times}))


def lanczos_sum(times, values, n, tr_s, window=3, cutoff=1.0):
    """The Huth lab's definition, one pair of times at a time."""
    rows = np.zeros((n, values.shape[1]))
    for k in range(n):
        for t, value in zip(times, values, strict=True):
            x = ((k + 0.5) * tr_s - t) * cutoff / tr_s
            if abs(x) > window:
                continue
            w = 1.0 if x == 0 else window * math.sin(math.pi * x) * math.sin(math.pi * x / window) / (math.pi * x) ** 2
            rows[k] += w * value
    return rows


@pytest.mark.parametrize(("window", "cutoff"), [(3, 1.0), (2, 1.0), (3, 0.5)])
def test_lanczos_equals_the_direct_sum(window, cutoff):
    rng = np.random.default_rng(0)
    times = np.sort(rng.uniform(-3, 43, 80))
    times[10] = 5.0  # exactly in the middle of TR 2
    times.sort()
    values = rng.standard_normal((80, 4))
    shuffled = rng.permutation(80)
    found = resample_to_tr(features(times[shuffled], values[shuffled]), n_tr={"r": 20}, tr_s=2.0, how="lanczos",
                           lanczos_window=window, lanczos_cutoff=cutoff)  # fmt: skip
    np.testing.assert_allclose(found.bands["b"], lanczos_sum(times, values, 20, 2.0, window, cutoff), atol=1e-12)
    assert found.index["onset_s"].tolist() == [2.0 * k for k in range(20)]


def test_lanczos_keeps_a_slow_sine_and_removes_a_fast_one():
    times = np.arange(4000) * 0.05
    middle = (np.arange(100) + 0.5) * 2.0
    slow, fast = (np.sin(2 * np.pi * f * times)[:, None] for f in (0.05, 2.0))
    gain = 2.0 / 0.05  # rows a TR: the kernel sums
    found = resample_to_tr(features(times, np.hstack([slow, fast])), n_tr={"r": 100}, tr_s=2.0, how="lanczos")
    inner = slice(5, -5)
    np.testing.assert_allclose(found.bands["b"][inner, 0] / gain, np.sin(2 * np.pi * 0.05 * middle)[inner], atol=0.05)
    assert np.abs(found.bands["b"][inner, 1] / gain).max() < 0.02


def test_mean_and_last_by_loop():
    rng = np.random.default_rng(1)
    times, values = rng.uniform(-2, 14, 30), rng.standard_normal((30, 3)).astype(np.float32)
    for how in ("mean", "last"):
        found = resample_to_tr(features(times, values), n_tr={"r": 8}, tr_s=1.5, how=how)
        expected = np.zeros((8, 3))
        for k in range(8):
            own = [i for i in np.argsort(times) if k * 1.5 <= times[i] < (k + 1) * 1.5]
            if own:
                expected[k] = values[own].mean(0) if how == "mean" else values[own[-1]]
        np.testing.assert_allclose(found.bands["b"], expected, rtol=1e-5, atol=1e-7)
        assert found.bands["b"].dtype == np.float32
        assert found.provenance["resampled"]["n_outside"] == int(((times < 0) | (times >= 12)).sum())
        assert found.provenance["resampled"]["n_empty"] == int((expected == 0).all(1).sum())


@pytest.mark.parametrize("dtype", ["i8", "u1", "?", "f2", ">f4", ">f8"])
@pytest.mark.parametrize("how", ["mean", "last", "lanczos"])
def test_any_type_of_number_is_resampled_as_its_float64(dtype, how):
    values = np.array([[3, 0], [5, 1], [0, 1], [9, 1]]).astype(dtype)
    found, expected = (
        resample_to_tr(features([0.0, 0.5, 1.0, 1.5], given), n_tr={"r": 2}, tr_s=1.0, how=how).bands["b"]
        for given in (values, values.astype(float))
    )
    assert found.dtype.isnative
    assert found.dtype.kind == "f"
    np.testing.assert_allclose(found, expected, rtol=1e-6)
    if how == "mean" and dtype != "?":
        np.testing.assert_array_equal(found, [[4, 0.5], [4.5, 1]])


def test_two_frames_a_second_are_averaged_whatever_the_rounding():
    times = np.arange(60) / 2 * 0.1  # TR of 0.1 s: 0.3 / 0.1 is below 3 in floating point
    found = resample_to_tr(features(times, np.arange(60.0)[:, None]), n_tr={"r": 30}, tr_s=0.1, how="mean")
    np.testing.assert_allclose(found.bands["b"][:, 0], np.arange(30) * 2 + 0.5)


def test_runs_do_not_mix_and_keep_the_asked_order():
    both = features([0.0, 0.2, 0.0], [[1.0], [3.0], [10.0]], run=["a", "a", "b"])
    for how in ("mean", "last", "lanczos"):
        found = resample_to_tr(both, n_tr={"b": 2, "a": 1}, tr_s=1.0, how=how)
        alone = resample_to_tr(features([0.0], [[10.0]], run="b"), n_tr={"b": 2}, tr_s=1.0, how=how)
        np.testing.assert_array_equal(found.bands["b"][:2], alone.bands["b"])
        assert found.index["run"].tolist() == ["b", "b", "a"]


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"n_tr": {"x": 3}}, "E-META"),
        ({"n_tr": {"r": 3, "x": 3}}, "E-META"),
        ({"n_tr": {"r": 0}}, "E-CFG"),
        ({"tr_s": 0}, "E-CFG"),
        ({"how": "sinc"}, "E-CFG"),
        ({"lanczos_window": 0}, "E-CFG"),
    ],
)
def test_refused(change, code):
    with pytest.raises(InputError) as caught:
        resample_to_tr(features([0.0], [[1.0]]), **{"n_tr": {"r": 3}, "tr_s": 1.0, "how": "mean", **change})
    assert caught.value.code == code


def test_features_without_times_are_refused():
    plain = Features({"b": np.ones((1, 1))}, pd.DataFrame({"stimulus_id": ["s"]}))
    with pytest.raises(InputError, match="run and onset_s"):
        resample_to_tr(plain, n_tr={"r": 3}, tr_s=1.0, how="mean")

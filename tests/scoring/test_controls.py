"""Controls on the real Haxby slice: what they must change, and what they must keep."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from wernicke.core.errors import InputError
from wernicke.core.study import Study
from wernicke.data.haxby import load_haxby
from wernicke.scoring.controls import matched_noise, shuffle_pairing, zero_input


@pytest.fixture(scope="module")
def study() -> Study:
    return load_haxby()


def blocks(study: Study) -> pd.DataFrame:
    (recording,) = study.recordings.values()
    return recording.samples.dropna(subset=["block"]).drop_duplicates("block").set_index("block")


def test_shuffling_exchanges_whole_blocks_within_runs(study: Study) -> None:
    shuffled = shuffle_pairing(study, None, seed=0)
    before, after = blocks(study), blocks(shuffled)
    for run in range(12):
        assert sorted(after["label"][after["run"] == run]) == sorted(before["label"][before["run"] == run])
    assert 0.03 < (before["label"] == after["label"]).mean() < 0.25  # one in eight stays by chance
    (recording,), (original,) = shuffled.recordings.values(), study.recordings.values()
    assert recording.values is original.values
    assert (recording.samples.groupby("block")["label"].nunique() == 1).all()
    assert (recording.samples["label"] == "rest").equals(original.samples["label"] == "rest")
    assert (
        recording.samples["stimulus_id"].dropna() == recording.samples["label"][original.samples["label"] != "rest"]
    ).all()


def test_a_seed_is_a_shuffle(study: Study) -> None:
    labels = [blocks(shuffle_pairing(study, None, seed))["label"].tolist() for seed in (3, 3, 4)]
    assert labels[0] == labels[1] != labels[2]


def test_noise_keeps_spectrum_and_covariance_and_nothing_else(study: Study) -> None:
    (original,), (noise,) = study.recordings.values(), matched_noise(study, None, seed=0).recordings.values()
    rows = original.runs == 5
    real, fake = original.values[rows].astype(float), noise.values[rows].astype(float)
    np.testing.assert_allclose(np.abs(np.fft.rfft(fake, axis=0)), np.abs(np.fft.rfft(real, axis=0)), atol=2.0)
    np.testing.assert_allclose(np.cov(fake.T), np.cov(real.T), atol=0.01 * np.cov(real.T).max())
    centred = [part - part.mean(axis=0) for part in (real, fake)]
    r = (centred[0] * centred[1]).sum(axis=0) / np.sqrt((centred[0] ** 2).sum(axis=0) * (centred[1] ** 2).sum(axis=0))
    assert abs(np.median(r)) < 0.3


def test_noise_needs_a_continuous_series(study: Study) -> None:
    from dataclasses import replace

    trials = replace(study, recordings={k: replace(r, tr_s=None) for k, r in study.recordings.items()})
    with pytest.raises(InputError, match="continuous series"):
        matched_noise(trials, None, seed=0)


def test_zero_input(study: Study) -> None:
    (recording,) = zero_input(study, None, seed=0).recordings.values()
    assert not recording.values.any()

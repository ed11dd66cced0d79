"""What a model has seen, and the refusal to be evaluated on it."""

from __future__ import annotations

import pandas as pd
import pytest

from wernicke.core.errors import InputError
from wernicke.decoding.exposure import Exposure, check_exposure

TEST = pd.DataFrame({"sample_id": ["s1", "s2"], "stimulus_id": ["cat", "house"]})


def test_union_and_round_trip():
    both = Exposure.of(samples=["a", 1]) | Exposure.of(samples=["b"], stimuli=["cat"])
    assert both == Exposure(frozenset({"a", "1", "b"}), frozenset({"cat"}))
    assert Exposure.from_meta({"exposure": both.to_meta()}) == both
    with pytest.raises(InputError, match="E-CKPT exposure: does not say"):
        Exposure.from_meta({})


def test_a_seen_sample_is_refused_always():
    with pytest.raises(InputError, match="E-SPLIT sample_id: 1 test sample ids were seen in training, such as 's2'"):
        check_exposure(Exposure.of(samples=["s2", "s9"]), TEST, accepted_leaks=("sample_id", "stimulus_id"))


def test_a_seen_stimulus_is_refused_unless_accepted():
    seen = Exposure.of(samples=["s9"], stimuli=["cat", "shoe"])
    with pytest.raises(InputError, match="E-SPLIT stimulus_id: 1 test stimulus ids were seen .* such as 'cat'"):
        check_exposure(seen, TEST)
    assert check_exposure(seen, TEST, accepted_leaks=("stimulus_id",)) == {"stimulus_id": 1}


def test_clean():
    assert check_exposure(Exposure.of(samples=["s9"], stimuli=["shoe"]), TEST) == {}
    assert check_exposure(Exposure.of(samples=["s9"], stimuli=["cat"]), TEST[["sample_id"]]) == {}

"""Streams of random numbers by name; seconds to TR."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from wernicke.core.errors import InputError
from wernicke.core.seeds import derive_rng
from wernicke.core.units import seconds_to_tr

names = st.lists(st.one_of(st.text(), st.integers(-(2**40), 2**40)), max_size=3)


def draw(seed, *path):
    return derive_rng(seed, *path).integers(0, 2**63, 4).tolist()


@settings(deadline=None)
@given(st.integers(0, 2**63), names)
def test_same_seed_and_names_same_numbers(seed, path):
    assert draw(seed, *path) == draw(seed, *path)


@settings(deadline=None)
@given(st.integers(0, 100), st.integers(0, 100), names, names)
def test_another_seed_or_name_another_stream(seed, other_seed, path, other):
    same = (seed, [(type(n), n) for n in path]) == (other_seed, [(type(n), n) for n in other])
    assert (draw(seed, *path) == draw(other_seed, *other)) == same


def test_numbers_are_pinned():
    # A change here changes every result that was ever published with a seed.
    assert derive_rng(0, "bootstrap over runs", 3).integers(0, 1000, 5).tolist() == [462, 227, 716, 94, 190]


def test_numpy_integers_count_as_python_s():
    assert draw(3, "fit", 5) == draw(np.int64(3), "fit", np.int32(5))
    assert draw(3, "fit", 5) != draw(3, "fit", "5")


def test_streams_are_independent():
    a, b = (derive_rng(0, "control", k).standard_normal(20_000) for k in range(2))
    assert abs(np.corrcoef(a, b)[0, 1]) < 4 / np.sqrt(20_000)


@pytest.mark.parametrize("seed", [-1, 1.5, "0", None])
def test_seeds_refused(seed):
    with pytest.raises(InputError, match="seed: found"):
        derive_rng(seed, "x")


@settings(deadline=None)
@given(st.lists(st.integers(0, 50), min_size=1, max_size=6, unique=True), st.sampled_from([0.72, 1.0, 1.49, 2.0, 2.5]))
def test_whole_tr_come_back(delays_tr, tr_s):
    assert seconds_to_tr([n * tr_s for n in delays_tr], tr_s, "delays_s") == tuple(delays_tr)


@pytest.mark.parametrize(
    ("values_s", "tr_s", "words"),
    [
        ((3.0,), 2.0, "nearest: 2 or 4"),
        ((-2.0,), 2.0, "at least 0"),
        ((2.0, 2.0), 2.0, "twice"),
        ((2.0,), 0.0, "tr_s"),
        ((2.0,), float("nan"), "tr_s"),
        ((float("nan"),), 2.0, "delays_s"),
        ((), 2.0, "sequence of seconds"),
        (4.0, 2.0, "sequence of seconds"),
    ],
)
def test_seconds_refused(values_s, tr_s, words):
    with pytest.raises(InputError) as caught:
        seconds_to_tr(values_s, tr_s, "delays_s")
    assert caught.value.code == "E-CFG"
    assert words in str(caught.value)

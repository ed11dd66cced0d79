"""Designs and altered sentences of a category experiment."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from wernicke.core.errors import InputError
from wernicke.encoding import designs

LABELS = np.array(["rest", "cat", "cat", "rest", "shoe", "shoe", "rest", "shoe", "rest", "cat"])
RUNS = np.array([0, 0, 0, 0, 0, 0, 1, 1, 1, 1])
NAMES = ["cat", "shoe"]


def test_on_off_and_one_hot() -> None:
    assert designs.on_off(LABELS)[:, 0].tolist() == [0, 1, 1, 0, 1, 1, 0, 1, 0, 1]
    assert designs.one_hot(LABELS, NAMES).sum(axis=0).tolist() == [3, 3]
    np.testing.assert_array_equal(designs.one_hot(LABELS, NAMES).sum(axis=1), designs.on_off(LABELS)[:, 0])


def test_place_puts_rows_at_their_condition() -> None:
    placed = designs.place(np.array([[1.0, 2.0], [3.0, 4.0]]), LABELS, NAMES)
    assert placed[1].tolist() == [1, 2]
    assert placed[7].tolist() == [3, 4]
    assert not placed[LABELS == "rest"].any()


def test_saturated_starts_at_each_onset_and_stops_at_the_run() -> None:
    design = designs.saturated(LABELS, RUNS, NAMES, window_tr=4).reshape(10, 2, 4)
    expected = {(1, 0, 0), (2, 0, 1), (3, 0, 2), (4, 0, 3), (9, 0, 0),
                (4, 1, 0), (5, 1, 1), (7, 1, 0), (8, 1, 1), (9, 1, 2)}  # fmt: skip
    assert {tuple(map(int, at)) for at in np.argwhere(design)} == expected


@given(st.integers(2, 9), st.integers(0, 2**32))
def test_wrong_conditions_leave_none_in_place(n: int, seed: int) -> None:
    table = np.arange(n, dtype=float)[:, None]
    wrong = designs.wrong_conditions(table, np.random.default_rng(seed))
    assert sorted(wrong[:, 0]) == table[:, 0].tolist()
    assert (wrong != table).all()


def test_wrong_conditions_need_two() -> None:
    with pytest.raises(InputError, match="at least 2"):
        designs.wrong_conditions(np.ones((1, 3)), np.random.default_rng(0))


def test_random_vectors_keep_mean_and_variance() -> None:
    rng = np.random.default_rng(3)
    table = 5 + rng.standard_normal((8, 20))
    drawn = designs.random_vectors(table, rng)
    np.testing.assert_allclose(drawn.mean(axis=0), table.mean(axis=0))
    np.testing.assert_allclose(drawn.var(axis=0).sum(), table.var(axis=0).sum())
    assert np.abs(np.corrcoef((drawn - drawn.mean(0)).ravel(), (table - table.mean(0)).ravel())[0, 1]) < 0.35


def test_shuffling_keeps_timing_and_differs_between_runs() -> None:
    names = list("abcdefgh")
    labels = np.tile(np.repeat(["rest", *names], 2), 6)
    runs = np.repeat(np.arange(6), 18)
    shuffled = designs.shuffle_within_runs(labels, runs, names, np.random.default_rng(4))
    np.testing.assert_array_equal(shuffled == "rest", labels == "rest")
    orders = {tuple(shuffled[runs == run]) for run in range(6)}
    assert len(orders) > 3
    assert all(sorted(order) == sorted(labels[runs == 0]) for order in orders)

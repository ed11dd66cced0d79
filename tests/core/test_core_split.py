"""A split cannot be made with a group on both sides."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from wernicke.core.errors import InputError
from wernicke.core.split import Split, leave_one_group_out


def samples(runs=(1, 1, 2, 2, 3), stimuli=("a", "b", "a", None, "c")) -> pd.DataFrame:
    return pd.DataFrame({"sample_id": [f"s{i}" for i in range(len(runs))], "run": runs, "stimulus_id": stimuli})


def refused(*arguments, **keywords) -> str:
    with pytest.raises(InputError) as caught:
        Split(*arguments, **keywords)
    assert caught.value.code == "E-SPLIT"
    return str(caught.value)


@settings(deadline=None)
@given(
    groups=st.lists(st.tuples(st.integers(0, 3), st.sampled_from(["a", "b", "c", None])), min_size=2, max_size=12),
    sides=st.lists(st.sampled_from(["train", "valid", "test", "none"]), min_size=12, max_size=12),
    keys=st.sampled_from([("run",), ("stimulus_id",), ("run", "stimulus_id")]),
    accepted=st.sampled_from([(), ("run",), ("stimulus_id",)]),
)
def test_no_group_of_the_keys_stands_on_both_sides_unless_accepted(groups, sides, keys, accepted):
    table = samples([run for run, _ in groups], [stimulus for _, stimulus in groups])
    side = dict(zip(table["sample_id"], sides, strict=False))
    ids = {name: tuple(i for i in side if side[i] == name) for name in ("train", "valid", "test")}
    try:
        split = Split(table, ids["train"], ids["test"], ids["valid"], keys=keys, accepted_leaks=accepted)
    except InputError:
        split = None
    # By brute force over all pairs of samples.
    rows = [dict(row, side=side[row["sample_id"]]) for row in table.to_dict("records")]
    leaks = {
        key
        for key in keys
        for one in rows
        for other in rows
        if one["side"] in ("train", "valid") and other["side"] == "test" and one[key] == other[key]
        if not pd.isna(one[key])
    }
    possible = bool(ids["train"]) and bool(ids["test"]) and not leaks - set(accepted)
    assert (split is not None) == possible
    if split is not None:
        assert {key for key in keys if split.overlaps()[key]} == leaks


def test_refusals():
    table = samples()
    assert "stand on both sides, such as 1" in refused(table, ("s0",), ("s1",))
    assert "no samples in test" in refused(table, ("s0",), ())
    assert "no samples in train" in refused(table, (), ("s0",))
    assert "unknown sample 'x'" in refused(table, ("s0",), ("x",))
    assert "twice in train" in refused(table, ("s0", "s0"), ("s4",))
    assert "in train and in test" in refused(table, ("s0", "s4"), ("s4",))
    assert "in train and in valid" in refused(table, ("s0", "s2"), ("s4",), ("s2",))
    assert "in valid and in test" in refused(table, ("s0",), ("s4",), ("s4",))
    assert "no column `session`" in refused(table, ("s0",), ("s4",), keys=("session",))
    assert "no column `sample_id`" in refused(table.drop(columns="sample_id"), ("s0",), ("s4",))
    assert "stimulus_id" in refused(table, ("s0", "s1"), ("s2",), keys=("run", "stimulus_id"))


def test_validation_counts_as_seen():
    assert "run" in refused(samples(), ("s4",), ("s0",), ("s1",))


def test_an_accepted_leak_is_counted():
    split = Split(samples(), ("s0", "s1"), ("s2",), keys=("run", "stimulus_id"), accepted_leaks=("stimulus_id",))
    assert split.overlaps() == {"run": 0, "stimulus_id": 1}


def test_missing_groups_do_not_meet():
    table = samples(runs=(1, 2), stimuli=(None, None))
    assert Split(table, ("s0",), ("s1",), keys=("run", "stimulus_id")).overlaps()["stimulus_id"] == 0


def test_rows_follow_the_table():
    split = Split(samples(), ("s3", "s2"), ("s1", "s0"))
    assert split.train_rows.tolist() == [2, 3]
    assert split.test_rows.tolist() == [0, 1]


def test_fingerprint_depends_on_sides_and_keys():
    table = samples()
    same = [Split(table, ("s0", "s1"), ("s2",)).fingerprint for _ in range(2)]
    others = [
        Split(table, ("s1", "s0"), ("s2",)).fingerprint,
        Split(table, ("s0", "s1"), ("s3",)).fingerprint,
        Split(table, ("s0",), ("s2",), ("s1",)).fingerprint,
        Split(table, ("s0", "s1"), ("s2",), accepted_leaks=("stimulus_id",)).fingerprint,
    ]
    assert same[0] == same[1]
    assert len({same[0], *others}) == 5


def test_leave_one_group_out_tests_every_sample_once():
    table = samples(runs=(2, 2, 1, 1, 3))
    splits = list(leave_one_group_out(table))
    assert [set(table["run"][split.test_rows]) for split in splits] == [{2}, {1}, {3}]
    assert np.sort(np.concatenate([split.test_rows for split in splits])).tolist() == list(range(5))
    for split in splits:
        assert sorted([*split.train, *split.test]) == sorted(table["sample_id"])


def test_leave_one_group_out_refuses_a_single_run_and_a_missing_column():
    with pytest.raises(InputError, match="found 1 run, expected at least 2"):
        list(leave_one_group_out(samples(runs=(1,) * 5)))
    with pytest.raises(InputError, match="no column `session`"):
        list(leave_one_group_out(samples(), "session"))


def test_leaving_sessions_out_still_guards_runs():
    table = samples()
    table["session"] = ["x", "y", "x", "y", "x"]
    with pytest.raises(InputError, match="run: .* stand on both sides"):
        list(leave_one_group_out(table, "session"))

"""Context windows of annotations and transcripts against a loop that follows drama2brain's description."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from wernicke.core.errors import InputError
from wernicke.core.study import Events
from wernicke.features.windows import annotation_windows, event_windows, word_windows


def drama2brain_loop(table, window):
    """Their rule, row by row: distinct captions of the last seconds, sorted by numpy, '..' left out, joined."""
    rows = []
    for i in range(len(table)):
        row = []
        for n in range(len(table[0])):
            seen = np.unique([r[n] for r in table[max(0, i - window + 1) : i + 1]])
            row.append(",".join(c for c in seen if c != "..") or None)
        rows.append(tuple(row))
    return tuple(rows)


@pytest.mark.parametrize("window", [1, 2, 5, 30])
def test_faithful_is_the_authors_rule(window):
    rng = np.random.default_rng(0)
    table = rng.choice(["a man", " a man", "The end", "rain ", "..", "b"], (20, 3)).tolist()
    found = annotation_windows(table, run="r", window_s=window, mode="faithful")
    assert found.texts == drama2brain_loop(table, window)
    assert found.index["onset_s"].tolist() == list(range(20))


def test_corrected_keeps_the_order_of_time():
    found = annotation_windows([["b"], ["a"], [".."], ["b"]], run="r", window_s=3)
    assert found.texts == (("b",), ("b,a",), ("b,a",), ("a,b",))


def test_every_way_of_saying_nothing():
    table = pd.DataFrame({"one": ["..", None, "", " .. "], "two": ["x", np.nan, pd.NA, ".."]}, dtype=object)
    found = annotation_windows(table, run="r")
    assert found.texts == ((None, "x"), (None, None), (None, None), (None, None))
    assert found.n_empty == 3
    assert found.annotators == ("one", "two")


def test_average_and_split_of_annotators():
    found = annotation_windows([["a", "b", "a"], ["..", "b", ".."], ["..", "..", ".."]], run="r")
    values = np.array([[1.0, 10.0], [4.0, 40.0]], np.float32)  # of "a", "b"
    assert found.unique == ["a", "b"]
    np.testing.assert_allclose(found.average(values), [[2, 20], [4, 40], [0, 0]])
    assert found.choose([1]).average(values[1:]).tolist() == [[4, 40], [4, 40], [0, 0]]


def test_captions_that_hold_and_words_that_begin():
    events = Events(pd.DataFrame({
        "run": ["1", "1", "1", "2"], "onset_s": [0.0, 1.5, 4.0, 0.5], "duration_s": [3.0, 1.0, 0.0, 1.0],
        "text": ["he waits", "rain", "door", "end"],
    }))  # fmt: skip
    held = event_windows(events, n_samples={"1": 3, "2": 1}, step_s=2.0, window_s=2.0, kind="captions")
    assert [row[0] for row in held.texts] == ["he waits,rain", "he waits,rain", "door", "end"]
    begun = event_windows(events, n_samples={"1": 3, "2": 1}, step_s=2.0, window_s=4.0, kind="words")
    assert [row[0] for row in begun.texts] == ["he waits rain", "he waits rain", "door", "end"]
    assert begun.index["onset_s"].tolist() == [0.0, 2.0, 4.0, 0.0]


@pytest.mark.parametrize("tr_s", [0.72, 0.8, 1.1, 1.49, 2.2])
def test_events_at_borders_fall_into_one_sample_and_never_before_their_onset(tr_s):
    onset = [round(k * tr_s, 6) for k in range(300)]
    events = Events(pd.DataFrame({"run": "a", "onset_s": onset, "duration_s": tr_s, "text": map(str, range(300))}))
    for kind, joined in (("words", " "), ("captions", ",")):
        for n in (1, 3):
            found = event_windows(events, n_samples={"a": 300}, step_s=tr_s, window_s=n * tr_s, kind=kind)
            expected = [joined.join(map(str, range(max(0, k - n + 1), k + 1))) for k in range(300)]
            assert [row[0] for row in found.texts] == expected
    left = word_windows(events, window_s=2 * tr_s)
    assert [row[0] for row in left.texts[1:]] == [f"{k - 1} {k}" for k in range(1, 300)]


def test_word_windows_are_left_contexts():
    events = Events(pd.DataFrame({
        "run": ["b", "b", "a", "b"], "onset_s": [0.0, 0.5, 0.2, 1.1], "duration_s": [0.4, 0.2, 0.2, 0.2],
        "text": ["no", "no", "yes", "never"],
    }))  # fmt: skip
    found = word_windows(events, window_s=1.0)
    assert list(zip(found.index["run"], [row[0] for row in found.texts], strict=True)) == [
        ("b", "no"), ("b", "no no"), ("b", "no never"), ("a", "yes"),
    ]  # fmt: skip
    np.testing.assert_allclose(found.index["onset_s"], [0.2, 0.6, 1.2, 0.3])


@pytest.mark.parametrize(
    ("call", "code"),
    [
        (lambda: annotation_windows([[3]], run="r"), "E-META"),
        (lambda: annotation_windows([], run="r"), "E-SHAPE"),
        (lambda: annotation_windows([["a"]], run="r", window_s=1.5), "E-CFG"),
        (lambda: annotation_windows([["a"]], run="r", window_s=0), "E-CFG"),
        (lambda: annotation_windows([["a"]], run="r", mode="loyal"), "E-CFG"),
        (lambda: annotation_windows([["a"]], run="r").choose([1]), "E-CFG"),
    ],
)
def test_refused(call, code):
    with pytest.raises(InputError) as caught:
        call()
    assert caught.value.code == code


def test_event_of_an_unknown_run_is_refused():
    events = Events(pd.DataFrame({"run": ["9"], "onset_s": [0.0], "duration_s": [1.0], "text": ["x"]}))
    with pytest.raises(InputError, match="unknown|expected '1'"):
        event_windows(events, n_samples={"1": 3}, step_s=1.0, window_s=1.0, kind="captions")

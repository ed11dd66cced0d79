"""Value objects refuse, when made, what cannot be right."""

from __future__ import annotations

import dataclasses

import numpy as np
import pandas as pd
import pytest

from wernicke.core.errors import InputError
from wernicke.core.features import Features
from wernicke.core.recording import Channels, Recording, Surface, Voxels
from wernicke.core.results import Captions, Images, Predictions, Scores
from wernicke.core.study import Events, Source, Stimuli, Study


def table(n=4, **columns) -> pd.DataFrame:
    return pd.DataFrame(
        {"sample_id": [f"s{i}" for i in range(n)], "run": [0] * (n // 2) + [1] * (n - n // 2)} | columns
    )


def recording(**changes) -> Recording:
    return Recording(**({"subject": "01", "values": np.zeros((4, 3)), "samples": table()} | changes))


SOURCE = Source("a data set", "CC0", "none", "nobody (2026)", "@misc{x}")
STIMULI = Stimuli(pd.DataFrame({"stimulus_id": ["a", "b"]}))
MASK = np.array([True, False, True, True]).reshape(2, 2, 1)


def check(code: str, words: str, make) -> None:
    with pytest.raises(InputError) as caught:
        make()
    assert caught.value.code == code
    assert words in str(caught.value)


def test_recording_as_it_should_be():
    made = recording(units=Voxels(MASK, np.eye(4)), tr_s=2.0, keep=np.ones(4, bool))
    assert made.n_samples == 4
    assert made.runs.tolist() == [0, 0, 1, 1]
    with pytest.raises(dataclasses.FrozenInstanceError):
        made.tr_s = 1.0


def test_a_surface_gives_values_back_hemisphere_by_hemisphere():
    left, right = np.array([True, False, True]), np.array([False, True])
    surface = Surface(left, right, "fsaverage5", Voxels(MASK, np.eye(4)))
    made = recording(units=surface, values=np.zeros((4, 6)))
    assert made.units.n_units == 6
    np.testing.assert_array_equal(surface.to_hemisphere(np.arange(6), "left"), [0, np.nan, 1])
    np.testing.assert_array_equal(surface.to_hemisphere(np.arange(6), "right"), [np.nan, 2])
    check("E-META", "no data on the left", lambda: Surface(None, right, "fsLR").to_hemisphere(np.ones(1), "left"))
    check("E-SHAPE", "the surface has 6", lambda: recording(units=surface))
    check("E-META", "no vertex", lambda: Surface(None, None, "fsLR"))
    check("E-SHAPE", "1-D mask", lambda: Surface(MASK, None, "fsLR"))


@pytest.mark.parametrize(
    ("changes", "code", "words"),
    [
        ({"subject": "../../etc"}, "E-META", "subject"),
        ({"values": np.zeros((5, 3))}, "E-SHAPE", "values"),
        ({"values": np.zeros(4)}, "E-SHAPE", "values"),
        ({"samples": table().drop(columns="run")}, "E-META", "`run` is missing"),
        ({"samples": table(sample_id=["s0", "s1", "s1", "s3"])}, "E-META", "'s1' occurs twice"),
        ({"samples": table(run=[0, 1, 0, 1])}, "E-META", "contiguous"),
        ({"samples": table(run=[0, 0, None, 1])}, "E-META", "row 2 has no run"),
        ({"samples": table(sample_id=["s0", None, "s2", "s3"])}, "E-META", "row 1 has no sample_id"),
        ({"tr_s": 0.0}, "E-CFG", "tr_s"),
        ({"tr_s": -2.0}, "E-CFG", "tr_s"),
        ({"keep": np.ones(3, bool)}, "E-SHAPE", "keep"),
        ({"keep": np.ones(4)}, "E-SHAPE", "keep"),
        ({"units": Voxels(np.ones((2, 2, 1), bool), np.eye(4))}, "E-SHAPE", "the mask has 4"),
        ({"units": Channels(("Cz",), 256.0)}, "E-SHAPE", "channels"),
    ],
)
def test_recording_refused(changes, code, words):
    check(code, words, lambda: recording(**changes))


def test_voxels_go_back_to_the_grid_in_c_order():
    volume = Voxels(MASK, np.eye(4)).to_volume(np.array([1.0, 2.0, 3.0]))
    assert np.isnan(volume[~MASK]).all()
    assert volume[MASK].tolist() == [1.0, 2.0, 3.0]
    assert volume[1, 0, 0] == 2.0


@pytest.mark.parametrize(
    ("mask", "affine", "code"),
    [
        (MASK[0], np.eye(4), "E-SHAPE"),
        (MASK.astype(int), np.eye(4), "E-SHAPE"),
        (~(MASK | True), np.eye(4), "E-META"),
        (MASK, np.zeros((4, 4)), "E-HDR"),
        (MASK, np.full((4, 4), np.nan), "E-HDR"),
        (MASK, np.eye(3), "E-HDR"),
    ],
)
def test_voxels_refused(mask, affine, code):
    check(code, "", lambda: Voxels(mask, affine))


def test_channels():
    made = Channels(("Fz", "Cz"), 250.0, -0.2, np.zeros((2, 3)))
    assert recording(values=np.zeros((4, 2, 50)), units=made).units is made
    check("E-CFG", "sfreq_hz", lambda: Channels(("Fz",), 0.0))
    check("E-CFG", "tmin_s", lambda: Channels(("Fz",), 250.0, float("nan")))
    check("E-META", "'Fz'", lambda: Channels(("Fz", "Fz"), 250.0))
    check("E-SHAPE", "positions_mm", lambda: Channels(("Fz",), 250.0, 0.0, np.zeros((2, 3))))


def test_stimuli_and_events():
    check("E-META", "stimulus_id", lambda: Stimuli(pd.DataFrame({"path": ["a"]})))
    check("E-META", "twice", lambda: Stimuli(pd.DataFrame({"stimulus_id": ["a", "a"]})))
    check("E-REF", "'z'", lambda: Stimuli(pd.DataFrame({"stimulus_id": ["a"]}), {"z": ("text",)}))
    good = pd.DataFrame({"run": [0, 0], "onset_s": [-1.0, 2.0], "duration_s": [0.0, 1.0]})
    assert Events(good).table is good
    check("E-META", "`run`", lambda: Events(good.drop(columns="run")))
    for column, value in (
        ("onset_s", np.nan),
        ("onset_s", "two"),
        ("onset_s", np.inf),
        ("duration_s", -1.0),
        ("duration_s", None),
    ):
        bad = good.astype(object)
        bad.loc[1, column] = value
        check("E-META", "row 1", lambda bad=bad: Events(bad))


def test_study():
    named = recording(samples=table(stimulus_id=["a", None, "b", "b"]))
    other = recording(subject="02", samples=table(sample_id=["t0", "t1", "t2", "t3"]), values=np.zeros((4, 7)))
    assert len(Study({"01": named, "02": other}, STIMULI, SOURCE).recordings) == 2
    check("E-META", "at least one", lambda: Study({}, STIMULI, SOURCE))
    check("E-META", "filed under", lambda: Study({"03": named}, STIMULI, SOURCE))
    check("E-META", "in two subjects", lambda: Study({"01": named, "02": recording(subject="02")}, STIMULI, SOURCE))
    unknown = recording(samples=table(stimulus_id=["a", None, "b", "q"]))
    check("E-REF", "'q'", lambda: Study({"01": unknown}, STIMULI, SOURCE))


def test_features():
    index = pd.DataFrame({"stimulus_id": ["a", "b"]})
    assert Features({"llm": np.ones((2, 5))}, index).bands["llm"].shape == (2, 5)
    assert Features({"llm": np.ones((1, 5))}, pd.DataFrame({"run": [0], "onset_s": [1.0]})).provenance == {}
    check("E-META", "no band", lambda: Features({}, index))
    check("E-META", "expected stimulus_id", lambda: Features({"llm": np.ones((2, 5))}, pd.DataFrame({"run": [0, 1]})))
    check("E-SHAPE", "band `llm`", lambda: Features({"llm": np.ones((3, 5))}, index))
    check("E-NONFIN", "band `llm`", lambda: Features({"llm": np.full((2, 5), np.nan)}, index))


def test_predictions_and_images(tmp_path):
    assert Predictions(("a", "b"), np.zeros((2, 3))).values.shape == (2, 3)
    check("E-SHAPE", "2 samples", lambda: Predictions(("a", "b"), np.zeros((3, 3))))
    check("E-SHAPE", "2 samples", lambda: Predictions(("a", "b"), np.zeros(2)))
    assert Images(("a",), (tmp_path,), (0,)).ids == ("a",)
    check("E-SHAPE", "differ in length", lambda: Images(("a",), (tmp_path,), (0, 1)))


def test_captions():
    two = pd.DataFrame({"id": ["x", "y"], "text": ["", "a cat"]})
    made = Captions(two, (("a dog",), ("a cat", "the cat")))
    assert len(made) == 2
    assert made.decoding == "unknown"
    check("E-META", "`text` is missing", lambda: Captions(two.drop(columns="text")))
    check("E-META", "no captions", lambda: Captions(two[:0]))
    check("E-META", "'x' occurs twice", lambda: Captions(two.assign(id="x")))
    check("E-META", "row 1 holds no text", lambda: Captions(two.assign(text=["a", None])))
    check("E-SHAPE", "1 references for 2", lambda: Captions(two, (("a dog",),)))
    for empty in ((), ("",), (" ",)):
        check("E-META", "'y' has an empty reference", lambda empty=empty: Captions(two, (("a dog",), empty)))


def test_scores_become_plain_rows():
    score = Scores("language", "r", np.float32(0.5), np.int64(3), null=np.zeros(2), ci=(np.float64(0.1), 0.9))
    row = score.as_row()
    assert row["mean"] == 0.5
    assert row["null"] == [0.0, 0.0]
    assert row["ceiling"] is None
    assert {type(value) for value in row.values()} <= {str, float, int, list, type(None)}

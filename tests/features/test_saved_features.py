"""Features written and read again, by numpy and zarr alone too."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest

from wernicke.core.errors import InputError
from wernicke.core.features import Features
from wernicke.features.resample import resample_to_tr
from wernicke.features.saved import join_rows, read_features, write_features

BANDS = {"layer0": np.arange(12, dtype=np.float32).reshape(4, 3), "layer10": np.ones((4, 2), np.float32)}
BY_TIME = pd.DataFrame({"run": ["a", "a", "b", "b"], "onset_s": [0.0, 0.5, 0.0, 0.1]})


@pytest.mark.parametrize("form", ["npy", "zarr"])
@pytest.mark.parametrize("dtype", ["float32", "float16"])
@pytest.mark.parametrize("index", [BY_TIME, pd.DataFrame({"stimulus_id": ["x", "y", "z", "käse"]})])
def test_round_trip(tmp_path, form, dtype, index):
    write_features(tmp_path / "f", Features(BANDS, index, {"model": "m"}), form=form, dtype=dtype)
    found = read_features(tmp_path / "f")
    assert list(found.bands) == ["layer0", "layer10"]
    for name, band in BANDS.items():
        assert found.bands[name].dtype == dtype
        np.testing.assert_array_equal(found.bands[name], band)
    pd.testing.assert_frame_equal(found.index, index, check_dtype=False)
    assert found.provenance == {"model": "m"}
    if form == "npy":
        np.testing.assert_array_equal(np.load(tmp_path / "f/layer0.npy"), BANDS["layer0"])
    else:
        import zarr

        np.testing.assert_array_equal(
            zarr.open_group(tmp_path / "f/features.zarr", mode="r")["layer0"], BANDS["layer0"]
        )


def test_rows_are_put_below_one_another():
    one, two = (Features(BANDS, BY_TIME, {"model": "m", "n_without_caption": n}) for n in (1, 3))
    both = join_rows([one, two])
    assert len(both.index) == 8
    assert both.provenance == {"model": "m", "n_without_caption": 4}
    np.testing.assert_array_equal(both.bands["layer0"], np.vstack([BANDS["layer0"]] * 2))


@pytest.mark.parametrize("form", ["npy", "zarr"])
def test_what_an_earlier_call_left_is_not_read(tmp_path, form):
    write_features(tmp_path, Features({**BANDS, "old": BANDS["layer0"]}, BY_TIME))
    later = Features({"layer10": BANDS["layer10"] + 1}, BY_TIME.assign(onset_s=[5.0, 6.0, 7.0, 8.0]))
    write_features(tmp_path, later, form=form)
    found = read_features(tmp_path)
    assert list(found.bands) == ["layer10"]
    np.testing.assert_array_equal(found.bands["layer10"], later.bands["layer10"])
    pd.testing.assert_frame_equal(found.index, later.index, check_dtype=False)


@pytest.mark.parametrize("form", ["npy", "zarr"])
def test_bands_without_a_record_come_by_their_numbers(tmp_path, form):
    write_features(tmp_path, Features({f"layer{k}": np.full((4, 1), k) for k in range(12)}, BY_TIME), form=form)
    assert list(read_features(tmp_path).bands) == [f"layer{k}" for k in range(12)]
    (tmp_path / "provenance.json").unlink()
    found = read_features(tmp_path).bands
    assert [(name, band[0, 0]) for name, band in found.items()] == [(f"layer{k}", k) for k in range(12)]


def test_runs_that_are_numbers_stay_numbers(tmp_path):
    for runs in ([1, 1, 2, 10], ["1", "1", "2", "10"]):
        index = pd.DataFrame({"run": runs, "onset_s": [0.0, 0.5, 0.0, 0.0], "annotator": ["a", None, "b", "c"]})
        write_features(tmp_path, Features(BANDS, index))
        found = read_features(tmp_path)
        assert found.index["run"].to_list() == runs
        assert found.index["annotator"].to_list() == ["a", None, "b", "c"]
        n_tr = dict.fromkeys(runs, 1)
        assert resample_to_tr(found, n_tr=n_tr, tr_s=1.0, how="mean").index["run"].to_list() == list(n_tr)


def test_a_record_that_cannot_be_right_is_refused(tmp_path):
    write_features(tmp_path, Features(BANDS, BY_TIME))
    for bad in ({"form": "npy", "bands": ["../x"], "numbers": []}, {"form": "pickle"}, {"form": "npy", "bands": 3}, [1],
                {"form": "npy", "bands": ["layer0"], "numbers": ["run"]}):  # fmt: skip
        (tmp_path / "provenance.json").write_text(json.dumps({"stored": bad} if isinstance(bad, dict) else bad))
        with pytest.raises(InputError, match="E-FMT"):
            read_features(tmp_path)


def test_refused(tmp_path):
    good = Features(BANDS, BY_TIME)
    for features, options, code in (
        (Features({"../x": BANDS["layer0"]}, BY_TIME), {}, "E-UNSAFE"),
        (Features({"a": BANDS["layer0"] * 1e6}, BY_TIME), {"dtype": "float16"}, "E-NONFIN"),
        (Features(BANDS, pd.DataFrame({"stimulus_id": ["a\tb", "c", "d", "e"]})), {}, "E-META"),
        (Features(BANDS, pd.DataFrame({"stimulus_id": ["n/a", "c", "d", "e"]})), {}, "E-META"),
        (Features(BANDS, pd.DataFrame({"stimulus_id": [" a", "c", "d", "e"]})), {}, "E-META"),
        (good, {"form": "pickle"}, "E-CFG"),
    ):
        with pytest.raises(InputError) as caught:
            write_features(tmp_path / "f", features, **options)
        assert caught.value.code == code
    write_features(tmp_path / "g", good)
    np.save(tmp_path / "g/layer0.npy", np.ones((3, 2)))
    with pytest.raises(InputError, match="E-SHAPE"):
        read_features(tmp_path / "g")
    with pytest.raises(InputError, match="E-REF"):
        read_features(tmp_path / "nothing")

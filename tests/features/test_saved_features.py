"""Features written and read again, by numpy and zarr alone too."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from wernicke.core.errors import InputError
from wernicke.core.features import Features
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


def test_refused(tmp_path):
    good = Features(BANDS, BY_TIME)
    for features, options, code in (
        (Features({"../x": BANDS["layer0"]}, BY_TIME), {}, "E-UNSAFE"),
        (Features({"a": BANDS["layer0"] * 1e6}, BY_TIME), {"dtype": "float16"}, "E-NONFIN"),
        (Features(BANDS, pd.DataFrame({"stimulus_id": ["a\tb", "c", "d", "e"]})), {}, "E-META"),
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

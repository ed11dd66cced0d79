"""voxelwise-tutorials' HDF5 by its keys, written with h5py as `save_hdf5_dataset` does (gzip)."""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np
import pytest

from wernicke.core.errors import InputError
from wernicke.data.voxelwise import feature_rows, kept_voxels, load_voxelwise, load_voxelwise_features, repeats_of_test
from wernicke.stats.ceiling import explainable_variance

RNG = np.random.default_rng(0)
Y_TRAIN = RNG.standard_normal((24, 6)).astype(np.float32)
SIGNAL = RNG.standard_normal((9, 6))
Y_TEST = (SIGNAL + 0.5 * RNG.standard_normal((4, 9, 6))).astype(np.float32)
ONSETS = np.array([0, 8, 16])


def save(path: Path, **arrays) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with h5py.File(path, "w") as file:
        for name, array in arrays.items():
            file.create_dataset(name, data=array, compression="gzip")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    save(tmp_path / "responses" / "S01_responses.hdf", Y_train=Y_TRAIN, Y_test=Y_TEST, run_onsets=ONSETS)
    words = RNG.integers(0, 2, (33, 5)).astype(np.uint8)
    save(tmp_path / "features" / "wordnet.hdf", X_train=words[:24], X_test=words[24:])
    energy = RNG.random((33, 3))
    save(tmp_path / "features" / "motion_energy.hdf", X_train=energy[:24], X_test=energy[24:], run_onsets=ONSETS)
    return tmp_path


def test_responses(root: Path) -> None:
    recording = load_voxelwise(root).recordings["S01"]
    assert recording.tr_s == 2.0
    assert list(dict.fromkeys(recording.runs)) == ["train_00", "train_01", "train_02",
                                                   "test_00", "test_01", "test_02", "test_03"]  # fmt: skip
    np.testing.assert_array_equal(recording.values[:24], Y_TRAIN)
    np.testing.assert_array_equal(recording.values[24 + 9 * 2 : 24 + 9 * 3], Y_TEST[2])
    np.testing.assert_array_equal(repeats_of_test(recording), Y_TEST)
    table = recording.samples
    assert table["onset_s"][8:10].tolist() == [0.0, 2.0]
    assert (table["part"] == "TEST").sum() == 36
    assert set(table.loc[table["part"] == "TEST", "stimulus_id"]) == {"test"}


def test_noise_ceiling_is_the_tutorials(root: Path) -> None:
    """The tutorials' `explainable_variance`: z-scored repeats, residual variance, bias correction."""
    z = (Y_TEST - Y_TEST.mean(axis=1, keepdims=True)) / Y_TEST.std(axis=1, keepdims=True)
    mean_var = z.var(axis=1, dtype=np.float64).mean(axis=0)
    var_mean = z.mean(axis=0).var(axis=0, dtype=np.float64)
    ev = var_mean / mean_var
    n = len(Y_TEST)
    found = explainable_variance(repeats_of_test(load_voxelwise(root).recordings["S01"]))
    np.testing.assert_allclose(found, ev - (1 - ev) / (n - 1), atol=1e-6)


def test_features_and_the_rows_of_repeats(root: Path) -> None:
    features = load_voxelwise_features(root, ["wordnet", "motion_energy"])
    assert features.bands["wordnet"].shape == (33, 5)
    assert features.bands["wordnet"].dtype == np.float32
    recording = load_voxelwise(root).recordings["S01"]
    rows = feature_rows(features, recording)
    np.testing.assert_array_equal(rows[:24], np.arange(24))
    for i in range(4):
        np.testing.assert_array_equal(rows[24 + 9 * i : 33 + 9 * i], np.arange(24, 33))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"Y_train": None}, "expected Y_train"),
        ({"Y_test": Y_TEST[0]}, "found Y_train .24, 6. and Y_test .9, 6."),
        ({"run_onsets": ONSETS + 1}, "expected rising sample numbers from 0 below 24"),
        ({"run_onsets": np.array([0, 8, 24])}, "expected rising sample numbers"),
        ({"Y_train": np.where(Y_TRAIN > 2, np.nan, Y_TRAIN)}, "E-NONFIN"),
    ],
)
def test_bad_responses(tmp_path: Path, change: dict, message: str) -> None:
    arrays = {"Y_train": Y_TRAIN, "Y_test": Y_TEST, "run_onsets": ONSETS} | change
    path = tmp_path / "responses" / "S01_responses.hdf"
    save(path, **{k: v for k, v in arrays.items() if v is not None})
    with pytest.raises(InputError, match=message):
        load_voxelwise(tmp_path)


def test_voxels_that_are_nan_throughout_are_left_out(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    train, test = Y_TRAIN.copy(), Y_TEST.copy()
    train[:, 2], test[:, :, 2], train[:, 4] = np.nan, np.nan, np.nan
    path = tmp_path / "responses" / "S01_responses.hdf"
    save(path, Y_train=train, Y_test=test, run_onsets=ONSETS)
    recording = load_voxelwise(tmp_path).recordings["S01"]
    kept = kept_voxels(tmp_path, "S01")
    assert kept.tolist() == [0, 1, 3, 5]
    np.testing.assert_array_equal(recording.values[:24], Y_TRAIN[:, kept])
    np.testing.assert_array_equal(repeats_of_test(recording), Y_TEST[..., kept])
    assert "2 of 6 voxels have no value in training or in the test run" in caplog.text
    train[:9, 5] = np.nan  # at some samples only: missing data, no missing voxel
    for broken in (train, np.full_like(Y_TRAIN, np.nan)):
        save(path, Y_train=broken, Y_test=test, run_onsets=ONSETS)
        with pytest.raises(InputError, match="E-NONFIN"):
            load_voxelwise(tmp_path)


def test_external_links_are_refused(root: Path) -> None:
    with h5py.File(root / "responses" / "S01_responses.hdf", "a") as file:
        del file["Y_test"]
        file["Y_test"] = h5py.ExternalLink("/etc/passwd", "/x")
    with pytest.raises(InputError, match="E-UNSAFE"):
        load_voxelwise(root)


def test_features_that_do_not_fit(root: Path) -> None:
    save(root / "features" / "short.hdf", X_train=np.ones((23, 2)), X_test=np.ones((9, 2)))
    with pytest.raises(InputError, match="found 23 and 9 samples"):
        load_voxelwise_features(root, ["wordnet", "short"])
    for names, message in ((["../../etc"], "E-UNSAFE"), ([], "no feature space"), (["gone"], "no such file")):
        with pytest.raises(InputError, match=message):
            load_voxelwise_features(root, names)

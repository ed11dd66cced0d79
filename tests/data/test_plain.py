"""Plain arrays in the formats that people have, and files that lie."""

from __future__ import annotations

import zipfile
from pathlib import Path

import h5py
import numpy as np
import pandas as pd
import pytest

from wernicke.core.errors import InputError
from wernicke.data.plain import load_array_features, load_arrays, read_array

VALUES = np.random.default_rng(0).standard_normal((12, 3))
RUNS = np.repeat([1, 2, 3], 4)


def write(path: Path, values: np.ndarray = VALUES, **more: np.ndarray) -> Path:
    if path.suffix == ".npy":
        np.save(path, values)
    elif path.suffix == ".npz":
        np.savez(path, values=values, **more)
    elif path.suffix in (".csv", ".tsv"):
        np.savetxt(path, values, delimiter="," if path.suffix == ".csv" else "\t", header="a,b,c", comments="")
    elif path.suffix == ".zarr":
        import zarr

        zarr.save(path, values)
    else:
        with h5py.File(path, "w") as file:
            for name, array in {"values": values, **more}.items():
                file.create_dataset(name, data=array)
    return path


@pytest.mark.parametrize("ending", ["npy", "npz", "csv", "h5", "zarr"])
def test_one_file(tmp_path: Path, ending: str) -> None:
    study = load_arrays(write(tmp_path / f"y.{ending}"), tr_s=1.5, runs=RUNS)
    recording = study.recordings["01"]
    np.testing.assert_allclose(recording.values, VALUES.astype(np.float32), rtol=1e-6)
    assert recording.runs.tolist() == RUNS.tolist()
    assert recording.samples["onset_s"].tolist() == [0, 1.5, 3, 4.5] * 3
    assert recording.tr_s == 1.5


@pytest.mark.parametrize("ending", ["npz", "h5"])
def test_runs_beside_the_responses(tmp_path: Path, ending: str) -> None:
    path = write(tmp_path / f"y.{ending}", runs=RUNS)
    assert load_arrays(path, tr_s=2).recordings["01"].runs.tolist() == RUNS.tolist()


@pytest.mark.parametrize("ending", ["npy", "tsv"])
def test_one_file_a_run_in_natural_order(tmp_path: Path, ending: str) -> None:
    for i, name in enumerate(("run-1", "run-2", "run-10")):
        np.save(tmp_path / f"{name}.npy", VALUES[4 * i : 4 * i + 4]) if ending == "npy" else np.savetxt(
            tmp_path / f"{name}.tsv", VALUES[4 * i : 4 * i + 4], delimiter="\t"
        )
    recording = load_arrays(tmp_path, tr_s=2, subject="S1").recordings["S1"]
    assert list(dict.fromkeys(recording.runs)) == ["run-1", "run-2", "run-10"]
    np.testing.assert_allclose(recording.values, VALUES, atol=1e-6)
    features = load_array_features({"words": tmp_path}, recording)
    assert features.bands["words"].shape == (12, 3)
    assert features.index["run"].tolist() == recording.runs.tolist()


def test_runs_from_a_file(tmp_path: Path) -> None:
    np.savetxt(tmp_path / "runs.csv", RUNS, fmt="%d")
    recording = load_arrays(write(tmp_path / "y.npy"), tr_s=2, runs=tmp_path / "runs.csv").recordings["01"]
    assert recording.runs.tolist() == RUNS.tolist()


def test_features_fit_the_recording(tmp_path: Path) -> None:
    recording = load_arrays(write(tmp_path / "y.npy"), tr_s=2, runs=RUNS).recordings["01"]
    with pytest.raises(InputError, match="found 11 rows, expected 12"):
        load_array_features({"a": write(tmp_path / "x.npy", VALUES[:11])}, recording)
    folder = tmp_path / "runs"
    folder.mkdir()
    np.save(folder / "9.npy", VALUES)
    with pytest.raises(InputError, match="found runs 9, the responses have 1, 2, 3"):
        load_array_features({"a": folder}, recording)


def text(content: str, name: str = "y.csv"):
    def make(folder: Path) -> Path:
        (folder / name).write_text(content)
        return folder / name

    return make


def bomb(folder: Path) -> Path:
    with zipfile.ZipFile(folder / "y.npz", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("values.npy", bytes(66 * 2**20))
    return folder / "y.npz"


def objects(folder: Path) -> Path:
    np.savez(folder / "y.npz", values=np.array([{}, {}], dtype=object))
    return folder / "y.npz"


def several(folder: Path) -> Path:
    return write(folder / "y.npz", other=VALUES)


@pytest.mark.parametrize(
    ("make", "code", "message"),
    [
        (text("1,2\n3\n"), "E-SHAPE", "line 2 has 1 cells, expected 2"),
        (text("1,2\n3,x\n"), "E-FMT", "line 2 holds 'x', expected a number"),
        (text("1,nan\n3,4\n"), "E-FMT", "line 1 holds 'nan'"),
        (text("1,\n3,4\n"), "E-FMT", "line 1 holds ''"),
        (text("a,b\n"), "E-TRUNC", "no row of numbers"),
        (text("1,2\n", "y.txt"), "E-FMT", "expected a file that ends in"),
        (text("not an archive", "y.npz"), "E-FMT", "not an .npz archive"),
        (bomb, "E-SIZE", "unpacks to"),
        (objects, "E-UNSAFE", "allow_pickle"),
        (several, "E-META", "found arrays other, values, expected one"),
        (lambda f: write(f / "y.npy", VALUES[0]), "E-SHAPE", "expected .n_samples, n_columns."),
        (lambda f: write(f / "y.npy", np.where(VALUES > 1, np.nan, VALUES)), "E-NONFIN", "NaN"),
        (lambda f: f / "gone.npy", "E-REF", "no such file"),
        (lambda f: f, "E-REF", "no file that ends in"),
    ],
)
def test_files_that_cannot_be(tmp_path: Path, make, code: str, message: str) -> None:
    with pytest.raises(InputError, match=message) as caught:
        load_arrays(make(tmp_path), tr_s=2)
    assert caught.value.code == code


def test_runs_that_do_not_fit(tmp_path: Path) -> None:
    path = write(tmp_path / "y.npy")
    for runs, message in ((RUNS[:5], "one entry for each of 12"), ([1, 2] * 6, "several segments")):
        with pytest.raises(InputError, match=message):
            load_arrays(path, tr_s=2, runs=runs)
    with pytest.raises(InputError, match="expected values2"):
        read_array(write(tmp_path / "y.npz"), "values2")


@pytest.mark.parametrize("dtype", ["S5", "variable"])
def test_runs_may_be_texts_in_hdf5(tmp_path: Path, dtype: str) -> None:
    names = np.repeat(["run-1", "run-2", "käse"], 4) if dtype == "variable" else np.repeat(["run-1", "run-2", "r3"], 4)
    path = write(tmp_path / "y.h5")
    with h5py.File(path, "a") as file:
        if dtype == "variable":
            file.create_dataset("runs", data=names.tolist(), dtype=h5py.string_dtype())
        else:
            file["runs"] = names.astype(dtype)
    recording = load_arrays(path, tr_s=2).recordings["01"]
    assert recording.runs.tolist() == names.tolist()
    assert recording.samples["sample_id"][5] == "01-run-2-00001"
    with h5py.File(tmp_path / "runs.h5", "w") as file:
        file["only"] = h5py.File(path)["runs"][()]
    assert load_arrays(write(tmp_path / "y.npy"), tr_s=2, runs=tmp_path / "runs.h5").recordings["01"].runs.tolist() == (
        names.tolist()
    )
    with pytest.raises(InputError, match="E-FMT"):
        read_array(path, "runs")


def test_texts_that_cannot_be_names_of_runs(tmp_path: Path) -> None:
    for name, texts, code in (("long", [b"x" * 2000] + [b"y"] * 11, "E-SIZE"), ("latin", [b"k\xe4se"] * 12, "E-FMT")):
        path = write(tmp_path / f"{name}.h5")
        with h5py.File(path, "a") as file:
            file.create_dataset("runs", data=texts, dtype=h5py.string_dtype())
        with pytest.raises(InputError, match=code):
            load_arrays(path, tr_s=2)


def test_bytes_in_npz_are_texts(tmp_path: Path) -> None:
    path = write(tmp_path / "y.npz", runs=np.repeat([b"a", b"b"], 6))
    assert load_arrays(path, tr_s=2).recordings["01"].runs.tolist() == ["a"] * 6 + ["b"] * 6


def test_numbers_of_columns_are_no_sample(tmp_path: Path) -> None:
    """`DataFrame.to_csv(index=False)` of a frame without column names writes 0, 1, 2 as the first line."""
    for name, frame in (("wide", pd.DataFrame(VALUES)), ("whole", pd.DataFrame(np.eye(2, dtype=int))),
                        ("one", pd.DataFrame(VALUES[:, :1]))):  # fmt: skip
        frame.to_csv(tmp_path / f"{name}.csv", index=False)
        frame.to_csv(tmp_path / f"{name}.tsv", index=False, sep="\t")
        for ending in ("csv", "tsv"):
            with pytest.raises(InputError, match=r"E-FMT .*line 1 is 0 to [\s\S]*header=False"):
                load_arrays(tmp_path / f"{name}.{ending}", tr_s=2)
        frame.to_csv(tmp_path / f"{name}.csv", index=False, header=False)
        np.testing.assert_allclose(read_array(tmp_path / f"{name}.csv"), frame.to_numpy())
    np.savetxt(tmp_path / "onoff.csv", [0, 0, 1, 1], fmt="%d")
    assert read_array(tmp_path / "onoff.csv").ravel().tolist() == [0, 0, 1, 1]

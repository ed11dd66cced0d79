"""Responses on disk are read without trusting the files: nothing outside them is touched, no code of theirs runs."""

from __future__ import annotations

import json
import pickle
import shutil
from pathlib import Path

import h5py
import numpy as np
import pytest
import zarr

from wernicke.core.errors import InputError
from wernicke.ridge.responses import ResponseFile

Y = np.arange(1, 61, dtype="f4").reshape(6, 10)


@pytest.fixture
def elsewhere(tmp_path):
    """A file outside, which a hostile file wants to have read."""
    path = tmp_path / "elsewhere.h5"
    with h5py.File(path, "w") as file:
        file["secret"] = Y
    (tmp_path / "raw").write_bytes(Y.tobytes())
    return path


def external_link(path: Path, elsewhere: Path) -> None:
    with h5py.File(path, "w") as file:
        file["dataDT"] = h5py.ExternalLink(elsewhere, "secret")


def external_storage(path: Path, elsewhere: Path) -> None:
    with h5py.File(path, "w") as file:
        file.create_dataset("dataDT", Y.shape, "f4", external=[(str(elsewhere.with_name("raw")), 0, Y.nbytes)])


def virtual_dataset(path: Path, elsewhere: Path) -> None:
    layout = h5py.VirtualLayout(Y.shape, "f4")
    layout[:] = h5py.VirtualSource(elsewhere, "secret", Y.shape)
    with h5py.File(path, "w") as file:
        file.create_virtual_dataset("dataDT", layout)


def plugin_filter(path: Path, elsewhere: Path) -> None:
    with h5py.File(path, "w") as file:
        made = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
        made.set_chunk(Y.shape)
        made.set_filter(32015, h5py.h5z.FLAG_OPTIONAL, ())
        h5py.h5d.create(file.id, b"dataDT", h5py.h5t.NATIVE_FLOAT, h5py.h5s.create_simple(Y.shape), made).write(
            h5py.h5s.ALL, h5py.h5s.ALL, Y
        )


@pytest.mark.parametrize("hostile", [external_link, external_storage, virtual_dataset, plugin_filter])
@pytest.mark.parametrize("key", [None, "dataDT"])
def test_hdf5_that_reaches_out_is_refused(hostile, key, tmp_path, elsewhere):
    path = tmp_path / "Y.h5"
    hostile(path, elsewhere)
    with pytest.raises(InputError) as caught:
        ResponseFile(path, key).read(slice(0, 2))
    assert caught.value.code == "E-UNSAFE"
    assert str(path) in str(caught.value)


def test_hdf5_that_declares_what_was_never_written_is_refused(tmp_path):
    with h5py.File(tmp_path / "Y.h5", "w") as file:
        file.create_dataset("dataDT", (10**6, 10**6), "f4", chunks=(1000, 1000))
    with pytest.raises(InputError, match="E-SIZE"):
        _ = ResponseFile(tmp_path / "Y.h5").shape
    with h5py.File(tmp_path / "Z.h5", "w") as file:
        data = file.create_dataset("dataDT", (20, 20), "f4", chunks=(10, 10))
        data[:10] = 1
    with pytest.raises(InputError, match="2 of 4 chunks were written"):
        _ = ResponseFile(tmp_path / "Z.h5").shape


def test_key_of_several_arrays(tmp_path):
    with h5py.File(tmp_path / "Y.h5", "w") as file:
        file["a"], file["group/b"] = Y, 2 * Y
    group = zarr.open_group(tmp_path / "Y.zarr", mode="w")
    group.create_array("a", data=Y)
    group.create_array("group/b", data=2 * Y)
    for name in ("Y.h5", "Y.zarr"):
        np.testing.assert_array_equal(ResponseFile(tmp_path / name).read(slice(0, 3)), Y[:, :3])
        np.testing.assert_array_equal(ResponseFile(tmp_path / name, "group/b").read(slice(0, 3)), 2 * Y[:, :3])
        with pytest.raises(InputError, match="E-META.*expected.*c"):
            _ = ResponseFile(tmp_path / name, "c").shape
        with pytest.raises(InputError) as caught:
            _ = ResponseFile(tmp_path / name, "../a").shape
        assert caught.value.code in ("E-META", "E-FMT")


@pytest.mark.parametrize("zarr_format", [2, 3])
@pytest.mark.parametrize("link", ["chunk", "array", "metadata"])
def test_zarr_with_a_link_out_of_its_folder_is_refused(zarr_format, link, tmp_path):
    group = zarr.open_group(tmp_path / "Y.zarr", mode="w", zarr_format=zarr_format)
    group.create_array("a", data=Y, chunks=(3, 5))
    files = [path for path in (tmp_path / "Y.zarr" / "a").rglob("*") if path.is_file()]
    description = [path for path in files if path.name in ("zarr.json", ".zarray")]
    victim = {"chunk": next(p for p in files if p not in description), "array": tmp_path / "Y.zarr" / "a",
              "metadata": description[0]}[link]  # fmt: skip
    shutil.move(victim, tmp_path / "outside")
    victim.symlink_to(tmp_path / "outside")
    with pytest.raises(InputError, match="is a link out of this folder") as caught:
        ResponseFile(tmp_path / "Y.zarr", "a").read(slice(0, 2))
    assert caught.value.code == "E-UNSAFE"


class Payload:
    def __reduce__(self):
        return (open, ("executed", "w"))


@pytest.mark.parametrize("place", ["compressor", "filters", "dtype", "unknown filter"])
def test_zarr_codecs_that_execute_what_they_read_are_refused(place, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    zarr.create_array(tmp_path / "Y.zarr", shape=(2, 2), chunks=(2, 2), dtype="f4", zarr_format=2)[:] = 1
    described = json.loads((tmp_path / "Y.zarr" / ".zarray").read_text())
    described |= {
        "compressor": {"compressor": {"id": "pickle"}},
        "filters": {"filters": [{"id": "pickle"}]},
        "dtype": {"dtype": "|O", "filters": [{"id": "pickle"}], "fill_value": None},
        "unknown filter": {"filters": [{"id": "delta", "dtype": "<f4"}]},
    }[place]
    (tmp_path / "Y.zarr" / ".zarray").write_text(json.dumps(described))
    (tmp_path / "Y.zarr" / "0.0").write_bytes(pickle.dumps(Payload()))
    with pytest.raises(InputError) as caught:
        ResponseFile(tmp_path / "Y.zarr").read(slice(0, 1))
    assert caught.value.code in (("E-UNSAFE",) if place == "unknown filter" else ("E-UNSAFE", "E-FMT"))
    assert not Path("executed").exists()


@pytest.mark.parametrize("shards", [None, (6, 10)])
def test_zarr_with_missing_chunks_or_impossible_sizes_is_refused(shards, tmp_path):
    array = zarr.create_array(tmp_path / "Y.zarr", shape=(12, 10), chunks=(3, 5), shards=shards, dtype="f4")
    array[:6] = Y
    with pytest.raises(InputError, match="E-TRUNC.*chunks were written"):
        _ = ResponseFile(tmp_path / "Y.zarr").shape
    array[6:] = Y
    np.testing.assert_array_equal(ResponseFile(tmp_path / "Y.zarr").read(slice(2, 4))[6:], Y[:, 2:4])
    described = json.loads((tmp_path / "Y.zarr" / "zarr.json").read_text())
    described["shape"] = [10**9, 10**6]
    (tmp_path / "Y.zarr" / "zarr.json").write_text(json.dumps(described))
    with pytest.raises(InputError, match="E-SIZE"):
        _ = ResponseFile(tmp_path / "Y.zarr").shape


def test_what_is_no_zarr_and_damaged_chunks_are_named(tmp_path):
    (tmp_path / "empty.zarr").mkdir()
    with pytest.raises(InputError) as caught:
        _ = ResponseFile(tmp_path / "empty.zarr").shape
    assert caught.value.code in ("E-FMT", "E-META")
    with pytest.raises(InputError, match="E-REF"):
        _ = ResponseFile(tmp_path / "none.zarr").shape
    zarr.create_array(tmp_path / "Y.zarr", shape=(6, 10), chunks=(6, 5), dtype="f4")[:] = Y
    chunk = next(path for path in (tmp_path / "Y.zarr" / "c").rglob("*") if path.is_file())
    chunk.write_bytes(chunk.read_bytes()[:7])
    with pytest.raises(InputError, match="cannot be read") as caught:
        ResponseFile(tmp_path / "Y.zarr").read(slice(0, 10))
    assert caught.value.code == "E-TRUNC"


@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("dtype", ["<f4", ">f8", "<i2"])
def test_npy_is_read_some_columns_at_a_time(order, dtype, tmp_path):
    values = np.asarray(Y, dtype=dtype, order=order)
    np.save(tmp_path / "Y.npy", values)
    for columns in (slice(0, 10), slice(3, 7), slice(9, 12)):
        found = ResponseFile(tmp_path / "Y.npy").read(columns)
        np.testing.assert_array_equal(found, values[:, columns])
        assert found.dtype == values.dtype
        assert found.flags.c_contiguous

"""MATLAB files: what h5py and scipy write is read back; what reaches outside the file or lies about itself is not."""

from __future__ import annotations

import h5py
import numpy as np
import pytest
import scipy.io

from wernicke.core.errors import InputError
from wernicke.data.matlab import mat_shape, read_mat

VALUES = np.random.default_rng(0).standard_normal((30, 12))


def write_mat73(path, change=None, userblock=512, **dataset):
    """A version 7.3 file: HDF5 behind MATLAB's user block, with MATLAB's class attribute."""
    with h5py.File(path, "w", userblock_size=userblock) as file:
        if dataset:
            file.create_dataset("dataDT", **dataset).attrs["MATLAB_class"] = np.bytes_("double")
        if change:
            change(file)
    if userblock:
        with open(path, "r+b") as file:
            file.write(b"MATLAB 7.3 MAT-file, Platform: GLNXA64".ljust(124) + b"\x00\x02IM")
    return path


def refused(code, path, key="dataDT", **kwargs):
    with pytest.raises(InputError) as caught:
        read_mat(path, key, **kwargs)
    assert caught.value.code == code, caught.value
    assert caught.value.path == path
    return str(caught.value)


@pytest.mark.parametrize("dtype", ["<f8", "<f4", ">f8", "<i2", "u1"])
@pytest.mark.parametrize("storage", [{}, {"chunks": (7, 5)}, {"chunks": (7, 5), "compression": "gzip",
                                                              "shuffle": True, "fletcher32": True}])  # fmt: skip
def test_values_are_h5pys(tmp_path, dtype, storage):
    values = (100 * np.abs(VALUES)).astype(dtype)
    path = write_mat73(tmp_path / "a.mat", data=values, **storage)
    assert mat_shape(path, "dataDT") == (30, 12)
    found = read_mat(path, "dataDT")
    assert found.dtype == np.dtype(dtype)
    np.testing.assert_array_equal(found, values)
    columns = np.array([11, 0, 3])
    np.testing.assert_array_equal(read_mat(path, "dataDT", columns=columns), values[:, columns].astype(np.float32))


@pytest.mark.parametrize("shape", [(1, 30, 12), (30, 1, 12), (30, 12, 1), (1, 30, 1, 12)])
@pytest.mark.parametrize("block", [10, 10**6])
def test_axes_of_length_one_are_dropped_and_blocks_do_not_show(tmp_path, shape, block, monkeypatch):
    monkeypatch.setattr("wernicke.data.matlab._BLOCK_BYTES", block)
    path = write_mat73(tmp_path / "a.mat", data=VALUES.reshape(shape), chunks=tuple(min(n, 4) for n in shape))
    assert mat_shape(path, "dataDT") == (30, 12)
    np.testing.assert_array_equal(read_mat(path, "dataDT"), VALUES)
    expected = VALUES[:, [2, 9]].astype(np.float32)
    np.testing.assert_array_equal(read_mat(path, "dataDT", columns=np.array([2, 9])), expected)


@pytest.mark.parametrize("compress", [True, False])
@pytest.mark.parametrize("dtype", ["f8", "f4", "i1", "u1", "i2", "u2", "i4", "u4", "i8", "u8"])
def test_older_files_are_scipys(tmp_path, compress, dtype):
    path = tmp_path / "vset_099.mat"
    arrays = {"tvoxels": np.arange(1, 8)[:, None], "one": np.ones((1, 1)), "matrix": 100 * np.abs(VALUES)}
    arrays = {name: array.astype(dtype) for name, array in arrays.items()}
    scipy.io.savemat(path, {"before": "text", "list": {"a": 1}, **arrays}, do_compression=compress)
    assert mat_shape(path, "tvoxels") == (7,)
    for name, array in arrays.items():
        found = read_mat(path, name)
        expected = scipy.io.loadmat(path)[name]
        assert found.dtype == expected.dtype
        np.testing.assert_array_equal(found, np.atleast_1d(expected.squeeze()))
        np.testing.assert_array_equal(found, np.atleast_1d(array.squeeze()))
    expected = arrays["matrix"][:, [3, 1]].astype(np.float32)
    np.testing.assert_array_equal(read_mat(path, "matrix", columns=np.array([3, 1])), expected)


def test_older_files_that_are_not_right(tmp_path):
    path = tmp_path / "vset_099.mat"
    scipy.io.savemat(path, {"tvoxels": np.arange(9.0), "name": "cortex", "z": 1j, "list": {"a": 1}, "no": np.zeros(0)})
    whole = path.read_bytes()
    assert "list, name, no, tvoxels, z" in refused("E-META", path)
    for name in ("name", "z", "list"):
        refused("E-FMT", path, name)
    refused("E-SHAPE", path, "no")
    path.write_bytes(whole[:200])
    refused("E-TRUNC", path, "tvoxels")
    path.write_bytes(whole[:126] + b"??" + whole[128:])
    refused("E-HDR", path, "tvoxels")


def test_an_older_file_that_unpacks_to_too_much(tmp_path, monkeypatch):
    monkeypatch.setattr("wernicke.data.matlab5.MAX_BYTES", 10**6)
    path = tmp_path / "bomb.mat"
    scipy.io.savemat(path, {"dataDT": np.zeros(10**6)}, do_compression=True)
    assert path.stat().st_size < 10**5
    assert "unpacks" in refused("E-SIZE", path)


def test_nothing_outside_the_file_is_read(tmp_path):
    secret = tmp_path / "secret.h5"
    with h5py.File(secret, "w") as file:
        file["dataDT"] = VALUES
    (tmp_path / "secret.bin").write_bytes(VALUES.tobytes())

    def external_link(file):
        file["dataDT"] = h5py.ExternalLink(str(secret), "/dataDT")

    def nested_external_link(file):
        file["dataDT"] = VALUES
        file["#refs#/a/b"] = h5py.ExternalLink(str(secret), "/dataDT")

    def external_storage(file):
        file.create_dataset("dataDT", (30, 12), "f8", external=[(str(tmp_path / "secret.bin"), 0, VALUES.nbytes)])

    def virtual(file):
        layout = h5py.VirtualLayout((30, 12), "f8")
        layout[:] = h5py.VirtualSource(str(secret), "dataDT", (30, 12))
        file.create_virtual_dataset("dataDT", layout)

    for change in (external_link, nested_external_link, external_storage, virtual):
        path = write_mat73(tmp_path / f"{change.__name__}.mat", change)
        refused("E-UNSAFE", path)
        refused("E-UNSAFE", path, columns=np.array([0]))
        with pytest.raises(InputError, match="E-UNSAFE"):
            mat_shape(path, "dataDT")


def test_filters_from_elsewhere_are_not_loaded(tmp_path):
    def foreign(file):
        made = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
        made.set_chunk((30, 12))
        made.set_filter(32015, h5py.h5z.FLAG_OPTIONAL, (3,))  # zstd's number; optional, so that it can be written here
        space = h5py.h5s.create_simple((30, 12))
        h5py.h5d.create(file.id, b"dataDT", h5py.h5t.NATIVE_DOUBLE, space, made)

    assert "32015" in refused("E-UNSAFE", write_mat73(tmp_path / "a.mat", foreign))


def test_links_in_circles_and_nowhere(tmp_path):
    def circle(file):
        file["dataDT"] = h5py.SoftLink("/other")
        file["other"] = h5py.SoftLink("/dataDT")

    def hard_circle(file):
        file["dataDT"] = VALUES
        file.create_group("a")["back"] = file["/"]

    refused("E-REF", write_mat73(tmp_path / "a.mat", circle))
    np.testing.assert_array_equal(read_mat(write_mat73(tmp_path / "b.mat", hard_circle), "dataDT"), VALUES)


def test_sizes_that_cannot_be(tmp_path):
    huge = write_mat73(tmp_path / "a.mat", shape=(10**6, 10**6), dtype="f8", chunks=(1000, 1000))
    assert huge.stat().st_size < 10_000
    assert "(1000000, 1000000)" in refused("E-SIZE", huge)
    never = write_mat73(tmp_path / "b.mat", shape=(30, 12), dtype="f8", chunks=(10, 12))
    assert "0 of 3 chunks" in refused("E-TRUNC", never)

    def one_missing(file):
        file.create_dataset("dataDT", (30, 12), "f8", chunks=(10, 12))[:20] = VALUES[:20]

    assert "2 of 3 chunks" in refused("E-TRUNC", write_mat73(tmp_path / "c.mat", one_missing))
    contiguous = write_mat73(tmp_path / "d.mat", shape=(30, 12), dtype="f8")
    assert "0 of 2880 bytes" in refused("E-TRUNC", contiguous)
    refused("E-SHAPE", write_mat73(tmp_path / "e.mat", shape=(0, 12), dtype="f8"))


def test_too_many_objects(tmp_path, monkeypatch):
    monkeypatch.setattr("wernicke.data.matlab.MAX_OBJECTS", 5)

    def many(file):
        for i in range(10):
            file.create_group(f"g{i}")

    refused("E-SIZE", write_mat73(tmp_path / "a.mat", many))


def test_what_is_not_numbers(tmp_path):
    def structure(file):
        file.create_group("dataDT")["data"] = VALUES

    def sparse(file):
        file["dataDT"] = VALUES
        file["dataDT"].attrs["MATLAB_sparse"] = np.uint64(30)

    refused("E-FMT", write_mat73(tmp_path / "a.mat", structure))
    refused("E-FMT", write_mat73(tmp_path / "b.mat", sparse))
    refused("E-FMT", write_mat73(tmp_path / "c.mat", data=np.array([b"text", b"more"])))
    refused("E-FMT", write_mat73(tmp_path / "d.mat", data=VALUES + 1j))
    references = write_mat73(tmp_path / "e.mat", lambda file: file.create_dataset("dataDT", (2,), h5py.ref_dtype))
    refused("E-FMT", references)
    assert "dataDT" in refused("E-META", write_mat73(tmp_path / "f.mat", data=VALUES), "tvoxels")
    bad = VALUES.copy()
    bad[3, 4] = np.nan
    assert "(3, 4)" in refused("E-NONFIN", write_mat73(tmp_path / "g.mat", data=bad))


def test_columns_that_do_not_exist(tmp_path):
    path = write_mat73(tmp_path / "a.mat", data=VALUES)
    assert "12" in refused("E-SHAPE", path, columns=np.array([3, 12]))
    assert "-1" in refused("E-SHAPE", path, columns=np.array([3, -1]))
    cube = write_mat73(tmp_path / "b.mat", data=VALUES.reshape(5, 6, 12))
    refused("E-SHAPE", cube, columns=np.array([0]))


def test_files_of_other_kinds(tmp_path):
    path = write_mat73(tmp_path / "whole.mat", data=VALUES)
    whole = path.read_bytes()
    cases = {
        "empty": (b"", "E-TRUNC"),
        "text": (b"not a mat file " * 100, "E-FMT"),
        "pointer": (b"version https://git-lfs.github.com/spec/v1\noid sha256:0", "E-FMT"),
        "header": (whole[:512], "E-TRUNC"),
        "cut": (whole[: len(whole) // 2], "E-TRUNC"),
        "old": (b"MATLAB 5.0 MAT-file, Platform: GLNXA64".ljust(124) + b"\x00\x01IM" + b"\xff" * 64, "E-TRUNC"),
    }
    for name, (content, code) in cases.items():
        path = tmp_path / f"{name}.mat"
        path.write_bytes(content)
        refused(code, path)
    with pytest.raises(InputError, match="E-REF"):
        read_mat(tmp_path / "absent.mat", "dataDT")


@pytest.mark.parametrize("kind", ["hdf5", "old", "packed"])
def test_flipped_bytes_end_in_one_kind_of_error(tmp_path, kind):
    path = tmp_path / "a.mat"
    if kind == "hdf5":
        write_mat73(path, data=VALUES, chunks=(10, 12), compression="gzip")
    else:
        scipy.io.savemat(path, {"dataDT": VALUES}, do_compression=kind == "packed")
    whole = np.frombuffer(path.read_bytes(), np.uint8)
    rng = np.random.default_rng(0)
    n_refused, end = 0, min(len(whole), 3000) if kind == "hdf5" else 200
    for _ in range(200):
        damaged = whole.copy()
        damaged[rng.integers(128, end, 3)] = rng.integers(0, 256, 3)
        path.write_bytes(damaged.tobytes())
        try:
            read_mat(path, "dataDT")
        except InputError:
            n_refused += 1
    assert n_refused > 20

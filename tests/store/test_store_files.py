"""Atomic writing, readers that trust no header."""

from __future__ import annotations

import contextlib
import io
import json
import os
import resource
import stat
import subprocess
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from safetensors.numpy import load_file

from wernicke.core.errors import DiskFullError, InputError
from wernicke.store import files
from wernicke.store.files import (
    atomic_path,
    atomic_write,
    check_free_space,
    read_json,
    read_npy,
    read_safetensors,
    sha256_file,
    write_bytes,
    write_json,
    write_npy,
    write_safetensors,
    write_text,
)
from wernicke.store.plain import to_json


def names(folder: Path) -> list[str]:
    return sorted(item.name for item in folder.iterdir())


def test_writes_and_replaces(tmp_path: Path) -> None:
    target = tmp_path / "new" / "a.txt"
    write_text(target, "one\r\ntwo")
    write_text(target, "ä")
    assert target.read_bytes() == "ä".encode()
    assert names(target.parent) == ["a.txt"]


@pytest.mark.parametrize("error", [KeyboardInterrupt, RuntimeError, OSError])
def test_old_file_stays_when_the_block_fails(tmp_path: Path, error: type[BaseException]) -> None:
    target = tmp_path / "a.bin"
    write_bytes(target, b"old")
    with pytest.raises(error), atomic_write(target) as file:  # noqa: PT012
        file.write(b"half of the new")
        raise error("stop")
    assert target.read_bytes() == b"old"
    assert names(tmp_path) == ["a.bin"]


def test_allocation_beyond_what_was_written_is_cut(tmp_path: Path) -> None:
    with atomic_write(tmp_path / "a.bin", size=10_000) as file:
        file.write(b"abc")
    assert (tmp_path / "a.bin").read_bytes() == b"abc"


def test_mode_and_links_are_kept(tmp_path: Path) -> None:
    target, link = tmp_path / "real.txt", tmp_path / "link.txt"
    write_text(target, "old")
    target.chmod(0o640)
    link.symlink_to(target)
    write_text(link, "new")
    assert link.is_symlink()
    assert target.read_text() == "new"
    assert stat.S_IMODE(target.stat().st_mode) == 0o640


def test_new_files_follow_the_umask(tmp_path: Path) -> None:
    old = os.umask(0o027)
    try:
        write_text(tmp_path / "a", "x")
    finally:
        os.umask(old)
    assert stat.S_IMODE((tmp_path / "a").stat().st_mode) == 0o640


def test_devices_are_written_to_and_never_replaced(tmp_path: Path) -> None:
    write_text("/dev/null", "x")
    assert stat.S_ISCHR(os.stat("/dev/null").st_mode)
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    write_json(pipe, {"a": 1})
    assert json.loads(os.read(reader, 100)) == {"a": 1}
    os.close(reader)
    assert stat.S_ISFIFO(pipe.stat().st_mode)


def test_temporary_name_keeps_the_suffix(tmp_path: Path) -> None:
    with atomic_path(tmp_path / "a.nii.gz") as temporary:
        assert temporary.name.endswith(".nii.gz")
        assert temporary.parent == tmp_path
        temporary.write_bytes(b"x")
    assert names(tmp_path) == ["a.nii.gz"]


def test_places_that_cannot_be_written_to(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(InputError, match="E-REF"):
        write_text(tmp_path / "file" / "a", "x")
    with pytest.raises(InputError, match="E-REF .*is a folder"):
        write_text(tmp_path, "x")
    with pytest.raises(InputError, match="E-REF .*cannot write"):
        write_text("/proc/a", "x")
    with pytest.raises(InputError, match="E-REF .*cannot write"):
        write_text(tmp_path / ("n" * 300), "x")


def test_errors_of_other_files_pass_through(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError), atomic_write(tmp_path / "a"):
        (tmp_path / "nothing").read_bytes()


@pytest.mark.parametrize("kind", ["bytes", "unsized", "npy", "safetensors"])
def test_file_size_limit_is_disk_full(tmp_path: Path, run_child, kind: str) -> None:
    """RLIMIT_FSIZE stands for a full disk where none can be mounted: the same path, another errno."""
    target = tmp_path / "a.bin"
    write_bytes(target, b"old")

    def work() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
        if kind == "bytes":
            write_bytes(target, bytes(10**6))
        elif kind == "npy":
            write_npy(target, np.zeros(10**6))
        elif kind == "safetensors":
            write_safetensors(target, {"a": np.zeros(10**6)})
        else:
            with atomic_write(target) as file:
                for _ in range(100):
                    file.write(bytes(10**5))

    assert run_child(work) == 6
    assert target.read_bytes() == b"old"
    assert names(tmp_path) == ["a.bin"]


@pytest.fixture
def small_disk(tmp_path: Path):
    folder = tmp_path / "disk"
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", str(folder)]
    if os.geteuid() or subprocess.run(command, capture_output=True).returncode:
        pytest.skip("a small disk cannot be mounted here; the file size limit is tested instead")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def test_full_disk_leaves_the_old_file(small_disk: Path) -> None:
    target = small_disk / "a.npy"
    write_npy(target, np.arange(10))
    for write in (
        lambda: write_npy(target, np.zeros(10**6)),
        lambda: write_bytes(target, bytes(3 * 10**6)),
        lambda: write_safetensors(target, {"a": np.zeros(10**6)}),
    ):
        with pytest.raises(DiskFullError, match=r"disk full: .*a\.npy|disk full: .*disk") as caught:
            write()
        assert "bytes" in str(caught.value)
    with pytest.raises(DiskFullError, match="at least"), atomic_write(target) as file:  # noqa: PT012
        for _ in range(40):
            file.write(bytes(10**5))
    assert names(small_disk) == ["a.npy"]
    np.testing.assert_array_equal(read_npy(target), np.arange(10))


def test_free_space_of_a_folder_to_come(tmp_path: Path) -> None:
    check_free_space(tmp_path / "not" / "yet", 1)
    with pytest.raises(DiskFullError, match="needs 1000000000000000000 bytes"):
        check_free_space(tmp_path / "not" / "yet", 10**18)


plain = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(
        st.characters(exclude_categories=["Cs"])
    ),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(
        st.text(st.characters(exclude_categories=["Cs"])), inner, max_size=3
    ),
    max_leaves=8,
)  # fmt: skip


@given(plain)
def test_json_round_trip(tmp_path_factory: pytest.TempPathFactory, value: object) -> None:
    path = tmp_path_factory.getbasetemp() / "round.json"
    files.write_bytes(path, to_json(value).encode())
    if to_json(value).strip():
        assert read_json(path) == value


def test_json_takes_numpy_and_sorts(tmp_path: Path) -> None:
    write_json(
        tmp_path / "a", {"b": np.float32(0.5), "a": np.arange(2), 3: (np.int64(1), np.bool_(True), np.str_("x"))}
    )
    assert "".join((tmp_path / "a").read_text().split()) == '{"3":[1,true,"x"],"a":[0,1],"b":0.5}'


@pytest.mark.parametrize(
    ("value", "code"),
    [({"a": {"b": float("nan")}}, "E-NONFIN a.b"), ({"a": np.float32("inf")}, "E-NONFIN a"), ({"a": {1, 2}}, "E-FMT a"),
     ({None: 1}, "E-FMT")],
)  # fmt: skip
def test_json_refuses(tmp_path: Path, value: object, code: str) -> None:
    with pytest.raises(InputError, match=code):
        write_json(tmp_path / "a.json", value)
    assert names(tmp_path) == []


@pytest.mark.parametrize(
    ("content", "code"),
    [
        (b"", "E-TRUNC"), (b" \n", "E-TRUNC"), (b"{", "E-FMT"), (b'{"a": NaN}', "E-NONFIN"), (b"[1e999]", "E-NONFIN"),
        (b"-Infinity", "E-NONFIN"), (b'{"a": 1, "a": 2}', "E-FMT .*a: key stands twice"), (b"\xff\xfe{", "E-FMT"),
        (b"[" * 100_000, "E-SIZE"), (b"1" * 10_000, "E-SIZE"), (b"[1]" + b" " * 200_000, "E-SIZE"),
    ],
)  # fmt: skip
def test_json_reader_refuses(tmp_path: Path, content: bytes, code: str) -> None:
    (tmp_path / "a.json").write_bytes(content)
    with pytest.raises(InputError, match=code):
        read_json(tmp_path / "a.json", max_bytes=150_000)


def test_json_reader_paths(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="E-REF .*no such file"):
        read_json(tmp_path / "a.json")
    with pytest.raises(InputError, match="E-REF .*folder"):
        read_json(tmp_path)
    (tmp_path / "bom.json").write_bytes(b"\xef\xbb\xbf[1]")
    assert read_json(tmp_path / "bom.json") == [1]


dtypes = st.one_of(
    hnp.floating_dtypes(endianness="="),
    hnp.integer_dtypes(endianness="<"),
    hnp.boolean_dtypes(),
    hnp.unicode_string_dtypes(),
)


@given(hnp.arrays(dtypes, hnp.array_shapes(min_dims=0, min_side=0, max_dims=3)), st.booleans(), st.booleans())
def test_npy_round_trip(tmp_path_factory: pytest.TempPathFactory, array: np.ndarray, fortran: bool, mmap: bool) -> None:
    path = tmp_path_factory.getbasetemp() / "round.npy"
    write_npy(path, np.asfortranarray(array) if fortran and array.ndim else array)
    back = read_npy(path, mmap=mmap)
    assert back.dtype == array.dtype
    assert back.shape == array.shape
    assert np.array_equal(back, array, equal_nan=array.dtype.kind == "f")
    assert np.array_equal(np.load(path, allow_pickle=False), back, equal_nan=array.dtype.kind == "f")


def npy(array: np.ndarray) -> bytes:
    stream = io.BytesIO()
    np.save(stream, array)
    return stream.getvalue()


def with_header(text: str) -> bytes:
    header = text.encode() + b"\n"
    return b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header


@pytest.mark.parametrize(
    ("content", "code"),
    [
        (b"", "E-TRUNC"),
        (npy(np.zeros(100))[:300], "E-TRUNC .*928 bytes; file has 300"),
        (npy(np.zeros(100)) + b"x", "E-HDR"),
        (npy(np.zeros(4))[:20], "E-HDR"),
        (npy(np.array([{}])), "E-UNSAFE"),
        (with_header("{'descr': '<f8', 'fortran_order': False, 'shape': (1000000, 1000000), }"), "E-SIZE"),
        (with_header("{'descr': '<f8', 'fortran_order': False, 'shape': (-1,), }"), "E-HDR"),
        (with_header("{'descr': '<f8', 'fortran_order': False, 'shape': __import__('os').system('true'), }"), "E-HDR"),
        (with_header("{'descr': 'nonsense', 'fortran_order': False, 'shape': (1,), }"), "E-HDR"),
        (b"\x93NUMPY\x09\x00" + bytes(100), "E-(FMT|HDR)"),
        (b"version https://git-lfs.github.com/spec/v1\n", "E-FMT .*Git-LFS"),
        (b"<!DOCTYPE html><html>", "E-FMT .*web page"),
        (b"\x80\x04\x95", "E-FMT .*pickle"),
        (b"PK\x03\x04", "E-FMT .*zip"),
        (b"text", "E-FMT"),
    ],
)
def test_npy_reader_refuses(tmp_path: Path, content: bytes, code: str) -> None:
    (tmp_path / "a.npy").write_bytes(content)
    with pytest.raises(InputError, match=code) as caught:
        read_npy(tmp_path / "a.npy")
    assert len(str(caught.value).splitlines()) <= 2


@given(st.integers(0, 127), st.integers(0, 255))
def test_npy_header_mutations_end_in_input_error(tmp_path_factory: pytest.TempPathFactory, at: int, byte: int) -> None:
    content = bytearray(npy(np.arange(6.0).reshape(2, 3)))
    content[at] = byte
    path = tmp_path_factory.getbasetemp() / "mutant.npy"
    path.write_bytes(content)
    with contextlib.suppress(InputError):
        read_npy(path)


def test_objects_are_not_written(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="E-UNSAFE"):
        write_npy(tmp_path / "a.npy", np.array([None]))
    assert names(tmp_path) == []


def test_safetensors_round_trip_is_deterministic(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    arrays = {"b": rng.normal(size=(3, 4)).T, "a": np.float32(2.0), "c": np.arange(5, dtype=np.int8)[::2]}
    hashes = set()
    for i in range(5):
        path = tmp_path / f"{i}.safetensors"
        write_safetensors(path, arrays, {"format": "np"})
        hashes.add(sha256_file(path))
    assert len(hashes) == 1
    with pytest.raises(ValueError, match="fixed order"):
        write_safetensors(path, arrays, {"x": "1", "y": "2"})
    for back in (read_safetensors(path), load_file(path)):
        assert set(back) == set(arrays)
        for name, array in arrays.items():
            np.testing.assert_array_equal(back[name], array)
            assert back[name].shape == np.shape(array)


@pytest.mark.parametrize(
    ("content", "code"),
    [(b"", "E-TRUNC"), (b"version https://git-lfs.github.com", "E-FMT"), (b"\x80\x02pickle..", "E-FMT"),
     ((2**62).to_bytes(8, "little") + b"{}", "E-HDR"), (b"\x02" + bytes(7) + b"{}x", "E-HDR")],
)  # fmt: skip
def test_safetensors_reader_refuses(tmp_path: Path, content: bytes, code: str) -> None:
    (tmp_path / "a").write_bytes(content)
    with pytest.raises(InputError, match=code):
        read_safetensors(tmp_path / "a")


def test_truncated_safetensors(tmp_path: Path) -> None:
    write_safetensors(tmp_path / "a", {"a": np.zeros(100)})
    os.truncate(tmp_path / "a", 400)
    with pytest.raises(InputError, match="E-HDR"):
        read_safetensors(tmp_path / "a")

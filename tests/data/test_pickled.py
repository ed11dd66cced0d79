"""Dictionaries of arrays that numpy pickled, and pickles that must run nothing."""

from __future__ import annotations

import os
import pickle
from pathlib import Path

import numpy as np
import pytest

from wernicke.core.errors import InputError
from wernicke.data.pickled import read_pickled

CONTENT = {
    "betasmd": np.random.default_rng(0).standard_normal((2, 3, 1, 4)).astype(np.float32),
    "fortran": np.asfortranarray(np.arange(6.0).reshape(2, 3)),
    "big": np.arange(3, dtype=">i4"),
    "flag": np.array([True, False]),
    "empty": np.zeros((0, 3)),
    "pcnum": 3,
    "scalar": np.float64(2.5),
    "none": None,
    "name": "corrcoef",
    "pcregressors": [np.ones((5, 2)), np.zeros((4, 2))],
}


def same(a: dict, b: dict) -> None:
    assert set(a) == set(b)
    for key, value in b.items():
        if isinstance(value, list):
            for x, y in zip(a[key], value, strict=True):
                np.testing.assert_array_equal(x, y)
        else:
            np.testing.assert_array_equal(a[key], value)


def test_numpys_own_dictionary(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", CONTENT, allow_pickle=True)  # type: ignore[arg-type]
    found = read_pickled(tmp_path / "a.npy")
    same(found, CONTENT)
    assert found["betasmd"].dtype == np.float32


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_every_protocol(tmp_path: Path, protocol: int) -> None:
    (tmp_path / "a.pkl").write_bytes(pickle.dumps(CONTENT, protocol))
    same(read_pickled(tmp_path / "a.pkl"), CONTENT)


class Canary:
    def __init__(self, function, *arguments) -> None:
        self.call = (function, arguments)

    def __reduce__(self):
        return self.call


@pytest.mark.parametrize("place", ["value", "key", "top", "array"])
def test_nothing_is_called(tmp_path: Path, place: str) -> None:
    canary = tmp_path / "canary"
    bad = Canary(os.mkdir, str(canary))
    content = {"value": {"a": bad}, "key": {("x", bad): 1}, "top": bad, "array": {"a": np.array([bad])}}[place]
    for name, write in (("a.pkl", lambda p: p.write_bytes(pickle.dumps(content))),
                        ("a.npy", lambda p: np.save(p, content, allow_pickle=True))):  # fmt: skip
        write(tmp_path / name)
        with pytest.raises(InputError, match="E-UNSAFE .*asks for posix.mkdir") as caught:
            read_pickled(tmp_path / name)
        assert str(caught.value).count("\n") <= 1
        assert not canary.exists()


@pytest.mark.parametrize(
    ("content", "code"),
    [
        (b"\x80\x04cbuiltins\neval\n(V1+1\ntR.", "E-UNSAFE"),
        (b"\x80\x04cnumpy\nload\n.", "E-UNSAFE"),
        (b"\x80\x04cnumpy.f2py\ncompile\n.", "E-UNSAFE"),
        (b"\x80\x04\x82\x01.", "E-UNSAFE"),  # extension registry
        (b"\x80\x04Pid\n.", "E-FMT"),  # persistent id
        (b"\x80\x04\x8e\xff\xff\xff\xff\xff\xff\xff\x0f", "E-TRUNC"),  # BINBYTES8 of an exabyte
        (b"\x80\x04r\xff\xff\xff\xff.", "E-FMT"),  # memo at 2^32
        (b"\x80\x04].", "E-FMT"),  # a list
        (b"", "E-FMT"),
        (b"PK\x03\x04", "E-FMT"),
        (b"\x80\x04}", "E-TRUNC"),
    ],
)
def test_hostile_bytes(tmp_path: Path, content: bytes, code: str) -> None:
    path = tmp_path / "a.pkl"
    path.write_bytes(content)
    with pytest.raises(InputError) as caught:
        read_pickled(path)
    assert caught.value.code == code


def test_arrays_that_lie(tmp_path: Path) -> None:
    whole = pickle.dumps({"a": np.arange(4, dtype="<f8")}, 4)
    (tmp_path / "a.pkl").write_bytes(whole.replace(b"K\x04\x85", b"K\x09\x85"))
    with pytest.raises(InputError, match="E-HDR .*declares shape .9,. of float64, 72 bytes; holds 32"):
        read_pickled(tmp_path / "a.pkl")
    (tmp_path / "b.pkl").write_bytes(whole.replace(b"\x8c\x02f8", b"\x8c\x02O8"))
    with pytest.raises(InputError, match="E-UNSAFE"):
        read_pickled(tmp_path / "b.pkl")


def test_a_list_in_a_list_in_a_list(tmp_path: Path) -> None:
    lists: list = []
    for _ in range(40):
        lists = [lists] * 10
    (tmp_path / "a.pkl").write_bytes(pickle.dumps({"a": lists}))
    with pytest.raises(InputError, match="nested too deeply"):
        read_pickled(tmp_path / "a.pkl")


def test_every_cut_is_refused(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", {"a": np.arange(3), "b": "x"}, allow_pickle=True)  # type: ignore[arg-type]
    whole = (tmp_path / "a.npy").read_bytes()
    for n in range(0, len(whole), 7):
        (tmp_path / "cut.npy").write_bytes(whole[:n])
        with pytest.raises(InputError):
            read_pickled(tmp_path / "cut.npy")


def test_mutations_raise_nothing_else(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", {"a": np.arange(3), "b": "x", "c": [np.ones(2)]}, allow_pickle=True)  # type: ignore[arg-type]
    whole = np.frombuffer((tmp_path / "a.npy").read_bytes(), np.uint8)
    rng = np.random.default_rng(0)
    for _ in range(400):
        changed = whole.copy()
        changed[rng.integers(120, len(whole), 3)] = rng.integers(0, 256, 3)
        (tmp_path / "m.npy").write_bytes(changed.tobytes())
        try:
            read_pickled(tmp_path / "m.npy")
        except InputError:
            continue

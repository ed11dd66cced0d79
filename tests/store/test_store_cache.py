"""The cache: reuse, damage, two processes at once."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from wernicke.core.errors import InputError
from wernicke.store.cache import Cache, cache_folder, cache_key
from wernicke.store.sealed import MANIFEST, remove_leftovers

ARRAYS = {"r": np.arange(6.0).reshape(2, 3), "names": np.array(["a", "bc"]), "n": np.int64(3)}


class Counter:
    def __init__(self) -> None:
        self.calls = 0

    def __call__(self) -> dict[str, np.ndarray]:
        self.calls += 1
        return ARRAYS


def test_folder_from_the_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("WERNICKE_CACHE", str(tmp_path / "own"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert Cache().root == cache_folder() == tmp_path / "own"
    monkeypatch.delenv("WERNICKE_CACHE")
    assert cache_folder() == tmp_path / "xdg" / "wernicke"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert cache_folder() == tmp_path / ".cache" / "wernicke"


def test_key_changes_with_each_of_its_parts() -> None:
    keys = {
        cache_key("f"),
        cache_key("g"),
        cache_key("f", config={"layer": 1}),
        cache_key("f", config={"layer": 2}),
        cache_key("f", inputs={"x": np.ones(2)}),
        cache_key("f", inputs={"x": np.zeros(2)}),
        cache_key("f", code="c"),
    }
    assert len(keys) == 7


@pytest.mark.parametrize("mmap", [False, True])
def test_computed_once(tmp_path: Path, caplog: pytest.LogCaptureFixture, mmap: bool) -> None:
    caplog.set_level(logging.INFO)
    compute = Counter()
    cache, key = Cache(tmp_path / "new"), cache_key("features", config={"a": 1})
    assert cache.get(key) is None
    for _ in range(3):
        found = cache.fetch(key, compute, mmap=mmap)
        assert list(found) == list(ARRAYS)
        for name, array in ARRAYS.items():
            np.testing.assert_array_equal(found[name], array)
            assert found[name].dtype == array.dtype
            assert found[name].shape == np.shape(array)
    assert compute.calls == 1
    assert "reused from the cache" in caplog.text
    assert isinstance(found["r"], np.memmap) == mmap
    assert [item.name for item in (tmp_path / "new").iterdir()] == [key]


@pytest.mark.parametrize("harm", ["flip", "truncate", "delete", "extra", "manifest"])
def test_damage_is_found_said_and_repaired(tmp_path: Path, caplog: pytest.LogCaptureFixture, harm: str) -> None:
    compute = Counter()
    cache, key = Cache(tmp_path), cache_key("features")
    cache.fetch(key, compute)
    victim = tmp_path / key / "0.npy"
    if harm == "flip":
        content = bytearray(victim.read_bytes())
        content[-1] ^= 1
        victim.write_bytes(content)
    elif harm == "truncate":
        os.truncate(victim, 100)
    elif harm == "delete":
        victim.unlink()
    elif harm == "extra":
        victim = tmp_path / key / "more.txt"
        victim.write_text("x")
    else:
        victim = tmp_path / key / MANIFEST
        victim.unlink()
    np.testing.assert_array_equal(cache.fetch(key, compute)["r"], ARRAYS["r"])
    assert compute.calls == 2
    assert f"{victim}" in caplog.text
    assert len(list(tmp_path.glob(f".bad-{key}-*"))) == 1
    cache.fetch(key, compute)
    assert compute.calls == 2


def test_folders_for_other_libraries(tmp_path: Path) -> None:
    calls = []

    def build(folder: Path) -> None:
        calls.append(folder)
        (folder / "sub").mkdir()
        (folder / "sub" / "model.safetensors").write_bytes(b"weights")

    for _ in range(2):
        folder = Cache(tmp_path).folder("smollm2-1", build)
        assert (folder / "sub" / "model.safetensors").read_bytes() == b"weights"
    assert len(calls) == 1
    (folder / "sub" / "model.safetensors").write_bytes(b"weighty")
    Cache(tmp_path).folder("smollm2-1", build)
    assert len(calls) == 2


def test_a_failing_computation_leaves_nothing(tmp_path: Path) -> None:
    def build(folder: Path) -> None:
        (folder / "a").write_text("half")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        Cache(tmp_path).folder("k", build)
    with pytest.raises(InputError, match="E-UNSAFE"):
        Cache(tmp_path).put("k", {"a": np.array([None])})
    assert list(tmp_path.iterdir()) == []


def test_places_and_keys(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match=r"E-REF .*\n.*WERNICKE_CACHE"):
        Cache(tmp_path / "file").put("k", ARRAYS)
    for key in ("../k", "", "a/b", ".k"):
        with pytest.raises(ValueError, match="cache key"):
            Cache(tmp_path).get(key)


def test_two_processes_computing_the_same(tmp_path: Path, fork: Callable[[Callable[[], None]], int]) -> None:
    def work() -> None:
        cache = Cache(tmp_path)
        for i in range(20):
            found = cache.fetch(f"k-{i}", lambda i=i: {"a": np.full(100, i)})  # type: ignore[misc]
            np.testing.assert_array_equal(found["a"], np.full(100, i))

    children = [fork(work) for _ in range(3)]
    assert [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children] == [0, 0, 0]
    assert sorted(item.name for item in tmp_path.iterdir()) == sorted(f"k-{i}" for i in range(20))


def test_leftovers_of_dead_processes_go_others_stay(tmp_path: Path, fork: Callable[[Callable[[], None]], int]) -> None:
    dead = fork(lambda: None)
    os.waitpid(dead, 0)
    alive = os.getppid()
    gone = [f".tmp-{dead}-0123abcd.npy", f".trash-{dead}-0123abcd-ckpt-000001", f"ckpt-000002.tmp-{dead}"]
    stay = [f".tmp-{alive}-0123abcd.npy", f"ckpt-000002.tmp-{alive}", "ckpt-000001", "mine.tmp", ".tmp-notes"]
    for name in gone + stay:
        (tmp_path / name).mkdir()
        (tmp_path / name / "a").write_text("x")
    assert remove_leftovers(tmp_path, min_age_s=3600.0) == []
    assert sorted(remove_leftovers(tmp_path)) == sorted(gone)
    assert sorted(item.name for item in tmp_path.iterdir()) == sorted(stay)
    old = time.time() - 7200
    (tmp_path / gone[0]).mkdir()
    os.utime(tmp_path / gone[0], (old, old))
    assert remove_leftovers(tmp_path, min_age_s=3600.0) == [gone[0]]

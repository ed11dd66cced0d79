"""Equal content, equal fingerprint; any change, another."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from wernicke.core.errors import InputError
from wernicke.store import fingerprint as module
from wernicke.store.fingerprint import code_fingerprint, fingerprint, fingerprint_array, fingerprint_path


def test_arrays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    array = np.random.default_rng(0).normal(size=(50, 7))
    expected = fingerprint(array)
    monkeypatch.setattr(module, "_PIECE", 100)  # in several pieces
    assert fingerprint(array) == expected
    assert fingerprint(np.asfortranarray(array)) == expected
    assert fingerprint(np.repeat(array, 2, axis=0)[::2]) == expected
    np.save(tmp_path / "a.npy", array)
    assert fingerprint(np.load(tmp_path / "a.npy", mmap_mode="r")) == expected
    changed = array.copy()
    changed[49, 6] += 1e-15
    others = [
        changed,
        array.astype(np.float32),
        array.T,
        array.ravel(),
        array[:0],
        np.float64(1.0) * np.ones(()),
        -array,
    ]
    assert len({expected, *map(fingerprint_array, others)}) == 1 + len(others)
    assert fingerprint(np.array(["a", "b"])) != fingerprint(np.array(["a", "c"]))
    assert fingerprint(np.array(["a", None], dtype=object)) == fingerprint(np.array(["a", None], dtype=object))


def test_tables() -> None:
    table = pd.DataFrame({"onset_s": [0.0, 2.5], "label": ["face", None]})
    assert fingerprint(table) == fingerprint(table.copy().set_index(pd.Index([5, 6])))
    assert fingerprint(table) == fingerprint(table.astype({"label": object}))
    others = [table[["label", "onset_s"]], table.iloc[::-1], table.rename(columns={"label": "x"}), table.iloc[:1],
              table.fillna({"label": "None"}), table["label"]]  # fmt: skip
    assert len({fingerprint(other) for other in [table, *others]}) == 1 + len(others)


def test_plain_values_and_mappings() -> None:
    assert fingerprint({"a": 1, "b": [1.5, "x"]}) == fingerprint({"b": [1.5, "x"], "a": 1})
    assert fingerprint({"a": 1}) != fingerprint({"a": 1.0})
    assert fingerprint({"a": "1"}) != fingerprint({"a": 1})
    assert fingerprint({"a": np.ones(3)}) != fingerprint({"a": np.zeros(3)})
    with pytest.raises(InputError, match="E-NONFIN"):
        fingerprint({"a": float("nan")})


def test_paths(tmp_path: Path) -> None:
    (tmp_path / "d" / "sub").mkdir(parents=True)
    (tmp_path / "d" / "sub" / "a").write_bytes(b"abc")
    assert fingerprint(tmp_path / "d" / "sub" / "a") == hashlib.sha256(b"abc").hexdigest()
    first = fingerprint_path(tmp_path / "d")
    (tmp_path / "d" / "sub" / "a").rename(tmp_path / "d" / "sub" / "b")
    assert fingerprint_path(tmp_path / "d") != first
    with pytest.raises(InputError, match="E-REF"):
        fingerprint_path(tmp_path / "none")


def test_code_changes_the_fingerprint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = tmp_path / "planted_package"
    (package / "inner").mkdir(parents=True)
    for name in ("__init__.py", "inner/__init__.py", "inner/a.py", "other.py"):
        (package / name).write_text("raise RuntimeError('imported')\n" if name == "other.py" else "")
    monkeypatch.syspath_prepend(tmp_path)
    whole, inner, other = (code_fingerprint(f"planted_package{part}") for part in ("", ".inner", ".other"))
    (package / "inner" / "a.py").write_text("x = 1\n")
    assert code_fingerprint("planted_package") != whole
    assert code_fingerprint("planted_package.inner") != inner
    assert code_fingerprint("planted_package.other") == other
    assert code_fingerprint() == code_fingerprint("wernicke") != code_fingerprint("wernicke.store")
    assert code_fingerprint(module) == code_fingerprint("wernicke.store.fingerprint")
    with pytest.raises(ModuleNotFoundError):
        code_fingerprint("wernicke.nothing")


def test_the_store_imports_no_heavy_package() -> None:
    code = (
        "import sys, importlib, pkgutil, wernicke.store as s\n"
        "for m in pkgutil.iter_modules(s.__path__): importlib.import_module('wernicke.store.' + m.name)\n"
        "bad = {'torch', 'pandas', 'scipy', 'sklearn', 'transformers', 'nilearn'} & set(sys.modules)\n"
        "sys.exit(f'imported {bad}' if bad else 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr

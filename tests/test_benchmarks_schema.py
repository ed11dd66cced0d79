"""Every benchmark takes `--quick` and `--json` and writes rows of one form; where its two sides differ it stops."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

BENCHMARKS = Path(__file__).resolve().parents[1] / "benchmarks"
KEYS = ["case", "ours", "rival", "rival_name", "unit", "ratio", "wanted", "settings"]


def load(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"benchmark_{name}", BENCHMARKS / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def check_rows(rows: list[dict]) -> None:
    assert rows
    for row in rows:
        assert set(row) >= set(KEYS)
        assert all(isinstance(row[key], str) and row[key] for key in ("case", "rival_name", "unit", "settings"))
        assert all(isinstance(row[key], (int, float)) for key in ("ours", "rival", "ratio"))
        assert row["wanted"] is None or isinstance(row["wanted"], (int, float))
        if row["ours"] > 0:
            # How many times better ours is: smaller is better for times, bytes and error rates.
            assert row["ratio"] == pytest.approx(row["rival"] / row["ours"])


@pytest.mark.parametrize("script", sorted(file.name for file in BENCHMARKS.glob("*.py")))
def test_flags(script):
    done = subprocess.run(
        [sys.executable, str(BENCHMARKS / script), "--help"], capture_output=True, text=True, check=True
    )
    assert "--quick" in done.stdout
    assert "--json" in done.stdout


def test_demo_writes_rows(monkeypatch, tmp_path, capsys):
    from transformers.utils import logging

    demo, calls = load("demo"), []

    def step(name: str):
        def run(work: Path) -> np.ndarray:
            calls.append(name)
            return np.arange(5.0)

        return run

    case = (step("ours"), step("plain"), demo.check_states, "a rival")
    monkeypatch.setattr(demo, "prepare", lambda work, n_runs: None)
    monkeypatch.setattr(demo, "in_process", lambda function, *arguments: function(*arguments))
    monkeypatch.setattr(demo, "CASES", {"hidden states": case})
    monkeypatch.setattr(sys, "argv", ["demo.py", "--json", str(tmp_path / "rows.json")])
    try:
        demo.main()
    finally:
        logging.enable_progress_bar()
    rows = json.loads((tmp_path / "rows.json").read_text())
    check_rows(rows)
    assert all(list(row) == KEYS for row in rows)
    assert [row["case"] for row in rows] == ["hidden states: time", "hidden states: peak memory"]
    assert calls == ["ours", "plain"] * 3
    assert "| hidden states: peak memory |" in capsys.readouterr().out


def test_calibration_writes_rows():
    calibrate = load("calibrate")
    common = {"case": "AR", "rate_01": 0.01, "ks_p": 0.5, "refused": 0, "n": 200, "block_length_median": 20}
    rows = [{**common, "method": calibrate.RECOMMENDED, "rate_05": 0.05}, {**common, "method": "iid", "rate_05": 0.17}]
    check_rows(calibrate.benchmark_rows(rows, 200, 0))


def test_demo_stops_where_the_sides_differ():
    demo = load("demo")
    rng = np.random.default_rng(0)
    one, other = rng.standard_normal((2, 60, 4))
    with pytest.raises(SystemExit, match="differ"):
        demo.check_states(one, other)
    with pytest.raises(SystemExit, match="correlate"):
        demo.check_ridge(one, other)
    with pytest.raises(SystemExit, match="p values differ"):
        demo.check_permutation(np.full(4, 0.1), np.full(4, 0.2))
    demo.check_states(one, one + 1e-7)
    demo.check_ridge(one, one + 1e-7)


def test_the_plain_correlation_is_numpy_s():
    demo = load("demo")
    a, b = np.random.default_rng(1).standard_normal((2, 50, 3))
    expected = [np.corrcoef(a[:, i], b[:, i])[0, 1] for i in range(3)]
    np.testing.assert_allclose(demo.columnwise_r(a, b), expected)

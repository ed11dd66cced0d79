"""Short form of ``benchmarks/calibrate.py``: false-positive rates over independently drawn SIMULATED nulls."""

import importlib.util
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from scipy import signal, stats

from wernicke.core.errors import InputError
from wernicke.stats.permutation import permutation_test

REPOSITORY = Path(__file__).resolve().parents[2]


def independent_p(seed, first, second, n_samples, n_nulls, **options):
    rng = np.random.default_rng(seed)
    p = []
    for i in range(n_nulls):
        noise = rng.standard_normal((2, n_samples + 600))
        x, y = (
            signal.lfilter([1.0], [1.0, -phi], e)[600:, None] for phi, e in zip((first, second), noise, strict=True)
        )
        try:
            p.append(permutation_test(x, y, n_permutations=99, seed=i, **options).p[0])
        except InputError as error:
            if error.code != "E-SIZE":
                raise
    return np.array(p)


@pytest.mark.parametrize(("first", "second"), [(0.8, 0.6), (0.95, 0.8)])
@pytest.mark.parametrize("method", ["block", "normal"])
def test_recommended_length_holds_the_rate(first, second, method):
    p = independent_p(0, first, second, 1452, 300, method=method)
    assert len(p) >= 255
    low, high = stats.binom.ppf([0.001, 0.999], len(p), 0.05)
    assert low <= (p <= 0.05).sum() <= high
    assert stats.kstest(p, "uniform").pvalue > 0.001


def test_the_same_check_fails_tests_that_ignore_autocorrelation():
    p = independent_p(0, 0.95, 0.8, 1452, 400, method="normal", block_length=1)
    assert (p <= 0.05).sum() > stats.binom.ppf(0.999, 400, 0.05)
    assert stats.kstest(p, "uniform").pvalue < 0.001


def test_benchmark_writes_its_rows(tmp_path):
    out = tmp_path / "rows.json"
    command = [sys.executable, str(REPOSITORY / "benchmarks" / "calibrate.py"), "--quick", "--nulls", "20",
               "--cases", "block design, AR .8", "--json", str(out)]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    rows = json.loads(out.read_text())
    assert len(rows) == 7
    for row in rows:
        assert set(row) >= {"case", "ours", "rival", "rival_name", "unit", "ratio", "wanted", "settings"}
        assert f"| {row['rival_name']} |" in done.stdout
        assert "simulated" in row["settings"]


def test_whole_maps_hold_their_rates_where_the_published_null_does_not():
    """60 SIMULATED maps of 150 voxels that share features: the benchmark's own simulation, small."""
    spec = importlib.util.spec_from_file_location("calibrate_maps", REPOSITORY / "benchmarks" / "calibrate_maps.py")
    calibrate_maps = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(calibrate_maps)
    rows = {row["method"]: row["rate"] * row["n"] for row in calibrate_maps.maps(150, 400, 60, seed=1)}
    most = stats.binom.ppf(0.999, 60, 0.05)
    for method in ("maximum statistic", "BH, Pareto tail", "BY, Pareto tail"):
        assert rows[method] <= most
    assert rows["BH, parametric p of Pearson's r"] > most
    assert rows["BH, pooled null, blocks of 10 (drama2brain, faithful)"] > rows["BY, Pareto tail"]

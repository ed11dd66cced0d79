"""What `wernicke plan` states is what a run takes."""

from __future__ import annotations

import re
import subprocess
import sys

import numpy as np
import pytest

from wernicke.cli import run
from wernicke.core.errors import EXIT_DONE, EXIT_USER, InputError
from wernicke.recipes.drama2brain_simulate import N_VOXELS, simulate_drama2brain
from wernicke.recipes.planning import describe, main, of_sizes

SIZES = ["--n_samples", "900", "--n_features", "40", "--n_targets", "5000", "--tile", "512"]

MEASURE = """
import sys
import numpy as np
import torch
torch.set_num_threads(1)
import wernicke.ridge.tiles as tiles
Xs = [np.load(file) for file in sorted(__import__("glob").glob(sys.argv[1] + "/X*.npy"))]
n_iter, tile = int(sys.argv[2]), int(sys.argv[3])
tiles.fit_tiles(Xs, sys.argv[1] + "/Y.npy", sys.argv[1] + "/job", alphas=np.logspace(-2, 5, 8), cv=4, n_iter=n_iter,
                tile=tile)
# ru_maxrss would count what the process that started this one held.
print(next(int(line.split()[1]) * 1024 for line in open("/proc/self/status") if line.startswith("VmHWM")))
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("n_samples", "widths", "n_targets", "tile"),
    [(1500, [300], 6000, 2048), (3000, [400, 300], 9000, 4096), (700, [2500], 4000, 1024)],
)
def test_stated_memory_and_disk_are_true(n_samples, widths, n_targets, tile, tmp_path):
    rng = np.random.default_rng(0)
    for i, width in enumerate(widths):
        np.save(tmp_path / f"X{i}.npy", rng.standard_normal((n_samples, width), dtype=np.float32))
    np.save(tmp_path / "Y.npy", rng.standard_normal((n_samples, n_targets), dtype=np.float32))
    (tmp_path / "measure.py").write_text(MEASURE)
    command = [sys.executable, tmp_path / "measure.py", tmp_path, "2", str(tile)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    stated = of_sizes(n_samples, widths, [n_targets], n_alphas=8, n_iter=2, tile=tile)
    peak = int(done.stdout)
    assert peak <= stated.peak_bytes <= 1.6 * peak
    on_disk = sum(path.stat().st_size for path in (tmp_path / "job").rglob("*") if path.is_file())
    assert on_disk <= stated.disk_bytes <= 1.3 * on_disk


def test_memory_does_not_depend_on_the_number_of_voxels_and_the_rest_does():
    small, large = (of_sizes(2000, [100], [n], tile=512) for n in (5_000, 500_000))
    assert small.peak_bytes == large.peak_bytes
    assert large.disk_bytes > 50 * small.disk_bytes / 2
    banded = of_sizes(2000, [50, 50], [5_000], n_iter=30, tile=512)
    assert banded.seconds > small.seconds


def test_workers_share_the_time():
    alone, shared = (of_sizes(20_000, [1000], [80_000], n_workers=n) for n in (1, 10))
    assert shared.seconds < alone.seconds / 3  # the machine's speed is measured for each


def test_the_command_prints_sizes_memory_disk_and_time(capsys):
    assert run(["plan", *SIZES]) == EXIT_DONE
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("fit      900 samples x 40 features, 25 penalties, 4 folds")
    assert "5,000 voxels in 10 tiles of 512" in lines[1]
    assert re.match(r"memory +\d+ MB at most, in each process", lines[2])
    assert re.match(r"disk +\d+ MB", lines[3])
    assert re.match(r"time +about \d+ s \(.* GFLOP/s here\)", lines[4])


def test_the_encoding_demo_has_a_plan(capsys):
    assert run(["plan", "--config", "haxby_encode", "--controls", "none"]) == EXIT_DONE
    text = capsys.readouterr().out
    assert "1,452 samples in 12 runs x 32 features, 530 voxels" in text
    assert "8 models and controls" in text
    assert "with all voxels and the language model" in text


def test_drama2brain_without_data_assumes_the_published_sizes(capsys):
    assert run(["plan", "--config", "drama2brain_multi", "--n_iter", "2", "--subjects", "DM01"]) == EXIT_DONE
    text = capsys.readouterr().out
    assert "DM01 87,969 (assumed: no data.root given); 4,096 at a time" in text
    assert "6 fits with their reduced models" in text  # all, five without one; no nuisances
    assert run(["plan", "--config", "drama2brain_multi", "--mode", "faithful", "--subjects", "DM01"]) == EXIT_DONE
    assert "with all voxels of a subject" in capsys.readouterr().out


@pytest.mark.slow
def test_drama2brain_with_data_counts_voxels_and_features(tmp_path, capsys):
    root = simulate_drama2brain(tmp_path / "set")
    config = root / "drama2brain_mono.yaml"
    assert run(["plan", "--config", str(config), "--data.root", str(root), "--subjects", "DM01"]) == EXIT_DONE
    text = capsys.readouterr().out
    assert f"voxels   DM01 {N_VOXELS['small'][0]:,}; " in text


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--n_samples", "0", "--n_features", "4", "--n_targets", "9"], "E-CFG --n_samples: found 0"),
        (
            ["--n_samples", "3", "--n_features", "4", "--n_targets", "9"],
            "E-CFG --n_folds: found 4, expected 2 to the 3",
        ),
        (["--n_samples", "30"], "required"),
        (["--config", "haxby_decode"], "recipe"),
        (["--config", "drama2brain_multi", "--bands.Speech.pca", "null"], ""),
    ],
)
def test_what_cannot_be_planned_is_named(words, message, capsys):
    assert run(["plan", *words]) == EXIT_USER
    error = capsys.readouterr().err
    assert error.startswith("wernicke: E-CFG")
    assert message in error
    assert error.count("\n") <= 2


def test_help_and_unknown_flags(capsys):
    assert run(["plan", "--help"]) == EXIT_DONE
    assert "--n_targets" in capsys.readouterr().out
    assert run(["plan"]) == EXIT_USER
    with pytest.raises(InputError, match="unknown flag `--tiles`"):
        main([*SIZES, "--tiles", "3"])


def test_sizes_are_told_in_fitting_units():
    lines = describe(of_sizes(22_262, [1280] * 5, [88_000] * 6, n_iter=100))
    assert "GB" in lines[2]
    assert re.search(r"days|h", lines[4])

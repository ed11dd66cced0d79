"""Training killed anywhere and begun again: the final hashes are those of an undisturbed run."""

from __future__ import annotations

import hashlib
import os
import shutil
import signal
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from toy_training import Toy, ToyData

from killing import KILLED, Fork, die_before_call
from wernicke.decoding.fit import FitConfig, fit
from wernicke.store.checkpoint import find_checkpoints, latest_checkpoint
from wernicke.store.files import write_safetensors
from wernicke.store.run import RunFolder

pytestmark = pytest.mark.slow

SHORT = FitConfig(epochs=1, batch_size=8, lr=0.02, accumulate=2, checkpoint_every_steps=2)
LONG = FitConfig(epochs=12, batch_size=8, lr=0.02, accumulate=2, checkpoint_every_steps=2)


def train(folder: Path, config: FitConfig) -> None:
    with RunFolder.create(folder, step="train", config={}, seed=3) as run:
        if run.is_complete():
            return
        model = Toy()
        fit(model, model.loss, ToyData(), config, seed=3, valid=ToyData(11, name="v", noise=0.0), run=run)
        with run.atomic_path("weights.safetensors") as path:
            write_safetensors(path, {name: tensor.numpy() for name, tensor in model.state_dict().items()})
        run.finish()


def hashes(folder: Path) -> dict[str, str]:
    """Of every file but the history, which has times."""
    names = [item for item in folder.rglob("*") if item.is_file() and item.name not in ("history.jsonl", ".lock")]
    return {item.relative_to(folder).as_posix(): hashlib.sha256(item.read_bytes()).hexdigest() for item in names}


def test_thirty_kills_at_random_moments(tmp_path: Path, fork: Fork) -> None:
    train(tmp_path / "undisturbed", LONG)
    expected, rng = hashes(tmp_path / "undisturbed"), np.random.default_rng(0)
    assert any(name.startswith("checkpoints/") for name in expected)
    kills = runs = resumed = 0
    while kills < 30:
        folder = tmp_path / f"run{runs}"
        runs += 1
        for _ in range(200):
            child = fork(lambda folder=folder: train(folder, LONG))  # type: ignore[misc]
            time.sleep(rng.uniform(0.02, 0.5))
            os.kill(child, signal.SIGKILL)
            code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
            if code == 0:
                break
            assert code == -signal.SIGKILL
            kills += 1
            resumed += latest_checkpoint(folder) is not None
        assert code == 0
        found = hashes(folder)
        assert {name: found.get(name) for name in expected} == expected
    assert resumed >= 10


def test_killed_before_each_system_call_of_the_saves(
    memory_path: Path, run_child: Callable[[Callable[[], None]], int]
) -> None:
    """Every call that changes a file, from the run folder's making to its manifest, the saves of `fit` between."""
    train(memory_path / "undisturbed", SHORT)
    expected = hashes(memory_path / "undisturbed")
    steps = [checkpoint.step for checkpoint in find_checkpoints(memory_path / "undisturbed")[0]]
    assert len(steps) >= 2
    for number in range(1, 2000):
        folder = memory_path / str(number)

        def killed(folder: Path = folder, number: int = number) -> None:
            die_before_call(number)
            train(folder, SHORT)

        code = run_child(killed)
        if (folder / "manifest.json").exists():
            assert RunFolder.open(folder).verify() == []
        train(folder, SHORT)
        found = hashes(folder)
        assert {name: found.get(name) for name in expected} == expected, f"killed before call {number}"
        # What a kill keeps from being deleted, an older checkpoint, may remain; it is whole.
        assert all(name.startswith("checkpoints/") for name in set(found) - set(expected))
        assert find_checkpoints(folder)[1] == []
        shutil.rmtree(folder)
        if code == 0:
            break
        assert code == KILLED
    assert code == 0
    assert number > 60
    assert torch.get_num_threads() == 1

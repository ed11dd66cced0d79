"""The training loop against a plain torch loop, and against itself after it was interrupted."""

from __future__ import annotations

import dataclasses
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from toy_training import CONFIG, Toy, ToyData, train

from wernicke.core.errors import InputError, Interrupted, NonFiniteLossError, WernickeError
from wernicke.decoding.exposure import Exposure
from wernicke.decoding.fit import FitConfig, fit
from wernicke.decoding.schedule import epoch_order, learning_rate
from wernicke.store.checkpoint import find_checkpoints, latest_checkpoint
from wernicke.store.run import RunFolder

SCRIPT = Path(__file__).with_name("toy_training.py")
ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1"}


def same(one: torch.nn.Module, other: torch.nn.Module) -> bool:
    pairs = zip(one.state_dict().values(), other.state_dict().values(), strict=True)
    return all(torch.equal(a, b) for a, b in pairs)


def metrics(folder: Path) -> list[dict]:
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def test_against_a_plain_loop():
    """No dropout, no clipping: AdamW on the mean loss of each batch, in the same order."""
    config = FitConfig(epochs=3, batch_size=8, lr=0.02, weight_decay=0.1, schedule="constant", max_grad_norm=None)
    model, result = train(None, config, dropout=0.0, valid=None)
    plain, data = Toy(0.0), ToyData()
    optimizer = torch.optim.AdamW(plain.head.parameters(), lr=0.02, weight_decay=0.1)
    losses = []
    for epoch in range(3):
        order = epoch_order(37, 3, epoch)
        for start in range(0, 37, 8):
            total, n = plain.loss(data.batch(order[start : start + 8], epoch))
            optimizer.zero_grad()
            (total / n).backward()
            optimizer.step()
            losses.append((total / n).item())
    np.testing.assert_allclose([row["loss"] for row in result.curve], losses, rtol=1e-5)
    torch.testing.assert_close(model.head.weight, plain.head.weight)
    assert (result.step, result.stopped) == (15, "done")
    assert np.mean(losses[-5:]) < np.mean(losses[:5])


def test_order_is_a_function_of_seed_and_epoch():
    assert sorted(epoch_order(20, 0, 0)) == list(range(20))
    assert (epoch_order(20, 0, 1) == epoch_order(20, 0, 1)).all()
    assert len({tuple(epoch_order(20, seed, epoch)) for seed in (0, 1) for epoch in (0, 1)}) == 4
    data = ToyData()
    train(None, dataclasses.replace(CONFIG, epochs=2, accumulate=1), data=data, valid=None)
    assert sum(data.orders[:5], []) == epoch_order(37, 3, 0).tolist()
    assert sum(data.orders[5:], []) == epoch_order(37, 3, 1).tolist()


@pytest.mark.parametrize("accumulate", [2, 3, 8, 100])
def test_accumulation_changes_rounding_only(accumulate):
    whole, _ = train(None, dataclasses.replace(CONFIG, accumulate=1), dropout=0.0)
    parts, _ = train(None, dataclasses.replace(CONFIG, accumulate=accumulate), dropout=0.0)
    torch.testing.assert_close(parts.head.weight, whole.head.weight, rtol=1e-4, atol=1e-6)


def test_learning_rates():
    config = FitConfig(lr=1.0, warmup_steps=4)
    assert [learning_rate(config, step, 14) for step in (0, 3, 4, 9)] == pytest.approx([0.25, 1.0, 1.0, 0.5])
    assert learning_rate(dataclasses.replace(config, schedule="linear"), 9, 14) == pytest.approx(0.5)
    assert learning_rate(dataclasses.replace(config, schedule="constant"), 13, 14) == 1.0


def test_same_seed_same_bytes_and_frozen_stay_frozen():
    one, _ = train(None)
    two, _ = train(None)
    assert same(one, two)
    assert torch.equal(one.frozen.weight, Toy().frozen.weight)
    assert not torch.equal(one.head.weight, Toy().head.weight)
    assert not one.training


def test_best_weights_by_validation_and_patience():
    values = iter([3.0, 1.0, 2.0, 2.5, 0.5])
    seen = []
    model = Toy()

    def valid() -> float:
        assert not model.training
        seen.append(model.head.weight.detach().clone())
        return next(values)

    result = fit(model, model.loss, ToyData(), dataclasses.replace(CONFIG, epochs=5, patience=2), seed=0, valid=valid)
    assert (result.stopped, result.best_step, result.best_value, result.step) == ("patience", 10, 1.0, 20)
    assert torch.equal(model.head.weight, seen[1])
    assert [row["valid"] for row in result.curve if "valid" in row] == [3.0, 1.0, 2.0, 2.5]


class Stops(ToyData):
    """Raises at the n-th batch, as a crash would."""

    def __init__(self, after: int, action=None) -> None:
        super().__init__()
        self.left, self.action = after, action

    def batch(self, rows, epoch):
        self.left -= 1
        if self.left == 0:
            if self.action is None:
                raise RuntimeError("crash")
            self.action()
        return super().batch(rows, epoch)


@pytest.mark.parametrize("after", [1, 9, 20, 33])
@pytest.mark.parametrize("norm", [False, True])
def test_resume_gives_the_same_bytes(tmp_path, after, norm):
    whole, expected = train(tmp_path / "whole", norm=norm)
    with pytest.raises(RuntimeError, match="crash"):
        train(tmp_path / "run", data=Stops(after), norm=norm)
    model, result = train(tmp_path / "run", norm=norm)
    assert same(model, whole)
    assert (result.best_step, result.best_value) == (expected.best_step, expected.best_value)
    assert result.curve == expected.curve
    assert metrics(tmp_path / "run") == metrics(tmp_path / "whole")
    again, _ = train(tmp_path / "run", data=Stops(1), norm=norm)  # nothing is left to do: no batch is asked for
    assert same(again, whole)


def test_resume_from_the_newest_whole_checkpoint_names_the_bad_file(tmp_path, caplog):
    whole, _ = train(tmp_path / "whole")
    with pytest.raises(RuntimeError, match="crash"):
        train(tmp_path / "run", data=Stops(33))
    newest = latest_checkpoint(tmp_path / "run").folder / "model.safetensors"
    content = bytearray(newest.read_bytes())
    content[-3] ^= 1
    newest.write_bytes(content)
    model, _ = train(tmp_path / "run")
    assert str(newest) in caplog.text
    assert same(model, whole)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_signals_checkpoint_and_leave(tmp_path, number):
    whole, _ = train(tmp_path / "whole")
    with pytest.raises(Interrupted, match="interrupted after step 4") as caught:
        train(tmp_path / "run", data=Stops(6, lambda: os.kill(os.getpid(), number)))
    assert caught.value.exit_code == 128 + number
    assert latest_checkpoint(tmp_path / "run").step == 4
    model, _ = train(tmp_path / "run")
    assert same(model, whole)


def test_nonfinite_stops_and_names_the_samples(tmp_path):
    data = ToyData(bad=5)
    with pytest.raises(NonFiniteLossError, match=r"loss nan.*s005") as caught:
        train(tmp_path / "run", dataclasses.replace(CONFIG, checkpoint_every_steps=1), data=data)
    assert caught.value.exit_code == 5
    last = metrics(tmp_path / "run")[-1]
    assert last["loss"] == "nan"
    whole, faults = find_checkpoints(tmp_path / "run")
    assert not faults
    assert not whole or whole[-1].step == last["step"] - 1


def test_nonfinite_skip_leaves_the_step_out():
    config = dataclasses.replace(CONFIG, on_nonfinite="skip")
    model, result = train(None, config, data=ToyData(bad=5), norm=True)
    assert result.n_skipped == 4  # once an epoch
    assert all(torch.isfinite(tensor).all() for tensor in model.state_dict().values())
    with pytest.raises(NonFiniteLossError):  # not without end
        train(None, dataclasses.replace(config, epochs=2), data=AllBad())


class AllBad(ToyData):
    def batch(self, rows, epoch):
        x, y, weight = super().batch(rows, epoch)
        return x, y * torch.nan, weight


def test_out_of_memory_halves_the_micro_batch(caplog):
    """The largest micro-batch that fits is of 2 samples; the weights agree with those of whole batches."""
    model = Toy(0.0)

    def loss(batch):
        if len(batch[0]) > 2:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB")
        return model.loss(batch)

    config = dataclasses.replace(CONFIG, accumulate=1)
    result = fit(model, loss, ToyData(), config, seed=3)
    whole, _ = train(None, config, dropout=0.0, valid=None)
    torch.testing.assert_close(model.head.weight, whole.head.weight, rtol=1e-4, atol=1e-6)
    assert result.accumulate == 4
    assert "micro-batches halved" in caplog.text

    def never(batch):
        raise torch.OutOfMemoryError("CUDA out of memory")

    with pytest.raises(WernickeError, match="out of memory with one sample at a time"):
        fit(model, never, ToyData(), config, seed=3)

    def other(batch):
        raise RuntimeError("shapes do not fit")

    with pytest.raises(RuntimeError, match="shapes"):
        fit(model, other, ToyData(), config, seed=3)


def test_other_settings_are_refused(tmp_path):
    train(tmp_path / "run")
    with pytest.raises(InputError, match=r"E-CKPT .*lr 0.02 -> 0.1"):
        train(tmp_path / "run", dataclasses.replace(CONFIG, lr=0.1))
    with pytest.raises(InputError, match="the sample ids"):
        train(tmp_path / "run", data=ToyData(36))
    torch.set_num_threads(2)
    try:
        with pytest.raises(InputError, match="threads 1 -> 2"):
            train(tmp_path / "run")
        train(tmp_path / "run", allow_inexact=True)
    finally:
        torch.set_num_threads(1)


def test_checkpoints_hold_trainable_weights_and_exposure(tmp_path):
    earlier = Exposure.of(samples=["old"], stimuli=["cat"])
    train(tmp_path / "run", exposure=earlier | Exposure.of(samples=ToyData().ids))
    checkpoint = latest_checkpoint(tmp_path / "run")
    assert set(checkpoint.tensors("model")) == {"head.weight", "head.bias"}
    seen = Exposure.from_meta(checkpoint.meta)
    assert seen.samples == {"old", *ToyData().ids}
    assert seen.stimuli == {"cat"}
    assert len(list((tmp_path / "run" / "checkpoints").iterdir())) <= 3


def test_stages_of_one_run_keep_apart(tmp_path):
    whole: dict[str, torch.Tensor] = {}
    for crash in (False, True):
        folder = tmp_path / f"run{crash}"
        for attempt in range(1 + crash):
            with RunFolder.create(folder, step="train", config={}, seed=0) as run:
                for stage in ("one", "two"):
                    model = Toy()
                    data = Stops(25) if crash and attempt == 0 and stage == "two" else ToyData()
                    try:
                        fit(model, model.loss, data, CONFIG, seed=0, run=run, stage=stage)
                    except RuntimeError:
                        break
        if crash:
            assert torch.equal(model.head.weight, whole["two"])
            assert metrics(tmp_path / "runTrue") == metrics(tmp_path / "runFalse")
        whole[stage] = model.head.weight.detach().clone()
    assert len(find_checkpoints(folder / "one")[0]) == len(find_checkpoints(folder / "two")[0]) == 2


def test_bf16_keeps_float32_weights():
    model, result = train(None, dataclasses.replace(CONFIG, precision="bf16"), dropout=0.0)
    exact, _ = train(None, dropout=0.0)
    assert model.head.weight.dtype == torch.float32
    assert not torch.equal(model.head.weight, exact.head.weight)
    torch.testing.assert_close(model.head.weight, exact.head.weight, rtol=0.1, atol=0.05)
    assert result.curve[-1]["valid"] < result.curve[5]["valid"]


def test_mistakes():
    with pytest.raises(InputError, match="no parameter is trainable"):
        fit(torch.nn.Linear(2, 2).requires_grad_(False), lambda b: b, ToyData(), CONFIG, seed=0)
    with pytest.raises(InputError, match="no samples to train on"):
        train(None, data=ToyData(0))
    for name, value in (("epochs", 0), ("lr", 0.0), ("schedule", "cosin"), ("precision", "fp16"), ("patience", 0)):
        with pytest.raises(InputError, match=f"E-CFG {name}"):
            FitConfig(**{name: value})


def run_script(target: Path, options: dict, processes: int = 1) -> subprocess.CompletedProcess:
    command = [sys.executable, str(SCRIPT), str(target), json.dumps(options)]
    if processes > 1:
        torchrun = ["-m", "torch.distributed.run", "--standalone", f"--nproc_per_node={processes}"]
        command = [sys.executable, *torchrun, *command[1:]]
    return subprocess.run(command, env=ENVIRONMENT, capture_output=True, text=True, timeout=300, check=True)


@pytest.mark.slow
def test_two_processes_give_the_numbers_of_one(tmp_path):
    """37 samples by 6: the last step of an epoch leaves the second process without any."""
    config = {"epochs": 3, "batch_size": 6, "lr": 0.02, "checkpoint_every_steps": 3}
    found = []
    for processes in (1, 2):
        target = tmp_path / f"{processes}.json"
        run_script(target, {"config": config, "dropout": 0.0}, processes)
        found.append(json.loads(target.read_text()))
    one, two = found
    for name, values in one["weights"].items():
        np.testing.assert_allclose(two["weights"][name], values, rtol=1e-4, atol=1e-6)
    for a, b in zip(one["curve"], two["curve"], strict=True):
        assert a == pytest.approx(b, rel=1e-4)


@pytest.mark.slow
def test_killed_at_random_moments(tmp_path):
    """SIGKILL until it gets through; the weights are those of an undisturbed run."""
    options = {"config": {"epochs": 60, "batch_size": 8, "lr": 0.02, "checkpoint_every_steps": 2}, "folder": True}
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    run_script(tmp_path / "a" / "out.json", options)
    target, rng, kills = tmp_path / "b" / "out.json", np.random.default_rng(0), 0
    command = [sys.executable, str(SCRIPT), str(target), json.dumps(options)]
    while not target.exists() and kills < 4:
        process = subprocess.Popen(command, env=ENVIRONMENT, stderr=subprocess.DEVNULL)
        before = len(list((tmp_path / "b").glob("run/checkpoints/ckpt-*")))
        deadline = time.monotonic() + 60
        while process.poll() is None and time.monotonic() < deadline:
            names = {path.name for path in (tmp_path / "b").glob("run/checkpoints/ckpt-*")}
            if names and (kills or before == 0):
                # The first comes with the first checkpoint, lest a fast machine is done before it.
                time.sleep(float(rng.uniform(0, 0.3)) if kills else 0.0)
                break
            time.sleep(0.01)
        if process.poll() is None:
            process.kill()
            kills += 1
        process.wait()
    if not target.exists():
        run_script(target, options)
    assert kills >= 3
    one, other = (json.loads((tmp_path / name / "out.json").read_text()) for name in "ab")
    assert one == other

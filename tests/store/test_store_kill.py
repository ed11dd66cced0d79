"""Killed anywhere, begun again, the same bytes: fault injection and random SIGKILL, SIGINT, SIGTERM."""

from __future__ import annotations

import os
import shutil
import signal
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from killing import KILLED, Fork, die_before_call
from wernicke.store.checkpoint import find_checkpoints, latest_checkpoint, save_checkpoint
from wernicke.store.interrupt import GracefulExit
from wernicke.store.run import RunFolder
from wernicke.store.state import restore_rng, rng_tensors

N_STEPS, EVERY = 60, 5


def content(folder: Path) -> dict[str, bytes]:
    """Return what must not depend on kills: every file but the history and the checkpoints."""
    names = (item.relative_to(folder).as_posix() for item in folder.rglob("*") if item.is_file())
    return {n: (folder / n).read_bytes() for n in names if n != "history.jsonl" and not n.startswith("checkpoints/")}


def train(folder: Path, step_s: float = 0.0) -> None:
    """A training loop as any should be written: data from a generator, momentum, metrics, checkpoints."""
    with RunFolder.create(folder, step="train", config={"n_steps": N_STEPS}, seed=0) as run, GracefulExit() as stop:
        if run.is_complete():
            return
        torch.manual_seed(run.seed)
        state = {"w": torch.randn(8, 4), "velocity": torch.zeros(8, 4)}
        found = latest_checkpoint(folder)
        if found is not None:
            state = {**found.tensors("model"), **found.tensors("state")}
            restore_rng(state)
        run.rewind_metrics(found.step if found else 0)
        for step in range(found.step + 1 if found else 1, N_STEPS + 1):
            x = torch.randn(16, 8)
            error = x @ state["w"] - 1.0
            state["velocity"] = 0.9 * state["velocity"] + x.T @ error / 16
            state["w"] = state["w"] - 0.01 * state["velocity"]
            run.append_metrics({"step": step, "loss": float(error.square().mean())})
            time.sleep(step_s)
            asked = stop.requested  # once: a signal after the checkpoint's turn waits for the next step
            if step % EVERY == 0 or asked:
                tensors = {"model": {"w": state["w"]}, "state": {"velocity": state["velocity"], **rng_tensors()}}
                save_checkpoint(folder, step, tensors, {"seed": run.seed}, best=step == 10)
            if asked:
                stop.leave(f"interrupted after step {step}; the same command goes on from there")
        run.write_npy("weights.npy", state["w"].numpy())
        run.finish()


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    folder = tmp_path_factory.mktemp("undisturbed")
    train(folder)
    rows = RunFolder.open(folder).read_metrics()
    assert [row["step"] for row in rows] == list(range(1, N_STEPS + 1))
    assert rows[-1]["loss"] < 0.5 * rows[0]["loss"]
    return content(folder)


def test_killed_before_each_call_of_a_save(memory_path: Path, run_child: Callable[[Callable[[], None]], int]) -> None:
    def save(folder: Path, step: int) -> None:
        tensors = {"model": {"w": torch.full((5,), float(step))}, "state": rng_tensors()}
        save_checkpoint(folder, step, tensors, {"step": step}, best=step == 1)

    base = memory_path / "base"
    for step in (1, 2, 3):
        save(base, step)
    seen = set()
    for number in range(1, 500):
        folder = memory_path / str(number)
        shutil.copytree(base, folder)

        def work(folder: Path = folder, number: int = number) -> None:
            die_before_call(number)
            save(folder, 4)

        code = run_child(work)
        found = latest_checkpoint(folder)
        assert found is not None
        assert found.step in (3, 4)
        assert torch.equal(found.tensors("model")["w"], torch.full((5,), float(found.step)))
        assert found.meta == {"step": found.step}
        seen.add(found.step)
        save(folder, 4)
        whole, faults = find_checkpoints(folder)
        assert [checkpoint.step for checkpoint in whole] == [1, 3, 4]
        assert faults == []
        assert len(list((folder / "checkpoints").iterdir())) == 3
        shutil.rmtree(folder)
        if code == 0:
            break
        assert code == KILLED
    assert code == 0
    assert number > 25
    assert seen == {3, 4}


@pytest.mark.slow
def test_killed_before_each_call_of_a_run(memory_path: Path, run_child: Callable[[Callable[[], None]], int]) -> None:
    def work(folder: Path) -> None:
        with RunFolder.create(folder, step="encode", config={"a": 1}, seed=0) as run:
            if not run.is_complete(inputs={"x": "1"}, code="c"):
                run.append_metrics({"step": 1})
                run.write_npy("predictions/r.npy", np.arange(3.0))
                run.write_json("scores.json", {"r": 0.5})
                run.finish()
        with RunFolder.open(folder, step="report") as run:
            run.write_text("report.html", "page")
            run.rewind_metrics(0)
            run.append_metrics({"step": 1})
            run.finish()

    work(memory_path / "base")
    work(memory_path / "base")  # a second report over the first
    expected = content(memory_path / "base")
    for number in range(1, 500):
        folder = memory_path / str(number)

        def killed(folder: Path = folder, number: int = number) -> None:
            die_before_call(number)
            work(folder)

        code = run_child(killed)
        if (folder / "manifest.json").exists():
            assert RunFolder.open(folder).verify() == []
        work(folder)
        work(folder)
        assert content(folder) == expected
        shutil.rmtree(folder)
        if code == 0:
            break
        assert code == KILLED
    assert code == 0
    assert number > 40


@pytest.mark.slow
def test_random_kills_do_not_change_the_result(tmp_path: Path, fork: Fork, undisturbed: dict[str, bytes]) -> None:
    rng = np.random.default_rng(0)
    kills = inside = runs = 0
    while kills < 30:
        folder = tmp_path / f"run{runs}"
        runs += 1
        for _ in range(200):
            child = fork(lambda folder=folder: train(folder))  # type: ignore[misc]
            time.sleep(rng.uniform(0.005, 0.3))
            os.kill(child, signal.SIGKILL)
            code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
            if code == 0:
                break
            assert code == -signal.SIGKILL
            kills += 1
            inside += any(folder.glob("checkpoints/*.tmp-*"))
        assert code == 0
        assert content(folder) == undisturbed
        found = latest_checkpoint(folder)
        assert found is not None
        assert found.step == N_STEPS
        assert not [item for item in folder.rglob("*") if ".tmp-" in item.name or ".trash-" in item.name]
    print(f"{kills} kills, {inside} of them inside a save, in {runs} runs")
    assert inside >= 3


@pytest.mark.slow
@pytest.mark.parametrize(("number", "exit_code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_signals_stop_between_steps(
    tmp_path: Path, fork: Fork, undisturbed: dict[str, bytes], number: int, exit_code: int
) -> None:
    rng = np.random.default_rng(int(number))
    stops = runs = 0
    while stops < 12:
        folder = tmp_path / f"run{runs}"
        runs += 1
        for _ in range(100):
            child = fork(lambda folder=folder: train(folder, step_s=0.002))  # type: ignore[misc]
            while not (folder / ".lock").exists() or not (folder / ".lock").read_text():
                time.sleep(0.001)
            time.sleep(rng.uniform(0.02, 0.3))
            os.kill(child, number)
            code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
            if code != exit_code:
                break
            stops += 1
            found = latest_checkpoint(folder)
            assert found is not None
            # Nothing but the step in hand is lost: the checkpoint is as far as the metrics.
            assert RunFolder.open(folder).read_metrics()[-1]["step"] == found.step
        # A signal that came after the last step, or before the handlers were there, is not a stop.
        if code != 0:
            assert code in (-number, 99)
            train(folder)
        assert content(folder) == undisturbed


def test_second_signal_ends_at_once(fork: Fork) -> None:
    ready, tell = os.pipe()

    def work() -> None:
        with GracefulExit() as stop:
            os.write(tell, b"1")
            while True:
                time.sleep(0.01)
                if stop.requested:
                    os.write(tell, b"2")
                    time.sleep(600)

    child = fork(work)
    for expected in (b"1", b"2"):
        assert os.read(ready, 1) == expected
        os.kill(child, signal.SIGTERM)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 143


def test_a_signal_is_never_lost(run_child: Callable[[Callable[[], None]], int]) -> None:
    def finished_meanwhile() -> None:
        with GracefulExit():
            os.kill(os.getpid(), signal.SIGINT)

    assert run_child(finished_meanwhile) == 130

    def failed_meanwhile() -> None:
        with GracefulExit():
            os.kill(os.getpid(), signal.SIGINT)
            raise KeyError("the real reason")

    assert run_child(failed_meanwhile) == 99


def test_handlers_are_put_back() -> None:
    import threading

    before = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
    with GracefulExit() as stop:
        assert signal.getsignal(signal.SIGINT) != before[0]
        assert not stop.requested
    assert (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)) == before
    seen = []

    def in_thread() -> None:
        with GracefulExit() as stop:
            seen.append(stop.requested)

    thread = threading.Thread(target=in_thread)
    thread.start()
    thread.join()
    assert seen == [False]

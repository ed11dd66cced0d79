"""The run folder: refusals, reuse, manifest, lock, metrics."""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from wernicke.core.errors import EXIT_IN_USE, InputError, RunInUseError
from wernicke.store import manifest
from wernicke.store.checkpoint import save_checkpoint
from wernicke.store.doctor import inspect_run
from wernicke.store.run import RunFolder

CONFIG: dict[str, Any] = {"lr": 1e-3, "delays_s": [2, 4], "llm": {"name": "smollm2", "hf_token": "${env:HF_TOKEN}"}}


def finish(path: Path, value: float = 1.0, *, config: dict[str, Any] = CONFIG, seed: int = 0, code: str = "c1") -> bool:
    """Run a step that writes two files; return whether there was anything to do."""
    with RunFolder.create(path, step="encode", command=["wernicke", "encode"], config=config, seed=seed) as run:
        if run.is_complete(inputs={"betas": "f1"}, code=code):
            return False
        run.append_metrics({"step": 1, "loss": value})
        run.write_npy("predictions/r.npy", np.full(3, value))
        run.write_json("scores.json", [{"metric": "r", "mean": value}])
        run.finish()
    return True


def content(folder: Path) -> dict[str, bytes]:
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def test_a_finished_run(tmp_path: Path) -> None:
    path = tmp_path / "a" / "run"
    assert finish(path)
    run = RunFolder.open(path)
    assert run.verify() == []
    assert run.config == CONFIG
    assert run.seed == 0
    assert run.read_json("scores.json")[0]["mean"] == 1.0
    np.testing.assert_array_equal(run.read_npy("predictions/r.npy"), np.ones(3))
    manifest = run.manifest
    assert manifest is not None
    assert set(manifest["files"]) == {"config.yaml", "metrics.jsonl", "predictions/r.npy", "scores.json"}
    assert manifest["steps"]["encode"] == {"command": "wernicke encode", "inputs": {"betas": "f1"}, "code": "c1"}
    assert manifest["environment"]["packages"]["numpy"] == np.__version__
    assert manifest["environment"]["threads"]["torch"] == 1
    events = [json.loads(line) for line in (path / "history.jsonl").read_text().splitlines()]
    assert [event["event"] for event in events] == ["start", "finish"]
    assert all(event["utc"].endswith("Z") for event in events)


def test_same_command_twice_gives_the_same_bytes(tmp_path: Path) -> None:
    for name in "ab":
        finish(tmp_path / name)
    a, b = content(tmp_path / "a"), content(tmp_path / "b")
    a.pop("history.jsonl"), b.pop("history.jsonl")
    assert a == b


def test_already_done(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    finish(tmp_path)
    before = content(tmp_path)
    caplog.set_level(logging.INFO)
    assert not finish(tmp_path)
    assert "already done" in caplog.text
    assert content(tmp_path) == before


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"config": {**CONFIG, "lr": 1e-4}}, r"lr: 0.001 there, 0.0001 given"),
        ({"config": {"lr": 1e-3, "delays_s": [2, 4]}}, r"llm: .* there, nothing given"),
        ({"config": {**CONFIG, "lr": 1}}, "lr: 0.001 there, 1 given"),
        ({"seed": 1}, "seed: 0 there, 1 given"),
        ({"code": "c2"}, "other code"),
    ],
)
def test_a_finished_run_is_never_overwritten(tmp_path: Path, changed: dict[str, Any], message: str) -> None:
    finish(tmp_path)
    before = content(tmp_path)
    with pytest.raises(InputError, match=message) as caught:
        finish(tmp_path, **changed)
    assert len(str(caught.value).splitlines()) <= 2
    assert content(tmp_path) == before


def test_other_inputs(tmp_path: Path) -> None:
    finish(tmp_path)
    with RunFolder.create(tmp_path, step="encode", config=CONFIG, seed=0) as run:
        with pytest.raises(InputError, match="finished with other inputs.betas"):
            run.is_complete(inputs={"betas": "f2"}, code="c1")
        assert run.is_complete(inputs={"betas": "f1"}, code="c1")


def test_damaged_results_are_computed_again(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    finish(tmp_path)
    good = content(tmp_path)
    (tmp_path / "scores.json").write_text("[]")
    assert any("scores.json" in fault for fault in RunFolder.open(tmp_path).verify())
    assert finish(tmp_path)
    assert "scores.json" in caplog.text
    now = content(tmp_path)
    assert now["scores.json"] == good["scores.json"]


def test_unfinished_run_goes_on(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with RunFolder.create(tmp_path, step="encode", config=CONFIG, seed=0) as run:
        assert not run.is_complete(inputs={"betas": "f1"}, code="c1")
        run.write_json("half.json", 1)
    assert RunFolder.open(tmp_path).verify() == [f"{tmp_path}: unfinished, no manifest.json"]
    with pytest.raises(InputError, match="step `encode` is not finished"):
        RunFolder.open(tmp_path).check_finished("encode")
    with pytest.raises(InputError, match="lr: 0.001 there, 2.0 given"):
        RunFolder.create(tmp_path, config={**CONFIG, "lr": 2.0}, seed=0).__enter__()
    with (
        RunFolder.create(tmp_path, step="encode", config=CONFIG, seed=0) as run,
        pytest.raises(InputError, match="begun with other inputs.betas"),
    ):
        run.is_complete(inputs={"betas": "f2"}, code="c1")
    assert finish(tmp_path, code="c2")
    assert "code has changed" in caplog.text
    RunFolder.open(tmp_path).check_finished("encode")
    assert RunFolder.open(tmp_path).verify() == []


def test_folders_that_hold_something_else_are_left_alone(tmp_path: Path) -> None:
    for name, file in (("a", "notes.txt"), ("b", "config.yaml"), ("c", "manifest.json"), ("d", ".hidden")):
        folder = tmp_path / name
        folder.mkdir()
        (folder / file).write_text("{broken")
        with pytest.raises(InputError, match=f"E-CFG .*holds no run.*{file}"):
            finish(folder)
        assert content(folder) == {file: b"{broken"}
        with pytest.raises(InputError, match="E-REF .*not a run folder"):
            RunFolder.open(folder)
    with pytest.raises(InputError, match="E-REF .*no such run folder"):
        RunFolder.open(tmp_path / "none")
    with pytest.raises(InputError, match="E-CFG .*is a file"):
        finish(tmp_path / "a" / "notes.txt")
    with pytest.raises(InputError, match="E-REF"):
        finish(tmp_path / "a" / "notes.txt" / "run")


def test_no_secret_gets_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_swordfishswordfish99")
    with pytest.raises(InputError, match="E-CFG hf_token"):
        RunFolder.create(tmp_path / "x", config={"hf_token": "hf_swordfishswordfish99"}, seed=0)
    assert not (tmp_path / "x").exists()
    command = ["wernicke", "train", "--hf_token", "hf_swordfishswordfish99"]
    with RunFolder.create(tmp_path, command=command, config=CONFIG, seed=0) as run:
        run.finish()
    assert not any(b"swordfish" in data for data in content(tmp_path).values())


def test_names_stay_inside(tmp_path: Path) -> None:
    with RunFolder.create(tmp_path / "run", config=CONFIG, seed=0) as run:
        for name in ("../a", "/tmp/a", "a/../../b", ""):
            with pytest.raises(InputError, match="E-UNSAFE"):
                run.write_text(name, "x")
        with pytest.raises(ValueError, match="written by the run folder itself"):
            run.write_text("manifest.json", "x")
    with pytest.raises(RuntimeError, match="inside `with`"):
        run.write_text("a", "x")


def test_a_hostile_manifest_reads_nothing_outside(tmp_path: Path) -> None:
    finish(tmp_path)
    manifest = json.loads((tmp_path / "manifest.json").read_text())
    manifest["files"]["../../etc/passwd"] = {"sha256": "0", "size": 1, "step": "encode"}
    (tmp_path / "manifest.json").write_text(json.dumps(manifest))
    assert any("invalid" in fault for fault in RunFolder.open(tmp_path).verify())


def test_a_second_step_is_added(tmp_path: Path) -> None:
    finish(tmp_path)
    for page in ("one", "two"):
        with RunFolder.open(tmp_path, step="report", command="wernicke report") as run:
            run.write_text("report.html", page)
            manifest = run.manifest
            assert manifest is not None
            # A kill here would leave the first step's results whole and the second step's not yet there.
            assert run.verify() == []
            assert set(manifest["steps"]) == {"encode"}
            assert "report.html" not in manifest["files"]
            run.finish()
    manifest = RunFolder.open(tmp_path).manifest
    assert manifest is not None
    assert {name: entry["step"] for name, entry in manifest["files"].items()} == {
        "config.yaml": "encode", "metrics.jsonl": "encode", "predictions/r.npy": "encode", "scores.json": "encode",
        "report.html": "report",
    }  # fmt: skip
    assert not finish(tmp_path)


def test_a_later_step_does_not_hide_damage(tmp_path: Path) -> None:
    finish(tmp_path)
    (tmp_path / "scores.json").write_text("[]")
    with RunFolder.open(tmp_path, step="report") as run:
        run.write_text("report.html", "page")
        run.finish()
        assert [fault for fault in run.verify() if "scores.json" in fault]


@pytest.mark.parametrize(
    "content", ["[]", "{}", '{"schema": "wernicke-run/1", "seed": 0}', "{", '{"schema": "wernicke-run/2", "seed": 0}',
                '{"schema": "wernicke-run/1", "seed": 0, "steps": {"encode": 1}, "files": {}}',
                '{"schema": "wernicke-run/1", "seed": 0, "steps": {}, "files": {"a": 1}}'],
)  # fmt: skip
def test_a_damaged_manifest_is_one_clear_error(tmp_path: Path, content: str) -> None:
    finish(tmp_path)
    (tmp_path / "manifest.json").write_text(content)
    with pytest.raises(InputError, match=r"E-(FMT|HDR) .*manifest\.json"):
        finish(tmp_path)
    assert (tmp_path / "manifest.json").read_text() == content
    assert inspect_run(tmp_path)["state"] == "damaged"


def test_files_by_other_writers(tmp_path: Path) -> None:
    with RunFolder.create(tmp_path, config=CONFIG, seed=0) as run:
        with run.atomic_path("figures/map.png") as temporary:
            temporary.write_bytes(b"png")
        with run.atomic_write("captions.csv", "w") as file:
            file.write("id,text\n")
        assert run.write_bytes("b.bin", b"x").read_bytes() == b"x"
        save_checkpoint(tmp_path, 1, {"model": {}}, {})
        run.finish()
        manifest = run.manifest
    assert manifest is not None
    assert set(manifest["files"]) == {"config.yaml", "figures/map.png", "captions.csv", "b.bin"}


def test_metrics(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "metrics.jsonl"
    with RunFolder.create(tmp_path, config=CONFIG, seed=0) as run:
        assert run.read_metrics() == []
        for step in range(4):
            run.append_metrics({"step": step, "loss": np.float32("nan") if step == 2 else 0.5, "note": "x"})
    with open(path, "a") as file:
        file.write('{"step": 4, "lo')
    rows = RunFolder.open(tmp_path).read_metrics()
    assert "cut short" in caplog.text
    assert [row["step"] for row in rows] == [0, 1, 2, 3]
    assert np.isnan(rows[2]["loss"])
    with RunFolder.create(tmp_path, config=CONFIG, seed=0) as run:
        run.append_metrics({"step": 9})
        assert [row["step"] for row in run.read_metrics()] == [0, 1, 2, 3, 9]
        before = path.read_bytes().splitlines()[:3]
        run.rewind_metrics(last=2)
        assert path.read_bytes().splitlines() == before
    path.write_text('{"step": 1}\nnonsense\n{"step": 2}\n')
    with pytest.raises(InputError, match="line 2: not a line of JSON"):
        RunFolder.open(tmp_path).read_metrics()


def test_lock_names_its_holder(tmp_path: Path) -> None:
    with RunFolder.create(tmp_path, config=CONFIG, seed=0):
        assert inspect_run(tmp_path)["in_use_by"].startswith(f"pid {os.getpid()} on host ")
        with pytest.raises(RunInUseError, match=f"in use by pid {os.getpid()} on host .*{tmp_path}"):
            RunFolder.open(tmp_path).__enter__()
    assert inspect_run(tmp_path)["in_use_by"] is None
    with RunFolder.open(tmp_path):
        pass


def test_exactly_one_of_two_starts_wins(tmp_path: Path, fork: Callable[[Callable[[], None]], int]) -> None:
    for attempt in range(25):
        path = tmp_path / str(attempt)
        start, go = os.pipe()
        done_read, done = os.pipe()

        def work(path: Path = path, pipes: tuple[int, ...] = (start, go, done_read, done)) -> None:
            start, go, done_read, done = pipes
            os.close(go)
            os.close(done)
            os.read(start, 1)  # both wait until the parent closes its end
            with RunFolder.create(path, config=CONFIG, seed=0):
                os.read(done_read, 1)  # hold it until the parent has seen the loser leave

        children = {fork(work), fork(work)}
        os.close(go)
        loser, status = os.waitpid(-1, 0)
        assert os.waitstatus_to_exitcode(status) == EXIT_IN_USE
        os.close(done)
        (winner,) = children - {loser}
        _, status = os.waitpid(winner, 0)
        assert os.waitstatus_to_exitcode(status) == 0
        os.close(start), os.close(done_read)


def test_what_was_begun_and_left_empty_takes_other_settings(tmp_path: Path) -> None:
    with RunFolder.create(tmp_path, step="encode", config={"layers": 9}, seed=0) as run:
        assert not run.is_complete(inputs={"betas": "f1"}, code="c1")
    assert finish(tmp_path)
    with pytest.raises(InputError, match="E-CFG .*other settings"):
        finish(tmp_path, config={"layers": 9})
    assert RunFolder.open(tmp_path).verify() == []


def test_a_run_begun_while_the_place_is_looked_at_is_no_foreign_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def look(folder: Path, real: Callable[[Path], str | None] = manifest.find_foreign) -> str | None:
        monkeypatch.undo()
        with RunFolder.create(folder, config=CONFIG, seed=0):
            pass
        return real(folder)

    monkeypatch.setattr("wernicke.store.run.find_foreign", look)
    tmp_path.joinpath("run").mkdir()
    assert finish(tmp_path / "run")


def test_kill_releases_the_lock(tmp_path: Path, run_child: Callable[[Callable[[], None]], int]) -> None:
    def work() -> None:
        with RunFolder.create(tmp_path, config=CONFIG, seed=0) as run, run.atomic_write("a.json") as file:
            file.write(b"half")
            file.flush()
            os.kill(os.getpid(), 9)

    assert run_child(work) == -9
    left = [item.name for item in tmp_path.iterdir() if item.name.startswith(".tmp-")]
    assert len(left) == 1
    assert inspect_run(tmp_path)["in_use_by"] is None
    with RunFolder.create(tmp_path, config=CONFIG, seed=0) as run:
        assert not (tmp_path / left[0]).exists()
        assert not (tmp_path / "a.json").exists()
        run.finish()


def test_killed_before_the_run_had_a_record(tmp_path: Path) -> None:
    (tmp_path / ".lock").write_text("pid 1 on host h")
    (tmp_path / ".tmp-1-abcdef01").write_text("")
    (tmp_path / "config.yaml").write_text("half: ")
    assert finish(tmp_path)
    assert RunFolder.open(tmp_path).config == CONFIG


def test_a_copy_without_hidden_files_is_still_a_run(tmp_path: Path) -> None:
    finish(tmp_path)
    for item in (".wernicke-run.json", ".lock"):
        (tmp_path / item).unlink()
    assert RunFolder.open(tmp_path).seed == 0
    assert not finish(tmp_path)


def test_inspection(tmp_path: Path) -> None:
    with RunFolder.create(tmp_path, config=CONFIG, seed=0):
        pass
    assert inspect_run(tmp_path)["state"] == "unfinished"
    finish(tmp_path)
    assert inspect_run(tmp_path)["state"] == "finished"
    assert inspect_run(tmp_path)["steps"] == ["encode"]
    (tmp_path / "scores.json").unlink()
    found = inspect_run(tmp_path)
    assert found["state"] == "damaged"
    assert found["faults"] == [f"{tmp_path / 'scores.json'}: missing"]
    (tmp_path / "manifest.json").write_text("{")
    assert inspect_run(tmp_path)["state"] == "damaged"


def test_pieces_are_taken_up_only_while_whole(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A step that is interrupted after some of its files finds them again, unless they or what made them changed."""

    def begin(inputs: str = "f1", code: str = "c1") -> RunFolder:
        run = RunFolder.create(tmp_path / "run", step="evaluate", config=CONFIG, seed=0)
        run._identity = {"inputs": {"captions": inputs}, "code": code}
        return run

    with begin() as run:
        assert not run.is_kept("controls/a.json")
        run.write_json("controls/a.json", {"text": "a chair"})
        assert not run.is_kept("controls/a.json")
        run.keep("controls/a.json")
        assert run.is_kept("controls/a.json")
    with begin() as run:
        assert run.is_kept("controls/a.json")
    with begin(code="c2") as run:
        assert not run.is_kept("controls/a.json")
    with begin(inputs="f2") as run:
        assert not run.is_kept("controls/a.json")
    (tmp_path / "run/controls/a.json").write_text('{"text": "a chaos"}\n')
    with begin() as run, caplog.at_level(logging.WARNING):
        assert not run.is_kept("controls/a.json")
    assert "is computed again" in caplog.text
    assert run.seed == 0

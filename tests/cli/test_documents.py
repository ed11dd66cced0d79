"""What the documents promise: every error code, every exit code, every command line."""

from __future__ import annotations

import re
import shlex
from importlib import import_module
from pathlib import Path

import pytest

import wernicke
from wernicke import cli
from wernicke.core import errors
from wernicke.recipes.config import load_config

SOURCE = Path(wernicke.__file__).parent
DOCS = Path(__file__).resolve().parents[2] / "docs"


def rows(name: str) -> list[tuple[str, list[str]]]:
    """Every row of the tables of a document, under its heading: (heading, cells)."""
    heading, found = "", []
    for line in (DOCS / name).read_text().splitlines():
        if line.startswith("#"):
            heading = line.lstrip("# ")
        elif line.startswith("|") and not set(line) <= set("|- "):
            found.append((heading, [cell.strip() for cell in line.strip("|").split("|")]))
    return [(heading, cells) for heading, cells in found if cells[0] not in ("code", "exit code", "theirs")]


def test_every_error_code_stands_in_the_table_and_the_other_way_round():
    used = set()
    for file in SOURCE.rglob("*.py"):
        used |= set(re.findall(r"[\"'](E-[A-Z]+)[\"']", file.read_text()))
    documented = [cells[0].strip("`") for heading, cells in rows("errors.md") if heading == "Codes"]
    assert sorted(used) == documented


def test_every_exit_code_stands_in_the_table():
    documented = {cells[1].strip("`"): int(cells[0]) for heading, cells in rows("errors.md") if heading == "Exit codes"}
    assert documented == {name: value for name, value in vars(errors).items() if name.startswith("EXIT_")}


ENCODING = (
    "--subject_name --time_delays --modalities --modality_hparams --feat_names --select_layers --device --reg_type "
)
ENCODING += "--perm_type --n_iter --reduce_dim --save_pred --dataset"
TRAINING = "--eeg_dataset --image_dir --splits_path --output --clip_model --split_num --subject --time_low --time_high "
TRAINING += "--save_every --device --batch_size --num_epochs --save_steps --logging_steps --learning_rate --optim "
TRAINING += "--weight_decay --max_grad_norm --max_steps --warmup_ratio --group_by_length --lr_scheduler_type "
TRAINING += "--llm_backbone_name_or_path --load_in_8bit --use_lora --no_stage2 --eeg_encoder_path "
TRAINING += (
    "--saved_pretrained_model_path --num_epochs_image --num_epochs_eeg --gradient_accumulation_steps --fp16 --bf16 "
)
TRAINING += "--report_to"
INFERENCE = (
    "--eeg_dataset --image_dir --splits_path --model_path --device --split_num --subject --time_low --time_high "
)
INFERENCE += "--dest"


@pytest.mark.parametrize(
    ("heading", "flags"),
    [("drama2brain", ENCODING), ("train_eeg_classifier.py", TRAINING), ("inference.py", INFERENCE)],
)
def test_no_flag_of_the_originals_is_missing(heading, flags):
    named = {cells[0].strip("`").split()[0] for above, cells in rows("seed-commands.md") if heading in above}
    assert {flag for flag in named if flag.startswith("--")} == set(flags.split())


def test_every_row_has_a_state():
    for _, cells in rows("seed-commands.md"):
        assert len(cells) == 3, cells
        assert re.match(r"(available|issue \d+: not there yet|later: not there yet|not taken over:)", cells[2]), cells


AVAILABLE = sorted({c[1].strip("`") for _, c in rows("seed-commands.md") if c[2].startswith("available")})


@pytest.mark.parametrize("line", AVAILABLE)
def test_available_lines_are_parsed_by_the_real_command_line(line, monkeypatch, tmp_path, capsys):
    words = shlex.split(line)
    assert words[0] == "wernicke"
    monkeypatch.chdir(tmp_path)
    if "--config" in words:
        recipe = load_config(words[words.index("--config") + 1])[0]
        module, ran = import_module(f"wernicke.recipes.{recipe}"), []
        monkeypatch.setattr(module, words[1], lambda config, run, command: ran.append(config))
        assert cli.run(words[1:]) == 0
        assert [type(config) for config in ran] == [module.Config]
        return
    # The other commands have no step between parsing and work: their flags are looked up in their help.
    assert cli.run([words[1], "--help"]) == 0
    helped = capsys.readouterr().out
    for flag in words[2:]:
        if flag.startswith("--"):
            assert re.search(rf"{flag}\b", helped), flag


def test_lines_that_are_not_there_yet_are_indeed_refused():
    """So that the table is taken up again when something lands."""
    commands = {cells[1].strip("`").split()[1] for _, cells in rows("seed-commands.md") if cells[1]}
    configs = {
        match[1]
        for _, cells in rows("seed-commands.md")
        if "not there yet" in cells[2] and (match := re.search(r"--config (\S+)", cells[1].strip("`")))
    }
    shipped = {file.stem for file in (SOURCE / "recipes/configs").glob("*.yaml")}
    assert not configs & shipped
    assert {"encode", "train", "decode", "evaluate"} <= commands & set(cli.COMMANDS)

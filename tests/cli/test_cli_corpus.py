"""Configs that cannot be right, rows C1 to C15 of the corpus of bad inputs, through `wernicke encode --config`."""

from __future__ import annotations

import shutil
from importlib.resources import files

import pytest

from wernicke import cli
from wernicke.recipes.config import build, load_config
from wernicke.recipes.haxby_encode import Config

GOOD = "recipe: haxby_encode\nsentences: {cat: a cat}\n"
LAUGHS = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]\n" for i in range(1, 10)
)

REFUSED = {
    "C1 object": (GOOD + "llm: !!python/object/apply:os.system ['touch CANARY']\n", "E-UNSAFE", "llm"),
    "C1 name": (GOOD + "llm: !!python/name:os.system\n", "E-UNSAFE", "llm"),
    "C2 twice": (GOOD + "layer: 1\nlayer: 2\n", "E-CFG", "line 4: `layer` already set on line 3"),
    "C4 text": (GOOD + "llm: 3.10\n", "E-CFG", "found 3.1, expected text\n  put it in quotes if text is meant"),
    "C5 laughs": (GOOD + LAUGHS, "E-SIZE", "aliases"),
    "C6 tab": (GOOD + "data:\n\tdetrend_order: 2\n", "E-CFG", "indent with spaces, not tabs"),
    "C7 empty": ("", "E-CFG", "the config is empty"),
    "C7 comment": ("# nothing\n", "E-CFG", "the config is empty"),
    "C8 nan": (GOOD + "smallest_effect: .nan\n", "E-CFG", "smallest_effect"),
    "C8 inf": (GOOD + "alphas: [1, -.inf]\n", "E-CFG", "alphas"),
    "C9 JSON NaN": (GOOD + "smallest_effect: NaN\n", "E-CFG", "smallest_effect: found 'NaN', expected a number"),
    "C10 nested": (GOOD + "alphas: " + "[" * 10**5 + "]" * 10**5 + "\n", "E-SIZE", "nested deeper"),
    "C11 key": (GOOD + "alhpas: [1]\n", "E-CFG", "unknown key `alhpas`\n  did you mean `alphas`?"),
    "C11 nested key": (GOOD + "data: {rot: x}\n", "E-CFG", "unknown key `data.rot`\n  did you mean `root`?"),
    "C12 text": (GOOD + 'layer: "4"\n', "E-CFG", "layer: found '4', expected a whole number"),
    "C12 truth": (GOOD + "layer: true\n", "E-CFG", "layer: found True, expected a whole number"),
    "C12 fraction": (GOOD + "n_permutations: 99.5\n", "E-CFG", "expected a whole number"),
    "C12 one for many": (GOOD + "alphas: 1\n", "E-CFG", "alphas: found 1, expected a list, each a number"),
    "C12 list in list": (GOOD + "alphas: [[1]]\n", "E-CFG", "alphas: found [[1]], expected a list"),
    "C12 no keys": (GOOD + "data: here\n", "E-CFG", "data: found 'here', expected keys"),
    "C13 alpha": (GOOD + "alphas: [1, -1]\n", "E-CFG", "alphas: found -1, expected a number above 0"),
    "C13 no delays": (GOOD + "delays_s: []\n", "E-CFG", "delays_s: found an empty list"),
    "C13 layer": (GOOD + "layer: -1\n", "E-CFG", "layer: found -1"),
    "C13 draws": (GOOD + "n_permutations: 0\n", "E-CFG", "n_permutations: found 0"),
    "C15 secret": (GOOD + "device: hf_abcdefghijklmnopqrstuvwxyz\n", "E-CFG", "${env:HF_TOKEN}"),
    "no recipe": ("layer: 3\n", "E-CFG", "no recipe named"),
    "other recipe": ("recipe: haxby_encod\n", "E-CFG", "did you mean `haxby_encode`?"),
    "missing key": ("recipe: haxby_encode\n", "E-CFG", "sentences: the key is missing, expected keys, each text"),
    "null": (GOOD + "llm: null\n", "E-CFG", "llm: found None, expected text"),
    "a list": ("- recipe\n", "E-CFG", "expected `key: value` lines"),
    "binary": ("\x00\x01\x02", "E-CFG", ""),
}


@pytest.mark.parametrize(("text", "code", "words"), REFUSED.values(), ids=REFUSED.keys())
def test_refused(text, code, words, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "bad.yaml"
    path.write_text(text)
    assert cli.run(["encode", "--config", str(path), "--run", str(tmp_path / "run")]) == 2
    err = capsys.readouterr().err
    assert err.startswith(f"wernicke: {code} {path}")
    assert words in err
    assert err.count("\n") <= 2
    assert [item.name for item in tmp_path.iterdir()] == ["bad.yaml"]


def read(tmp_path, text: str) -> Config:
    path = tmp_path / "good.yaml"
    path.write_text(text)
    recipe, values, path = load_config(str(path))
    assert recipe == "haxby_encode"
    return build(Config, values, path, [], "test")


def test_c3_numbers_are_numbers(tmp_path):
    assert read(tmp_path, GOOD + "smallest_effect: 1e-4\nalphas: [1e-3, 1E2, 5]\n").alphas == [1e-3, 100.0, 5]
    assert read(tmp_path, GOOD + "smallest_effect: 1e-4\n").smallest_effect == 1e-4


@pytest.mark.parametrize("text", ["NO", "on", "12:30:45", "007", "2026-01-01", '"3.10"', "'1e3'"])
def test_c4_text_stays_text(text, tmp_path):
    assert read(tmp_path, GOOD + f"llm: {text}\n").llm == text.strip("\"'")


def test_c4_texts_in_keys_of_a_mapping(tmp_path):
    assert read(tmp_path, "recipe: haxby_encode\nsentences: {NO: on, 007: off}\n").sentences == {
        "NO": "on",
        "007": "off",
    }


def test_c14_the_input_folder_is_no_run_folder(tmp_path, capsys):
    bundled = files("wernicke.data") / "haxby2001"
    for name in ("attributes_literal.txt", "bold.nii.gz", "mask.nii.gz"):
        shutil.copy(str(bundled / name), tmp_path / name)
    before = sorted(item.name for item in tmp_path.iterdir())
    line = ["encode", "--config", "haxby_encode", "--data.root", str(tmp_path), "--run", str(tmp_path)]
    assert cli.run(line) == 2
    assert "E-CFG" in capsys.readouterr().err
    assert sorted(item.name for item in tmp_path.iterdir()) == before


def test_c15_a_secret_is_not_repeated(tmp_path, capsys):
    path = tmp_path / "secret.yaml"
    path.write_text(GOOD + "hf_token: hf_abcdefghijklmnopqrstuvwxyz\n")
    assert cli.run(["encode", "--config", str(path), "--run", str(tmp_path / "run")]) == 2
    assert "abcdefghij" not in capsys.readouterr().err

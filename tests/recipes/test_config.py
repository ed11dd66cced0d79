"""Every shipped config is read by the real `Config`, every key of which is documented and a flag."""

from __future__ import annotations

import dataclasses
import json
import typing
from importlib import import_module
from pathlib import Path
from typing import Literal

import pytest

from wernicke.core.errors import InputError
from wernicke.recipes.config import CONFIGS, build, check_values, describe_keys, entry_class, list_keys, load_config

SHIPPED = sorted(file.stem for file in CONFIGS.glob("*.yaml"))


def load(name: str):
    recipe, values, path = load_config(name)
    return import_module(f"wernicke.recipes.{recipe}").Config, values, path


@pytest.mark.parametrize("name", SHIPPED)
def test_a_shipped_config_is_what_its_class_reads(name):
    config, values, path = load(name)
    made = dataclasses.asdict(build(config, values, path, [], "test"))
    for key, _, value in list_keys(config, values):
        found = made
        for part in key.split("."):
            found = found[part]
        assert found == value, key


@pytest.mark.parametrize("name", SHIPPED)
def test_a_shipped_config_writes_out_every_key(name):
    config, values, _ = load(name)
    hints = typing.get_type_hints(config)
    written = set()
    for key, value in values.items():
        if entry_class(hints[key]) is not None:
            continue  # an entry says what it has of its own
        nested = isinstance(value, dict) and key not in {k for k, _, _ in list_keys(config, values)}
        written |= {f"{key}.{inner}" for inner in value} if nested else {key}
    assert written == {key for key, _, _ in list_keys(config, {})}


@pytest.mark.parametrize("name", SHIPPED)
def test_every_key_is_documented(name):
    config, values, _ = load(name)
    docs = describe_keys(config, values)
    assert {key for key, _, _ in list_keys(config, values)} <= {key for key, text in docs.items() if text}


@pytest.mark.parametrize("name", SHIPPED)
def test_every_key_is_a_flag(name):
    config, values, path = load(name)
    for key, hint, value in list_keys(config, values):
        if isinstance(value, list):
            words = [f"--{key}", *(map(str, value) if value else ["[]"])]
        elif isinstance(value, dict):
            words = [f"--{key}", json.dumps(value)]
        else:
            words = [f"--{key}", "null" if value is None else str(value)]
        assert build(config, values, path, words, "test") == build(config, values, path, [], "test"), (key, hint)


@dataclasses.dataclass(frozen=True)
class Inner:
    """Inside.

    Parameters
    ----------
    root : path, optional
        Where it is,
        in two lines.
    size : int
    """

    root: Path | None = None
    size: int = 3


@dataclasses.dataclass(frozen=True)
class Outer:
    """Outside.

    Parameters
    ----------
    names : list of str
        Any names.
    inner : Inner
    mode : {"a", "b"}
        How.
    rate, on : float and bool
        Both at once.

    Raises
    ------
    InputError
        Never documented as a key.
    """

    names: list[str]
    inner: Inner = dataclasses.field(default_factory=Inner)
    mode: Literal["a", "b"] = "a"
    rate: float = 0.5
    on: bool = False

    def __post_init__(self) -> None:
        if self.rate < 0:
            raise InputError("E-CFG", "found a negative rate", field="rate")


FILE = Path("some.yaml")


def make(values: dict, *flags: str) -> Outer:
    return build(Outer, values, FILE, flags, "test")


def refusal(values: dict, *flags: str) -> str:
    with pytest.raises(InputError) as caught:
        make(values, *flags)
    assert caught.value.code == "E-CFG"
    return str(caught.value)


def test_file_then_flags():
    made = make({"names": ["x"], "inner": {"size": 4}}, "--names", "a, b", "1", "--inner.root=r", "--rate", "1e-2")
    assert made == Outer(["a, b", "1"], Inner(Path("r"), 4), "a", 0.01)
    assert make({"names": []}, "--on", "true", "--mode=b") == Outer([], mode="b", on=True)


def test_messages_name_file_and_field_or_the_flag():
    assert refusal({"names": [1]}) == "E-CFG some.yaml: names: found [1], expected a list, each text"
    assert refusal({}) == "E-CFG some.yaml: names: the key is missing, expected a list, each text"
    assert "some.yaml: inner.size: found 'x', expected a whole number" in refusal({"names": [], "inner": {"size": "x"}})
    assert refusal({"names": []}, "--inner.size", "x") == "E-CFG --inner.size: found 'x', expected a whole number"
    assert refusal({"names": [], "mode": "c"}) == "E-CFG some.yaml: mode: found 'c', expected a or b"
    assert refusal({"names": [], "on": "yes"}) == "E-CFG some.yaml: on: found 'yes', expected true or false"
    assert "did you mean `mode`?" in refusal({"names": [], "mod": "c"})
    assert "did you mean `inner.size`?" in refusal({"names": []}, "--inner.sise", "3")


def test_what_the_class_itself_refuses_names_the_file_unless_a_flag_set_it():
    assert refusal({"names": [], "rate": -1}) == "E-CFG some.yaml: rate: found a negative rate"
    assert refusal({"names": []}, "--rate", "-1") == "E-CFG rate: found a negative rate"


def test_flags_are_not_abbreviated():
    assert "unknown flag `--rat`" in refusal({"names": []}, "--rat", "1")


def test_documentation_of_keys():
    assert describe_keys(Outer) == {
        "names": "Any names.", "inner": "Inner", "mode": "How.", "rate": "Both at once.", "on": "Both at once.",
        "inner.root": "Where it is, in two lines.", "inner.size": "int",
    }  # fmt: skip


def test_help_names_keys_types_and_values(capsys):
    with pytest.raises(SystemExit) as end:
        make({"names": ["x"]}, "--help")
    assert end.value.code == 0
    out = " ".join(capsys.readouterr().out.split())
    assert "--names X Any names. (a list, each text; now ['x'])" in out.replace("--names X, --names+ X", "--names X")
    assert "--inner.root X Where it is, in two lines. (a path or null; no value yet)" in out
    assert "--mode X How. (a or b; now a)" in out


def test_huge_numbers_are_numbers():
    check_values({"rate": 10**400}, Outer, FILE)
    with pytest.raises(InputError):
        check_values({"rate": float("inf")}, Outer, FILE)


@dataclasses.dataclass(frozen=True)
class Entry:
    """One of several.

    Parameters
    ----------
    layer : int or str
        Which.
    delays : list of int, optional
        When.
    """

    layer: int | str
    delays: list[int] | None = None

    def __post_init__(self) -> None:
        if self.layer == 0:
            raise InputError("E-CFG", "found 0", field="layer")


@dataclasses.dataclass(frozen=True)
class WithEntries:
    """Entries by name.

    Parameters
    ----------
    bands : dict of name to Entry
        Some.
    """

    bands: dict[str, Entry]


def entries(values: dict, *flags: str) -> dict[str, Entry]:
    return build(WithEntries, {"bands": values}, FILE, flags, "test").bands


def entry_refusal(values: dict, *flags: str) -> str:
    with pytest.raises(InputError) as caught:
        entries(values, *flags)
    return str(caught.value)


def test_every_entry_has_its_own_keys():
    given = {"Speech": {"layer": 3, "delays": [1, 2]}, "Object": {"layer": "all"}}
    assert entries(given) == {"Speech": Entry(3, [1, 2]), "Object": Entry("all")}
    made = entries(
        given, "--bands.Speech.layer", "all", "--bands.Object.delays", "8", "10", "--bands.Speech.delays=null"
    )
    assert made == {"Speech": Entry("all"), "Object": Entry("all", [8, 10])}
    assert entries(given, "--bands.Object.layer", "33")["Object"] == Entry(33)
    assert entries({}) == {}


def test_refusals_of_entries_name_the_entry():
    assert "unknown key `bands.Speech.layr`" in entry_refusal({"Speech": {"layr": 3}})
    assert "did you mean `bands.Speech.layer`?" in entry_refusal({"Speech": {"layer": 3}}, "--bands.Speach.layer", "4")
    assert "bands.Speech: found 3, expected keys" in entry_refusal({"Speech": 3})
    assert "bands.Speech.layer: the key is missing" in entry_refusal({"Speech": {}})
    assert "bands.Speech.layer: found 0" in entry_refusal({"Speech": {"layer": 0}})
    assert "found the name 'a-b'" in entry_refusal({"a-b": {"layer": 0}})
    assert "bands.Speech.delays: found 'x', expected" in entry_refusal({"Speech": {"layer": 1, "delays": "x"}})
    assert "--bands.Speech.delays" in entry_refusal({"Speech": {"layer": 1}}, "--bands.Speech.delays", "x")


def test_help_describes_entries(capsys):
    with pytest.raises(SystemExit):
        entries({"Speech": {"layer": 3}}, "--help")
    assert "--bands.Speech.layer X Which. (a whole number or text; now 3)" in " ".join(capsys.readouterr().out.split())

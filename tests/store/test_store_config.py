"""The strict YAML reader and the writer that it reads back."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wernicke.core.errors import InputError
from wernicke.store.config import config_path, dump_yaml, load_yaml, parse_yaml


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1e-4", 1e-4), ("-2.5E+3", -2500.0), (".5", 0.5), ("3.", 3.0), ("3.10", 3.1), ("0x1F", 31), ("0o17", 15),
        ("12", 12), ("-0", 0), ("true", True), ("False", False), ("~", None), ("", None), ("null", None),
        # All of these are something else in YAML 1.1.
        ("NO", "NO"), ("yes", "yes"), ("on", "on"), ("Off", "Off"), ("y", "y"), ("12:30:45", "12:30:45"),
        ("007", "007"), ("0777", "0777"), ("1_000", "1_000"), ("2026-01-01", "2026-01-01"), ("0b11", "0b11"),
        ("'1'", "1"), ('"true"', "true"), ("!!str 1", "1"), ("nan", "nan"), ("inf", "inf"), ("1.2.3", "1.2.3"),
    ],
)  # fmt: skip
def test_scalars_are_yaml_1_2(text: str, value: object) -> None:
    found = parse_yaml(f"a: {text}")["a"]
    assert found == value
    assert type(found) is type(value)


def test_nested_and_aliases() -> None:
    text = "a: &x [1, {b: two}]\nc: *x\n1: one\nNO: d\n"
    assert parse_yaml(text) == {"a": [1, {"b": "two"}], "c": [1, {"b": "two"}], "1": "one", "NO": "d"}


LAUGHS = "a: &a0 [x]\n" + "".join(f"l{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]\n" for i in range(1, 10))
DOUBLES = "a: &a0 [x]\n" + "".join(f"l{i}: &a{i} [*a{i - 1}, *a{i - 1}]\n" for i in range(1, 25))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("lr: 1\nlr: 2", "E-CFG .*line 2: `lr` already set on line 1"),
        ("m:\n  lr: 1\n  'lr': 2", "E-CFG .*m: line 3: `lr` already set on line 2"),
        ("a: !!python/object/apply:os.system [touch canary]", "E-UNSAFE"),
        ("a: !!python/name:os.system", "E-UNSAFE"),
        ("!!python/object/apply:os.system [touch canary]", "E-(UNSAFE|CFG)"),
        ("? !!python/name:os.system\n: 1", "E-UNSAFE"),
        ("a: !own 1", "E-CFG .*tag !own"),
        ("a: !!binary aGk=", "E-CFG"),
        ("a: !!float nan", "E-CFG"),
        (LAUGHS, "E-SIZE .*aliases"),
        (DOUBLES, "E-SIZE"),
        ("a: &a [*a]", "E-SIZE"),
        ("a: " + "[" * 100_000, "E-SIZE"),
        ("a: " + "{b: " * 40 + "1" + "}" * 40, "E-SIZE .*deeper than 32"),
        ("a: 1\n" + "#" * 2**20, "E-SIZE"),
        ("a:\n\t- b", "E-CFG .*line 2.*not tabs"),
        ("", "E-CFG .*empty"), ("# only a comment\n", "E-CFG .*empty"), ("---\n", "E-CFG .*empty"),
        ("~", "E-CFG .*empty"),
        ("- a\n- b", "E-CFG .*at the top"), ("word", "E-CFG .*at the top"),
        ("a: .nan", "E-CFG .*a: line 1.*finite"), ("a: -.inf", "E-CFG"), ("a: [1, .Inf]", r"E-CFG .*a\[1\]"),
        ("a: 1e999", "E-CFG"), ("a: 1" + "0" * 5000, "E-CFG"),
        ("a: 1\n---\nb: 2", "E-CFG .*second document"),
        ("<<: {a: 1}", "E-CFG .*merge"),
        ("[a]: 1", "E-CFG .*key"),
        ("a: b: c", "E-CFG .*line 1"), ("a: 'b", "E-CFG"), ("a: \x00", "E-CFG"), ("a: *b", "E-CFG"),
        ("hf_token: abcdefgh", "E-CFG hf_token: .*secret|E-CFG .*hf_token: .*secret"),
        ("hub: {api_key: x}", "E-CFG .*hub.api_key"), ("wandb-api-key: x", "E-CFG"),
        ("passwords: [a]\npassword: a", "E-CFG"),
        ("tokens:\n- a\ntoken: [abc]", "E-CFG .*token"),
        ("note: use hf_abcdefghijklmnopqrstuvwxyz", "E-CFG .*note"),
    ],
)  # fmt: skip
def test_refused_in_two_lines(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str, message: str) -> None:
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "c.yaml"
    path.write_text(text)
    with pytest.raises(InputError, match=message) as caught:
        load_yaml(path)
    assert len(str(caught.value).splitlines()) <= 2
    assert "abcdefgh" not in str(caught.value)
    assert str(path) in str(caught.value)
    assert not (tmp_path / "canary").exists()


def test_encodings_and_paths(tmp_path: Path) -> None:
    (tmp_path / "utf16.yaml").write_bytes("a: 1".encode("utf-16"))
    with pytest.raises(InputError, match="E-FMT"):
        load_yaml(tmp_path / "utf16.yaml")
    (tmp_path / "bom.yaml").write_bytes("a: ä".encode("utf-8-sig"))
    assert load_yaml(tmp_path / "bom.yaml") == {"a": "ä"}
    with pytest.raises(InputError, match="E-REF"):
        load_yaml(tmp_path / "none.yaml")


def test_names_that_only_look_like_secrets_pass() -> None:
    text = "n_tokens: 4\npad_token: <pad>\neos_token: </s>\nkey: a\ntoken: true\nhf_token: ${env:HF_TOKEN}\n"
    assert parse_yaml(text)["hf_token"] == "${env:HF_TOKEN}"


texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
scalars = (
    st.none() | st.booleans() | st.integers(-(10**20), 10**20) | st.floats(allow_nan=False, allow_infinity=False)
    | texts | st.sampled_from(["1e-4", "007", "NO", "0x1F", "0o7", "~", "null", "", "1.", "-", "- a", "a: b", "<<", "=",
                       ".5", ".inf", "1_0", "12:30", "2026-01-01", "a #b", "\tx", "a\x85b", "\u2028", " x ", "x\n"])
)  # fmt: skip
values = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3), max_leaves=8
)


@given(st.dictionaries(texts.filter(lambda name: not name.endswith(("token", "key"))), values, max_size=4))
def test_dump_and_parse_round_trip(config: dict[str, object]) -> None:
    back = parse_yaml(dump_yaml(config))
    assert back == config
    assert repr(back) == repr(config)


def test_dump_refuses_what_it_could_not_read_back() -> None:
    with pytest.raises(InputError, match="E-NONFIN a"):
        dump_yaml({"a": float("nan")})
    with pytest.raises(InputError, match="E-FMT a"):
        dump_yaml({"a": object()})


def test_config_path(tmp_path: Path) -> None:
    (tmp_path / "haxby_encode.yaml").write_text("a: 1")
    assert config_path("haxby_encode", tmp_path) == tmp_path / "haxby_encode.yaml"
    assert config_path(str(tmp_path / "haxby_encode.yaml"), tmp_path / "x") == tmp_path / "haxby_encode.yaml"
    with pytest.raises(InputError, match="did you mean `haxby_encode`"):
        config_path("haxby_encod", tmp_path)
    with pytest.raises(InputError, match="E-REF"):
        config_path("other.yaml", tmp_path)

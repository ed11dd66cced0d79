"""What is hidden, and what is not."""

from __future__ import annotations

import pytest

from wernicke.core.errors import InputError
from wernicke.store.secret import check_no_secret, names_secret, redact, redact_command, resolve_secret


@pytest.mark.parametrize(
    "name", ["hf_token", "--hub-token", "token", "api_key", "apikey", "OPENAI_API_KEY", "db.password"]
)
def test_secret_names(name: str) -> None:
    assert names_secret(name)


@pytest.mark.parametrize(
    "name", ["pad_token", "n_tokens", "tokenizer", "key", "eos-token", "max_new_tokens", "secretary"]
)
def test_other_names(name: str) -> None:
    assert not names_secret(name)


def test_command_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MY_TOKEN", "swordfish99")
    words = ["wernicke", "train", "--hf_token", "abc", "--api-key=def", "--llm", "swordfish99", "--pad_token", "<p>",
             "--token", "${env:T}", "a b", "hf_abcdefghijklmnop1234"]  # fmt: skip
    shown = redact_command(words)
    for secret in ("abc", "def", "swordfish99", "hf_abc"):
        assert secret not in shown
    for kept in ("<p>", "${env:T}", "'a b'", "train"):
        assert kept in shown
    assert redact_command("wernicke encode --run 'a b'") == "wernicke encode --run 'a b'"
    assert "swordfish99" not in redact("error with swordfish99")


def test_references_are_read_when_used(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MY_TOKEN", "x")
    monkeypatch.delenv("NO_TOKEN", raising=False)
    assert resolve_secret("${env:MY_TOKEN}") == "x"
    assert resolve_secret("plain") == "plain"
    with pytest.raises(InputError, match="NO_TOKEN is not set"):
        resolve_secret("${env:NO_TOKEN}")
    check_no_secret({"hf_token": "${env:MY_TOKEN}", "api_key": None})
    with pytest.raises(InputError, match=r"a\[0\].password"):
        check_no_secret({"a": [{"password": "x"}]})

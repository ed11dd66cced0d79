"""Secrets never reach a file: configs name an environment variable, command lines are written without them."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from typing import Any

from wernicke.core.errors import InputError

_NAME = re.compile(
    r"(?:^|[._-])(?:token|secret|password|passwd|credentials?|api_?key|access_?key|private_?key|secret_?key)$", re.I
)
# Names of a tokenizer's special tokens, which are no secrets.
_SPECIAL = re.compile(
    r"(?:^|[._-])(?:pad|eos|bos|unk|sep|cls|mask|image|brain|soft|stop|end|start|special|new|per|turn)_?token$", re.I
)
_VALUE = re.compile(
    r"\b(?:hf_[A-Za-z0-9]{16,}|sk-[A-Za-z0-9_-]{16,}|gh[pousr]_[A-Za-z0-9]{20,}|github_pat_\w{20,}|AKIA[A-Z0-9]{16})\b"
)
_REFERENCE = re.compile(r"\$\{env:([A-Za-z_][A-Za-z0-9_]*)\}")
HIDDEN = "[hidden]"


def names_secret(name: str) -> bool:
    """Whether a key or flag of this name holds a secret (``hf_token``, ``api_key``; not ``pad_token``)."""
    name = name.lstrip("-").replace("-", "_")
    return bool(_NAME.search(name)) and not _SPECIAL.search(name)


def check_no_secret(value: Any, path: str | os.PathLike[str] | None = None, field: str = "") -> None:
    """Refuse (E-CFG) a config that holds a secret as text; the message never repeats it.

    ``${env:NAME}`` is accepted and stays as it is: `resolve_secret` reads the variable when the value is used.
    """
    if isinstance(value, Mapping):
        for key, item in value.items():
            check_no_secret(item, path, f"{field}.{key}".lstrip("."))
    elif isinstance(value, (list, tuple)):
        for i, item in enumerate(value):
            check_no_secret(item, path, f"{field}[{i}]")
    elif isinstance(value, str) and value and not _REFERENCE.fullmatch(value):
        key = re.sub(r"\[\d+\]$", "", field)
        if names_secret(key) or _VALUE.search(value):
            raise InputError(
                "E-CFG", "found a secret as text; it would be stored with the run", path=path, field=field or None,
                hint="put it into an environment variable and write ${env:NAME}, such as ${env:HF_TOKEN}",
            )  # fmt: skip


def resolve_secret(value: str, field: str | None = None) -> str:
    """Return the variable's content for ``${env:NAME}``, any other text as it is."""
    match = _REFERENCE.fullmatch(value)
    if match is None:
        return value
    content = os.environ.get(match.group(1))
    if not content:
        raise InputError("E-CFG", f"environment variable {match.group(1)} is not set", field=field)
    return content


def redact(text: str) -> str:
    """Return text in which known secrets are hidden: the usual token forms, and values of secret-named variables."""
    text = _VALUE.sub(HIDDEN, text)
    for name, content in os.environ.items():
        if names_secret(name) and len(content) >= 8:
            text = text.replace(content, HIDDEN)
    return text


def redact_command(arguments: str | Sequence[str]) -> str:
    """Return a command line as one text, with the values of secret-named flags hidden."""
    import shlex

    words = shlex.split(arguments) if isinstance(arguments, str) else [str(word) for word in arguments]
    shown = []
    hide = False
    for word in words:
        flag, equals, value = word.partition("=")
        if hide and not word.startswith("--") and not _REFERENCE.fullmatch(word):
            word = HIDDEN
        elif word.startswith("-") and equals and names_secret(flag) and not _REFERENCE.fullmatch(value):
            word = f"{flag}={HIDDEN}"
        hide = word.startswith("-") and not equals and names_secret(flag)
        shown.append(redact(word))
    return shlex.join(shown)

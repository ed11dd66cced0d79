"""From a YAML file and flags to a recipe's `Config`: unknown keys and wrong types end in one clear message."""

from __future__ import annotations

import argparse
import dataclasses
import inspect
import json
import math
import re
import types
import typing
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, TypeVar

from wernicke.core.checks import suggest
from wernicke.core.errors import InputError
from wernicke.store.config import config_path, load_yaml

CONFIGS = Path(__file__).parent / "configs"

C = TypeVar("C")

_ENTRY = re.compile(r"[A-Za-z][A-Za-z0-9_]*")


def load_config(name: str) -> tuple[str, dict[str, Any], Path]:
    """Read a shipped config by name, or a file: (recipe, values, path).

    Raises
    ------
    InputError
        E-CFG for an unknown name or a file that names no recipe; what `load_yaml` raises.
    """
    path = config_path(name, CONFIGS)
    values = load_yaml(path)
    recipe = values.pop("recipe", None)
    known = sorted(file.stem for file in CONFIGS.glob("*.yaml"))
    if not isinstance(recipe, str):
        raise InputError("E-CFG", "no recipe named, expected a line such as `recipe: haxby_encode`", path=path,
                         field="recipe", hint=f"known: {', '.join(known)}")  # fmt: skip
    return recipe, values, path


def shipped(recipes: Collection[str]) -> list[str]:
    """Return the names of the shipped configs of some recipes."""
    return sorted(file.stem for file in CONFIGS.glob("*.yaml") if load_yaml(file).get("recipe") in recipes)


def check_values(values: Mapping[str, Any], config: type, path: Path, prefix: str = "") -> None:
    """Refuse keys that `config` (a dataclass) does not have and values of another type than it says."""
    hints = typing.get_type_hints(config)
    for key, value in values.items():
        field = f"{prefix}{key}"
        if key not in hints:
            raise InputError("E-CFG", f"unknown key `{field}`", path=path, field=field, hint=suggest(key, hints))
        entry = entry_class(hints[key])
        if dataclasses.is_dataclass(hints[key]) or entry is not None:
            if not isinstance(value, Mapping):
                raise InputError("E-CFG", f"found {value!r}, expected keys", path=path, field=field)
            if entry is None:
                check_values(value, typing.cast(type, hints[key]), path, f"{field}.")
                continue
            for name, inner in value.items():
                if not _ENTRY.fullmatch(name):
                    raise InputError("E-CFG", f"found the name {name!r}, expected a letter, then letters, digits and _",
                                     path=path, field=field)  # fmt: skip
                if not isinstance(inner, Mapping):
                    raise InputError("E-CFG", f"found {inner!r}, expected keys", path=path, field=f"{field}.{name}")
                check_values(inner, entry, path, f"{field}.{name}.")
        elif not _fits(value, hints[key]):
            # YAML has read `3.10` or `2024` as a number before the schema could say that text is meant.
            quote = isinstance(value, (int, float)) and not isinstance(value, bool) and _fits(str(value), hints[key])
            raise InputError("E-CFG", f"found {value!r}, expected {_name(hints[key])}", path=path, field=field,
                             hint="put it in quotes if text is meant" if quote else None)  # fmt: skip


def entry_class(hint: Any) -> type | None:
    """Return the dataclass of the entries of a key such as ``bands: dict[str, Band]``; None for any other key."""
    arguments = typing.get_args(hint)
    entries = typing.get_origin(hint) is dict and dataclasses.is_dataclass(arguments[1])
    return typing.cast(type, arguments[1]) if entries else None


def _fits(value: Any, hint: Any) -> bool:
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):
        return any(_fits(value, argument) for argument in arguments)
    if origin is Literal:
        return value in arguments
    if origin is list:
        return isinstance(value, list) and all(_fits(item, arguments[0]) for item in value)
    if origin is dict:
        return isinstance(value, Mapping) and all(_fits(item, arguments[1]) for item in value.values())
    if hint is float:
        return isinstance(value, (int, float)) and not isinstance(value, bool) and abs(value) < math.inf
    if hint is int:
        return isinstance(value, int) and not isinstance(value, bool)
    if hint is Path:
        return isinstance(value, (str, Path))
    return hint is Any or isinstance(value, hint)


def _name(hint: Any) -> str:
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin is Literal:
        return " or ".join(map(str, arguments))
    if origin in (typing.Union, types.UnionType):
        return " or ".join(_name(argument) for argument in arguments)
    if origin is list:
        return f"a list, each {_name(arguments[0])}"
    if origin is dict:
        return f"keys, each {_name(arguments[1])}"
    known = {int: "a whole number", float: "a number", str: "text", bool: "true or false", Path: "a path",
             type(None): "null"}  # fmt: skip
    return known.get(hint, getattr(hint, "__name__", str(hint)))


def build(config: type[C], values: Mapping[str, Any], path: Path, flags: Sequence[str], prog: str) -> C:
    """Make the dataclass `config` from a config file's values and the flags that overrule them.

    Every key is a flag (``--data.root X``); a list takes several values (``--delays_s 2.5 5``); a key that holds named
    entries has those of the file, each with its own keys (``--bands.Speech.layer 33``). ``--help`` prints the keys
    with what the docstring says of them and ends the process.

    Raises
    ------
    InputError
        E-CFG with the file or flag, what was found and what was expected.
    """
    check_values(values, config, path)
    keys = list(list_keys(config, values))
    hints = {key: hint for key, hint, _ in keys}
    given = _check_flags(flags, hints)
    import jsonargparse

    docs = describe_keys(config, values)
    parser = jsonargparse.ArgumentParser(
        prog=prog, usage=f"{prog} [--KEY VALUE ...]", description=inspect.cleandoc(config.__doc__ or "").split("\n")[0],
        exit_on_error=False, allow_abbrev=False, formatter_class=argparse.HelpFormatter,
    )  # fmt: skip
    # One argument a key, with the type itself: `add_class_arguments` would execute the `TYPE_CHECKING` imports of the
    # recipe's module, which are the heavy ones, and would take no `--delays_s 2.5 5`.
    for key, hint, default in keys:
        text = f"{docs.get(key, '')} ({_name(hint)}; {_brief(default)})".strip()
        parser.add_argument(f"--{key}", type=hint, default=default, metavar="X", help=text.replace("%", "%%"))
    try:
        words, entries = _prepare(flags, hints)
        parsed = parser.parse_args(words)
    except (jsonargparse.ArgumentError, TypeError, ValueError) as error:
        raise _refuse(str(error), hints) from None
    for key, entry, text in entries:
        parsed[key] = {**(parsed[key] or {}), entry: text}
    for key, hint in hints.items():
        if parsed[key] is None and not _fits(None, hint):
            raise InputError("E-CFG", f"the key is missing, expected {_name(hint)}", path=path, field=key)
        if not _fits(parsed[key], hint):
            raise InputError("E-CFG", f"found {parsed[key]!r}, expected {_name(hint)}", field=f"--{key}")
    try:
        return _make(config, parsed, values)
    except InputError as error:
        if error.path is not None or error.field is None or error.field in given:
            raise
        raise InputError(error.code, error.problem, path=path, field=error.field, hint=error.hint) from None


def list_keys(config: type, values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any, Any]]:
    """Every key of a dataclass and of those nested in it: (``data.root``, type, what stands without a flag)."""
    hints = typing.get_type_hints(config)
    for field in dataclasses.fields(config):
        hint, value = hints[field.name], values.get(field.name)
        if dataclasses.is_dataclass(hint):
            yield from list_keys(typing.cast(type, hint), value or {}, f"{prefix}{field.name}.")
            continue
        entry = entry_class(hint)
        if entry is not None:
            for name, inner in (value or {}).items():
                yield from list_keys(entry, inner, f"{prefix}{field.name}.{name}.")
            continue
        if field.name not in values and field.default is not dataclasses.MISSING:
            value = field.default
        elif field.name not in values and field.default_factory is not dataclasses.MISSING:
            value = field.default_factory()
        yield f"{prefix}{field.name}", hint, value


def describe_keys(config: type, values: Mapping[str, Any] | None = None, prefix: str = "") -> dict[str, str]:
    """What the class's docstring (numpydoc, section Parameters) says of each key, nested ones and entries included."""
    doc = inspect.cleandoc(config.__doc__ or "")
    section = re.search(r"^Parameters\n-+\n(.*?)(?=^\w[\w ]*\n-+\n|\Z)", doc, re.MULTILINE | re.DOTALL)
    docs: dict[str, str] = {}
    for entry in re.split(r"\n(?=\S)", section[1].strip()) if section else ():
        first, *rest = entry.splitlines()
        names, _, kind = first.partition(" : ")
        for name in names.split(","):  # numpydoc lets keys that belong together share an entry
            docs[f"{prefix}{name.strip()}"] = " ".join(line.strip() for line in rest).strip() or kind.strip()
    for name, hint in typing.get_type_hints(config).items():
        inner = (values or {}).get(name) or {}
        if dataclasses.is_dataclass(hint):
            docs |= describe_keys(typing.cast(type, hint), inner, f"{prefix}{name}.")
        entry = entry_class(hint)
        for key in inner if entry is not None else ():
            docs |= describe_keys(typing.cast(type, entry), inner[key], f"{prefix}{name}.{key}.")
    return docs


def _make(config: type[C], parsed: Any, values: Mapping[str, Any]) -> C:
    """Make a dataclass of parsed values; `values`, the file's, name the entries of keys that hold entries."""
    made: dict[str, Any] = {}
    for name, hint in typing.get_type_hints(config).items():
        inner, entry = values.get(name) or {}, entry_class(hint)
        if entry is not None:
            made[name] = {key: _make_entry(entry, parsed[name][key], inner[key], f"{name}.{key}") for key in inner}
        elif dataclasses.is_dataclass(hint):
            made[name] = _make(typing.cast(type, hint), parsed[name], inner)
        else:
            made[name] = parsed[name]
    return config(**made)


def _make_entry(entry: type[C], parsed: Any, values: Mapping[str, Any], prefix: str) -> C:
    """Make one of several entries; what its class refuses is named with the entry's name before it."""
    try:
        return _make(entry, parsed, values)
    except InputError as error:
        field = prefix if error.field is None else f"{prefix}.{error.field}"
        raise InputError(error.code, error.problem, path=error.path, field=field, hint=error.hint) from None


def _brief(value: Any) -> str:
    text = "no value yet" if value is None else f"now {value}"
    return text if len(text) <= 60 else f"{text[:57]}..."


def _check_flags(flags: Sequence[str], hints: Mapping[str, Any]) -> set[str]:
    """Return the keys that are given as flags; refuse a flag that is no key."""
    given = set()
    for flag in flags:
        key = flag[2:].split("=")[0].removesuffix("+")
        if not flag.startswith("--") or key == "help":
            continue
        # `--sentences.cat TEXT` sets one entry of a key that holds entries.
        entry = any(key.startswith(f"{known}.") for known, hint in hints.items() if typing.get_origin(hint) is dict)
        if key not in hints and not entry:
            raise InputError("E-CFG", f"unknown flag `--{key}`", field=f"--{key}", hint=suggest(key, hints))
        given.add(key)
    return given


def _prepare(flags: Sequence[str], hints: Mapping[str, Any]) -> tuple[list[str], list[tuple[str, str, str]]]:
    """Write ``--delays_s 2.5 5`` as jsonargparse reads lists; take out ``--sentences.cat TEXT``: (key, entry, text).

    jsonargparse would read a text such as `A cat: asleep` as a mapping.
    """
    lists = {f"--{key}": item for key, hint in hints.items() if (item := _item(hint)) is not None}
    texts = [key for key, hint in hints.items() if hint == dict[str, str]]
    queue, out, entries = list(flags), list[str](), list[tuple[str, str, str]]()
    while queue:
        flag, equals, value = queue.pop(0).partition("=")
        if flag in lists and not equals and queue and queue[0] != "null" and not queue[0].startswith(("[", "--")):
            items = []
            while queue and not queue[0].startswith("--"):
                item = queue.pop(0)
                items.append(json.dumps(item) if lists[flag] in (str, Path) else item)
            equals, value = "=", f"[{', '.join(items)}]"
        key = next((key for key in texts if flag.startswith(f"--{key}.")), None)
        if key is not None and (equals or queue):
            entries.append((key, flag[len(key) + 3 :], value if equals else queue.pop(0)))
        else:
            out.append(f"{flag}{equals}{value}")
    return out, entries


def _item(hint: Any) -> Any:
    """Return the type of a list's items, also of ``list[int] | None``; None for what is no list."""
    union = typing.get_origin(hint) in (typing.Union, types.UnionType)
    for option in typing.get_args(hint) if union else (hint,):
        if typing.get_origin(option) is list:
            return typing.get_args(option)[0]
    return None


def _refuse(message: str, hints: Mapping[str, Any]) -> InputError:
    """jsonargparse's message in our words where it names key and value, else as it is."""
    found = re.search(r'key "([^"]+)".*?Got value: (.*)', message, re.DOTALL)
    if found is not None and found[1] in hints:
        return InputError("E-CFG", f"found {found[2]!r}, expected {_name(hints[found[1]])}", field=f"--{found[1]}")
    field = re.match(r"argument (--\S+): ", message)
    if field is not None:
        return InputError("E-CFG", message[field.end() :], field=field[1].split("/")[0])
    return InputError("E-CFG", message, field="flags")

"""From a YAML file and flags to a recipe's `Config`: unknown keys and wrong types end in one clear message."""

from __future__ import annotations

import dataclasses
import types
import typing
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, TypeVar

from wernicke.core.checks import suggest
from wernicke.core.errors import InputError
from wernicke.store.config import config_path, load_yaml

CONFIGS = Path(__file__).parent / "configs"

C = TypeVar("C")


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
    shipped = [file.stem for file in CONFIGS.glob("*.yaml")]
    if not isinstance(recipe, str):
        raise InputError("E-CFG", "no recipe named, expected a line such as `recipe: haxby_encode`", path=path,
                         field="recipe", hint=f"known: {', '.join(sorted(shipped))}")  # fmt: skip
    return recipe, values, path


def check_values(values: Mapping[str, Any], config: type, path: Path, prefix: str = "") -> None:
    """Refuse keys that `config` (a dataclass) does not have and values of another type than it says."""
    hints = typing.get_type_hints(config)
    for key, value in values.items():
        field = f"{prefix}{key}"
        if key not in hints:
            raise InputError("E-CFG", f"unknown key `{field}`", path=path, field=field, hint=suggest(key, hints))
        if dataclasses.is_dataclass(hints[key]):
            if not isinstance(value, Mapping):
                raise InputError("E-CFG", f"found {value!r}, expected keys", path=path, field=field)
            check_values(value, typing.cast(type, hints[key]), path, f"{field}.")
        elif not _fits(value, hints[key]):
            raise InputError("E-CFG", f"found {value!r}, expected {_name(hints[key])}", path=path, field=field)


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
        return isinstance(value, (int, float)) and not isinstance(value, bool)
    if hint is int:
        return isinstance(value, int) and not isinstance(value, bool)
    if hint is Path:
        return isinstance(value, str)
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

    Every key is a flag (``--data.root X``); a list takes several values (``--delays_s 2.5 5``).

    Raises
    ------
    InputError
        E-CFG with the key, what was found and what was expected.
    """
    import jsonargparse

    check_values(values, config, path)
    parser = jsonargparse.ArgumentParser(prog=prog, exit_on_error=False, description=_first_line(config))
    parser.add_class_arguments(config)
    known = [action.option_strings[0][2:] for action in parser._actions if action.option_strings]
    for flag in flags:
        key = flag[2:].split("=")[0]
        if flag.startswith("--") and key not in known and flag != "--help":
            raise InputError("E-CFG", f"unknown flag `--{key}`", field=f"--{key}", hint=suggest(key, known))
    parser.set_defaults(_flatten(values, config))
    try:
        parsed = parser.parse_args(_join_lists(flags, config))
    except (jsonargparse.ArgumentError, TypeError, ValueError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError("E-CFG", str(error), field=getattr(error, "argument_name", None) or "flags") from None
    made = parser.instantiate_classes(parsed)
    return config(**{field.name: made[field.name] for field in dataclasses.fields(typing.cast(Any, config))})


def _first_line(config: type) -> str:
    return (config.__doc__ or "").strip().splitlines()[0]


def _flatten(values: Mapping[str, Any], config: type, prefix: str = "") -> dict[str, Any]:
    hints = typing.get_type_hints(config)
    flat: dict[str, Any] = {}
    for key, value in values.items():
        if dataclasses.is_dataclass(hints[key]):
            flat.update(_flatten(value, typing.cast(type, hints[key]), f"{prefix}{key}."))
        else:
            flat[f"{prefix}{key}"] = value
    return flat


def _list_keys(config: type, prefix: str = "") -> set[str]:
    keys: set[str] = set()
    for key, hint in typing.get_type_hints(config).items():
        if dataclasses.is_dataclass(hint):
            keys |= _list_keys(typing.cast(type, hint), f"{prefix}{key}.")
        elif typing.get_origin(hint) is list:
            keys.add(f"--{prefix}{key}")
    return keys


def _join_lists(flags: Sequence[str], config: type) -> list[str]:
    """Turn ``--delays_s 2.5 5`` into what jsonargparse reads as a list."""
    keys, out = _list_keys(config), []
    queue = list(flags)
    while queue:
        flag = queue.pop(0)
        if flag in keys and queue and not queue[0].startswith("["):
            items = []
            while queue and not queue[0].startswith("--"):
                items.append(queue.pop(0))
            flag = f"{flag}=[{', '.join(items)}]"
        out.append(flag)
    return out

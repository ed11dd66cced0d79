"""A strict reader of YAML configs: version 1.2's core schema, nothing executed, nothing twice, nothing without bound.

``NO``, ``on``, ``12:30:45``, ``2026-01-01`` and ``007`` are text; ``1e-4`` is a number; ``3.10`` is the number 3.1, so
that a schema which wants text there can say "quote it". Keys are always text.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from wernicke.core.checks import check_file
from wernicke.core.errors import InputError
from wernicke.store.files import PathLike, read_bytes
from wernicke.store.plain import to_plain
from wernicke.store.secret import check_no_secret

MAX_BYTES = 2**20
MAX_ALIASES = 50
MAX_DEPTH = 32
MAX_VALUES = 100_000

_NULL = re.compile(r"~|null|Null|NULL|")
_BOOL = re.compile(r"true|True|TRUE|false|False|FALSE")
_INT = re.compile(r"[-+]?(?:0|[1-9][0-9]*)|0x[0-9a-fA-F]+|0o[0-7]+")
_FLOAT = re.compile(r"[-+]?(?:\.[0-9]+|(?:0|[1-9][0-9]*)(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?")
_NONFINITE = re.compile(r"[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)")
_TAG = "tag:yaml.org,2002:"

# libyaml's parser where PyYAML has it: the same events, a tenth of the time. No constructor of PyYAML's is used.
_BaseLoader: Any = getattr(yaml, "CBaseLoader", yaml.BaseLoader)


class _Loader(_BaseLoader):
    def resolve(self, kind: type[yaml.Node], value: Any, implicit: Any) -> str:
        """Give nodes without a tag of their own one that says how they were written."""
        if kind is yaml.ScalarNode:
            return "plain" if implicit[0] else "quoted"
        return "seq" if kind is yaml.SequenceNode else "map"


def load_yaml(path: PathLike) -> dict[str, Any]:
    """Read a config file into plain dicts, lists, text, numbers, booleans and None.

    Raises
    ------
    InputError
        E-REF; E-FMT (not text); E-CFG (empty, no mapping, duplicate key, tab, syntax, .nan, a secret as text);
        E-SIZE (over 1 MB, over 50 aliases, too deep); E-UNSAFE (a tag that would build Python objects).
    """
    path = check_file(path)
    if path.stat().st_size > MAX_BYTES:
        raise InputError("E-SIZE", f"file has {path.stat().st_size} bytes, at most {MAX_BYTES} are read", path=path)
    try:
        text = read_bytes(path).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputError("E-FMT", f"not UTF-8 text (byte {error.start})", path=path) from None
    return parse_yaml(text, path)


def parse_yaml(text: str, path: PathLike | None = None) -> dict[str, Any]:
    """Parse the text of a config; `path` only names it in messages. Raises as `load_yaml`."""
    try:
        _check_events(text, path)
        node = yaml.compose(text, Loader=_Loader)
    except yaml.YAMLError as error:
        raise _syntax_error(error, text, path) from None
    except RecursionError:
        raise InputError("E-SIZE", "nested too deeply", path=path) from None
    if node is None or (isinstance(node, yaml.ScalarNode) and _NULL.fullmatch(node.value)):
        raise InputError("E-CFG", "the config is empty, expected `key: value` lines", path=path)
    if not isinstance(node, yaml.MappingNode):
        raise InputError("E-CFG", "expected `key: value` lines at the top", path=path)
    config = _Builder(path).build(node, "", 0)
    check_no_secret(config, path)
    return config


def _syntax_error(error: yaml.YAMLError, text: str, path: PathLike | None) -> InputError:
    mark = getattr(error, "problem_mark", None)
    problem = getattr(error, "problem", None) or getattr(error, "reason", None) or "not YAML"
    where = "" if mark is None else f"line {mark.line + 1}, column {mark.column + 1}: "
    lines = text.splitlines()
    tab = mark is not None and any("\t" in line for line in lines[max(0, mark.line - 1) : mark.line + 1])
    return InputError("E-CFG", f"{where}{problem}{'; indent with spaces, not tabs' if tab else ''}", path=path)


def _check_events(text: str, path: PathLike | None) -> None:
    """Refuse what would be costly to compose: many aliases, deep nesting, several documents."""
    depth = aliases = documents = 0
    for event in yaml.parse(text, Loader=_Loader):
        if isinstance(event, yaml.CollectionStartEvent):
            depth += 1
        elif isinstance(event, yaml.CollectionEndEvent):
            depth -= 1
        elif isinstance(event, yaml.AliasEvent):
            aliases += 1
        elif isinstance(event, yaml.DocumentStartEvent):
            documents += 1
        line = event.start_mark.line + 1  # type: ignore[union-attr]
        if depth > MAX_DEPTH:
            raise InputError("E-SIZE", f"line {line}: nested deeper than {MAX_DEPTH} levels", path=path)
        if aliases > MAX_ALIASES:
            raise InputError("E-SIZE", f"line {line}: more than {MAX_ALIASES} aliases", path=path)
        if documents > 1:
            raise InputError("E-CFG", f"line {line}: a second document begins, expected one", path=path)


class _Builder:
    """Turns YAML nodes into plain values, counting them."""

    def __init__(self, path: PathLike | None) -> None:
        self.path = path
        self.n_values = 0

    def refuse(self, code: str, node: yaml.Node, problem: str, field: str) -> InputError:
        return InputError(code, f"line {node.start_mark.line + 1}: {problem}", path=self.path, field=field or None)

    def build(self, node: yaml.Node, field: str, depth: int) -> Any:
        self.n_values += 1
        if depth > MAX_DEPTH or self.n_values > MAX_VALUES:
            raise self.refuse("E-SIZE", node, "too many values, or nested too deeply, once aliases are written out", "")
        self.check_tag(node, field)
        if isinstance(node, yaml.ScalarNode):
            return self.scalar(node, field)
        if isinstance(node, yaml.SequenceNode):
            return [self.build(item, f"{field}[{i}]", depth + 1) for i, item in enumerate(node.value)]
        assert isinstance(node, yaml.MappingNode)
        return self.mapping(node, field, depth)

    def check_tag(self, node: yaml.Node, field: str) -> None:
        if node.tag not in ("plain", "quoted", "seq", "map", _TAG + "str", _TAG + "seq", _TAG + "map"):
            code = "E-UNSAFE" if "python" in node.tag else "E-CFG"
            raise self.refuse(code, node, f"tag {node.tag} is not accepted, expected plain values", field)

    def mapping(self, node: yaml.MappingNode, field: str, depth: int) -> dict[str, Any]:
        built: dict[str, Any] = {}
        lines: dict[str, int] = {}
        for key_node, value_node in node.value:
            if not isinstance(key_node, yaml.ScalarNode):
                raise self.refuse("E-CFG", key_node, "a key is a list or a mapping, expected text", field)
            self.check_tag(key_node, field)
            key, line = key_node.value, key_node.start_mark.line + 1
            if key in lines:
                raise self.refuse("E-CFG", key_node, f"`{key}` already set on line {lines[key]}", field)
            if key == "<<" and key_node.tag == "plain":
                raise self.refuse("E-CFG", key_node, "merge keys (<<) are not part of YAML 1.2; write them out", field)
            lines[key] = line
            built[key] = self.build(value_node, f"{field}.{key}".lstrip("."), depth + 1)
        return built

    def scalar(self, node: yaml.ScalarNode, field: str) -> Any:
        text = node.value
        if node.tag != "plain":
            return text
        if _NULL.fullmatch(text):
            return None
        if _BOOL.fullmatch(text):
            return text.lower() == "true"
        if _NONFINITE.fullmatch(text):
            raise self.refuse("E-CFG", node, f"found {text}, expected a finite number", field)
        try:
            if _INT.fullmatch(text):
                return int(text, 0)
            value = float(text) if _FLOAT.fullmatch(text) else None
        except ValueError:
            raise self.refuse("E-CFG", node, f"number with {len(text)} digits", field) from None
        if value is not None and abs(value) == float("inf"):
            raise self.refuse("E-CFG", node, f"{text} is beyond double precision", field)
        return text if value is None else value


class _Dumper(yaml.SafeDumper):
    """Quotes every text that YAML 1.1 or 1.2 would read as something else."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


for _pattern in (_INT, _FLOAT, _NONFINITE):
    # Each first character that the pattern can begin with.
    _Dumper.add_implicit_resolver(_TAG + "float", re.compile(f"^(?:{_pattern.pattern})$"), list("-+.0123456789"))


def _represent_text(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    # PyYAML writes Unicode's line separators as they are and reads them as line ends, unless in double quotes.
    separators = any(separator in text for separator in "\x85\u2028\u2029")
    return dumper.represent_scalar(_TAG + "str", text, style='"' if separators else None)


_Dumper.add_representer(str, _represent_text)


def dump_yaml(config: Mapping[str, Any]) -> str:
    """Return a config as YAML text that `parse_yaml` reads back as the same plain values, keys in the given order."""
    return yaml.dump(to_plain(config), Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=100)


def config_path(name: str, folder: Path) -> Path:
    """Return the file that `--config` means: a path as it is, else the shipped config of that name in `folder`."""
    from wernicke.core.checks import suggest

    path = Path(name)
    if path.is_file() or path.suffix in (".yaml", ".yml") or len(path.parts) > 1:
        return check_file(path, field="--config")
    shipped = folder / f"{name}.yaml"
    if shipped.is_file():
        return shipped
    known = [file.stem for file in folder.glob("*.yaml")]
    raise InputError("E-CFG", f"no config `{name}`", field="--config", hint=suggest(name, known))

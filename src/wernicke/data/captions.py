"""Captions on disk: anyone's CSV, TSV or JSON in, CSV or JSON out.

Columns: `id`, `text`, `reference` (or `reference_1`, `reference_2`, ...; a list in JSON), and optionally `label`,
`predicted_label`, `subject`, `stimulus`, `order`. Every value stays text, "NA" and "null" included; only `order` is a
number. Further columns are kept. In a CSV, cells that a spreadsheet would run as a formula are written behind an
apostrophe (CWE-1236), which the reader takes off again.
"""

from __future__ import annotations

import csv
import io
import math
import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, cast, get_args

import pandas as pd

from wernicke.core.checks import check_file, check_identifier, check_option
from wernicke.core.errors import InputError
from wernicke.core.results import Captions, Decoding
from wernicke.store.files import atomic_write, read_bytes, read_json, write_json

SCHEMA = "wernicke.captions/1"
MAX_FILE_BYTES = 256 * 2**20
MAX_TEXT = 2_000_000

_FORMULA = re.compile("'*[=+\\-@\t\r\uff1d\uff0b\uff0d\uff20]")
_REFERENCE = re.compile(r"reference(?:_([1-9][0-9]*))?")
_OPTIONAL = ("label", "predicted_label", "subject", "stimulus", "order")
_SEPARATORS = {".csv": ",", ".tsv": "\t"}


def read_captions(path: str | os.PathLike[str]) -> Captions:
    """Read a file of captions.

    Parameters
    ----------
    path : path-like
        ``.csv``, ``.tsv`` (UTF-8, with a header) or ``.json``: a list of objects, an object {id: text}, or what
        `write_captions` wrote, which also keeps how the texts were decoded. Other files carry ``decoding="unknown"``.

    Raises
    ------
    InputError
        E-REF, E-FMT (encoding, not CSV or JSON), E-SIZE, E-META (missing or doubled column, id twice, empty
        reference, missing value, unsafe subject), E-NONFIN (`order`).
    """
    path = check_file(path)
    if path.suffix.lower() == ".json":
        content = _json(path)
        extra: dict[str, Any] = {}
        if isinstance(content, dict) and "captions" in content:
            content, extra = content["captions"], content
        if isinstance(content, dict):
            content = [{"id": key, "text": text} for key, text in content.items()]
        rows = _objects(content, path)
    else:
        rows, extra = _delimited(path), {}
    table = _table(rows, path)
    try:
        return Captions(
            table,
            _references(rows, path),
            cast(Decoding, check_option(extra.get("decoding", "unknown"), get_args(Decoding), "decoding", path)),
            extra.get("parameters", {}),
            tuple(map(str, extra.get("split_fingerprints", ()))),
        )
    except InputError as error:
        raise error if error.path else InputError(error.code, error.problem, path=path, field=error.field,
                                                  hint=error.hint) from None  # fmt: skip


def read_references(path: str | os.PathLike[str]) -> dict[str, tuple[str, ...]]:
    """Read references by id: a CSV or TSV with `id` and `reference...`, or JSON, also {id: text or list of texts}.

    Raises
    ------
    InputError
        As `read_captions`.
    """
    path = check_file(path)
    if path.suffix.lower() == ".json":
        content = _json(path)
        if isinstance(content, dict):
            content = [{"id": key, "reference": value} for key, value in content.items()]
        rows = _objects(content, path)
    else:
        rows = _delimited(path)
    if not all("id" in row for row in rows):
        raise InputError("E-META", "column `id` is missing", path=path, hint="expected: id, reference")
    found = _references(rows, path)
    if not found:
        raise InputError("E-META", "column `reference` is missing", path=path, hint="expected: id, reference")
    ids = [_cell(row["id"], "id", path) for row in rows]
    if len(set(ids)) < len(ids):
        raise InputError("E-META", f"id {max(ids, key=ids.count)!r} occurs twice", path=path, field="id")
    return dict(zip(ids, found, strict=True))


def write_captions(captions: Captions, path: str | os.PathLike[str]) -> None:
    """Write captions atomically, as CSV, TSV or JSON by the path's suffix.

    JSON keeps decoding, parameters and split fingerprints; CSV and TSV do not.

    Raises
    ------
    InputError
        E-CFG for another suffix; E-FMT for text that is not Unicode.
    """
    path = Path(path)
    records = _records(captions)
    suffix = path.suffix.lower()
    if suffix == ".json":
        content = {"schema": SCHEMA, "decoding": captions.decoding, "parameters": dict(captions.parameters),
                   "split_fingerprints": list(captions.split_fingerprints), "captions": records}  # fmt: skip
        write_json(path, content)
        return
    if suffix not in _SEPARATORS:
        raise InputError("E-CFG", f"found suffix {suffix!r}, expected .csv, .tsv or .json", path=path)
    n_references = max((len(texts) for texts in captions.references), default=0)
    rows = [_flat(record, n_references) for record in records]
    buffer = io.StringIO(newline="")
    writer = csv.writer(buffer, delimiter=_SEPARATORS[suffix], lineterminator="\n", quoting=csv.QUOTE_NONNUMERIC)
    writer.writerow(rows[0])
    writer.writerows([guard_formula(value) for value in row.values()] for row in rows)
    try:
        encoded = buffer.getvalue().encode("utf-8")
    except UnicodeEncodeError as error:
        raise InputError("E-FMT", f"text holds a lone surrogate (character {error.start})", path=path) from None
    with atomic_write(path, "wb", size=len(encoded)) as file:
        file.write(encoded)


def guard_formula(value: Any) -> Any:
    """Return text that a spreadsheet would run as a formula behind an apostrophe; anything else as it is."""
    return "'" + value if isinstance(value, str) and _FORMULA.match(value) else value


def _unguard(text: str) -> str:
    return text[1:] if text.startswith("'") and _FORMULA.match(text) else text


def _records(captions: Captions) -> list[dict[str, Any]]:
    rows = captions.table.to_dict("records")
    for row, texts in zip(rows, captions.references or [()] * len(rows), strict=True):
        if texts:
            row["reference"] = list(texts)
    return [{str(key): value for key, value in row.items()} for row in rows]


def _flat(record: dict[str, Any], n_references: int) -> dict[str, Any]:
    texts = record.pop("reference", [])
    names = ["reference"] if n_references == 1 else [f"reference_{i + 1}" for i in range(n_references)]
    return record | dict(zip(names, [*texts, *[""] * (n_references - len(texts))], strict=True))


def _text(path: Path) -> str:
    """Content as text; any encoding but UTF-8 is one message."""
    if path.stat().st_size > MAX_FILE_BYTES:
        raise InputError(
            "E-SIZE", f"file has {path.stat().st_size} bytes, at most {MAX_FILE_BYTES} are read", path=path
        )
    content = read_bytes(path)
    if not content.strip():
        raise InputError("E-TRUNC", "file is empty", path=path)
    hint = "save it as UTF-8 (spreadsheets: `CSV UTF-8`; shell: iconv -f FROM -t UTF-8)"
    if content.startswith((b"\xff\xfe", b"\xfe\xff")) or content.count(b"\x00") > len(content) // 5:
        raise InputError("E-FMT", "encoding is UTF-16 or UTF-32, expected UTF-8", path=path, hint=hint)
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content[: error.start].count(b"\n") + 1
        found = f"byte 0x{content[error.start]:02x} in line {line} (latin-1 or Windows-1252?)"
        raise InputError("E-FMT", f"encoding is not UTF-8: {found}", path=path, hint=hint) from None


def _json(path: Path) -> Any:
    _text(path)
    return read_json(path, MAX_FILE_BYTES)


def _objects(content: Any, path: Path) -> list[dict[str, Any]]:
    if not isinstance(content, list) or not all(isinstance(item, dict) for item in content):
        raise InputError("E-FMT", "found another structure, expected a list of objects with id, text, reference",
                         path=path)  # fmt: skip
    if not content:
        raise InputError("E-META", "no captions", path=path)
    return content


def _delimited(path: Path) -> list[dict[str, Any]]:
    suffix = path.suffix.lower()
    if suffix not in _SEPARATORS:
        raise InputError("E-FMT", f"found suffix {suffix!r}, expected .csv, .tsv or .json", path=path)
    text = _text(path)
    limit = csv.field_size_limit(MAX_TEXT)
    try:
        lines = list(csv.reader(io.StringIO(text, newline=""), delimiter=_SEPARATORS[suffix], strict=True))
    except csv.Error as error:
        code = "E-SIZE" if "field larger" in str(error) else "E-FMT"
        raise InputError(code, f"not {suffix[1:].upper()}: {error}", path=path) from None
    finally:
        csv.field_size_limit(limit)
    header = [name.strip() for name in lines[0]]
    if len(header) == 1 and any(mark in header[0] for mark in ",;\t"):
        raise InputError("E-FMT", f"one column, {header[0]!r}: expected columns parted by {_SEPARATORS[suffix]!r}",
                         path=path)  # fmt: skip
    doubled = next((name for name in header if header.count(name) > 1), None)
    if doubled is not None:
        raise InputError("E-META", f"column {doubled!r} occurs twice", path=path)
    rows = [row for row in lines[1:] if row]
    for row in rows:
        if len(row) != len(header):
            raise InputError("E-FMT", f"row {rows.index(row) + 1} has {len(row)} cells, the header {len(header)}",
                             path=path, hint="cells with a separator or a line break need quotes")  # fmt: skip
    if not rows:
        raise InputError("E-META", "a header and no captions", path=path)
    return [dict(zip(header, map(_unguard, row), strict=True)) for row in rows]


def _cell(value: Any, field: str, path: Path) -> str:
    """A value as text; numbers are written out, missing ones refused."""
    if value is None or isinstance(value, (dict, list)) or (isinstance(value, float) and not math.isfinite(value)):
        raise InputError("E-META", f"found {value!r}, expected text", path=path, field=field)
    text = value if isinstance(value, str) else repr(value)
    if len(text) > MAX_TEXT:
        raise InputError(
            "E-SIZE", f"text of {len(text)} characters, at most {MAX_TEXT} are read", path=path, field=field
        )
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        raise InputError("E-FMT", "text holds a lone surrogate, which is not Unicode", path=path, field=field) from None
    return text


def _table(rows: Sequence[Mapping[str, Any]], path: Path) -> pd.DataFrame:
    names = dict.fromkeys(name for row in rows for name in row)
    for name in ("id", "text"):
        if name not in names:
            raise InputError("E-META", f"column `{name}` is missing, found {list(names)}", path=path,
                             hint="expected: id, text, reference (or reference_1, ...)")  # fmt: skip
    columns: dict[str, list[Any]] = {}
    for name in names:
        if _REFERENCE.fullmatch(str(name)):
            continue
        values = [row.get(name) for row in rows]
        if name in _OPTIONAL and all(value in (None, "") for value in values):
            continue
        if name in ("id", *_OPTIONAL):
            empty = next((i for i, value in enumerate(values) if value in (None, "")), None)
            if empty is not None:
                raise InputError("E-META", f"row {empty + 1} is empty", path=path, field=str(name),
                                 hint="fill every row, or leave the column out")  # fmt: skip
        if name == "order":
            columns[name] = [_number(value, path) for value in values]
        elif name in ("id", "text", *_OPTIONAL):
            columns[str(name)] = [_cell(value, str(name), path) for value in values]
        else:
            columns[str(name)] = ["" if value is None else str(value) for value in values]
    for subject in dict.fromkeys(columns.get("subject", ())):
        check_identifier(subject.removeprefix("sub-"), "subject", path)
    return pd.DataFrame({name: pd.Series(v, dtype=None if name == "order" else object) for name, v in columns.items()})


def _number(value: Any, path: Path) -> float:
    try:
        number = float(value)
    except (TypeError, ValueError):
        raise InputError("E-META", f"found {value!r}, expected a number", path=path, field="order") from None
    if not math.isfinite(number):
        raise InputError("E-NONFIN", f"found {value!r}, expected a finite number", path=path, field="order")
    return number


def _references(rows: Sequence[Mapping[str, Any]], path: Path) -> tuple[tuple[str, ...], ...]:
    names = [name for name in dict.fromkeys(n for row in rows for n in row) if _REFERENCE.fullmatch(str(name))]
    if not names:
        return ()
    if "reference" in names and len(names) > 1:
        raise InputError("E-META", "both `reference` and numbered references", path=path, field="reference")
    names.sort(key=lambda name: int(str(name).rpartition("_")[2]) if "_" in str(name) else 0)
    found: list[tuple[str, ...]] = []
    for row in rows:
        texts: list[str] = []
        for name in names:
            value = row.get(name)
            several = value if isinstance(value, list) else [value]
            # In a table a row may have fewer references than another: its last cells are empty.
            texts += [_cell(item, name, path) for item in several if len(names) == 1 or item not in (None, "")]
        if not texts or any(not text.strip() for text in texts):
            raise InputError("E-META", f"id {row.get('id')!r} has an empty reference", path=path, field=names[0],
                             hint="a text without one cannot be scored: fill it, or leave the row out")  # fmt: skip
        found.append(tuple(texts))
    return tuple(found)

"""BIDS tables: tab-separated text, read as text.

pandas would turn the word "null" of a transcript into a missing value and stumble over a single quotation mark.
"""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pandas as pd

from wernicke.core.errors import InputError
from wernicke.store.files import describe_start, read_bytes

MISSING = ("n/a", "")
MAX_BYTES = 512 * 2**20


def read_tsv(path: str | os.PathLike[str]) -> pd.DataFrame:
    """Read a table with a header line; every cell is text, or None for ``n/a`` and empty cells.

    Quotation marks around a whole cell are taken off; all others are text.

    Raises
    ------
    InputError
        E-REF, E-SIZE, E-FMT (no text in UTF-8, no tab-separated table, a line of another length), E-META (a column
        twice), E-TRUNC (empty).
    """
    path = Path(path)
    content = read_bytes(path)
    if len(content) > MAX_BYTES:
        raise InputError("E-SIZE", f"file has {len(content):,} bytes, at most {MAX_BYTES:,} are read", path=path)
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputError("E-FMT", f"not UTF-8 text (byte {error.start}): {describe_start(content[:64])}",
                         path=path) from None  # fmt: skip
    if "\0" in text:
        raise InputError("E-FMT", "holds null bytes, expected text", path=path)
    # str.splitlines would also cut at characters that may stand inside a cell, such as U+2028.
    lines = text.replace("\r\n", "\n").replace("\r", "\n").rstrip("\n").split("\n")
    if not lines[0].strip():
        raise InputError("E-TRUNC", "no header line" if text.strip() else "file is empty", path=path)
    header = [_cell(cell) or "" for cell in lines[0].split("\t")]
    twice = {name for name in header if header.count(name) > 1}
    if twice:
        raise InputError("E-META", f"column `{sorted(twice)[0]}` occurs twice", path=path)
    rows = []
    for number, line in enumerate(lines[1:], start=2):
        cells = line.split("\t")
        if len(cells) != len(header):
            raise InputError("E-FMT", f"line {number} has {len(cells)} cells, the header has {len(header)}", path=path,
                             hint="cells are parted by tabs, not by commas or blanks")  # fmt: skip
        rows.append([_cell(cell) for cell in cells])
    return pd.DataFrame({name: pd.Series([row[i] for row in rows], dtype=object) for i, name in enumerate(header)})


def _cell(text: str) -> str | None:
    text = text.strip()
    if len(text) >= 2 and text[0] == text[-1] == '"':
        text = text[1:-1].replace('""', '"')
    return None if text in MISSING else text


def numbers(table: pd.DataFrame, column: str, path: Path, *, missing: float | None = None) -> np.ndarray:
    """Return a column as finite float64, shape (n_rows,); `missing` stands in for empty cells, None refuses them.

    Raises
    ------
    InputError
        E-META: no such column, or a cell that is no number.
    """
    if column not in table.columns:
        raise InputError("E-META", f"found columns {', '.join(table.columns)}, expected `{column}`", path=path,
                         field=column)  # fmt: skip
    values = np.empty(len(table))
    for row, cell in enumerate(table[column]):
        try:
            values[row] = missing if cell is None and missing is not None else float(str(cell).replace("_", "x"))
        except ValueError:
            values[row] = np.nan
        if not np.isfinite(values[row]):
            raise InputError("E-META", f"line {row + 2} holds {'n/a' if cell is None else cell!r}, expected a number",
                             path=path, field=column)  # fmt: skip
    return values

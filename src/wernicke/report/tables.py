"""Everything that a page shows as tidy tables: one observation a row, full precision, safe for a spreadsheet."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from wernicke.data.captions import guard_formula
from wernicke.report.runs import FinishedRun


def score_rows(run: FinishedRun, scores: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Rows of ``scores.csv``: one a model and metric, full precision."""
    rows = []
    for score in scores:
        low, high = score["ci"] or (None, None)
        null = score["null"]
        null_low, null_high = (None, None) if null is None else map(float, np.quantile(null, (0.025, 0.975)))
        rows.append({
            "run": run.name, "simulated": run.simulated, "model": score["model"], "metric": score["metric"],
            "mean": score["mean"], "ci_low": low, "ci_high": high, "ci_over": score["ci_over"], "n": score["n"],
            "null_name": score["null_name"] if null is not None else None,
            "null_n": None if null is None else len(null),
            "null_mean": None if null is None else float(np.mean(null)), "null_low": null_low,
            "null_high": null_high, "ceiling": score["ceiling"], "ceiling_reason": score["ceiling_reason"],
        })  # fmt: skip
    return rows


def to_csv(rows: Sequence[Mapping[str, Any]]) -> str:
    """Tidy CSV; empty where there is no value, texts that a spreadsheet would run behind an apostrophe."""
    buffer = io.StringIO(newline="")
    names = list(dict.fromkeys(name for row in rows for name in row))
    writer = csv.DictWriter(buffer, names, lineterminator="\n", quoting=csv.QUOTE_NONNUMERIC)
    writer.writeheader()
    for row in rows:
        writer.writerow({name: "" if value is None else guard_formula(value) for name, value in row.items()})
    return buffer.getvalue()

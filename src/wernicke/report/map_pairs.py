"""What a run says about pairs of maps on the cortical surface: do they lie in the same places, and which is higher."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pandas as pd

from wernicke.report.words import interval, listed, number, plural

#: The subject of the rows about the mean over subjects.
MEAN = "mean over subjects"
Q, MAX_NAMED = 0.05, 6
COLUMNS = {
    "quantity": "Quantity", "subject": "Subject", "model": "Map", "other": "Other map", "r": "r", "p_spin": "p (spin)",
    "p_spin_fdr": "q", "difference": "Difference", "low": "95 % from", "high": "to", "note": "Not tested",
}  # fmt: skip


def rows_shown(table: pd.DataFrame) -> pd.DataFrame:
    """The table as the page has it: the mean over subjects, or the subject where there is one."""
    shown = table[table["subject"] == MEAN] if (table["subject"] == MEAN).any() else table
    shown = shown.assign(subject=shown["subject"].replace(MEAN, "mean"))
    names = [name for name in COLUMNS if name in shown and shown[name].notna().any()]
    return shown[names].rename(columns=COLUMNS)


def pair_sentences(table: pd.DataFrame | None) -> list[str]:
    """What was compared and how, then what came out for each quantity."""
    if table is None or table.empty:
        return []
    tested = table[table["r"].notna()]
    rotations = plural(int(tested["n_spins"].max()), "rotation") if len(tested) else "no rotation"
    said = [
        "Each pair of maps on fsaverage5 is correlated over vertices, and compared with the first map rotated on the "
        f"sphere ({rotations}, two-sided), which keeps its smoothness: a small p with r above 0 says that both "
        "lie in the same places, below 0 in different ones. The mean difference (first less other) says which is "
        "higher; its interval is over subjects."
    ]
    for quantity, rows in table.groupby("quantity", sort=False):
        whose = MEAN if (rows["subject"] == MEAN).any() else str(rows["subject"].iloc[0])
        said.append(_sentence(str(quantity), whose, rows[rows["subject"] == whose].to_dict("records")))
    return said


def _sentence(quantity: str, whose: str, rows: list[Any]) -> str:
    tested = [row for row in rows if pd.notna(row["r"])]
    start = f"{quantity[:1].upper()}{quantity[1:]}, {whose}"
    if not tested:
        return f"{start}: no pair was tested ({rows[0]['note']})."
    clear = [row for row in tested if row["p_spin_fdr"] <= Q]
    parts = []
    for words, sign in (("in the same places", 1), ("in different places", -1)):
        found = [row for row in clear if sign * row["r"] > 0]
        if found:
            named = listed([_named(row) for row in found[:MAX_NAMED]])
            more = f" and {len(found) - MAX_NAMED} more" if len(found) > MAX_NAMED else ""
            parts.append(f"{words} lie {named}{more}")
    n_left = len(tested) - len(clear)
    if n_left:
        parts.append(f"for {n_left} of {plural(len(tested), 'pair')} the test says neither")
    return f"{start}: {'; '.join(parts)} (q < .05 over pairs)."


def _named(row: Mapping[str, Any]) -> str:
    text = f"{row['model']} and {row['other']} (r {number(float(row['r']))}, difference {number(row['difference'], 4)}"
    return text + (f" [{interval((row['low'], row['high']), 4)}])" if pd.notna(row["low"]) else ")")

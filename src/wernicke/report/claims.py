"""What a run says about bands: which one explains what no other does, and along what its weights vary."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from wernicke.report.words import interval, listed, number, plural

WHOLE_BRAIN, GROUP = "whole brain", "group"


def unique_sentences(facts: Mapping[str, Any], group: pd.DataFrame | None, profiles: pd.DataFrame | None) -> list[str]:
    """One sentence a band: how much it explains beyond the others, in how many subjects and voxels, and whether that
    is told from nothing."""
    if group is None or profiles is None or group.empty or "quantity" not in group:
        return []
    rows = group[group["quantity"].astype(str).str.startswith("unique") & (group["roi"] == WHOLE_BRAIN)]
    rows = rows[rows["other"].isna()] if "other" in rows else rows
    whole = profiles[profiles["roi"] == WHOLE_BRAIN]
    return [_unique_sentence(row, _others(facts, str(row["model"])), whole) for row in rows.to_dict("records")]


def _others(facts: Mapping[str, Any], band: str) -> list[str]:
    """The bands beside which one was fitted."""
    nuisance = [str(name) for name in facts.get("features", {}).get("nuisance") or ()]
    for model in facts["models"]:
        bands = model.get("bands", {})
        if band in bands:
            return [name for name in dict.fromkeys([*bands, *nuisance]) if name != band]
        if band == "language":
            marked = [name for name, one in bands.items() if one.get("nuisance")]
            return list(dict.fromkeys([*marked, *nuisance]))
    return []


def _unique_sentence(row: Mapping[Any, Any], others: list[str], whole: pd.DataFrame) -> str:
    band, n = str(row["model"]), int(row["n_subjects"])
    beyond = listed(others) if others else "the other bands"
    unit = str(row["quantity"]).removeprefix("unique ")
    known = n > 1 and pd.notna(row.get("low")) and pd.notna(row.get("high"))
    text = f"{band} explains a mean {unit} of {number(float(row['mean']), 5)} over all voxels beyond {beyond}"
    if known:
        text += f" (95 % over {n} subjects {interval((row['low'], row['high']), 5)})"
    if "n_positive" in row and pd.notna(row["n_positive"]):
        text += f", above 0 in {int(row['n_positive'])} of {plural(n, 'subject')}"
    own = whole[whole["model"] == band]
    if "share_significant" in own and own["share_significant"].notna().any():
        shares = own["share_significant"].to_numpy(dtype=float)
        text += f"; by itself significant (q < .05) in {100 * np.nanmean(shares):.1f} % of voxels"
    if not known:
        return f"{text}. One subject: nothing is said of others."
    if row["low"] > 0:
        return f"{text}. The mean is above 0."
    if row["high"] < 0:
        return f"{text}. The mean is below 0: beside the others it predicts worse."
    return f"{text}. The mean cannot be told from 0."


def component_sentences(table: pd.DataFrame | None) -> list[str]:
    """One sentence a band: shares of its first components as the paper gives them, and how many are above chance."""
    said = []
    for (model, band), part in [] if table is None else table.groupby(["model", "band"], sort=False):
        own, joint = part[part["subject"] != GROUP], part[part["subject"] == GROUP]
        n = int(own["subject"].nunique())
        first = [values.to_numpy(dtype=float) for _, values in own.groupby("component")["share"]][:3]
        over = f"{'mean ± SD over ' if n > 1 else ''}{plural(n, 'subject')}"
        text = f"{band} ({model}): the first {plural(len(first), 'component')} explain {listed(map(_spread, first))} %"
        text += f" of the weights' variance over voxels ({over})"
        if n > 1:
            held = own.groupby("component")["share_by_others"].mean().head(len(first))
            text += f", those of the other subjects {listed([f'{100 * share:.1f}' for share in held])} %"
        tested = joint if len(joint) else own
        above = int((tested["p"] <= 0.05).cummin().sum())
        said.append(f"{text}. Leading components above weights whose signs are drawn anew: {above} of {len(tested)}.")
    return said


def _spread(shares: np.ndarray) -> str:
    text = f"{100 * shares.mean():.1f}"
    return f"{text} ± {100 * shares.std(ddof=1):.1f}" if len(shares) > 1 else text

"""The methods paragraph of a run over whole brains, from its own files."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pandas as pd

from wernicke.report.methods import leaks, software, warned
from wernicke.report.references import Citer
from wernicke.report.words import listed, number, plural


def methods(
    facts: Mapping[str, Any], manifest: Mapping[str, Any], card: Mapping[str, Any], group: pd.DataFrame | None,
    cite: Citer,
) -> str:  # fmt: skip
    """Methods and results as one paragraph of plain text, ready to paste."""
    parts = [
        recorded(facts),
        modelled(facts, cite),
        fitted(facts, manifest["config"], cite),
        leaks(facts["split"]),
        tested(facts, cite),
        f"Result: {str(card['headline']).rstrip('.')}."
        if not card["void"]
        else "The result is void: a control failed.",
        across(group),
        software(manifest, ("numpy", "scipy", "pandas", "scikit-learn", "torch", "transformers", "nibabel"), cite),
    ]
    return warned(facts) + " ".join(part for part in parts if part)


def recorded(facts: Mapping[str, Any]) -> str:
    """What was recorded."""
    data = facts["data"]
    what = "Simulated data" if data["simulated"] else "Data"
    rest = [f"TR {data['tr_s']:g} s"] if data.get("tr_s") else []
    rest += [f"{data['n_train']:,} volumes for training and {data['n_valid']:,} scored"] if data.get("n_train") else []
    voxels = data.get("n_voxels")
    if isinstance(voxels, Mapping) and voxels:
        low, high = min(voxels.values()), max(voxels.values())
        rest.append(f"{low:,} voxels" if low == high else f"{low:,} to {high:,} voxels")
    named = (
        "subject " + facts["subjects"][0] if len(facts["subjects"]) == 1 else plural(len(facts["subjects"]), "subject")
    )
    return f"{what}: {data['source']['name']} ({data['source']['licence']}); {', '.join([named, *rest])}."


def modelled(facts: Mapping[str, Any], cite: Citer) -> str:
    """What the bands are made of."""
    bands = {name: band for model in facts["models"] for name, band in model.get("bands", {}).items()}
    said = []
    for name, band in bands.items():
        number_of = band.get("layer") or listed(band.get("layers") or [])
        layer = f" layer {number_of}" if number_of else ""
        delays = band.get("shifts_s") or band.get("delays_s") or []
        how = "the mean of shifts by" if band.get("shifts_s") else "delayed by"
        delayed = f", {how} {listed([f'{d:g}' for d in delays])} s" if delays else ""
        reduced = f", {band['reduction']}" if band.get("reduction") else ""
        said.append(f"{name} ({band.get('model') or band.get('kind') or 'no model'}{layer}{delayed}{reduced})")
    if not said:
        return ""
    if facts.get("delays_tr"):
        said[-1] += f"; all delayed by {listed(facts['delays_tr'])} TR"
    cited = cite("nishimoto2011", "huth2016")
    return f"Features: {'; '.join(said)}. Delays never cross the border of a recording {cited}."


def fitted(facts: Mapping[str, Any], config: Mapping[str, Any], cite: Citer) -> str:
    """How the models were fitted."""
    multi = facts.get("reg_type") == "multi"
    what = f"banded ridge regression {cite('dupre2022')}" if multi else f"ridge regression {cite('hoerl1970')}"
    score = {"r2": "R2", "correlation": "correlation"}.get(facts.get("score", ""), "score")
    grid = ""
    if facts.get("mode") != "faithful" and config.get("alphas"):
        grid = f" among {len(config['alphas'])} values from {min(config['alphas']):g} to {max(config['alphas']):g}"
    inner = f"in {plural(facts['split']['n_folds'], 'fold')} of the training rows"
    if facts["split"].get("scheme") == "leave one run out":
        inner = "leaving out one training run at a time"
    mode = " The published code's steps were followed (mode faithful)." if facts.get("mode") == "faithful" else ""
    return (
        f"Every voxel was predicted by {what}; penalties{' and band weights' if multi else ''} were chosen for each "
        f"voxel by {score} {inner}{grid}.{mode}"
    )


def tested(facts: Mapping[str, Any], cite: Citer) -> str:
    """Score and null."""
    test = facts["test"]
    kind = test.get("type", "null")
    blocks = f"; blocks of {test['block_length_tr']} TR" if test.get("block_length_tr") else ""
    draws = plural(test["n_permutations"], "permutation") if test.get("n_permutations") else "draws pooled over voxels"
    return (
        f"The score is Pearson r on scored runs. P values come from a {kind} ({draws}{blocks}) {cite('phipson2010')}, "
        f"corrected over each map's voxels by Benjamini-Hochberg {cite('benjamini1995')}: {test['n_significant']:,} of "
        f"{test['n_tests']:,} tests over all maps at q = .05."
    )


def across(group: pd.DataFrame | None) -> str:
    """The whole brain's means over subjects."""
    if group is None or "roi" not in group:
        return ""
    rows = group[(group["roi"] == "whole brain") & (group["other"].isna() if "other" in group else True)]
    said = []
    for _, row in rows.head(12).iterrows():
        ends = f" [{number(row['low'], 4)} to {number(row['high'], 4)}]" if pd.notna(row.get("low")) else ""
        said.append(f"{row['model']}, {row.get('quantity', 'r')} {number(row['mean'], 4)}{ends}")
    if not said:
        return ""
    ends = ", with 95 % t intervals" if rows["n_subjects"].max() > 1 else ""
    return f"Means over voxels, then over subjects{ends}: {'; '.join(said)}."

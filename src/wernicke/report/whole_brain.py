"""The section of a run over several subjects' whole brains: maps, layers, regions, groups.

Such runs are known by their recipe (`RECIPES`); every subject and model has a folder of its own, ``subjects/<subject>/
<model>``, and the tables over all of them are in ``tables``.
"""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from wernicke.core.errors import InputError
from wernicke.data.maps import TABLE
from wernicke.report.claims import component_sentences, unique_sentences
from wernicke.report.map_pairs import pair_sentences, rows_shown
from wernicke.report.provenance import card_summary, card_warnings, provenance, split_summary
from wernicke.report.references import Citer
from wernicke.report.runs import FinishedRun
from wernicke.report.tables import score_rows
from wernicke.report.whole_brain_figures import Drawn, draw_maps, histogram, layers, profiles, viewers
from wernicke.report.whole_brain_methods import methods
from wernicke.report.words import interval, listed, number, plural, size_mm

RECIPES = ("drama2brain_encode", "bids_encode")
TEMPLATE = "whole_brain.html"
CONTENTS = (
    ("data", "Data"), ("models", "Models"), ("split", "Split"), ("scores", "Scores"), ("maps", "Maps"),
    ("layers", "Layers"), ("regions", "Regions"), ("group", "Across subjects"), ("card", "Credibility card"),
    ("cannot", "What this data cannot tell"), ("provenance", "Provenance"),
)  # fmt: skip
TABLES = ("models", "layers", "roi_profiles", "unique_profiles", "group", "weight_pca", "map_pairs")
WHOLE_BRAIN = "whole brain"
MAX_ROWS, MAX_COMPONENTS = 60, 5
FAITHFUL = (
    "Mode faithful: the published code's numbers, oddities included. Its null is one shuffle of short blocks, pooled "
    "over voxels: where signals are slow its p values are too small."
)


def summarise(run: FinishedRun) -> dict[str, Any]:
    """Return everything that the section says, as plain values and finished figures.

    Raises
    ------
    InputError
        For files that are missing, or written by another version.
    """
    facts, scores = run.facts, run.read_json("scores.json")
    tables = {name: read_table(run, name) for name in TABLES}
    card = card_summary(run.read_json("card.json"))
    cite = Citer()
    drawn = draw_maps(run, units(run))
    figures: dict[str, Any] = {"maps": drawn.items, "histogram": histogram(run, units(run))}
    figures |= {"layers": layers(run, tables["layers"]), "profiles": profiles(run, tables["roi_profiles"])}
    unit = "r" if facts.get("mode") == "faithful" else "R2"
    figures["unique"] = profiles(run, tables["unique_profiles"], f"unique {unit}", least=1)
    pages = viewers(run, drawn)
    return {
        "kind": "Encoding: from language to brain, subject by subject",
        "template": TEMPLATE,
        "contents": CONTENTS,
        "name": run.name,
        "subtitle": f"{facts['data']['source']['name']}, {subjects_named(facts)}",
        "simulated": run.simulated,
        "headline": headline(card),
        "caveats": caveats(facts, drawn),
        "card": card,
        "warnings": [*card_warnings(card), *data_warnings(facts)],
        "data": data_rows(facts),
        "models": model_rows(facts),
        "split": split_summary(facts["split"]),
        "scores": score_table(scores),
        "by_subject": subject_table(tables["models"]),
        "figures": figures,
        "maps_left_out": drawn.left_out,
        "maps_note": drawn.note,
        "viewers": [{"name": name, "title": title} for name, (title, _) in pages.items()],
        "pages": {name: page for name, (_, page) in pages.items()},
        "group": group_table(tables["group"]),
        "unique_sentences": unique_sentences(facts, tables["group"], tables["unique_profiles"]),
        "components": component_table(tables["weight_pca"]),
        "component_sentences": component_sentences(tables["weight_pca"]),
        "pairs": pair_table(tables["map_pairs"]),
        "pair_sentences": pair_sentences(tables["map_pairs"]),
        "cannot_tell": facts["cannot_tell"],
        "provenance": provenance(run),
        "methods": methods(facts, run.manifest, card, tables["group"], cite),
        "citations": cite.keys,
        "source": facts["data"]["source"],
        "tables": {"scores.csv": score_rows(run, scores)} | csv_tables(run, tables),
    }


def units(run: FinishedRun) -> list[tuple[str, str, str]]:
    """Subject, model and folder of everything that was fitted, in the run's own order."""
    models = [model["name"] for model in run.facts["models"]]
    found = [(s, m, f"subjects/{s}/{m}") for s in run.facts["subjects"] for m in models]
    return [unit for unit in found if f"{unit[2]}/{TABLE}" in run.files]


def read_table(run: FinishedRun, name: str) -> pd.DataFrame | None:
    """A table of the run, or None where it has none of that name."""
    file = f"tables/{name}.csv"
    if file not in run.files:
        return None
    try:
        texts = dict.fromkeys(("subject", "model", "other", "roi", "band", "layer"), str)  # subject 01 is not 1
        return pd.read_csv(io.BytesIO(run.path(file).read_bytes()), keep_default_na=False, na_values=[""], dtype=texts)
    except (ValueError, pd.errors.ParserError) as error:
        raise InputError("E-FMT", f"not a table of commas ({error})", path=run.path(file)) from None


def subjects_named(facts: Mapping[str, Any]) -> str:
    """``subject DM01`` or ``6 subjects``."""
    subjects = facts["subjects"]
    return f"subject {subjects[0]}" if len(subjects) == 1 else plural(len(subjects), "subject")


def headline(card: Mapping[str, Any]) -> str:
    """The card's own words."""
    text = str(card["headline"])
    return f"{text[:1].upper()}{text[1:].rstrip('.')}."


def caveats(facts: Mapping[str, Any], drawn: Drawn) -> list[str]:
    """What must be said in the same breath."""
    said = []
    if facts.get("mode") == "faithful":
        said.append(FAITHFUL)
    if not facts.get("features", {}).get("nuisance") and not any(
        band.get("nuisance") for model in facts["models"] for band in model.get("bands", {}).values()
    ):
        said.append("No nuisance band was fitted: what is called language here may be word rate, loudness or time.")
    said += drawn.caveats
    return said


def data_warnings(facts: Mapping[str, Any]) -> list[str]:
    """What the units' own facts give cause to warn of."""
    said = []
    for name, unit in sorted(facts.get("units", {}).items()):
        if unit.get("n_constant"):
            said.append(f"{name}: {plural(unit['n_constant'], 'voxel')} constant, without a score.")
        if unit.get("edge_share", 0) > 0.1:
            said.append(f"{name}: {100 * unit['edge_share']:.0f} % of the chosen penalties lie at an end of the grid.")
    return said if len(said) <= 8 else [*said[:8], f"{len(said) - 8} more such warnings: see facts.json."]


def data_rows(facts: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Name and value of each line about the recordings."""
    data = facts["data"]
    rows = [("Subjects", ", ".join(facts["subjects"]))]
    for name, key in (("Voxels", "n_voxels"), ("Runs", "n_runs"), ("Volumes", "n_volumes")):
        rows += [(name, by_subject(data[key]))] if data.get(key) else []
    rows += [("TR", f"{data['tr_s']:g} s")] if data.get("tr_s") else []
    if data.get("n_train"):
        rows.append(("Volumes", f"{data['n_train']:,} for training, {data['n_valid']:,} scored"))
    rows += [("Standardised", str(data["standardise"]))] if data.get("standardise") else []
    if data.get("voxel_size_mm"):
        rows.append(("Voxel size", size_mm(data["voxel_size_mm"])))
    space = data.get("space", {})
    spaces = set(space.values()) if isinstance(space, Mapping) else {space}
    rows += [("Space", "; ".join(sorted(map(str, spaces))))] if spaces - {None, ""} else []
    surfaces = set(data.get("surface", {}).values()) - {None}
    return rows + ([("Maps on the surface", "; ".join(sorted(surfaces)))] if surfaces else [])


def by_subject(value: Any) -> str:
    """``41``, or ``900 (S1), 850 (S2)``."""
    if not isinstance(value, Mapping):
        return f"{value:,}" if isinstance(value, int) else str(value)
    return ", ".join(f"{by_subject(number)} ({subject})" for subject, number in value.items())


def model_rows(facts: Mapping[str, Any]) -> list[list[str]]:
    """One row a model and band: what it is made of."""
    nuisance = set(facts.get("features", {}).get("nuisance") or ())
    tr_s = facts["data"].get("tr_s")
    common = [d * tr_s for d in facts.get("delays_tr", ())] if tr_s else []
    rows = []
    for model in facts["models"]:
        for name, band in model.get("bands", {}).items():
            delays = band.get("shifts_s") or band.get("delays_s") or common
            how = ", averaged" if band.get("shifts_s") else " as FIR columns" if len(delays) > 1 else ""
            layer = band.get("layer") or listed(band.get("layers") or [])
            context_s = band.get("context_s") or band.get("window_s")
            rows.append([
                model["name"], f"{name} (nuisance)" if band.get("nuisance") or name in nuisance else name,
                str(band.get("level") or "–"), str(band.get("model") or band.get("kind") or "–"), str(layer or "–"),
                f"{context_s:g} s" if context_s else "–",
                f"{listed([f'{d:g}' for d in delays])} s{how}" if delays else "–", str(band.get("reduction") or "none"),
            ])  # fmt: skip
    return rows


def score_table(scores: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """One row a model, one column a quantity: means over voxels, then over subjects."""
    metrics = list(dict.fromkeys(score["metric"] for score in scores))
    by_key = {(score["model"], score["metric"]): score for score in scores}
    rows = []
    for name in dict.fromkeys(score["model"] for score in scores):
        cells = []
        for metric in metrics:
            score = by_key.get((name, metric))
            cells.append((number(score["mean"], 4), interval(score["ci"], 4)) if score else ("–", "not fitted"))
        rows.append({"name": name, "cells": cells})
    first = {score["metric"]: score for score in scores}
    over = listed(sorted({score["ci_over"] for score in scores if score["ci"] is not None}))
    return {
        "rows": rows,
        "caption": f"Means over voxels{', then over subjects' if over == 'subjects' else ''}"
                   + (f", with 95 % intervals over {over}" if over else ""),
        "metrics": [
            {"name": metric, "ceiling": number(first[metric]["ceiling"]), "n": first[metric]["n"],
             "ceiling_reason": first[metric]["ceiling_reason"]}
            for metric in metrics
        ],
    }  # fmt: skip


def subject_table(table: pd.DataFrame | None) -> dict[str, Any] | None:
    """Every subject's and model's means, as the run's own table has them."""
    if table is None or table.empty:
        return None
    wanted = {"subject": "Subject", "model": "Model", "layer": "Layer", "mean_r": "Mean r", "max_r": "Largest r",
              "mean_r_top": "Mean r of the best voxels", "n_significant": "Voxels at q < .05",
              "share_significant": "Their share"}  # fmt: skip
    names = [name for name in wanted if name in table.columns and table[name].notna().any()]
    return {"columns": [wanted[name] for name in names], "rows": cells(table[names].head(MAX_ROWS)),
            "more": max(0, len(table) - MAX_ROWS)}  # fmt: skip


def group_table(table: pd.DataFrame | None) -> dict[str, Any] | None:
    """Across subjects: the whole brain's rows first, then regions'."""
    if table is None or table.empty:
        return None
    wanted = {"quantity": "Quantity", "roi": "Region", "model": "Model", "other": "Less", "n_subjects": "Subjects",
              "mean": "Mean", "low": "95 % from", "high": "to", "n_positive": "Above 0", "p_flip": "p (sign flips)",
              "p_flip_fdr": "q over regions", "n_best": "Best in"}  # fmt: skip
    names = [name for name in wanted if name in table.columns and table[name].notna().any()]
    whole = table["roi"] == WHOLE_BRAIN if "roi" in table else pd.Series(True, index=table.index)
    ordered = pd.concat([table[whole], table[~whole]])
    return {"columns": [wanted[name] for name in names], "rows": cells(ordered[names].head(MAX_ROWS)),
            "more": max(0, len(table) - MAX_ROWS)}  # fmt: skip


def component_table(table: pd.DataFrame | None) -> dict[str, Any] | None:
    """Principal components of the weights: everyone's first ones."""
    if table is None or table.empty:
        return None
    wanted = {"subject": "Subject", "model": "Model", "band": "Band", "component": "Component", "share": "Share",
              "null_share": "Random signs", "p": "p", "share_by_group": "Along the group's",
              "share_by_others": "Along the others'", "n_voxels": "Voxels"}  # fmt: skip
    shown = table[table["component"] <= MAX_COMPONENTS]
    names = [name for name in wanted if name in shown.columns and shown[name].notna().any()]
    return {"columns": [wanted[name] for name in names], "rows": cells(shown[names].head(MAX_ROWS)),
            "more": len(table) - min(len(shown), MAX_ROWS)}  # fmt: skip


def pair_table(table: pd.DataFrame | None) -> dict[str, Any] | None:
    """Pairs of maps on the surface."""
    if table is None or table.empty:
        return None
    shown = rows_shown(table)
    return {"columns": list(shown.columns), "rows": cells(shown.head(MAX_ROWS)),
            "more": len(table) - min(len(shown), MAX_ROWS)}  # fmt: skip


def cells(table: pd.DataFrame) -> list[list[tuple[str, bool]]]:
    """Texts of a table and whether each is a number: whole ones in full, others with four digits."""
    out = []
    for row in table.itertuples(index=False):
        shown = []
        for value in row:
            numeric = isinstance(value, (int, float, np.number)) and not isinstance(value, bool)
            if value is None or (numeric and not np.isfinite(value)) or value is pd.NA:
                shown.append(("–", True))
            elif numeric and float(value).is_integer() and abs(value) >= 1:
                shown.append((f"{int(value):,}", True))
            else:
                shown.append((f"{value:.4f}" if numeric else str(value), bool(numeric)))
        out.append(shown)
    return out


def csv_tables(run: FinishedRun, tables: Mapping[str, pd.DataFrame | None]) -> dict[str, list[dict[str, Any]]]:
    """The run's tables again, beside the page, with the run's name."""
    return {
        f"{name}.csv": [
            {"run": run.name, "simulated": run.simulated, **{str(k): None if pd.isna(v) else v for k, v in row.items()}}
            for row in table.to_dict("records")
        ]
        for name, table in tables.items()
        if table is not None
    }

"""The section of an encoding run: from its files to the plain summary that ``templates/encoding.html`` shows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from wernicke.report.canvas import image
from wernicke.report.encoding_figures import find_slices, histogram_figure, map_figure
from wernicke.report.figures import Panel, scores_figure
from wernicke.report.methods import encoding_methods, voxel_size_mm
from wernicke.report.provenance import card_summary, card_warnings, provenance, split_summary
from wernicke.report.references import Citer
from wernicke.report.runs import FinishedRun
from wernicke.report.tables import score_rows
from wernicke.report.words import interval, listed, number, plural, signed, size_mm

MARK = "models.json"  # the file by which a run is known to be of this kind
TEMPLATE = "encoding.html"
CONTENTS = (
    ("data", "Data"), ("features", "Features"), ("split", "Split"), ("scores", "Scores"), ("maps", "Maps"),
    ("card", "Credibility card"), ("cannot", "What this data cannot tell"), ("provenance", "Provenance"),
)  # fmt: skip
METRICS = {"r by TR": ("r", "r_ci", "r_draws"), "contrast r": ("contrast", "contrast_ci", "contrast_draws")}


def summarise(run: FinishedRun) -> dict[str, Any]:
    """Return everything that the section says, as plain values and finished figures.

    Raises
    ------
    InputError
        For files that are missing, or written by another version.
    """
    facts, models = run.facts, run.read_json("models.json")
    scores = run.read_json("scores.json")
    cite = Citer()
    card = card_summary(run.read_json("card.json"))
    return {
        "kind": "Encoding: from language to brain",
        "template": TEMPLATE,
        "contents": CONTENTS,
        "name": run.name,
        "subtitle": f"{facts['data']['source']['name']}, subject {facts['data']['subject']}",
        "simulated": run.simulated,
        "headline": headline(facts),
        "caveats": caveats(facts, models),
        "card": card,
        "warnings": [*card_warnings(card), *data_warnings(facts)],
        "data": data_rows(facts["data"]),
        "features": feature_rows(facts["features"]),
        "sentences": sorted(run.folder.read_json("facts.json")["features"]["sentences"].items()),
        "split": split_summary(facts["split"]),
        "scores": score_table(models, scores),
        "figures": figures(run, models, scores),
        "ceiling_notes": ceiling_notes(run, models, scores),
        "cannot_tell": facts["cannot_tell"],
        "provenance": provenance(run),
        "methods": encoding_methods(facts, run.manifest, models, cite),
        "citations": cite.keys,
        "source": facts["data"]["source"],
        "tables": {"scores.csv": score_rows(run, scores), "fits.csv": fit_rows(run, models)},
    }


def headline(facts: Mapping[str, Any]) -> str:
    """The gain on category contrasts, with its interval."""
    gain = facts["gain"]
    return (
        f"Over {facts['card']['gain']['over']}, the language model gains {signed(gain['estimate'])} in r of category "
        f"contrasts on held-out runs (95 % over runs: {signed(gain['low'])} to {signed(gain['high'])})."
    )


def caveats(facts: Mapping[str, Any], models: Sequence[Mapping[str, Any]]) -> list[str]:
    """What must be said in the same breath as the headline: who else does as well, without language."""
    by_name = {model["name"]: model for model in models}
    ours = by_name["language"]["contrast"]
    said = []
    wrong = by_name.get("wrong category")
    if wrong is None:
        said.append("Sentences given to the wrong categories were not tried (controls: none), so nothing here says "
                    "that the sentences' content matters.")  # fmt: skip
    else:
        as_good = sum(value >= ours for value in wrong["contrast_draws"])
        text = (
            f"The same sentences given to the wrong categories reach {number(wrong['contrast'])} on average (language "
            f"model {number(ours)}), and {as_good} of {plural(wrong['n_fits'], 'such fit')} reach at least as much. "
        )
        at_chance = (1 + as_good) / (1 + wrong["n_fits"]) > 0.05
        verdict = (
            "So what the sentences say is not shown to matter; that they differ is enough."
            if at_chance
            else "So here the right sentences do better than the wrong ones."
        )
        said.append(text + verdict)
    without = [m for m in models if not m["name"].startswith("language") and m["n_fits"] == 1]
    better = [m for m in without if m["contrast"] >= ours]
    if better:
        shown = listed([f"{m['name']} ({number(m['contrast'])})" for m in better])
        said.append(f"Models that know no language predict the contrasts at least as well: {shown}.")
    return said


def data_warnings(facts: Mapping[str, Any]) -> list[str]:
    """What the files themselves give cause to warn of."""
    said = []
    if facts["test"]["n_constant"]:
        said.append(f"{plural(facts['test']['n_constant'], 'voxel')} constant within every run: grey in every map.")
    if facts["ceiling"]["n_without"]:
        said.append(
            f"{plural(facts['ceiling']['n_without'], 'voxel')} of {facts['data']['n_voxels']} have no noise ceiling: "
            "their category responses do not repeat over runs."
        )
    if facts.get("edge_share", 0) > 0.1:
        said.append(f"{100 * facts['edge_share']:.0f} % of the chosen penalties lie at an end of the grid.")
    if facts["controls"] == "none":
        said.append("Controls were not run.")
    return said


def data_rows(data: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Name and value of each line about the recording."""
    return [
        ("Subject", str(data["subject"])),
        ("Runs", str(data["n_runs"])),
        ("Volumes", f"{data['n_volumes']:,} (TR {data['tr_s']:g} s)"),
        ("Voxels", f"{data['n_voxels']:,} of a grid of {' × '.join(map(str, data['grid']))}"),
        ("Voxel size", size_mm(voxel_size_mm(data["affine"]))),
        ("Conditions", f"{len(data['conditions'])}: {', '.join(data['conditions'])}"),
        ("Preparation", f"polynomial drift of degree {data['detrend_order']} removed from each run and voxel, then "
                        "z-scored within the run"),
    ]  # fmt: skip


def feature_rows(features: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Name and value of each line about the features."""
    rows = [
        ("What", str(features["kind"])),
        ("Model", str(features["model"])),
        ("Layer", f"{listed(features['layers'])} (0 is the embedding output)"),
        ("Pooling", f"{features['pool']} over the sentence's tokens"),
        ("Chat template", "yes" if features["chat"] else "no"),
        ("Precision", str(features["dtype"])),
    ]
    return rows + ([("Revision", str(features["revision"]))] if features.get("revision") else [])


def score_table(models: Sequence[Mapping[str, Any]], scores: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The figure's numbers: one row a model; null and ceiling of each metric below."""
    first = {score["metric"]: score for score in scores if score["model"] == models[0]["name"]}
    return {
        "rows": [
            {
                "name": model["name"], "what": model["what"], "n_fits": model["n_fits"],
                "cells": [(number(model[mean]), interval(model[ci])) for mean, ci, _ in METRICS.values()],
            }
            for model in models
        ],
        "metrics": [
            {
                "name": metric,
                "ceiling": number(first[metric]["ceiling"]), "ceiling_reason": first[metric]["ceiling_reason"],
                "null": null_words(first[metric]), "n": first[metric]["n"],
            }
            for metric in METRICS
        ],
    }  # fmt: skip


def ceiling_notes(
    run: FinishedRun, models: Sequence[Mapping[str, Any]], scores: Sequence[Mapping[str, Any]]
) -> list[str]:
    """What the ceilings are not: bounds on means over other voxels, or bounds at all."""
    notes = []
    by_tr = next(score for score in scores if score["metric"] == "r by TR")
    above = [model["name"] for model in models if by_tr["ceiling"] is not None and model["r"] > by_tr["ceiling"]]
    if above:
        notes.append(f"The ceiling of r by TR ({by_tr['ceiling_reason']}, {number(by_tr['ceiling'])}) is itself a fit "
                     f"to noisy data: {listed(above)} lie above it, so it is a reference and not a bound.")  # fmt: skip
    ceiling, contrast = run.read_npy("maps/ceiling.npy"), run.read_npy("maps/contrast_r.npy")
    known = np.isfinite(ceiling)
    if known.any() and not known.all():
        notes.append(
            f"The ceiling of contrast r is a mean over the {int(known.sum())} voxels that have one; leaving out voxels "
            f"whose responses do not repeat raises it. On the same voxels the language model's mean contrast r is "
            f"{number(float(np.nanmean(contrast[known])))}."
        )
    return notes


def null_words(score: Mapping[str, Any]) -> str:
    """Mean and 95 % range of a null, or that none was run."""
    if score["null"] is None:
        return "not run"
    low, high = np.quantile(score["null"], (0.025, 0.975))
    mean = number(float(np.mean(score["null"])))
    return f"{mean} ({interval((low, high))}; {plural(len(score['null']), 'fit')}): {score['null_name']}"


def figures(
    run: FinishedRun, models: Sequence[Mapping[str, Any]], scores: Sequence[Mapping[str, Any]]
) -> dict[str, Any]:
    """All figures as data URIs, with alternative texts and captions."""
    panels = []
    for metric, (mean, ci, draws) in METRICS.items():
        score = next(s for s in scores if s["metric"] == metric and s["model"] == models[0]["name"])
        rows = [{"name": m["name"], "mean": m[mean], "ci": m[ci], "draws": m[draws]} for m in models]
        panels.append(Panel(f"{metric}, mean over {score['n']} voxels", rows, score["null"], score["null_name"],
                            score["ceiling"], score["ceiling_reason"]))  # fmt: skip
    alt = "; ".join(
        f"{metric}: " + ", ".join(f"{m['name']} {number(m[mean])}" for m in models)
        for metric, (mean, _, _) in METRICS.items()
    )
    drawn: dict[str, Any] = {}
    drawn["scores"] = image(scores_figure(panels, simulated=run.simulated), f"Dot plot of every model. {alt}.")
    maps = {name: run.read_npy(f"maps/{name}.npy") for name in
            ("r", "p_fdr", "contrast_r", "contrast_p_fdr", "ceiling")}  # fmt: skip
    drawn["maps"] = map_figures(run, maps)
    drawn["histogram"] = image(
        histogram_figure(
            [
                ("r by TR", maps["r"], maps["p_fdr"] <= 0.05, None),
                ("contrast r and its ceiling", maps["contrast_r"], maps["contrast_p_fdr"] <= 0.05, maps["ceiling"]),
            ],
            simulated=run.simulated,
        ),
        "Histograms over voxels of r by TR and of contrast r, significant voxels darker, and of the noise ceiling.",
    )
    return drawn


def map_figures(run: FinishedRun, maps: Mapping[str, np.ndarray]) -> list[dict[str, Any]]:
    """The maps, contrasts and their ceiling on one scale."""
    data = run.facts["data"]
    slices = find_slices(run.read_npy("maps/mask.npy"), np.asarray(data["affine"], dtype=float))
    by_tr = float(np.nanmax(np.abs(maps["r"])))
    contrast = float(np.nanmax(np.abs([maps["contrast_r"], maps["ceiling"]])))
    kept = np.where(maps["contrast_p_fdr"] <= 0.05, maps["contrast_r"], np.nan)
    n_kept = int(np.isfinite(kept).sum())
    items = [
        ("r by TR", maps["r"], by_tr, "Pearson r of held-out predictions, every voxel"),
        ("contrast r, all voxels", maps["contrast_r"], contrast, "Correlation of predicted with measured category "
         "contrasts, every voxel"),
        ("contrast r, FDR q < .05", kept, contrast, f"The same where it is significant: {plural(n_kept, 'voxel')}"),
        ("noise ceiling of contrast r", maps["ceiling"], contrast, "What a perfect model could reach, voxel by voxel"),
    ]  # fmt: skip
    out = []
    for title, values, limit, what in items:
        known = values[np.isfinite(values)]
        spread = (
            f"{len(known)} voxels with a value, from {number(known.min())} to {number(known.max())}, median "
            f"{number(float(np.median(known)))}" if len(known) else "no voxel with a value"
        )  # fmt: skip
        png = map_figure(slices, values, label=title, limit=limit, simulated=run.simulated)
        out.append({**image(png, f"Map of {title}: {spread}.", scale=2), "title": title, "caption": f"{what}."})
    return out


def fit_rows(run: FinishedRun, models: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Rows of ``fits.csv``: every single fit, as the figure's small dots show it."""
    return [
        {"run": run.name, "simulated": run.simulated, "model": model["name"], "metric": metric, "fit": k, "value": v}
        for model in models
        for metric, (_, _, draws) in METRICS.items()
        for k, v in enumerate(model[draws])
    ]

"""The section of a decoding run: from its files to the plain summary that ``templates/decoding.html`` shows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from wernicke.core.results import Captions
from wernicke.core.seeds import derive_rng
from wernicke.data.captions import read_captions
from wernicke.report.canvas import image
from wernicke.report.decoding_figures import confusion_figure, learning_figure
from wernicke.report.decoding_methods import decoding_methods
from wernicke.report.figures import Panel, scores_figure
from wernicke.report.provenance import card_summary, card_warnings, provenance, split_summary
from wernicke.report.references import Citer
from wernicke.report.runs import FinishedRun
from wernicke.report.tables import score_rows
from wernicke.report.words import interval, listed, number, plural
from wernicke.scoring.show import COLUMNS, TITLES
from wernicke.scoring.text import rouge

MARK = "captions.json"  # the file by which a run is known to be of this kind
TEMPLATE = "decoding.html"
CONTENTS = (
    ("data", "Data"), ("bridge", "Bridge"), ("split", "Split and exposure"), ("scores", "Scores"),
    ("sentences", "Sentences"), ("metrics", "Text metrics"), ("card", "Credibility card"),
    ("cannot", "What this data cannot tell"), ("provenance", "Provenance"),
)  # fmt: skip
METRIC = "category named right"
N_RANDOM = 3
MAX_ITEMS = 400  # rows of the page's table; items.csv has all


def summarise(run: FinishedRun) -> dict[str, Any]:
    """Return everything that the section says, as plain values and finished figures.

    Raises
    ------
    InputError
        For files that are missing, or written by another version.
    """
    facts, scores, evaluation = run.facts, run.read_json("scores.json"), run.read_json("evaluation.json")
    captions = read_captions(run.path("captions.json"))
    items = item_rows(run, captions)
    cite = Citer()
    card = card_summary(run.read_json("card.json"))
    return {
        "kind": "Decoding: from brain to sentences",
        "template": TEMPLATE,
        "contents": CONTENTS,
        "name": run.name,
        "subtitle": f"{facts['data']['source']['name']}, subject {facts['data']['subject']}",
        "simulated": run.simulated,
        "headline": headline(facts, items),
        "caveats": caveats(facts),
        "card": card,
        "warnings": [*card_warnings(card), *data_warnings(evaluation)],
        "data": data_rows(facts["data"]),
        "bridge": bridge_rows(facts, captions),
        "split": split_summary(facts["split"]),
        "exposure": [(name, len(ids), ", ".join(map(str, ids))) for name, ids in sorted(facts["exposure"].items())],
        "scores": score_table(facts, scores),
        "figures": figures(run, facts, items),
        "examples": examples(items, run.manifest["seed"]),
        "items": items[:MAX_ITEMS],
        "n_items": len(items),
        "controls": control_names(items),
        "outcomes": outcomes(items),
        "metrics": metric_table(evaluation),
        "cannot_tell": facts["cannot_tell"],
        "provenance": provenance(run),
        "methods": decoding_methods(facts, run.manifest, captions.parameters, evaluation, cite),
        "citations": cite.keys,
        "source": facts["data"]["source"],
        "tables": {
            "scores.csv": score_rows(run, scores),
            "fits.csv": fit_rows(run),
            "items.csv": csv_items(run, items),
        },
    }


def headline(facts: Mapping[str, Any], items: Sequence[Mapping[str, Any]]) -> str:
    """Share of sentences that name the right category, next to what it must be compared with."""
    rows = {row["name"]: row for row in facts["baselines"]}
    ours = rows["sentences"]
    rivals = [f"{name} {number(rows[name]['accuracy'])}" for name in ("linear SVM", "ridge classifier") if name in rows]
    n_right = sum(item["outcome"] == "right" for item in items)
    return (
        f"{100 * ours['accuracy']:.0f} % of held-out blocks ({n_right} of {len(items)}) get a sentence that names the "
        f"right category and no other (95 % over runs: {interval(ours['ci'])}). On the same folds: "
        f"{listed(rivals)}; chance {number(facts['chance'])}."
    )


def caveats(facts: Mapping[str, Any]) -> list[str]:
    """What must be said in the same breath."""
    said = []
    controls = [row for row in facts["baselines"] if is_control(row)]
    if controls:
        words = []
        for row in controls:
            fits = f", {plural(len(row['draws']), 'draw')}" if len(row["draws"]) > 1 else ""
            judged = f"; {row['verdict']}" if row["verdict"] else ""
            words.append(f"{row['name']} {number(row['accuracy'])} ({row['what']}{fits}{judged})")
        said.append(
            f"Controls: {'; '.join(words)}. Equivalent to chance means within {facts['chance_margin']:g} of it, a "
            "margin stated beforehand."
        )
    else:
        said.append("No control went through the decoder (controls: none), so nothing here says that the sentences "
                    "come from the brain.")  # fmt: skip
    seen = [name for name in facts["split"]["accepted_leaks"] if facts["split"]["overlaps"].get(name)]
    if seen:
        said.append(
            f"Accepted leak: {', '.join(seen)}. The language model was primed on all {len(facts['sentences'])} "
            "sentences, so this is a category route through sentences: it can tell which of them fits, and nothing "
            "else about what was seen."
        )
    return said


def is_control(row: Mapping[str, Any]) -> bool:
    """Whether a row of the baselines is a control of the decoder; rivals and the decoder have intervals over runs."""
    return row["ci_over"] != "runs"


def data_warnings(evaluation: Mapping[str, Any]) -> list[str]:
    """What the files themselves give cause to warn of."""
    n_empty = evaluation["controls"]["n_empty"]
    return [f"{plural(n_empty, 'sentence')} empty, scored 0."] if n_empty else []


def data_rows(data: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Name and value of each line about the recording."""
    return [
        ("Subject", str(data["subject"])),
        ("Runs", str(data["n_runs"])),
        ("Blocks", f"{data['n_blocks']} (of {data['n_volumes']:,} volumes, TR {data['tr_s']:g} s)"),
        ("Voxels", f"{data['n_voxels']:,}"),
        ("Conditions", f"{len(data['conditions'])}: {', '.join(data['conditions'])}"),
        ("Preparation", f"polynomial drift of degree {data['detrend_order']} removed from each run and voxel, then "
                        f"z-scored; volumes of a block averaged {data['shift_s']:g} s later"),
    ]  # fmt: skip


def bridge_rows(facts: Mapping[str, Any], captions: Captions) -> list[tuple[str, str]]:
    """Name and value of each line about what turns a brain response into a sentence."""
    found, bridge = facts["bridge"], facts["bridge"]["bridge"]
    model = found["llm"]["name"] if isinstance(found["llm"], Mapping) else found["llm"]
    prompt = " / ".join(f"{message['role']}: {message['content']}" for message in bridge["messages"])
    written = ", ".join(f"{name} {value}" for name, value in sorted(captions.parameters.items()) if name != "llm")
    return [
        ("Language model", f"{model}, frozen"),
        ("Projector", f"{bridge['d_in']} numbers -> {plural(bridge['n_tokens'], 'soft token')}"
                      + (f", hidden layer of {bridge['d_hidden']}" if bridge["d_hidden"] else ", linear")),
        ("Prompt", prompt),
        ("Order", "primed on the sentences, then the brain mapped onto the bridge's input by ridge, per fold"),
        ("Generation", f"{captions.decoding}-running: {written}"),
    ]  # fmt: skip


def score_table(facts: Mapping[str, Any], scores: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The figure's numbers."""
    null = next(score for score in scores if score["metric"] == METRIC)
    return {
        "rows": [
            {
                "name": row["name"], "what": row["what"], "n_fits": len(row["draws"]), "verdict": row["verdict"],
                "cells": [(number(row["accuracy"]), interval(row["ci"]))], "over": row["ci_over"] if row["ci"] else "",
            }
            for row in facts["baselines"]
        ],
        "metrics": [{"name": METRIC, "chance": number(facts["chance"]), "ceiling_reason": null["ceiling_reason"]}],
    }  # fmt: skip


def item_rows(run: FinishedRun, captions: Captions) -> list[dict[str, Any]]:
    """One row a caption in the captions' order: truth, sentence, what it names, scores, the controls' sentences."""
    scored = {item["id"]: item for item in run.folder.read_json("items.json")}
    others = {
        name: sentences_with_scores(read_captions(run.path(f"controls/{file}")), captions)
        for name, file in first_draws(run).items()
    }
    rows = []
    for k, row in enumerate(captions.table.to_dict("records")):
        item = scored[row["id"]]
        rows.append({
            "order": k + 1, "id": row["id"], "label": row["label"], "run": row.get("run", ""),
            "reference": " / ".join(captions.references[k]), "text": row["text"], "named": item["named"],
            "outcome": item["outcome"], "rouge1": float(item["rouge1"]),
            "metrics": {name: item[name] for name in in_order(item) if name in TITLES},
            "controls": {name: other[row["id"]] for name, other in others.items()},
        })  # fmt: skip
    return rows


def sentences_with_scores(control: Captions, captions: Captions) -> dict[str, tuple[str, float]]:
    """A control's sentence for each id with its ROUGE-1 against that id's own references."""
    wanted = dict(zip(captions.table["id"], captions.references, strict=True))
    ids, texts = control.table["id"].tolist(), control.table["text"].tolist()
    values = rouge(texts, [wanted[name] for name in ids])["rouge1"]
    return {name: (text, float(value)) for name, text, value in zip(ids, texts, values, strict=True)}


def first_draws(run: FinishedRun) -> dict[str, str]:
    """The first file of each control's captions, by the control's name."""
    names = sorted(name.removeprefix("controls/") for name in run.files if name.startswith("controls/"))
    return {name.rsplit("-", 1)[0].removesuffix(".json"): name for name in reversed(names)}


def control_names(items: Sequence[Mapping[str, Any]]) -> list[str]:
    """The controls whose sentences stand beside each item's."""
    return sorted(items[0]["controls"])


def outcomes(items: Sequence[Mapping[str, Any]]) -> list[tuple[str, int]]:
    """How many sentences name the right category, another, several, or none."""
    found = [item["outcome"] for item in items]
    return [(name, found.count(name)) for name in ("right", "wrong", "ambiguous", "none")]


def examples(items: Sequence[Mapping[str, Any]], seed: int) -> list[dict[str, Any]]:
    """The best, median and worst item by ROUGE-1, and some drawn by the run's seed; none is chosen by hand."""
    ranked = sorted(range(len(items)), key=lambda i: (-items[i]["rouge1"], i))
    places = [("best", ranked[0]), ("median", ranked[len(ranked) // 2]), ("worst", ranked[-1])]
    drawn = derive_rng(seed, "report", "random examples").choice(len(items), min(N_RANDOM, len(items)), replace=False)
    places += [("random", int(i)) for i in drawn]
    values = [item["rouge1"] for item in items]
    return [{**items[i], "why": why, "n_ties": values.count(values[i])} for why, i in places]


def figures(run: FinishedRun, facts: Mapping[str, Any], items: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """All figures, with alternative texts."""
    baselines = facts["baselines"]
    rows = [{"name": row["name"], "mean": row["accuracy"], "ci": row["ci"], "draws": row["draws"]} for row in baselines]
    shuffled = next((row for row in baselines if row["name"] == "shuffled"), None)
    panel = Panel(
        f"share of {len(items)} blocks whose category is named right", rows,
        None if shuffled is None else shuffled["draws"], "" if shuffled is None else shuffled["what"], None, "",
        facts["chance"],
    )  # fmt: skip
    said = ", ".join(f"{row['name']} {number(row['accuracy'])}" for row in baselines)
    counts, truths, named = confusion(items)
    hits = ", ".join(f"{name} {int(counts[i, i])} of {int(counts[i].sum())}" for i, name in enumerate(truths))
    curve = run.read_json("learning_curve.json")
    losses = [row["loss"] for row in curve if "loss" in row]
    drawn = {
        "scores": image(scores_figure([panel], simulated=run.simulated),
                        f"Dot plot of the share of blocks named right: {said}; chance {number(facts['chance'])}."),
        "confusion": image(confusion_figure(counts, truths, named, simulated=run.simulated),
                           f"Confusion matrix, right sentences by category: {hits}."),
    }  # fmt: skip
    if losses:
        drawn["learning"] = image(
            learning_figure(curve, simulated=run.simulated),
            f"Learning curve of the priming: loss from {number(losses[0])} to {number(losses[-1])} in "
            f"{plural(len(losses), 'step')}.",
        )
    return drawn


def confusion(items: Sequence[Mapping[str, Any]]) -> tuple[np.ndarray, list[str], list[str]]:
    """Counts, shape (n_truths, n_named); after the categories come `several` and `none` where they occur."""
    extra = {"ambiguous": "several", "none": "none"}
    truths = sorted({item["label"] for item in items})
    found = [extra.get(item["outcome"], item["named"]) for item in items]
    named = list(dict.fromkeys([*truths, *sorted(set(found) - set(extra.values())), *extra.values()]))
    named = [name for name in named if name in truths or name in found]
    counts = np.zeros((len(truths), len(named)), dtype=int)
    for item, name in zip(items, found, strict=True):
        counts[truths.index(item["label"]), named.index(name)] += 1
    return counts, truths, named


def metric_table(evaluation: Mapping[str, Any]) -> dict[str, Any]:
    """Text metrics times 100, with intervals, columns of comparison and the name of what computed each."""
    controls = evaluation["controls"]
    present = [name for name in COLUMNS if name in controls["columns"]]
    rows = []
    named = controls["repairing"].get("named category", {}).get("null_mean")
    for name in in_order(evaluation["metrics"]):
        value, ends = evaluation["metrics"][name], controls["intervals"].get(name)
        others = [controls["columns"][column].get(name) for column in present]
        if name == "category_accuracy" and "repaired" in present:
            others[present.index("repaired")] = named
        rows.append({
            "name": TITLES.get(name, name), "value": number(100 * value, 2),
            "ci": interval([100 * end for end in ends], 2) if ends else "–",
            "others": [number(None if other is None else 100 * other, 2) for other in others],
            "implementation": controls["implementations"][name],
        })  # fmt: skip
    return {"columns": [COLUMNS[name] for name in present], "rows": rows, "over": controls["intervals_over"]}


def in_order(metrics: Mapping[str, float]) -> list[str]:
    """Names of metrics in the order of printed tables, others after them."""
    return sorted(metrics, key=lambda name: (list(TITLES).index(name) if name in TITLES else len(TITLES), name))


def fit_rows(run: FinishedRun) -> list[dict[str, Any]]:
    """Rows of ``fits.csv``: every draw of every model and control."""
    return [
        {"run": run.name, "simulated": run.simulated, "model": row["name"], "metric": METRIC, "fit": k, "value": value}
        for row in run.facts["baselines"]
        for k, value in enumerate(row["draws"])
    ]


def csv_items(run: FinishedRun, items: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Rows of ``items.csv``: one a sentence."""
    return [
        {
            "run_folder": run.name, "simulated": run.simulated,
            **{name: item[name] for name in ("order", "id", "run", "label", "reference", "text", "named", "outcome")},
            **item["metrics"], **{f"control_{name}": text for name, (text, _) in item["controls"].items()},
            **{f"control_{name}_rouge1": value for name, (_, value) in item["controls"].items()},
        }
        for item in items
    ]  # fmt: skip

"""The methods paragraph of a decoding run, from its own files."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from wernicke.report.methods import leaks, software, warned
from wernicke.report.references import Citer
from wernicke.report.words import interval, listed, number, plural
from wernicke.scoring.show import TITLES

_METRICS = {
    "bleu": ("BLEU", ("papineni2002", "post2018")), "rouge": ("ROUGE", ("lin2004",)),
    "cider": ("CIDEr", ("vedantam2015",)), "similarity": ("cosine of sentence embeddings", ("reimers2019",)),
}  # fmt: skip


def decoding_methods(
    facts: Mapping[str, Any],
    manifest: Mapping[str, Any],
    parameters: Mapping[str, Any],
    evaluation: Mapping[str, Any],
    cite: Citer,
) -> str:
    """Methods and results of a decoding run as one paragraph of plain text, ready to paste."""
    packages = ("numpy", "scipy", "pandas", "scikit-learn", "torch", "transformers", "nibabel")
    parts = [
        recorded(facts["data"]),
        bridged(facts, cite),
        f"One run at a time was left out ({facts['split']['n_folds']} folds).",
        leaks(facts["split"]),
        generated(parameters),
        compared(facts, cite),
        scored(evaluation, cite),
        software(manifest, packages, cite),
    ]
    return warned(facts) + " ".join(parts)


def recorded(data: Mapping[str, Any]) -> str:
    """What was recorded and how it was prepared."""
    source = data["source"]
    return (
        f"{'Simulated data' if data['simulated'] else 'Data'}: {source['name']} ({source['licence']}); subject "
        f"{data['subject']}, {plural(data['n_volumes'], 'volume')} in {plural(data['n_runs'], 'run')}, TR "
        f"{data['tr_s']:g} s, {plural(data['n_voxels'], 'voxel')}. From each run and voxel a polynomial drift of "
        f"degree {data['detrend_order']} was removed and the series was z-scored; the volumes of each of the "
        f"{plural(data['n_blocks'], 'block')} were averaged {data['shift_s']:g} s later."
    )


def bridged(facts: Mapping[str, Any], cite: Citer) -> str:
    """How a response becomes a sentence."""
    found, bridge = facts["bridge"], facts["bridge"]["bridge"]
    model = found["llm"]["name"] if isinstance(found["llm"], Mapping) else found["llm"]
    cited = f" {cite('allal2025')}" if "smollm2" in model.lower() else ""
    return (
        f"A bridge of {plural(bridge['n_tokens'], 'soft token')} into the frozen language model {model}{cited} was "
        f"primed on {len(facts['sentences'])} sentences, one a category {cite('mishra2025')}; then the block "
        f"responses were mapped onto the bridge's input by ridge regression {cite('hoerl1970')}, its penalty chosen by "
        "leaving out one run at a time of the training runs."
    )


def generated(parameters: Mapping[str, Any]) -> str:
    """How the text was written."""
    beams, sampled = parameters.get("num_beams"), parameters.get("do_sample")
    how = "sampling" if sampled else "greedily" if beams == 1 else f"with {beams} beams"
    return f"Sentences were generated freely, {how}, with at most {parameters['max_new_tokens']} new tokens."


def compared(facts: Mapping[str, Any], cite: Citer) -> str:
    """The share of sentences that name the right category, beside rivals and controls."""
    rows = []
    for row in facts["baselines"]:
        cited = f" {cite('cortes1995')}" if "SVM" in row["name"] else ""
        ends = f" [{interval(row['ci'])}]" if row["ci"] else ""
        draws = f"; mean of {len(row['draws'])} draws" if len(row["draws"]) > 1 else ""
        verdict = f", {row['verdict']} to chance" if row["verdict"] == "equivalent" else ""
        verdict = f", {row['verdict']}" if row["verdict"] and not verdict else verdict
        rows.append(f"{row['name']}{cited} ({row['what']}{draws}) {number(row['accuracy'])}{ends}{verdict}")
    judged = any(row["verdict"] for row in facts["baselines"])
    tested = (
        f" Repeated controls were tested for equivalence to chance within {facts['chance_margin']:g}, stated "
        f"beforehand, by two one-sided t tests {cite('schuirmann1987')}; their intervals are those of these tests."
    )
    return (
        f"Share of blocks whose category is named right, and no other (chance {number(facts['chance'])}; 95 % "
        f"intervals by bootstrap over runs {cite('efron1979')}): {'; '.join(rows)}.{tested if judged else ''}"
    )


def scored(evaluation: Mapping[str, Any], cite: Citer) -> str:
    """Text metrics with the names of what computed them."""
    implementations = evaluation["controls"]["implementations"]
    families: dict[str, list[str]] = {}
    for name, value in evaluation["metrics"].items():
        family = next((key for key in _METRICS if name.startswith(key)), None)
        if family:
            families.setdefault(family, []).append(f"{TITLES.get(name, name)} {number(value)}")
    said = []
    for family, values in families.items():
        title, keys = _METRICS[family]
        first = next(name for name in evaluation["metrics"] if name.startswith(family))
        said.append(f"{title} {cite(*keys)}, by {implementations[first]}: {listed(values)}")
    return f"Text metrics, as fractions: {'; '.join(said)}."

"""Run folders of SIMULATED results in the schema that the recipes write: made by hand, no brain, no model in them."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from wernicke.core.results import Captions, Scores
from wernicke.data.captions import write_captions
from wernicke.scoring.encoding_card import encoding_card
from wernicke.scoring.evaluate import evaluate
from wernicke.store.run import RunFolder

NAMES = ("bottle", "cat", "face")
SOURCE = {
    "name": "Simulated study", "licence": "CC0", "terms": "None: numbers drawn at random.",
    "citation": "Nobody (2026). Random numbers.", "bibtex": "@misc{nobody2026,\n  title = {Random numbers}\n}",
    "url": "https://example.org/simulated",
}  # fmt: skip
AFFINE = [[-3.0, 0, 0, 30.0], [0, 4.0, 0, -20.0], [0, 0, 5.0, 0], [0, 0, 0, 1.0]]


def model_row(rng: np.random.Generator, name: str, n_fits: int, contrast: float, what: str = "") -> dict[str, Any]:
    r_draws, contrast_draws = rng.normal(0.19, 0.004, n_fits), rng.normal(contrast, 0.01, n_fits)
    r, c = float(r_draws.mean()), float(contrast_draws.mean())
    return {
        "name": name, "what": what or f"what {name} knows", "n_fits": n_fits, "r": r, "r_ci": [r - 0.02, r + 0.02],
        "r_draws": r_draws.tolist(), "contrast": c, "contrast_ci": [c - 0.03, c + 0.03],
        "contrast_draws": contrast_draws.tolist(),
    }  # fmt: skip


def encoding_content(
    seed: int = 0, *, controls: bool = True, shape: tuple[int, int, int] = (7, 5, 1)
) -> dict[str, Any]:
    """Everything an encoding run writes, by file name, to be changed by a test before `write_encoding_run`."""
    rng = np.random.default_rng(seed)
    mask = np.ones(shape, dtype=bool)
    mask[0, 0] = False
    n = int(mask.sum())
    fixed = [("language", 1, 0.08), ("on/off", 1, 0.0), ("on/off + motion", 1, 0.05), ("one-hot", 1, 0.12),
             ("saturated FIR", 1, 0.11)]  # fmt: skip
    drawn = [("wrong category", 20, 0.085), ("random vectors", 20, 0.06), ("shuffled in runs", 20, -0.04)]
    models = [model_row(rng, *row) for row in (*fixed, *(drawn if controls else []))]
    by_name = {model["name"]: model for model in models}
    maps = {
        "r": rng.normal(0.19, 0.15, n), "p_fdr": rng.uniform(0, 0.2, n), "contrast_r": rng.normal(0.08, 0.2, n),
        "contrast_p_fdr": rng.uniform(0, 0.2, n), "ceiling": rng.uniform(0.1, 0.6, n),
    }  # fmt: skip
    maps["ceiling"][:2] = np.nan
    scores = []
    for model in models:
        for metric, key, null, ceiling, reason in (
            ("r by TR", "r", "wrong category", by_name["saturated FIR"]["r"], "saturated FIR model"),
            ("contrast r", "contrast", "shuffled in runs", float(np.nanmean(maps["ceiling"])), "split-half over runs"),
        ):
            scores.append({
                "model": model["name"], "metric": metric, "mean": model[key], "n": n, "ci": model[f"{key}_ci"],
                "ci_over": "runs" if model["n_fits"] == 1 else "fits",
                "null": by_name[null][f"{key}_draws"] if controls else None, "null_name": null, "ceiling": ceiling,
                "ceiling_reason": reason,
            })  # fmt: skip
    return {
        "models": models, "scores": scores, "facts": encoding_facts(models, maps, n, shape, controls),
        "maps": {**maps, "mask": mask},
        "config": {"llm": "tiny", "layer": 2, "alphas": [0.1, 1.0, 10.0], "delays_s": [2.0, 4.0], "seed": seed,
                   "data": {"root": None}},
    }  # fmt: skip


def encoding_facts(
    models: list[dict[str, Any]], maps: dict[str, np.ndarray], n: int, shape: tuple[int, ...], controls: bool
) -> dict[str, Any]:
    ours = models[0]["contrast"]
    gain = {"estimate": ours, "low": ours - 0.03, "high": ours + 0.03}
    overlaps, audit = {"run": 0, "stimulus_id": 3}, {"alpha": False, "weights": False}
    cannot = ["Simulated numbers tell nothing about brains."]
    card: dict[str, Any] = {
        "subject": "tiny layer 2 -> Simulated study, subject 7", "claim": "simulated features predict",
        "headline": f"gain {ours:+.3f}", "gain": {**gain, "over": "an on/off regressor"}, "smallest_effect": 0.01,
        "cross_validation": {"scheme": "leave one run out", "n_folds": 4, "shuffled": False},
        "borders": {"gap_tr": 0, "delays_tr": [1, 2], "n_crossing": 0, "whole_runs": True},
        "poison_audit": {"n_steps": 2, "changed": []}, "overlaps": overlaps, "accepted_leaks": ["stimulus_id"],
        "null": {"type": "block permutation", "n_permutations": 99, "block_length_tr": 9, "n_blocks": 40},
        "correction": {"method": "BH", "q": 0.05, "n_tests": n, "n_significant": 5},
        "ceiling": {"median": 0.31, "method": "split-half over runs, Spearman-Brown", "n_without": 2},
        "nuisance": {"gain": 0.03, "low": 0.01, "high": 0.05, "names": ["motion"]}, "n_subjects": 1, "n_seeds": 1,
        "cannot_tell": cannot,
    }  # fmt: skip
    if controls:
        card["reassigned"] = {"score": ours, "null": models[5]["contrast_draws"], "what": "wrong category"}
    return {
        "recipe": "simulated_encode",
        "data": {
            "source": dict(SOURCE), "subject": "7", "n_runs": 4, "n_volumes": 400, "n_voxels": n, "grid": list(shape),
            "affine": AFFINE, "tr_s": 2.0, "conditions": list(NAMES), "detrend_order": 1, "simulated": True,
        },
        "features": {
            "kind": "hidden states of a language model", "model": "tiny", "layers": [2], "pool": "mean", "chat": False,
            "dtype": "float32", "revision": None, "sentences": {name: f"A picture of a {name}." for name in NAMES},
        },
        "split": {"scheme": "leave one run out", "n_folds": 4, "overlaps": overlaps, "accepted_leaks": ["stimulus_id"],
                  "poison_audit": audit, "fingerprints": [str(k) * 64 for k in range(4)]},
        "delays_tr": [1, 2],
        "test": {"n_permutations": 99, "block_length_tr": 9, "n_blocks": 40, "n_tests": n, "n_significant": 5,
                 "n_contrast_significant": int((maps["contrast_p_fdr"] <= 0.05).sum()), "n_constant": 0},
        "ceiling": {"mean": float(np.nanmean(maps["ceiling"])), "n_without": 2},
        "gain": gain, "controls": "fast" if controls else "none", "maps": {}, "cannot_tell": cannot, "card": card,
    }  # fmt: skip


def write_encoding_run(path: Path, content: dict[str, Any] | None = None) -> Path:
    """A finished run folder with this content."""
    content = copy.deepcopy(content or encoding_content())
    command = ["wernicke", "encode", "--config", "simulated", "--run", str(path)]
    with RunFolder.create(path, step="encode", command=command, config=content["config"], seed=3) as run:
        for name in ("models", "scores", "facts"):
            run.write_json(f"{name}.json", content[name])
        run.write_json("card.json", encoding_card(content["facts"]["card"]).to_json())
        for name, values in content["maps"].items():
            run.write_npy(f"maps/{name}.npy", values)
        run.finish(inputs={"responses": "ab" * 32}, code="cd" * 32)
    return path


CONTROLS = {"shuffled": 5, "noise": 5, "no_brain": 1, "constant": 1}


def simulated_captions(samples: pd.DataFrame, rng: np.random.Generator, share_right: float) -> Captions:
    """Sentences of which about this share names the right category; a few name none or two."""
    texts = []
    for k, label in enumerate(samples["label"]):
        named = label if rng.random() < share_right else str(rng.choice(NAMES))
        other = {3: "A thing on a table.", 7: "A picture of a cat and a bottle."}
        texts.append(other.get(k, f"A picture of a {named}."))
    return Captions(
        samples.assign(text=texts), tuple((f"A picture of a {label}.",) for label in samples["label"]),
        decoding="free", parameters={"max_new_tokens": 9, "num_beams": 1, "do_sample": False, "llm": "tiny"},
    )  # fmt: skip


def decoding_content(seed: int = 0, *, controls: bool = True) -> dict[str, Any]:
    """Everything a decoding run writes, by file name, to be changed by a test before `write_decoding_run`."""
    rng = np.random.default_rng(seed)
    n_runs = 4
    samples = pd.DataFrame(
        [
            {"id": f"7-run{run:02d}block{k}", "label": name, "subject": "7", "stimulus": name, "run": str(run)}
            for run in range(n_runs)
            for k, name in enumerate(NAMES)
        ]
    )
    samples["order"] = np.arange(len(samples), dtype=float)
    captions = simulated_captions(samples, rng, 0.8)
    generated = {
        name: [simulated_captions(samples, rng, 0.0) for _ in range(n if controls else 0)]
        for name, n in CONTROLS.items()
    }
    rows = [baseline_row(rng, name, 1, 0.7) for name in ("sentences", "linear SVM", "ridge classifier")]
    rows += [baseline_row(rng, name, n, 0.33) for name, n in CONTROLS.items() if controls]
    return {
        "captions": captions, "generated": generated, "facts": decoding_facts(rows, n_runs, len(samples)),
        "config": {"recipe": "simulated_decode", "llm": "tiny", "seed": seed},
        "curve": [{"step": k + 1, "epoch": k, "loss": 3.0 / (k + 1), "lr": 0.1, "grad_norm": 1.0} for k in range(9)],
    }  # fmt: skip


def baseline_row(rng: np.random.Generator, name: str, n: int, share: float) -> dict[str, Any]:
    draws = np.clip(rng.normal(share, 0.05, n), 0, 1)
    mean, rival = float(draws.mean()), name in ("sentences", "linear SVM", "ridge classifier")
    ends = [mean - 0.1, mean + 0.1] if rival or n > 1 else None
    return {"name": name, "what": f"what {name} is", "accuracy": mean, "ci": ends,
            "ci_over": "runs" if rival else "draws", "draws": draws.tolist(),
            "verdict": "equivalent" if n > 1 else None}  # fmt: skip


def decoding_facts(rows: list[dict[str, Any]], n_runs: int, n_blocks: int) -> dict[str, Any]:
    return {
        "recipe": "simulated_decode",
        "data": {
            "source": dict(SOURCE), "subject": "7", "tr_s": 2.0, "n_runs": n_runs, "n_blocks": n_blocks,
            "n_volumes": 400, "n_voxels": 34, "conditions": list(NAMES), "detrend_order": 1, "shift_s": 4.0,
            "simulated": True,
        },
        "split": {"scheme": "leave one run out", "n_folds": n_runs, "overlaps": {"run": 0, "stimulus_id": len(NAMES)},
                  "accepted_leaks": ["stimulus_id"], "fingerprints": [str(k) * 64 for k in range(n_runs)]},
        "bridge": {
            "llm": {"name": "tiny", "fingerprint": "0"},
            "bridge": {"d_in": 16, "n_tokens": 2, "d_hidden": None, "placeholder": "<brain>",
                       "messages": [{"role": "user", "content": "<brain> What was seen?"}]},
        },
        "sentences": {name: f"A picture of a {name}." for name in NAMES},
        "exposure": {"samples": [], "stimuli": list(NAMES)},
        "baselines": rows, "chance": 1 / len(NAMES), "chance_margin": 0.05,
        "cannot_tell": ["Simulated sentences tell nothing about brains."],
    }  # fmt: skip


def write_decoding_run(path: Path, content: dict[str, Any] | None = None) -> Path:
    """A finished run folder with this content; its texts are scored by `wernicke.evaluate` itself."""
    content = content or decoding_content()
    generated = {name: repeats for name, repeats in content["generated"].items() if repeats}
    found = evaluate(content["captions"], controls="fast" if generated else "none", groups="run", similarity=False,
                     generated=generated).to_json()  # fmt: skip
    baselines = content["facts"]["baselines"]
    share = found["metrics"]["category_accuracy"]
    baselines[0] |= {"accuracy": share, "draws": [share], "ci": [share - 0.1, share + 0.1]}
    shuffled = next((row["draws"] for row in baselines if row["name"] == "shuffled"), None)
    scores = [
        Scores(row["name"], "category named right", row["accuracy"], len(content["captions"]),
               ci=None if row["ci"] is None else tuple(row["ci"]), ci_over=row["ci_over"],
               null=None if shuffled is None else np.asarray(shuffled), null_name="shuffled",
               ceiling_reason="no repeats").as_row()
        for row in baselines
    ]  # fmt: skip
    command = ["wernicke", "evaluate", "--run", str(path)]
    with RunFolder.create(path, step="evaluate", command=command, config=content["config"], seed=5) as run:
        with run.atomic_path("captions.json") as file:
            write_captions(content["captions"], file)
        for name, repeats in generated.items():
            for k, repeat in enumerate(repeats):
                with run.atomic_path(f"controls/{name}-{k:02d}.json") as file:
                    write_captions(repeat, file)
        for name, value in (("evaluation", found), ("items", found["items"]), ("card", found["card"]),
                            ("scores", scores), ("facts", content["facts"]),
                            ("learning_curve", content["curve"])):  # fmt: skip
            run.write_json(f"{name}.json", value)
        run.finish(inputs={"captions": "ef" * 32}, code="cd" * 32)
    return path

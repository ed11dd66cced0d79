"""Run folders of SIMULATED results in the schema that the recipes write: made by hand, no brain, no model in them."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import numpy as np

from wernicke.scoring.encoding_card import encoding_card
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

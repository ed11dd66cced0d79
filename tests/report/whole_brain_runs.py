"""Run folders over SIMULATED whole brains, in the schema of recipes that fit several subjects: no brain in them."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pandas as pd
from nibabel import gifti
from simulated_runs import SOURCE

from wernicke.core.recording import Surface, Voxels
from wernicke.data.maps import write_maps
from wernicke.scoring.encoding_card import encoding_card
from wernicke.store.run import RunFolder

BANDS = ("Speech", "Object", "Story")
GRID = (12, 14, 9)
N_VERTICES = 10242


def ball(seed: int = 0) -> Voxels:
    """Voxels inside an ellipsoid."""
    x, y, z = np.meshgrid(*(np.linspace(-1, 1, n) for n in GRID), indexing="ij")
    affine = np.array([[-4.0, 0, 0, 24.0], [0, 4.0, 0, -28.0], [0, 0, 4.0, -18.0], [0, 0, 0, 1]])
    return Voxels(x**2 + y**2 + z**2 < 1.05, affine)


def columns(n: int, seed: int, bands: tuple[str, ...] = BANDS) -> dict[str, np.ndarray]:
    """Maps of which the first third is Speech's, the second Object's, the third Story's."""
    rng = np.random.default_rng(seed)
    owner = np.arange(n) * len(bands) // n
    r = np.clip(rng.normal(0.12, 0.08, n), -0.2, 0.6)
    found = {"r": r, "p": rng.uniform(0, 0.1, n), "p_fdr": np.where(r > 0.05, 0.01, 0.5), "cv_r": r * 0.9}
    for k, band in enumerate(bands):
        found[f"unique_{band}"] = np.where(owner == k, 0.05, 0.001) + rng.normal(0, 0.002, n)
        found[f"unique_{band}_p"] = rng.uniform(0, 1, n)
    return found


def content(subjects: tuple[str, ...] = ("S1", "S2"), *, mono: bool = False, simulated: bool = True) -> dict[str, Any]:
    """Everything such a run writes, to be changed by a test before `write_run`."""
    models = [f"{band}-tiny-layer{k}" for band in BANDS for k in (1, 2)] if mono else ["all"]
    units: dict[tuple[str, str], Any] = {
        (s, m): {"columns": columns(int(ball().mask.sum()), 10 * i + j), "units": ball()}
        for i, s in enumerate(subjects)
        for j, m in enumerate(models)
    }
    names = list(BANDS) if mono else ["all"]
    profiles = [
        {"subject": s, "roi": roi, "model": m, "n_voxels": 50, "mean": 0.1 + 0.01 * i + 0.02 * k + 0.03 * j}
        for i, s in enumerate(subjects)
        for k, roi in enumerate(("whole brain", "V1", "IFG"))
        for j, m in enumerate(names)
    ]
    tables = {
        "models": pd.DataFrame([{"subject": s, "model": m, "mean_r": float(np.mean(u["columns"]["r"])), "n_voxels": 9,
                                 "n_significant": 5} for (s, m), u in units.items()]),
        "roi_profiles": pd.DataFrame(profiles),
        "group": pd.DataFrame([{"quantity": "r", "roi": roi, "model": m, "other": "", "n_subjects": len(subjects),
                                "mean": 0.125, "low": 0.1, "high": 0.15, "p_flip": 0.25}
                               for roi in ("whole brain", "V1", "IFG") for m in names]),
    }  # fmt: skip
    if mono:
        tables["layers"] = pd.DataFrame(
            [{"subject": s, "band": b, "layer": k, "cv_r": 0.1 * k, "r": 0.09 * k + 0.01 * i, "best": k == 2}
             for i, s in enumerate(subjects) for b in BANDS for k in (1, 2)]
        )  # fmt: skip
    return {"units": units, "tables": tables, "facts": facts(subjects, models, simulated), "files": {}}


def facts(subjects: tuple[str, ...], models: list[str], simulated: bool) -> dict[str, Any]:
    overlaps = {"run": 0, "title": 3}
    band = {"level": "story", "model": "tiny", "layer": 2, "context_s": 1, "shifts_s": [8.0, 9.0, 10.0],
            "delays_s": None, "reduction": "PCA 8", "nuisance": False}  # fmt: skip
    cannot = ["Simulated numbers tell nothing about brains."]
    card: dict[str, Any] = {
        "subject": "tiny -> simulated, 2 subjects", "claim": "simulated features predict", "headline": "mean r +0.125",
        "gain": {"estimate": 0.125, "low": 0.1, "high": 0.15, "over": "predicting nothing"}, "smallest_effect": 0.01,
        "cross_validation": {"scheme": "whole runs scored", "n_folds": 1, "shuffled": False},
        "borders": {"gap_tr": 0, "delays_tr": [8, 9, 10], "n_crossing": 0, "whole_runs": True}, "overlaps": overlaps,
        "accepted_leaks": ["title"],
        "null": {"type": "block permutation", "n_permutations": 99, "block_length_tr": 9, "n_blocks": 40},
        "correction": {"method": "BH", "q": 0.05, "n_tests": 900, "n_significant": 500},
        "ceiling": {"reason": "no second was scored twice"}, "n_subjects": len(subjects), "n_seeds": 1,
        "cannot_tell": cannot,
    }  # fmt: skip
    return {
        "recipe": "drama2brain_encode", "mode": "corrected", "reg_type": "multi" if models == ["all"] else "mono",
        "subjects": list(subjects),
        "models": [{"name": m, "bands": {b: dict(band) for b in BANDS if m == "all" or m.startswith(b)}}
                   for m in models],
        "data": {"source": dict(SOURCE), "simulated": simulated, "tr_s": 1.0, "n_runs": 41, "n_train": 220,
                 "n_valid": 77, "n_voxels": dict.fromkeys(subjects, 900), "space": dict.fromkeys(subjects, "native")},
        "features": {"nuisance": []},
        "split": {"scheme": "last runs scored", "n_folds": 4, "overlaps": overlaps, "accepted_leaks": ["title"],
                  "poison_audit": {"weights": False}, "fingerprints": ["1" * 64]},
        "units": {f"{s}/{m}": {"n_constant": 0, "edge_share": 0.0} for s in subjects for m in models},
        "test": {"type": "block permutation", "n_permutations": 99, "block_length_tr": 9, "n_blocks": 40,
                 "n_tests": 900, "n_significant": 500},
        "score": "r2", "cannot_tell": cannot, "card": card,
    }  # fmt: skip


def on_cortex(run: dict[str, Any], subject: str, model: str = "all") -> None:
    """Give a unit GIFTI maps on fsaverage5, written by nibabel: r rises with the vertex number."""
    for name in run["units"][subject, model]["columns"]:
        for side in "LR":
            values = np.linspace(0, 0.3, N_VERTICES).astype(np.float32)
            if name.startswith("unique_") and not name.endswith("_p"):
                values = np.roll(values, 3000 * BANDS.index(name.removeprefix("unique_")))
            if name == "p_fdr":
                values = np.full(N_VERTICES, 0.01, dtype=np.float32)
            values[:500] = np.nan
            image = gifti.GiftiImage(darrays=[gifti.GiftiDataArray(values, intent="NIFTI_INTENT_NONE")])
            run["files"][f"subjects/{subject}/{model}/maps/{name}.{side}.func.gii"] = image


def on_surface(run: dict[str, Any], subject: str, mesh: str = "fsaverage5", n: int = N_VERTICES) -> None:
    """Make a unit's units vertices, a tenth of the left ones missing."""
    left = np.arange(n) % 10 > 0
    units = Surface(left, np.ones(n, dtype=bool), mesh)
    run["units"][subject, "all"] = {"columns": columns(units.n_units, 5), "units": units}


def write_run(path: Path, run: dict[str, Any] | None = None) -> Path:
    """A finished run folder with this content."""
    run = copy.copy(run or content())
    command = ["wernicke", "encode", "--config", "simulated", "--run", str(path)]
    scores = [
        {"model": row["model"], "metric": row["quantity"], "mean": row["mean"], "n": row["n_subjects"],
         "ci": [row["low"], row["high"]], "ci_over": "subjects", "null": None, "null_name": "", "ceiling": None,
         "ceiling_reason": "no second was scored twice"}
        for row in run["tables"]["group"].to_dict("records") if row["roi"] == "whole brain"
    ]  # fmt: skip
    with RunFolder.create(path, step="encode", command=command, config={"alphas": [1.0, 10.0]}, seed=3) as folder:
        for (subject, model), unit in run["units"].items():
            write_maps(path / "subjects" / subject / model, unit["columns"], unit["units"])
        for name, image in run["files"].items():
            nibabel.save(image, path / name)
        for name, table in run["tables"].items():
            folder.write_text(f"tables/{name}.csv", table.to_csv(index=False))
        folder.write_json("scores.json", scores)
        folder.write_json("facts.json", run["facts"])
        folder.write_json("card.json", encoding_card(run["facts"]["card"]).to_json())
        folder.finish(inputs={"responses": "ab" * 32}, code="cd" * 32)
    return path

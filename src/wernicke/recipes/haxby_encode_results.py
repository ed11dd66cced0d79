"""What the encoding half of the demo writes: maps, scores, facts for the report, the credibility card."""

from __future__ import annotations

import gzip
from dataclasses import asdict
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pandas as pd

from wernicke.core.errors import InputError
from wernicke.core.features import Features
from wernicke.core.recording import Recording, Voxels
from wernicke.core.results import Scores
from wernicke.core.study import Study
from wernicke.encoding.arrays import EncodingResult
from wernicke.encoding.compare import Comparison, ModelScore, paired_gain
from wernicke.recipes.haxby_encode import Config
from wernicke.scoring.encoding_card import encoding_card
from wernicke.store.run import RunFolder

CANNOT_TELL = (
    "Eight categories cannot separate language from category: any eight distinct vectors span the same contrasts, and "
    "the same sentences given to the wrong categories predict as well.",
    "One subject and one slice: nothing here speaks for other people or for the whole brain.",
    "Every category was shown once a run, so the contrasts of a category rest on one block response a run.",
)


def contrasts_of(result: EncodingResult) -> tuple[np.ndarray, np.ndarray]:
    """Ceiling and adjusted p of the category contrasts; this recipe is about nothing else.

    Raises
    ------
    InputError
        E-META where the design has none, with the reason.
    """
    if result.ceiling is None or result.contrast_p_fdr is None:
        raise InputError("E-META", result.ceiling_reason, field="conditions")
    return result.ceiling, result.contrast_p_fdr


def voxels_of(study: Study) -> tuple[Recording, Voxels]:
    """The study's one recording and where its voxels lie."""
    recording = next(iter(study.recordings.values()))
    if not isinstance(recording.units, Voxels):
        raise InputError("E-META", "found no voxels with a mask, expected fMRI on a grid", field="units")
    return recording, recording.units


def write(
    folder: RunFolder,
    config: Config,
    study: Study,
    features: Features,
    comparison: Comparison,
    result: EncodingResult,
    models: list[ModelScore],
    audit: dict[str, bool],
) -> None:
    """Maps, scores, facts and the credibility card, in plain files."""
    write_maps(folder, voxels_of(study)[1], result)
    folder.write_npy("predictions/predictions.npy", result.predictions.astype(np.float32))
    folder.write_json("models.json", [model.as_row() for model in models])
    folder.write_json("scores.json", [score.as_row() for score in score_rows(result, models)])
    facts = describe(config, study, features, comparison, result, models, audit)
    folder.write_json("facts.json", facts)
    folder.write_json("card.json", encoding_card(facts["card"]).to_json())


CEILING = "split-half over runs, Spearman-Brown; biased with 8 conditions, see docs/calibration.md"

MAPS = {
    "r": "Pearson r of held-out predictions, by TR",
    "p_fdr": "block permutation p, Benjamini-Hochberg",
    "contrast_r": "r of category contrasts: the gain over on/off, which predicts none",
    "contrast_p_fdr": "p of category contrasts, conditions shuffled within runs, Benjamini-Hochberg",
    "ceiling": "noise ceiling of category contrasts",
}


def write_maps(folder: RunFolder, voxels: Voxels, result: EncodingResult) -> None:
    """One array a map, shape (n_voxels,), and the same on the recording's grid as NIfTI."""
    table = {}
    for name in (*MAPS, "p", "p_fwe", "contrast_p", "ceiling_se"):
        values = getattr(result, name)
        folder.write_npy(f"maps/{name}.npy", values)
        image = nib.Nifti1Image(voxels.to_volume(values).astype(np.float32), voxels.affine)
        # Without the time of day in the gzip header the same numbers are the same bytes.
        folder.write_bytes(f"maps/{name}.nii.gz", gzip.compress(image.to_bytes(), mtime=0))
        table[name] = values
    folder.write_npy("maps/mask.npy", voxels.mask)
    x, y, z = np.nonzero(voxels.mask)
    folder.write_text("maps/voxels.csv", pd.DataFrame({"x": x, "y": y, "z": z, **table}).to_csv(index=False))


def score_rows(result: EncodingResult, models: list[ModelScore]) -> list[Any]:
    """The rows of scores.json: two metrics a model, each with its interval, null and ceiling."""
    by_name = {model.name: model for model in models}
    wrong, shuffled = by_name.get("wrong category"), by_name.get("shuffled in runs")
    ceiling, _ = contrasts_of(result)
    rows = []
    for model in models:
        over = "runs" if model.n_fits == 1 else "fits"
        rows.append(
            Scores(
                model.name,
                "r by TR",
                model.r,
                len(result.r),
                model.r_voxels,
                model.r_ci,
                over,
                null=None if wrong is None else wrong.r_draws,
                null_name="the same sentences on the wrong categories",
                ceiling=by_name["saturated FIR"].r,
                ceiling_reason="r of a saturated FIR model",
            )  # fmt: skip
        )
        rows.append(
            Scores(
                model.name,
                "contrast r",
                model.contrast,
                len(result.r),
                model.contrast_voxels,
                model.contrast_ci,
                over,
                null=None if shuffled is None else shuffled.contrast_draws,
                null_name="sentences shuffled within runs",
                ceiling=float(np.nanmean(ceiling)),
                ceiling_reason="split-half over runs, voxels that have a ceiling",
            )  # fmt: skip
        )
    return rows


def describe(
    config: Config,
    study: Study,
    features: Features,
    comparison: Comparison,
    result: EncodingResult,
    models: list[ModelScore],
    audit: dict[str, bool],
) -> dict[str, Any]:
    """Everything the report says about this run, as plain facts."""
    recording, _ = voxels_of(study)
    ceiling, contrast_p = contrasts_of(result)
    by_name = {model.name: model for model in models}
    language, on_off = by_name["language"], by_name["on/off"]
    gain = paired_gain(language, on_off)
    unique = paired_gain(by_name["language + nuisance"], by_name["nuisance"])
    n_tests, n_hits = int(np.isfinite(result.p).sum()), int(np.nansum(result.p_fdr <= 0.05))
    n_contrast = int(np.nansum(contrast_p <= 0.05))
    overlaps = {key: max(split.overlaps()[key] for split in result.splits) for key in result.splits[0].overlaps()}
    card: dict[str, Any] = {
        "subject": f"{config.llm} layer {config.layer} -> {study.source.name}, subject {recording.subject}",
        "claim": "sentence features predict category contrasts of held-out runs",
        "headline": f"gain in contrast r over on/off {gain[0]:+.3f} (95 % over runs {gain[1]:+.3f} to {gain[2]:+.3f})",
        "gain": {"estimate": gain[0], "low": gain[1], "high": gain[2], "over": "an on/off regressor"},
        "smallest_effect": config.smallest_effect,
        "cross_validation": {"scheme": "leave one run out", "n_folds": len(result.splits), "shuffled": False},
        "borders": {"gap_tr": 0, "delays_tr": list(comparison.delays_tr), "n_crossing": 0, "whole_runs": True},
        "poison_audit": {"n_steps": len(audit), "changed": [name for name, changed in audit.items() if changed]},
        "overlaps": overlaps,
        "accepted_leaks": list(result.splits[0].accepted_leaks),
        "voxel_selection": {"on": "none", "detail": f"all {recording.values.shape[1]} voxels of the mask are scored"},
        "null": {"type": "block permutation", "n_permutations": result.n_permutations,
                 "block_length_tr": result.block_length_tr, "n_blocks": result.n_blocks},
        "correction": {"method": "BH", "q": 0.05, "n_tests": n_tests, "n_significant": n_hits},
        "ceiling": {"median": float(np.nanmedian(ceiling)), "method": CEILING,
                    "n_without": int(np.isnan(ceiling).sum())},
        "nuisance": dict(zip(("gain", "low", "high"), unique, strict=True),
                         names=["on/off", "head motion"], metric="unique gain in contrast r"),
        "selection": {"what": ["alpha (per voxel, by leave-one-run-out; layer fixed beforehand)"], "on": "training"},
        "n_subjects": 1,
        "n_seeds": 1,
        "stimuli_public_since": 2001,
        "cannot_tell": list(CANNOT_TELL),
    }  # fmt: skip
    if "wrong category" in by_name:
        wrong = by_name["wrong category"]
        card["reassigned"] = {"score": language.contrast, "null": wrong.contrast_draws.tolist(),
                              "what": "contrast r, each sentence given to another category"}  # fmt: skip
    return {
        "recipe": "haxby_encode",
        "data": describe_data(config, study),
        "features": {**features.provenance, "sentences": config.sentences},
        "split": {"scheme": "leave one run out", "n_folds": len(result.splits), "overlaps": overlaps,
                  "accepted_leaks": list(result.splits[0].accepted_leaks), "poison_audit": audit,
                  "fingerprints": [split.fingerprint for split in result.splits]},
        "delays_tr": list(comparison.delays_tr),
        "edge_share": result.edge_share,
        "test": {"n_permutations": result.n_permutations, "block_length_tr": result.block_length_tr,
                 "n_blocks": result.n_blocks, "n_tests": n_tests, "n_significant": n_hits,
                 "n_contrast_significant": n_contrast, "n_constant": result.n_constant},
        "ceiling": {"mean": float(np.nanmean(ceiling)), "n_without": int(np.isnan(ceiling).sum())},
        "gain": {"estimate": gain[0], "low": gain[1], "high": gain[2]},
        "controls": config.controls,
        "maps": MAPS,
        "cannot_tell": list(CANNOT_TELL),
        "card": card,
    }  # fmt: skip


def describe_data(config: Config, study: Study) -> dict[str, Any]:
    """What was recorded, from whom, and on what terms."""
    recording, voxels = voxels_of(study)
    return {
        "source": asdict(study.source),
        "subject": recording.subject,
        "n_runs": int(recording.samples["run"].nunique()),
        "n_volumes": recording.n_samples,
        "n_voxels": int(recording.values.shape[1]),
        "grid": list(voxels.mask.shape),
        "affine": voxels.affine.tolist(),
        "tr_s": recording.tr_s,
        "conditions": sorted(config.sentences),
        "detrend_order": config.data.detrend_order,
        "simulated": False,
    }


def summary(run: Path) -> str:
    """The short table that the demo ends with, from the run's own files."""
    folder = RunFolder.open(run)
    facts, models = folder.read_json("facts.json"), folder.read_json("models.json")
    lines = [f"{'model':<18}{'r by TR':>9}{'contrast r':>12}   95 % of contrast r    fits"]
    for model in models:
        low, high = model["contrast_ci"]
        lines.append(
            f"{model['name']:<18}{model['r']:>9.3f}{model['contrast']:>12.3f}   {low:>7.3f} to {high:<7.3f}"
            f"{model['n_fits']:>9}"
        )
    lines.append(f"{'noise ceiling':<18}{'':>9}{facts['ceiling']['mean']:>12.3f}")
    gain = facts["gain"]
    lines.append(
        f"\nGain of the sentences over on/off on category contrasts: {gain['estimate']:+.3f} "
        f"({gain['low']:+.3f} to {gain['high']:+.3f}, 95 % over runs)."
    )
    lines.append(facts["cannot_tell"][0])
    return "\n".join(lines)

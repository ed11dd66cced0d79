"""What an encoding model of a BIDS data set writes: maps by subject; tables, facts and the card over subjects."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from scipy import stats

from wernicke.core.recording import Surface, Voxels
from wernicke.core.results import Scores
from wernicke.data.bids import BidsData
from wernicke.data.maps import read_maps, write_maps
from wernicke.encoding.group import group_table, roi_profiles, unique_profiles
from wernicke.scoring.encoding_card import encoding_card
from wernicke.store.files import write_json, write_npy
from wernicke.store.run import RunFolder
from wernicke.store.units import Unit

if TYPE_CHECKING:
    from wernicke.recipes.bids_bands import Bands
    from wernicke.recipes.bids_encode import Config, Fitted

MAPS = {
    "r": "Pearson r of left-out runs, all bands, averaged over runs",
    "r2": "R2 of left-out runs, all bands",
    "p": "block permutation p of r, one-sided",
    "p_fdr": "p, Benjamini-Hochberg",
    "r_nuisance": "Pearson r of the nuisance bands alone",
    "r2_nuisance": "R2 of the nuisance bands alone",
    "r_language": "Pearson r of the language band alone",
    "r2_language": "R2 of the language band alone",
    "unique_language": "R2 of all bands less R2 of the nuisance bands, tuned by themselves",
    "unique_language_p": "block permutation p of language given the nuisance features (partial correlation), one-sided",
    "unique_language_p_fdr": "p of language given the nuisance features, Benjamini-Hochberg",
    "unique_nuisance": "R2 of all bands less R2 of language alone",
    "alpha": "penalty chosen inside the training runs, geometric mean over folds",
}
CEILING_REASON = "no repeats of the same stimulus were declared, so there is no noise ceiling"
CANNOT_TELL = (
    "Unique variance is beyond the nuisance bands that were fitted, not beyond everything that changes with a text.",
    "No stimulus is known to be repeated, so no ceiling says how much there was to explain.",
)


def unit_of(folder: RunFolder, subject: str, model: str, identity: Mapping[str, str] | None = None) -> Unit:
    """Where one subject's results stand in the run."""
    return Unit(folder.path(f"subjects/{subject}/{model}"), identity or {})


def write_subject(place: Path, config: Config, found: BidsData, bands: Bands, fitted: Fitted) -> None:
    """Maps in every format, and facts."""
    (recording,) = found.study.recordings.values()
    units = recording.units
    if isinstance(units, (Voxels, Surface)):
        write_maps(place, fitted.columns, units)
    if fitted.predictions is not None:
        write_npy(place / "predictions.npy", fitted.predictions)
    facts = {
        "subject": recording.subject,
        "model": config.model,
        "source": asdict(found.study.source),
        "space": describe_space(units),
        "grid": list(units.mask.shape) if isinstance(units, Voxels) else None,
        "affine": units.affine.tolist() if isinstance(units, Voxels) else None,
        "n_voxels": int(recording.values.shape[1]),
        "n_runs": len(found.records),
        "n_volumes": recording.n_samples,
        "n_kept": int(recording.n_samples if recording.keep is None else recording.keep.sum()),
        "tr_s": recording.tr_s,
        "runs": list(found.records),
        "bands": bands.facts,
        "delays_tr": list(bands.delays_tr),
        "n_columns": {name: int(band.shape[1]) for name, band in bands.values.items()},
        **fitted.facts,
    }
    write_json(place / "facts.json", facts)


def describe_space(units: Any) -> str:
    """Where the units lie, in words."""
    if isinstance(units, Surface):
        return f"{units.mesh}, {units.n_units} vertices" + (" and voxels" if units.volume is not None else "")
    return f"volume {' x '.join(map(str, units.mask.shape))}, {units.n_voxels} voxels"


def write_run(folder: RunFolder, config: Config, subjects: Sequence[str]) -> None:
    """Tables, scores, facts and the card."""
    units = {s: folder.read_json(f"subjects/{s}/{config.model}/facts.json") for s in subjects}
    scores = pd.concat(
        [read_maps(folder.path(f"subjects/{s}/{config.model}"))[0].assign(subject=s, model=config.model)
         for s in subjects], ignore_index=True,
    )  # fmt: skip
    simulated = config.data.root is not None and (Path(config.data.root) / "simulated.json").exists()
    made = make_tables(scores)
    for name, table in made.items():
        table.insert(0, "data", "SIMULATED" if simulated else "recorded")
        folder.write_text(f"tables/{name}.csv", table.to_csv(index=False))
    folder.write_json("scores.json", score_rows(made["models"], units))
    facts = describe(config, subjects, units, made, simulated)
    folder.write_json("facts.json", facts)
    folder.write_json("card.json", encoding_card(facts["card"]).to_json())


def make_tables(scores: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """One row a subject; and across subjects: r, and unique R2 of language."""
    rows = []
    for (subject, model), table in scores.groupby(["subject", "model"], sort=False):
        row: dict[str, Any] = {"subject": subject, "model": model, "n_voxels": int(table["r"].notna().sum())}
        for name in ("r", "r_language", "r_nuisance", "r2", "unique_language"):
            if name in table:
                row |= {f"mean_{name}": table[name].mean(), f"max_{name}": table[name].max()}
        row |= {"n_significant": int((table["p_fdr"] <= 0.05).sum()), "smallest_p": table["p"].min()}
        if "unique_language_p_fdr" in table:
            row["n_significant_unique"] = int((table["unique_language_p_fdr"] <= 0.05).sum())
        rows.append(row)
    made = {"models": pd.DataFrame(rows), "roi_profiles": roi_profiles(scores)}
    group = [group_table(made["roi_profiles"]).assign(quantity="r")]
    if "unique_language" in scores:
        made["unique_profiles"] = unique_profiles(scores, ["language"])
        group.append(group_table(made["unique_profiles"]).assign(quantity="unique R2"))
    made["group"] = pd.concat(group, ignore_index=True)
    return made


def interval_over_runs(unit: Mapping[str, Any], model: str, other: str | None = None) -> tuple[float, float, float]:
    """Mean r over voxels, of a model or of its gain over another: estimate and 95 % by t over left-out runs."""
    values = np.array(unit["r_by_run"][model])
    values = values if other is None else values - np.array(unit["r_by_run"][other])
    half = float(stats.t.ppf(0.975, len(values) - 1) * values.std(ddof=1) / np.sqrt(len(values)))
    return float(values.mean()), float(values.mean()) - half, float(values.mean()) + half


def score_rows(models: pd.DataFrame, units: Mapping[str, Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The rows of scores.json: mean r over voxels of each subject and model, with the interval over runs."""
    names = {"full": "all bands", "language": "language alone", "nuisance": "nuisance alone"}
    rows = []
    for row in models.to_dict("records"):
        unit = units[str(row["subject"])]
        for name in unit["r_by_run"]:
            mean, low, high = interval_over_runs(unit, name)
            rows.append(
                Scores(f"{row['subject']}: {names[name]}", "r by TR", mean, int(row["n_voxels"]), ci=(low, high),
                       ci_over="runs", ceiling_reason=CEILING_REASON).as_row()
            )  # fmt: skip
    return rows


def gain_of(units: Mapping[str, Mapping[str, Any]]) -> tuple[float, float, float, str]:
    """Gain in mean r over the nuisance bands (or over nothing), its 95 % interval, and over what that is."""
    other = "nuisance" if all("nuisance" in unit["r_by_run"] for unit in units.values()) else None
    if len(units) == 1:
        (unit,) = units.values()
        return (*interval_over_runs(unit, "full", other), "left-out runs")
    means = np.array([interval_over_runs(unit, "full", other)[0] for unit in units.values()])
    half = float(stats.t.ppf(0.975, len(means) - 1) * means.std(ddof=1) / np.sqrt(len(means)))
    return float(means.mean()), float(means.mean()) - half, float(means.mean()) + half, "subjects"


def describe(
    config: Config,
    subjects: Sequence[str],
    units: Mapping[str, Mapping[str, Any]],
    made: Mapping[str, pd.DataFrame],
    simulated: bool,
) -> dict[str, Any]:
    """Everything the report says about this run, as plain facts."""
    first = units[subjects[0]]
    card = card_facts(config, subjects, units, made, simulated)
    return {
        "recipe": "bids_encode",
        "mode": "corrected",
        "reg_type": "multi" if config.nuisance else "mono",
        "subjects": list(subjects),
        "models": [{"name": config.model, "bands": {name: dict(facts) for name, facts in first["bands"].items()}}],
        "data": {
            "source": first["source"],
            "simulated": simulated,
            "tr_s": first["tr_s"],
            "n_runs": {s: unit["n_runs"] for s, unit in units.items()},
            "n_volumes": {s: unit["n_volumes"] for s, unit in units.items()},
            "n_voxels": {s: unit["n_voxels"] for s, unit in units.items()},
            "space": {s: unit["space"] for s, unit in units.items()},
            "task": config.data.task,
            "bids_space": config.data.space,
        },
        "preprocess": {"settings": config.preprocess.describe(), "runs": {s: u["runs"] for s, u in units.items()}},
        "features": {"nuisance": list(config.nuisance), "bands": first["bands"], "text": asdict(config.text)},
        "split": first["split"],
        "delays_tr": first["delays_tr"],
        "units": {f"{s}/{config.model}": dict(unit) for s, unit in units.items()},
        "test": {**first["null"], "n_tests": int(made["models"]["n_voxels"].sum()),
                 "n_significant": int(made["models"]["n_significant"].sum()),
                 "n_constant": int(sum(unit["n_constant"] for unit in units.values()))},
        "score": "r2",
        "ceiling": {"mean": None, "reason": CEILING_REASON},
        "tables": sorted(made),
        "maps": MAPS if config.nuisance else {k: v for k, v in MAPS.items() if k in ("r", "r2", "p", "p_fdr", "alpha")},
        "simulated": simulated,
        "cannot_tell": card["cannot_tell"],
        "card": card,
    }  # fmt: skip


def card_facts(
    config: Config,
    subjects: Sequence[str],
    units: Mapping[str, Mapping[str, Any]],
    made: Mapping[str, pd.DataFrame],
    simulated: bool,
) -> dict[str, Any]:
    """What the credibility card is made from."""
    first = units[subjects[0]]
    estimate, low, high, unit = gain_of(units)
    over = f"nuisance bands ({', '.join(config.nuisance)})" if config.nuisance else "predicting nothing"
    audit = {name: any(u["split"]["poison_audit"][name] for u in units.values())
             for name in first["split"]["poison_audit"]}  # fmt: skip
    overlaps = {key: max(u["split"]["overlaps"][key] for u in units.values()) for key in first["split"]["overlaps"]}
    card: dict[str, Any] = {
        "subject": f"{config.model} -> {first['source']['name']}, {len(subjects)} subject"
                   f"{'s' if len(subjects) > 1 else ''}",
        "claim": "what the language model makes of the events' text predicts left-out runs beyond the nuisance bands",
        "headline": f"gain in mean r {estimate:+.4f} over {over} (95 % over {unit} {low:+.4f} to {high:+.4f})",
        "gain": {"estimate": estimate, "low": low, "high": high, "over": over},
        "smallest_effect": config.smallest_effect,
        "cross_validation": {"scheme": "leave one run out", "n_folds": first["split"]["n_folds"], "shuffled": False},
        "borders": {"gap_tr": 0, "delays_tr": first["delays_tr"], "n_crossing": 0, "whole_runs": True},
        "poison_audit": {"n_steps": len(audit), "changed": [name for name, changed in audit.items() if changed]},
        "overlaps": overlaps,
        "accepted_leaks": first["split"]["accepted_leaks"],
        "voxel_selection": {"on": "none", "detail": "all voxels or vertices of the mask are scored"},
        "null": {key: first["null"][key] for key in ("type", "n_permutations", "block_length_tr", "n_blocks")},
        "correction": {"method": "BH", "q": 0.05, "n_tests": int(made["models"]["n_voxels"].sum()),
                       "n_significant": int(made["models"]["n_significant"].sum()),
                       "smallest_p": float(made["models"]["smallest_p"].min())},
        "ceiling": {"reason": CEILING_REASON},
        "selection": {"what": ["penalty and balance of bands (per voxel, by leaving one training run out; layer fixed "
                               "beforehand)"], "on": "training"},
        "n_subjects": len(subjects),
        "n_seeds": 1,
        "cannot_tell": [*(["SIMULATED data: nothing here speaks of any brain."] if simulated else []), *CANNOT_TELL],
    }  # fmt: skip
    if config.nuisance:
        card["nuisance"] = {"names": list(config.nuisance), "gain": estimate, "low": low, "high": high,
                            "metric": "gain in mean r"}  # fmt: skip
    return card

"""What an encoding model of a BIDS data set writes: maps by subject; tables, facts and the card over subjects."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from wernicke.core.recording import Surface, Voxels
from wernicke.data.bids import BidsData
from wernicke.data.mapper import Mapper
from wernicke.data.maps import write_maps
from wernicke.data.sheets import describe_sheet
from wernicke.data.surfaces import Cortex, write_surface_maps
from wernicke.recipes import bids_encode_tables as tables
from wernicke.recipes.drama2brain_encode_results import slowest
from wernicke.recipes.map_pairs import pair_table, read_columns
from wernicke.scoring.encoding_card import encoding_card
from wernicke.store.files import write_json
from wernicke.store.run import RunFolder
from wernicke.store.units import Unit

if TYPE_CHECKING:
    from wernicke.recipes.bids_bands import Bands
    from wernicke.recipes.bids_encode import Config
    from wernicke.recipes.bids_scoring import Fitted

MAPS = {
    "r": "Pearson r of left-out runs, all bands, averaged over runs",
    "cv_r": "Pearson r within the training runs, cross-validated, all bands, averaged over left-out runs",
    "r2": "R2 of left-out runs, all bands",
    "p": "block permutation p of r, one-sided",
    "p_fdr": "p, Benjamini-Hochberg",
    "p_by": "p, Benjamini-Yekutieli",
    "r_nuisance": "Pearson r of the nuisance bands alone",
    "r2_nuisance": "R2 of the nuisance bands alone",
    "cv_r_nuisance": "Pearson r of the nuisance bands alone within the training runs, cross-validated",
    "r_language": "Pearson r of the language band alone",
    "r2_language": "R2 of the language band alone",
    "cv_r_language": "Pearson r of the language band alone within the training runs, cross-validated",
    "unique_language": "R2 of all bands less R2 of the nuisance bands, tuned by themselves",
    "unique_language_p": "block permutation p of language given the nuisance features (partial correlation), one-sided",
    "unique_language_p_fdr": "p of language given the nuisance features, Benjamini-Hochberg",
    "unique_nuisance": "R2 of all bands less R2 of language alone",
    "alpha": "penalty chosen inside the training runs, geometric mean over folds",
}
CANNOT_TELL = (
    "Unique variance is beyond the nuisance bands that were fitted, not beyond everything that changes with a text.",
    "No stimulus is known to be repeated, so no ceiling says how much there was to explain.",
)


def unit_of(folder: RunFolder, subject: str, model: str, identity: Mapping[str, str] | None = None) -> Unit:
    """Where one subject's results stand in the run."""
    return Unit(folder.path(f"subjects/{subject}/{model}"), identity or {})


def write_subject(
    place: Path,
    config: Config,
    found: BidsData,
    bands: Bands,
    fitted: Fitted,
    split: Mapping[str, Any],
    regions: np.ndarray | None,
    sheet: Cortex | Mapper | None,
) -> None:
    """Maps in every format, of volumes on the surface too where there is a `sheet`, and facts."""
    (recording,) = found.study.recordings.values()
    units = recording.units
    columns: dict[str, np.ndarray] = dict(fitted.columns)
    if regions is not None:
        columns["roi"] = regions
    if isinstance(units, (Voxels, Surface)):
        write_maps(place, columns, units)
    if sheet is not None:
        write_surface_maps(place, columns, sheet)
    facts = {
        "subject": recording.subject,
        "model": config.model,
        "source": asdict(found.study.source),
        "space": describe_space(units),
        "surface": describe_sheet(sheet),
        "grid": list(units.mask.shape) if isinstance(units, Voxels) else None,
        "affine": units.affine.tolist() if isinstance(units, Voxels) else None,
        "n_voxels": int(recording.values.shape[1]),
        "n_regions": None if regions is None else len(set("|".join(regions.tolist()).split("|")) - {""}),
        "n_runs": len(found.records),
        "n_volumes": recording.n_samples,
        "n_kept": len(bands.kept),
        "tr_s": recording.tr_s,
        "runs": list(found.records),
        "bands": bands.facts,
        "delays_tr": list(bands.delays_tr),
        "split": dict(split),
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
    simulated = config.data.root is not None and (Path(config.data.root) / "simulated.json").exists()
    made = tables.make_tables(tables.read_scores(folder, subjects, config.model), units)
    pairs = compare_maps(folder, config, subjects)
    if pairs is not None:
        made["map_pairs"] = pairs
    for name, table in made.items():
        table.insert(0, "data", "SIMULATED" if simulated else "recorded")
        folder.write_text(f"tables/{name}.csv", table.to_csv(index=False))
    folder.write_json("scores.json", tables.score_rows(made["models"], units))
    facts = describe(config, subjects, units, made, simulated)
    folder.write_json("facts.json", facts)
    folder.write_json("card.json", encoding_card(facts["card"]).to_json())


def compare_maps(folder: RunFolder, config: Config, subjects: Sequence[str]) -> pd.DataFrame | None:
    """Pairs of maps on fsaverage5 by spin test: language and nuisances, each alone, and bands by their shares of r."""
    wanted = {
        "r": {"language alone": "r_language", "nuisance alone": "r_nuisance"},
        "share of r": {name: f"share_{name}" for name in ("language", *config.nuisance)},
    }
    places = {subject: folder.path(f"subjects/{subject}/{config.model}") for subject in subjects}
    quantities = {
        quantity: {subject: read_columns(place, columns) for subject, place in places.items()}
        for quantity, columns in wanted.items()
    }
    return pair_table(quantities, n_permutations=config.n_permutations, seed=config.seed)


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
            "surface": {s: unit["surface"] for s, unit in units.items()},
            "task": config.data.task,
            "bids_space": config.data.space,
        },
        "preprocess": {"settings": config.preprocess.describe(), "runs": {s: u["runs"] for s, u in units.items()}},
        "features": {"nuisance": list(config.nuisance), "bands": first["bands"], "text": asdict(config.text),
                     "layer_by_fold": {s: unit["layer_by_fold"] for s, unit in units.items()}},
        "split": first["split"],
        "units": {f"{s}/{config.model}": dict(unit) for s, unit in units.items()},
        "test": {**slowest(units.values()), "n_tests": int(made["models"]["n_voxels"].sum()),
                 "n_significant": int(made["models"]["n_significant"].sum()),
                 "n_constant": int(sum(unit["n_constant"] for unit in units.values()))},
        "score": "correlation",
        "ceiling": {"mean": None, "reason": tables.CEILING_REASON},
        "tables": sorted(made),
        "maps": describe_maps(config),
        "simulated": simulated,
        "cannot_tell": card["cannot_tell"],
        "card": card,
    }  # fmt: skip


def describe_maps(config: Config) -> dict[str, str]:
    """Name the maps of this run."""
    mono = ("r", "cv_r", "r2", "p", "p_fdr", "p_by", "alpha")
    maps = MAPS if config.nuisance else {name: MAPS[name] for name in mono}
    if config.nuisance:
        shares = ("language", *config.nuisance)
        maps = maps | {f"share_{name}": f"share of {name} in r of all bands (product measure)" for name in shares}
    maps = maps | {"slow": "1: three autocorrelation times are longer than the blocks; only where blocks had to be cut"}
    if config.layer == "all":
        maps = maps | {"best_layer": "layer of the highest cross-validated r within the training runs"}
    if config.data.rois is not None:
        maps = maps | {"roi": "region, in the table only"}
    return maps


def card_facts(
    config: Config,
    subjects: Sequence[str],
    units: Mapping[str, Mapping[str, Any]],
    made: Mapping[str, pd.DataFrame],
    simulated: bool,
) -> dict[str, Any]:
    """What the credibility card is made from."""
    first = units[subjects[0]]
    estimate, low, high, unit = tables.gain_of(units)
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
        "null": {key: value for key, value in slowest(units.values()).items() if key != "tail"},
        "correction": {"method": "BH", "q": 0.05, "n_tests": int(made["models"]["n_voxels"].sum()),
                       "n_significant": int(made["models"]["n_significant"].sum()),
                       "smallest_p": float(made["models"]["smallest_p"].min())},
        "ceiling": {"reason": tables.CEILING_REASON},
        "selection": {"what": ["penalty and balance of bands (per voxel, by leaving one training run out)",
                               "layer (over voxels, likewise)" if config.layer == "all" else "no layer: it is fixed "
                               "beforehand"], "on": "training"},
        "n_subjects": len(subjects),
        "n_seeds": 1,
        "cannot_tell": [*(["SIMULATED data: nothing here speaks of any brain."] if simulated else []), *CANNOT_TELL],
    }  # fmt: skip
    if config.nuisance:
        card["nuisance"] = {"names": list(config.nuisance), "gain": estimate, "low": low, "high": high,
                            "metric": "gain in mean r"}  # fmt: skip
    return card

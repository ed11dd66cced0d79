"""What drama2brain's encoding models write: a unit's maps and files; tables, facts and the card over all units."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from wernicke.core.recording import Recording
from wernicke.core.split import Split
from wernicke.data.drama2brain_tables import OVERLAP_S, RUNS, SIMULATED_SOURCE, SOURCE, TR_S
from wernicke.data.mapper import Mapper
from wernicke.data.maps import write_maps
from wernicke.data.sheets import describe_sheet
from wernicke.data.surfaces import Cortex, write_surface_maps
from wernicke.recipes import drama2brain_encode_tables as tables
from wernicke.recipes import drama2brain_weights as weights
from wernicke.recipes.drama2brain_bands import CEILING_REASON, Band, Fitted, Model
from wernicke.recipes.drama2brain_design import choose_rows
from wernicke.recipes.drama2brain_places import GRID, place_voxels, read_regions
from wernicke.recipes.drama2brain_published import write_published
from wernicke.recipes.map_pairs import pair_table, read_columns
from wernicke.scoring.encoding_card import encoding_card
from wernicke.store.files import write_json, write_npy
from wernicke.store.fingerprint import fingerprint
from wernicke.store.run import RunFolder
from wernicke.store.units import Unit

if TYPE_CHECKING:
    from wernicke.recipes.drama2brain_encode import Config

MAPS = {
    "r": "Pearson r on scored runs, without nuisance bands", "r2": "R2 on scored runs, without nuisance bands",
    "p": "block permutation p, one-sided", "p_fdr": "p, Benjamini-Hochberg", "p_by": "p, Benjamini-Yekutieli",
    "cv_r": "r on training rows, cross-validated", "cv_r2": "R2 on training rows, cross-validated",
    "alpha": "penalty chosen on training rows", "r2_low": "R2, lower end of 95 % over blocks",
    "r2_high": "R2, upper end of 95 % over blocks", "r_full": "Pearson r with the nuisance bands",
    "slow": "1: three autocorrelation times are longer than the permutation test's blocks",
    "r2_full": "R2 with the nuisance bands", "r_nuisance": "Pearson r of the nuisance bands alone",
    "unique_language": "R2 beyond the nuisance bands", "column": "number of the voxel's column in the recording",
}  # fmt: skip

CANNOT_TELL = (
    "Scored runs are later parts of the films that were trained on: nothing here says that a model holds for a film "
    "that it has not seen.",
    "Features that change slowly, as films do, predict each other's voxels: unique variance is beyond the bands that "
    "were fitted, not beyond everything that a film shows.",
    "No second of film was scored twice, so there is no noise ceiling.",
)


def unit_of(folder: RunFolder, subject: str, model: Model, identity: Mapping[str, str] | None = None) -> Unit:
    """Where one model of one subject stands in the run."""
    return Unit(folder.path(f"subjects/{subject}/{model.name}"), identity or {})


def write_unit(
    unit: Path, config: Config, model: Model, recording: Recording, fitted: Fitted, sheet: Cortex | Mapper | None
) -> None:
    """Maps in every format, on the surface too where there is a `sheet`, facts, and what was asked for beside them."""
    n_voxels = recording.values.shape[1]
    order, voxels, space = place_voxels(config.data, recording.subject, n_voxels)
    columns: dict[str, np.ndarray] = {"column": order}
    columns |= {name: values[order] for name, values in fitted.columns.items()}
    regions = read_regions(config.data, recording.subject, order, voxels)
    if regions is not None:
        columns["roi"] = regions
    if config.save_coef or config.weight_pca:
        columns |= {f"coef_{name}": coef[:, order] for name, coef in fitted.coef.items()}
        for name, projection in fitted.projections.items():
            projection.save(unit / f"projection_{name}.safetensors")
    write_maps(unit, columns, voxels)
    if sheet is not None:
        write_surface_maps(unit, {name: values for name, values in columns.items() if name != "column"}, sheet)
    if config.save_pred:
        for name, values in fitted.predictions.items():
            write_npy(unit / "predictions" / f"valid_{name}.npy", values)
        if fitted.nested_predictions is not None:
            write_npy(unit / "predictions" / "train_nested.npy", fitted.nested_predictions)
    if config.authors_files:
        write_published(unit / "drama2brain", fitted, model.bands, config.data.dataset, config.save_pred)
    facts = {"subject": recording.subject, "model": model.name, "n_voxels": n_voxels, "space": space,
             "surface": describe_sheet(sheet), **fitted.facts}  # fmt: skip
    write_json(unit / "facts.json", facts)


def write_run(folder: RunFolder, config: Config, models: Sequence[Model], subjects: Sequence[str]) -> None:
    """Tables over all units, scores, facts and the card."""
    simulated = (config.data.need_root() / "simulated.json").exists()
    units = {
        (subject, model.name): folder.read_json(f"subjects/{subject}/{model.name}/facts.json")
        for model in models
        for subject in subjects
    }
    scores = tables.read_scores(folder, config, models, subjects)
    made = tables.make_tables(scores, config, models, units)
    made |= weights.weight_tables(folder, config, models, subjects, scores)
    pairs = compare_maps(folder, config, models, subjects, made["models"])
    if pairs is not None:
        made["map_pairs"] = pairs
    for name, table in made.items():
        table.insert(0, "data", "SIMULATED" if simulated else "recorded")
        folder.write_text(f"tables/{name}.csv", table.to_csv(index=False))
    folder.write_json("scores.json", tables.score_rows(made["group"], CEILING_REASON))
    facts = describe(config, models, subjects, units, made, simulated)
    folder.write_json("facts.json", facts)
    folder.write_json("card.json", encoding_card(facts["card"]).to_json())


def compare_maps(
    folder: RunFolder, config: Config, models: Sequence[Model], subjects: Sequence[str], table: pd.DataFrame
) -> pd.DataFrame | None:
    """Pairs of bands' maps on fsaverage5 by spin test; in mono of r, each at the layer that training rows chose."""
    quantities: dict[str, dict[str, dict[str, np.ndarray]]] = {}
    for subject in subjects:
        own = folder.path(f"subjects/{subject}")
        if config.reg_type == "multi":
            unit, names = own / models[0].name, models[0].language
            unique = f"unique {'r' if config.mode == 'faithful' else 'R2'}"
            for quantity, prefix in ((unique, "unique"), ("share of r", "share")):
                maps = read_columns(unit, {name: f"{prefix}_{name}" for name in names})
                quantities.setdefault(quantity, {})[subject] = maps
        else:
            score = next(name for name in ("mean_cv_r", "mean_cv_r2") if name in table)
            rows = table[table["subject"] == subject]
            best = rows.loc[rows.groupby("band", sort=False)[score].idxmax()]
            found: dict[str, np.ndarray] = {}
            for band, model in zip(best["band"], best["model"], strict=True):
                found |= read_columns(own / model, {str(band): "r"})
            quantities.setdefault("r", {})[subject] = found
    return pair_table(quantities, n_permutations=config.n_permutations, seed=config.seed)


def split_of(dataset: str) -> Split:
    """The published split of runs. Titles stand on both sides, which is said, not hidden."""
    runs = pd.DataFrame(RUNS).rename(columns={"run": "sample_id"})
    runs = runs.assign(run=runs["sample_id"], stimulus_id=runs["sample_id"])
    sides = {side: tuple(runs.loc[runs[f"part_{dataset}"] == side, "sample_id"]) for side in ("TRAIN", "VALID")}
    return Split(runs, sides["TRAIN"], sides["VALID"], keys=("run", "stimulus_id"), accepted_leaks=("title",))


def describe(
    config: Config,
    models: Sequence[Model],
    subjects: Sequence[str],
    units: Mapping[tuple[str, str], Mapping[str, Any]],
    made: Mapping[str, pd.DataFrame],
    simulated: bool,
) -> dict[str, Any]:
    """Everything the report says about this run, as plain facts."""
    split, rows = split_of(config.data.dataset), choose_rows(config.data)
    overlaps = split.overlaps()
    bands = {name: band for model in models for name, band in model.bands.items()}
    first = next(iter(units.values()))
    audit = first.get("poison_audit")
    card = card_facts(config, models, subjects, units, made, overlaps, audit, simulated)
    longest = max(band.longest_delay_s for band in bands.values())
    return {
        "recipe": "drama2brain_encode",
        "mode": config.mode,
        "reg_type": config.reg_type,
        "subjects": list(subjects),
        "models": [{"name": m.name, "bands": {n: describe_band(band) for n, band in m.bands.items()}} for m in models],
        "data": {
            "source": asdict(SIMULATED_SOURCE if simulated else SOURCE),
            "simulated": simulated,
            "dataset": config.data.dataset,
            "tr_s": TR_S,
            "n_runs": len(RUNS),
            "n_voxels": {subject: units[subject, models[0].name]["n_voxels"] for subject in subjects},
            "space": {subject: units[subject, models[0].name]["space"] for subject in subjects},
            "surface": {subject: units[subject, models[0].name]["surface"] for subject in subjects},
            "grid": list(GRID),
            "standardise": config.data.standardise if config.mode == "corrected" else "none",
            "n_train": len(rows.train) if config.mode == "corrected" else None,
            "n_valid": len(rows.valid) if config.mode == "corrected" else None,
        },
        "features": {"nuisance": list(config.nuisance), "bands": first.get("bands", {}), "longest_delay_s": longest},
        "split": {"scheme": f"published ({config.data.dataset}): last runs of titles are scored; folds are titles",
                  "n_folds": len(rows.cv), "overlaps": overlaps,
                  "accepted_leaks": list(split.accepted_leaks), "poison_audit": audit or {},
                  "fingerprints": [fingerprint({"runs": split.fingerprint, "train": rows.train, "valid": rows.valid})]},
        "units": {f"{subject}/{name}": dict(facts) for (subject, name), facts in units.items()},
        "test": {**slowest(units.values()), "n_tests": int(made["models"]["n_voxels"].sum()),
                 "n_significant": int(made["models"]["n_significant"].sum())},
        "score": config.score if config.mode == "corrected" else "correlation",
        "ceiling": {"mean": None, "reason": CEILING_REASON},
        "tables": sorted(made),
        "maps": MAPS | {
            column: text
            for name in (*bands, *config.nuisance)
            for column, text in ((f"unique_{name}", f"unique {'r' if config.mode == 'faithful' else 'R2'} of {name}"),
                                 (f"share_{name}", f"share of {name} in the full model's r (product measure)"))
        },
        "simulated": simulated,
        "cannot_tell": card["cannot_tell"],
        "card": card,
    }  # fmt: skip


def describe_band(band: Band) -> dict[str, Any]:
    """A band in plain values."""
    return {"folder": band.folder, "level": band.level, "model": band.model, "layer": band.layer,
            "context_s": band.context_s, "shifts_s": band.shifts_s, "delays_s": band.delays_s,
            "reduction": "{} {:g}".format(*band.reduction) if band.reduction else None,
            "nuisance": band.nuisance}  # fmt: skip


def slowest(units: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """The null of the unit whose blocks are the shortest against its autocorrelation time; voxels of all units."""
    nulls = [dict(unit["null"]) for unit in units]
    worst = max(nulls, key=lambda null: null.get("autocorrelation_tr", 0) / null.get("block_length_tr", 1))
    slow = [null["n_slow_significant"] for null in nulls if "n_slow_significant" in null]
    return worst | ({"n_slow_significant": sum(slow)} if slow else {})


def card_facts(
    config: Config,
    models: Sequence[Model],
    subjects: Sequence[str],
    units: Mapping[tuple[str, str], Mapping[str, Any]],
    made: Mapping[str, pd.DataFrame],
    overlaps: Mapping[str, int],
    audit: Mapping[str, bool] | None,
    simulated: bool,
) -> dict[str, Any]:
    """What the credibility card is made from."""
    bands = {name: band for model in models for name, band in model.bands.items()}
    delays = [band.shifts_s or band.delays_s or () for band in bands.values()]
    # A run replays the last seconds of the run before it, so shifts up to that stay within what the run showed.
    crossing = int(sum(max(0.0, max(delay) - OVERLAP_S) for delay in delays))
    source = SIMULATED_SOURCE if simulated else SOURCE
    chosen = ["penalty and band weights (per voxel, over whole titles)"]
    if "layers" in made:
        chosen.append("layer (mean over voxels)")
    card: dict[str, Any] = {
        "subject": f"{', '.join(dict.fromkeys(b.model for b in bands.values()))} -> {source.name}, "
                   f"{len(subjects)} subject{'s' if len(subjects) > 1 else ''}",
        "claim": "what the models make of the annotations predicts responses to later parts of the films",
        "smallest_effect": config.smallest_effect,
        "cross_validation": {"scheme": "published split, last runs scored; penalties by whole titles",
                             "n_folds": len(choose_rows(config.data).cv), "shuffled": False},
        "borders": {"gap_tr": int(config.data.gap_s) if config.mode == "corrected" else 0,
                    "delays_tr": sorted({int(d) for delay in delays for d in delay}), "n_crossing": crossing,
                    "whole_runs": True},
        "overlaps": dict(overlaps),
        "accepted_leaks": ["title"],
        "voxel_selection": {"on": "none", "detail": "all voxels are scored; means over the best are chosen by their "
                            "score on training rows"},
        "null": {key: value for key, value in slowest(units.values()).items() if key != "tail"},
        "correction": {"method": "BH", "q": 0.05, "n_tests": int(made["models"]["n_voxels"].sum()),
                       "n_significant": int(made["models"]["n_significant"].sum())},
        "ceiling": {"reason": CEILING_REASON},
        "selection": {"what": chosen, "on": "training"},
        "n_subjects": len(subjects),
        "n_seeds": 1,
        "stimuli_public_since": 2016,  # the youngest of them
        "cannot_tell": [*(["SIMULATED data: nothing here speaks of any brain."] if simulated else []), *CANNOT_TELL],
    }  # fmt: skip
    if config.tail == "pareto" and config.mode == "corrected":
        card["correction"]["smallest_p"] = float(np.nanmin(made["models"]["smallest_p"]))
    if audit is not None:
        card["poison_audit"] = {"n_steps": len(audit), "changed": [name for name, changed in audit.items() if changed]}
    return card | tables.headline(made, units, models, subjects)

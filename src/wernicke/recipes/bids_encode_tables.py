"""Tables of an encoding model of a BIDS data set: by subject, by layer, by region, and across subjects."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from scipy import stats

from wernicke.core.results import Scores
from wernicke.data.maps import read_maps
from wernicke.encoding.group import roi_profiles, unique_profiles, winner_shares, winners
from wernicke.recipes.drama2brain_encode_tables import across
from wernicke.store.run import RunFolder

CEILING_REASON = "no repeats of the same stimulus were declared, so there is no noise ceiling"
#: What is fitted, by the ending of its columns.
MODELS = {"": "all bands", "_language": "language alone", "_nuisance": "nuisance alone"}
LAYER_COLUMNS = ("subject", "band", "layer", "cv_r", "r", "sem", "n_voxels", "n_folds", "best")


def read_scores(folder: RunFolder, subjects: Sequence[str], model: str) -> pd.DataFrame:
    """Return all subjects' maps as one long table, one row a voxel."""
    parts = [read_maps(folder.path(f"subjects/{s}/{model}"))[0].assign(subject=s, model=model) for s in subjects]
    return pd.concat(parts, ignore_index=True)


def make_tables(scores: pd.DataFrame, units: Mapping[str, Mapping[str, Any]]) -> dict[str, pd.DataFrame]:
    """Return the tables by name."""
    made = {"models": model_table(scores)}
    layers = [{"subject": s, "band": "language", **row} for s, unit in units.items() for row in unit["layers"]]
    if layers:
        made["layers"] = pd.DataFrame(layers)[list(LAYER_COLUMNS)]
    fitted = long_scores(scores)
    made["roi_profiles"] = roi_profiles(fitted)
    group = [across(made["roi_profiles"], "r")]
    if "unique_language" in scores:
        apart = fitted[fitted["model"] != MODELS[""]]
        made["winners"] = winner_shares(winners(apart, alpha=None))
        made["unique_profiles"] = unique_profiles(scores, ["language", "nuisance"])
        group.append(across(made["unique_profiles"], "unique R2"))
    made["group"] = pd.concat(group, ignore_index=True)
    return made


def model_table(scores: pd.DataFrame) -> pd.DataFrame:
    """One row a subject: means over voxels, and how many are significant."""
    rows = []
    for (subject, model), table in scores.groupby(["subject", "model"], sort=False):
        row: dict[str, Any] = {"subject": subject, "model": model, "n_voxels": int(table["r"].notna().sum())}
        for name in ("r", "cv_r", "r_language", "r_nuisance", "r2", "unique_language", "unique_nuisance"):
            if name in table:
                row |= {f"mean_{name}": table[name].mean(), f"max_{name}": table[name].max()}
        row |= {"n_significant": int((table["p_fdr"] <= 0.05).sum()),
                "share_significant": (table["p_fdr"] <= 0.05).sum() / max(1, row["n_voxels"]),
                "smallest_p": table["p"].min()}  # fmt: skip
        if "unique_language_p_fdr" in table:
            row["n_significant_unique"] = int((table["unique_language_p_fdr"] <= 0.05).sum())
        rows.append(row)
    return pd.DataFrame(rows)


def long_scores(scores: pd.DataFrame) -> pd.DataFrame:
    """One row a voxel and fitted model (`MODELS`): ``r``, ``cv_r``, and ``p_fdr`` of all bands: that is tested."""
    place = [name for name in ("subject", "voxel", "hemisphere", "roi") if name in scores]
    parts = []
    for ending, name in MODELS.items():
        if f"r{ending}" not in scores:
            continue
        part = scores[place].assign(model=name, r=scores[f"r{ending}"], cv_r=scores[f"cv_r{ending}"])
        parts.append(part.assign(p_fdr=np.nan if ending else scores["p_fdr"]))
    return pd.concat(parts, ignore_index=True)


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

"""drama2brain's tables: by subject and model, by layer, by region, and across subjects."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from scipy import stats

from wernicke.core.results import Scores
from wernicke.data.maps import read_maps
from wernicke.encoding.group import (
    WHOLE_BRAIN,
    compare_models,
    group_table,
    layer_table,
    paper_top_voxels,
    roi_profiles,
    unique_profiles,
    winner_shares,
    winners,
)
from wernicke.recipes.drama2brain_bands import Model
from wernicke.store.run import RunFolder

if TYPE_CHECKING:
    from wernicke.recipes.drama2brain_encode import Config


SCORES = ("voxel", "roi", "r", "cv_r", "cv_r2", "p", "p_fdr")


def read_scores(folder: RunFolder, config: Config, models: Sequence[Model], subjects: Sequence[str]) -> pd.DataFrame:
    """Return all units' maps as one long table: subject, model, band and layer (mono), voxel, scores."""
    parts = []
    for model in models:
        for subject in subjects:
            table, _ = read_maps(folder.path(f"subjects/{subject}/{model.name}"))
            kept = [c for c in table if c in (*SCORES, *_uniques(model, config))]
            part = table[kept].assign(subject=subject, model=model.name)
            if config.reg_type == "mono":
                (name, band), *_ = model.language.items()
                part = part.assign(band=name, layer=str(band.layer), level=band.level or "", features=band.model)
            parts.append(part)
    return pd.concat(parts, ignore_index=True)


def _uniques(model: Model, config: Config) -> set[str]:
    names = {f"unique_{name}" for name in (*model.bands, *config.nuisance, "language")}
    return names | {f"{name}_p_fdr" for name in names}


def make_tables(
    scores: pd.DataFrame, config: Config, models: Sequence[Model], units: Mapping[tuple[str, str], Mapping[str, Any]]
) -> dict[str, pd.DataFrame]:
    """Return the tables by name."""
    cv = next(name for name in ("cv_r", "cv_r2") if name in scores)
    made = {"models": model_table(scores, config, cv)}
    mono = config.reg_type == "mono"
    chosen = scores
    if mono:
        layers = layer_table(scores, by=("subject", "band"), cv=cv)
        if (layers.groupby(["subject", "band"]).size() > 1).any():
            made["layers"] = layers
        # What is compared across subjects: each band, at the layer that training rows chose in each subject.
        best = layers.loc[layers["best"], ["subject", "band", "layer"]]
        chosen = scores.merge(best, on=["subject", "band", "layer"]).assign(model=lambda table: table["band"])
    profiles = roi_profiles(chosen)
    made["roi_profiles"] = profiles
    made["group"] = across(profiles, "r")
    if mono and chosen["model"].nunique() > 1:
        made["winners"] = winner_shares(winners(chosen, choose=cv))
    names = [str(column) for column in chosen.columns]
    uniques = [c.removeprefix("unique_") for c in names if c.startswith("unique_") and not c.endswith("_p_fdr")]
    if uniques:
        score = "r" if config.mode == "faithful" else "R2"
        profiles = unique_profiles(chosen, uniques)
        made["unique_profiles"] = profiles
        made["group"] = pd.concat([made["group"], across(profiles, f"unique {score}")], ignore_index=True)
    return made


def model_table(scores: pd.DataFrame, config: Config, cv: str) -> pd.DataFrame:
    """One row a subject and model; the best voxels are chosen on training rows, the same for all models."""
    top = paper_top_voxels(scores, config.top_voxels, cv=cv)
    rows = []
    for (subject, model), table in scores.groupby(["subject", "model"], sort=False):
        best = top[(top["subject"] == subject) & (top["model"] == model)]
        row: dict[str, Any] = {"subject": subject, "model": model}
        row |= {name: table[name].iloc[0] for name in ("band", "level", "features", "layer") if name in table}
        p = table["p"] if "p" in table else pd.Series(dtype=float)
        rows.append(row | {
            "n_voxels": int(table["r"].notna().sum()), "mean_r": table["r"].mean(), "median_r": table["r"].median(),
            "max_r": table["r"].max(), f"mean_{cv}": table[cv].mean(), "n_top": len(best),
            "mean_r_top": best["r"].mean(), "n_significant": int((table["p_fdr"] <= 0.05).sum()),
            "share_significant": (table["p_fdr"] <= 0.05).mean(), "smallest_p": p.min() if len(p) else np.nan,
        })  # fmt: skip
    return pd.DataFrame(rows)


def across(profiles: pd.DataFrame, quantity: str) -> pd.DataFrame:
    """Across subjects: every model against 0, then pairs of models, paired by subject (`other` is taken off)."""
    parts = [group_table(profiles).assign(other="")]
    if profiles["model"].nunique() > 1:
        parts.append(compare_models(profiles))
    table = pd.concat(parts, ignore_index=True).assign(quantity=quantity)
    first = ["quantity", "roi", "model", "other"]
    return table[[*first, *(name for name in table if name not in first)]]


def score_rows(group: pd.DataFrame, ceiling_reason: str) -> list[dict[str, Any]]:
    """The rows of scores.json: means over all voxels, then over subjects, with the interval over subjects."""
    rows = []
    for row in group[(group["roi"] == WHOLE_BRAIN) & (group["other"] == "")].to_dict("records"):
        known = row["n_subjects"] > 1 and np.isfinite(row["low"])
        rows.append(
            Scores(
                str(row["model"]), str(row["quantity"]), float(row["mean"]), int(row["n_subjects"]),
                ci=(float(row["low"]), float(row["high"])) if known else None, ci_over="subjects" if known else "",
                ceiling_reason=ceiling_reason,
            ).as_row()
        )  # fmt: skip
    return rows


def headline(
    made: Mapping[str, pd.DataFrame],
    units: Mapping[tuple[str, str], Mapping[str, Any]],
    models: Sequence[Model],
    subjects: Sequence[str],
) -> dict[str, Any]:
    """The card's headline and gain: what the model predicts beyond nuisances, or at all.

    With one subject the interval is over scored runs, else over subjects. The layer is the one chosen on training rows.
    """
    table = made["models"]
    cv = next(name for name in ("mean_cv_r", "mean_cv_r2") if name in table)
    rows = table.loc[table.groupby("subject", sort=False)[cv].idxmax()].set_index("subject")
    best = rows["model"]
    chosen = [(subject, best[subject]) for subject in subjects]
    if any("r_by_run" not in units[unit] for unit in chosen):  # faithful scores all scored rows at once
        return {"headline": f"mean r {rows['mean_r'].mean():.4f} over {len(subjects)} subjects"}
    gains = []
    for unit in chosen:
        by_run = units[unit]["r_by_run"]
        gains.append(np.subtract(by_run["full"], by_run["nuisance"]) if "full" in by_run else by_run["language"])
    over = "nuisance bands" if "nuisance" in units[chosen[0]]["r_by_run"] else "predicting nothing"
    values = np.asarray(gains[0]) if len(gains) == 1 else np.array([np.mean(gain) for gain in gains])
    over_what = "runs" if len(gains) == 1 else "subjects"
    estimate = float(values.mean())
    half = float(stats.t.ppf(0.975, len(values) - 1) * values.std(ddof=1) / np.sqrt(len(values)))
    low, high = estimate - half, estimate + half
    found: dict[str, Any] = {
        "headline": f"mean r within runs {estimate:+.4f} over {over} "
        f"(95 % over {len(values)} {over_what} {low:+.4f} to {high:+.4f})",
        "gain": {"estimate": estimate, "low": low, "high": high, "over": over},
    }
    if over == "nuisance bands":
        found["nuisance"] = {"names": [over], "gain": estimate, "low": low, "high": high, "metric": "gain in mean r"}
    return found

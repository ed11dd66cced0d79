"""Which level and which model wins where: tables per subject, then across subjects.

Everything goes from a long table of voxels (columns ``subject``, ``model``, ``voxel``, ``r``, ``cv_r``, and where known
``roi``, ``p_fdr``, ``unique_<band>``; what ``scores.parquet`` of a run holds, with subject and model added) to small
tables that stand in a paper. Statistics are per subject first: voxels of one subject share features and noise and are
never the unit of a test (design, "Statistics, decided").
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence
from typing import Literal

import numpy as np
import pandas as pd
from scipy import stats

from wernicke.core.checks import check_option, check_range
from wernicke.core.errors import InputError
from wernicke.stats.fdr import fdr
from wernicke.stats.signtest import ENUMERATED_SUBJECTS, sign_flip_test

#: drama2brain's figures average over the 5,000 voxels of a subject with the highest cross-validated accuracy.
PAPER_TOP_VOXELS = 5000
#: The row of a table that stands for all voxels, of whatever region or none.
WHOLE_BRAIN = "whole brain"

Alternative = Literal["two-sided", "greater"]


def paper_top_voxels(scores: pd.DataFrame, n: int = PAPER_TOP_VOXELS, *, cv: str = "cv_r") -> pd.DataFrame:
    """Keep each subject's `n` voxels with the highest cross-validated score, the paper's rule for its figures.

    The score is from training rows, so the choice does not bias test scores. With several models the same voxels are
    kept for all, by the mean over models: models are compared on one set of voxels.

    Parameters
    ----------
    scores : DataFrame
        Columns ``subject``, ``voxel`` (with ``hemisphere`` where there is one) and `cv`.

    Returns
    -------
    DataFrame
        Rows of the kept voxels; all rows of a subject with fewer voxels.
    """
    _require(scores, ("subject", "voxel", cv))
    check_range(n, "n", low=1)
    where = _place(scores)
    mean = scores.groupby(["subject", *where], sort=False, dropna=False)[cv].mean().reset_index()
    best = mean.sort_values(cv, ascending=False, kind="stable").groupby("subject", sort=False).head(n)
    return scores.merge(best[["subject", *where]], on=["subject", *where], how="inner")


def layer_table(
    scores: pd.DataFrame, *, by: Sequence[str] = ("subject", "model"), cv: str = "cv_r", value: str = "r",
    top_voxels: int | None = None,
) -> pd.DataFrame:  # fmt: skip
    """Mean scores of every layer, and which layer is best by cross-validation on training rows.

    Parameters
    ----------
    scores : DataFrame
        One row a voxel and layer: columns `by`, ``layer``, `cv` and `value`.
    by : sequence of str
        What has a best layer of its own, such as ``("subject", "band")``.
    top_voxels : int, optional
        `paper_top_voxels` first.

    Returns
    -------
    DataFrame
        Columns `by`, ``layer``, `cv`, `value` (means over voxels), ``sem`` (of `value` over voxels, as the paper
        prints it; voxels are not independent, so it is no measure of certainty), ``n_voxels``, ``best``.
    """
    _require(scores, (*by, "layer", cv, value))
    if top_voxels is not None:
        scores = paper_top_voxels(scores, top_voxels, cv=cv)
    grouped = scores.groupby([*by, "layer"], sort=False, dropna=False)
    table = grouped.agg(
        **{cv: (cv, "mean"), value: (value, "mean"), "sem": (value, "sem"), "n_voxels": (value, "count")}
    ).reset_index()
    first = table.groupby(list(by), sort=False)[cv].transform("idxmax")
    table["best"] = first == table.index
    return table


def roi_profiles(
    scores: pd.DataFrame, *, value: str = "r", top_voxels: int | None = None, alpha: float = 0.05
) -> pd.DataFrame:
    """Mean score of every subject, region and model, and of the whole brain.

    Parameters
    ----------
    scores : DataFrame
        Columns ``subject``, ``model``, ``voxel``, `value`; ``roi`` where known (voxels without one, NaN or empty,
        count for the whole brain only), ``p_fdr`` where tested.
    top_voxels : int, optional
        `paper_top_voxels` first.

    Returns
    -------
    DataFrame
        Columns ``subject``, ``roi``, ``model``, ``n_voxels``, ``mean``, ``median``, ``max``, ``share_significant``
        (of voxels with ``p_fdr`` at most `alpha`; NaN without that column). Voxels whose value is NaN are left out.
    """
    _require(scores, ("subject", "model", "voxel", value))
    if top_voxels is not None:
        scores = paper_top_voxels(scores, top_voxels)
    p = scores["p_fdr"] if "p_fdr" in scores else pd.Series(np.nan, index=scores.index)
    scores = scores.assign(_value=scores[value], _hit=(p <= alpha).astype(float).where(p.notna()))
    scores = scores[scores["_value"].notna()]
    tables = [scores.assign(roi=WHOLE_BRAIN)]
    if "roi" in scores:
        named = scores[scores["roi"].notna() & (scores["roi"].astype(str) != "")]
        if (named["roi"].astype(str) == WHOLE_BRAIN).any():
            raise InputError("E-META", f"a region is called {WHOLE_BRAIN!r}, which stands for all voxels", field="roi")
        tables.append(named)
    return pd.concat([
        table.groupby(["subject", "roi", "model"], sort=False).agg(
            n_voxels=("_value", "count"), mean=("_value", "mean"), median=("_value", "median"), max=("_value", "max"),
            share_significant=("_hit", "mean"),
        ).reset_index()
        for table in tables
    ], ignore_index=True)  # fmt: skip


def unique_profiles(
    scores: pd.DataFrame, bands: Iterable[str] | None = None, *, top_voxels: int | None = None
) -> pd.DataFrame:
    """ROI profiles of unique variance, one "model" a band: what no other band of the joint model explains.

    For "does the multimodal model explain more than the unimodal ones": fit them as bands of one model
    (`wernicke.encoding.partition`), then ``group_table(unique_profiles(scores))``.

    Parameters
    ----------
    scores : DataFrame
        Columns ``subject``, ``voxel``, ``unique_<band>``, ``unique_<band>_p_fdr`` where tested, ``roi`` where known.
    bands : iterable of str, optional
        By default every column ``unique_<band>`` that is no interval end or p value.
    """
    if bands is None:
        columns = [c for c in scores.columns if c.startswith("unique_")]
        derived = {f"{c}_{end}" for c in columns for end in ("low", "high", "p", "se", "p_fdr", "p_bootstrap")}
        bands = [c.removeprefix("unique_") for c in columns if c not in derived]
    bands = list(bands)
    if not bands:
        raise InputError("E-META", "no column `unique_<band>`", field="scores")
    _require(scores, ("subject", "voxel", *(f"unique_{band}" for band in bands)))
    kept = [c for c in ("subject", "voxel", "hemisphere", "roi", "cv_r") if c in scores.columns]
    parts = []
    for band in bands:
        part = scores[kept].assign(model=band, unique=scores[f"unique_{band}"])
        parts.append(part.assign(p_fdr=scores[p]) if (p := f"unique_{band}_p_fdr") in scores else part)
    return roi_profiles(pd.concat(parts, ignore_index=True), value="unique", top_voxels=top_voxels)


def winners(
    scores: pd.DataFrame, *, choose: str = "cv_r", value: str = "r", alpha: float | None = 0.05
) -> pd.DataFrame:
    """For each voxel the model that is best, chosen on training rows (`choose`) and scored on test rows (`value`).

    Parameters
    ----------
    scores : DataFrame
        Columns ``subject``, ``model``, ``voxel``, `choose`, `value`; ``p_fdr`` where tested.
    alpha : float, optional
        Keep voxels whose winner has ``p_fdr`` at most this; None, or no such column: all voxels.

    Returns
    -------
    DataFrame
        One row a subject and voxel: ``subject``, ``voxel`` (``hemisphere``, ``roi``), ``winner``, `choose`, `value`,
        ``margin`` (`choose` less the second best's).
    """
    _require(scores, ("subject", "model", "voxel", choose, value))
    keys = ["subject", *_place(scores)]
    known = scores[scores[choose].notna()].sort_values(choose, ascending=False, kind="stable")
    grouped = known.groupby(keys, sort=False)
    best = grouped.head(1).set_index(keys)
    second = grouped[choose].nth(1)
    second.index = pd.MultiIndex.from_frame(known.loc[second.index, keys])
    best["margin"] = best[choose] - second
    kept = [*(c for c in ("roi",) if c in best), "winner", choose, value, "margin"]
    if alpha is not None and "p_fdr" in best:
        best = best[best["p_fdr"] <= alpha]
    return best.rename(columns={"model": "winner"})[kept].sort_index().reset_index()


def winner_shares(won: pd.DataFrame) -> pd.DataFrame:
    """Count of `winners` by subject, region and model: ``subject``, ``roi``, ``winner``, ``n_voxels``, ``share``.

    Without any voxel that was won, as where nothing is significant, a table of no rows.
    """
    if won.empty:
        return pd.DataFrame(columns=["subject", "roi", "winner", "n_voxels", "share"])
    _require(won, ("subject", "winner"))
    tables = [won.assign(roi=WHOLE_BRAIN), *([won[won["roi"].notna()]] if "roi" in won else [])]
    counts = pd.concat([t.groupby(["subject", "roi", "winner"], sort=False).size() for t in tables])
    table = counts.rename("n_voxels").reset_index()
    table["share"] = table["n_voxels"] / table.groupby(["subject", "roi"])["n_voxels"].transform("sum")
    return table


def group_table(
    profiles: pd.DataFrame, *, value: str = "mean", alternative: Alternative = "greater", level: float = 0.95
) -> pd.DataFrame:
    """Across subjects, every region and model against 0: the one group table.

    Parameters
    ----------
    profiles : DataFrame
        From `roi_profiles` or `unique_profiles`: ``subject``, ``roi``, ``model``, `value`.

    Returns
    -------
    DataFrame
        ``roi``, ``model``, ``n_subjects``, ``mean``, ``sd``, ``low``, ``high`` (t interval over subjects), ``t``,
        ``p_t``, ``p_flip`` (sign-flip permutation), ``smallest_p`` (that so many subjects' sign flips can reach at
        all), ``p_t_fdr``, ``p_flip_fdr`` (Benjamini-Hochberg over the regions of a model; the whole brain is a test of
        its own), ``n_positive`` (subjects above 0), ``n_best`` (subjects in whom the model is the region's best).
    """
    _require(profiles, ("subject", "roi", "model", value))
    best = profiles.loc[profiles.groupby(["subject", "roi"], sort=False)[value].idxmax(), ["subject", "roi", "model"]]
    n_best = best.groupby(["roi", "model"]).size()
    rows = [
        {"roi": roi, "model": model, **_across(part[value].to_numpy(float), alternative, level),
         "n_best": int(n_best.get((roi, model), 0))}
        for (roi, model), part in profiles.groupby(["roi", "model"], sort=False)
    ]  # fmt: skip
    return _corrected(pd.DataFrame(rows), ["model"])


def compare_models(
    profiles: pd.DataFrame, pairs: Iterable[tuple[str, str]] | None = None, *, value: str = "mean",
    alternative: Alternative = "two-sided", level: float = 0.95,
) -> pd.DataFrame:  # fmt: skip
    """Across subjects, every region's difference between two models, paired by subject.

    Parameters
    ----------
    profiles : DataFrame
        From `roi_profiles`.
    pairs : iterable of (model, other), optional
        All pairs by default, in order of appearance.

    Returns
    -------
    DataFrame
        ``roi``, ``model``, ``other`` and the columns of `group_table` (without ``n_best``), of model less other.
        Corrected over the regions of each pair; further pairs are further questions, which the reader has to count.
    """
    _require(profiles, ("subject", "roi", "model", value))
    models = list(dict.fromkeys(profiles["model"].tolist()))
    pairs = list(itertools.combinations(models, 2)) if pairs is None else list(pairs)
    unknown = {name for pair in pairs for name in pair} - set(models)
    if unknown or not pairs:
        found = f"unknown model {sorted(unknown)[0]!r}" if unknown else "no pair of models"
        raise InputError("E-META", f"{found}, the profiles have {', '.join(map(str, models))}", field="pairs")
    wide = profiles.pivot_table(index=["roi", "subject"], columns="model", values=value, sort=False)
    rows = []
    for model, other in pairs:
        difference = (wide[model] - wide[other]).dropna()
        for roi, part in difference.groupby(level="roi", sort=False):
            rows.append({"roi": roi, "model": model, "other": other, **_across(part.to_numpy(), alternative, level)})
    if not rows:
        raise InputError("E-META", "no subject has both models of any pair", field="pairs")
    return _corrected(pd.DataFrame(rows), ["model", "other"])


def smallest_p(n_subjects: int, alternative: Alternative = "two-sided") -> float:
    """Smallest p value of a sign-flip test: 1 / 2^n one-sided, twice that two-sided (6 subjects: .016, .031).

    Above 12 subjects 4,999 patterns are drawn: 1 / 5,000.
    """
    check_range(n_subjects, "n_subjects", low=1)
    patterns = 2**n_subjects if n_subjects <= ENUMERATED_SUBJECTS else 5000
    return min(1.0, (1 if alternative == "greater" else 2) / patterns)


def small_group_note(n_subjects: int, n_regions: int, alternative: Alternative = "two-sided") -> str:
    """Say what so few subjects can show at all, for the caption of a group table."""
    least = smallest_p(n_subjects, alternative)
    text = f"{n_subjects} subjects have {2**n_subjects} patterns of signs: the smallest {alternative} p is {least:.3g}."
    if least > 0.05:
        return f"{text} Nothing can be significant at .05; what is left is how many subjects show an effect."
    needed = int(np.ceil(least * n_regions / 0.05 - 1e-9))
    if needed > 1:
        text += f" After correction over {n_regions} regions, {needed} of them must reach it together."
    return text


def _across(values: np.ndarray, alternative: str, level: float) -> dict[str, float | int]:
    """Mean over subjects with its interval and tests; NaN where one subject is left."""
    check_option(alternative, ("two-sided", "greater"), "alternative")
    check_range(level, "level", low=0.5, high=0.9999)
    values = values[np.isfinite(values)]
    n = len(values)
    row: dict[str, float | int] = {"n_subjects": n, "mean": float(values.mean()) if n else np.nan}
    row.update(dict.fromkeys(("sd", "low", "high", "t", "p_t", "p_flip", "smallest_p"), np.nan))
    if n >= 2:
        sd = float(values.std(ddof=1))
        half = stats.t.ppf((1 + level) / 2, n - 1) * sd / np.sqrt(n)
        row.update(sd=sd, low=row["mean"] - half, high=row["mean"] + half)
        if sd > 0:
            found = stats.ttest_1samp(values, 0.0, alternative=alternative)
            row.update(t=float(found.statistic), p_t=float(found.pvalue))
        above, below = (sign_flip_test(sign * values) for sign in (1, -1))
        two = min(1.0, 2 * min(float(above.p), float(below.p)))
        row.update(p_flip=float(above.p) if alternative == "greater" else two,
                   smallest_p=above.smallest_p * (1 if alternative == "greater" else 2))  # fmt: skip
    row["n_positive"] = int((values > 0).sum())
    return row


def _corrected(table: pd.DataFrame, by: list[str]) -> pd.DataFrame:
    """Add p values corrected over regions, for each `by`; the whole brain is a family of one."""
    family = [table[name] for name in by] + [table["roi"] == WHOLE_BRAIN]
    for name in ("p_t", "p_flip"):
        table[f"{name}_fdr"] = table.groupby(family, sort=False)[name].transform(lambda p: fdr(p.to_numpy()).p_adjusted)
    return table


def _place(scores: pd.DataFrame) -> list[str]:
    """Columns that name a voxel: vertices are numbered from 0 in either hemisphere."""
    return ["hemisphere", "voxel"] if "hemisphere" in scores.columns else ["voxel"]


def _require(table: pd.DataFrame, columns: Iterable[str]) -> None:
    missing = [name for name in columns if name not in table.columns]
    if missing or not len(table):
        problem = f"no column {missing[0]!r}, expected {', '.join(columns)}" if missing else "the table has no row"
        raise InputError("E-META", problem, field="table")

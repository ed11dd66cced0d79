"""Which maps of a run over whole brains are drawn, how many fit on the page, and what stands beside it."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd

from wernicke.report.brain_figures import Scale
from wernicke.report.canvas import image
from wernicke.report.encoding_figures import histogram_figure
from wernicke.report.profile_figures import layers_figure, profile_figure
from wernicke.report.runs import FinishedRun
from wernicke.report.subject_maps import SubjectMaps, best_of, limit_of
from wernicke.report.viewer import MAX_BYTES as MAX_VIEWER
from wernicke.report.words import listed, number

logger = logging.getLogger(__name__)

# Of the page's 2 MB, as PNG: base64 makes a third more of it, tables and curves want the rest.
BUDGET = 1_050_000
MAX_REGIONS, MAX_PANELS = 24, 4
Q = 0.05
_SUFFIXES = ("_p", "_p_fdr", "_low", "_high", "_se", "_p_bootstrap")
_WHERE = {
    "cortex": "on fsaverage5: inflated, and flat with the medial wall cut away",
    "flat": "on the subject's own flat map",
    "slices": "on slices",
    "points": "as points, since the voxels are scattered",
}


@dataclass
class Drawn:
    """What came of drawing.

    Attributes
    ----------
    items : list of dict
        Groups of figures: `title`, `caption`, `figures` (each as `image` returns, with `caption`).
    left_out : list of str
        Maps that the page has no room for.
    note : str
        How maps are drawn.
    caveats : list of str
    maps : dict of subject to SubjectMaps
        The model that stands for each subject.
    scale : Scale or None
        Of r, the same for all subjects.
    """

    items: list[dict[str, Any]] = field(default_factory=list)
    left_out: list[str] = field(default_factory=list)
    note: str = ""
    caveats: list[str] = field(default_factory=list)
    maps: dict[str, SubjectMaps] = field(default_factory=dict)
    scale: Scale | None = None


def draw_maps(run: FinishedRun, units: Sequence[tuple[str, str, str]]) -> Drawn:
    """r of each subject, its best band, then unique variance band by band, until the page is full."""
    drawn = Drawn()
    opened = {(subject, model): SubjectMaps.open(run, prefix) for subject, model, prefix in units}
    for subject in run.facts["subjects"]:
        own = {model: maps for (s, model), maps in opened.items() if s == subject}
        if own:
            drawn.maps[subject] = own[_chosen(own)]
    kinds = {maps.kind for maps in drawn.maps.values()}
    _describe(drawn, kinds)
    if not kinds - {"none"}:
        return drawn
    room = BUDGET
    for title, caption, panels in _groups(run, drawn, opened):
        figures = []
        for name, draw in panels:
            png = draw() if room > 0 else b""
            if not png or len(png) > room:
                room = 0
                drawn.left_out.append(f"{title}: {name}")
                continue
            room -= len(png)
            figures.append({**image(png, f"{title}, {name}. {caption}", scale=2), "caption": name})
        if figures:
            drawn.items.append({"title": title, "caption": caption, "figures": figures})
    return drawn


def _chosen(own: dict[str, SubjectMaps]) -> str:
    """The model with the highest mean score on training rows; a single one needs none."""
    score = next((name for name in ("cv_r", "cv_r2") if all(maps.has(name) for maps in own.values())), None)
    if len(own) == 1 or score is None:
        return next(iter(own))
    return max(own, key=lambda model: float(np.nanmean(own[model].table[score])))


def _describe(drawn: Drawn, kinds: set[str]) -> None:
    said = [_WHERE[kind] for kind in _WHERE if kind in kinds]
    drawn.note = f"Maps {listed(said)}." if said else ""
    sliced = {subject: maps for subject, maps in drawn.maps.items() if maps.kind in ("slices", "points")}
    own = [subject for subject, maps in sliced.items() if maps.on_own_mesh]
    if own:
        drawn.caveats.append(f"The surfaces of {listed(own)} have no registered sphere: maps on the subject's own "
                             "mesh are in the run folder, here are slices only.")  # fmt: skip
    elif sliced:
        drawn.caveats.append(f"Slices only: no way from the voxels of {listed(list(sliced))} to a cortical surface was "
                             "given (surfaces with a transform, or a pycortex mapper), so there is no "
                             "surface.")  # fmt: skip
    if "none" in kinds:
        without = [subject for subject, maps in drawn.maps.items() if maps.kind == "none"]
        drawn.caveats.append(f"Where the voxels of {listed(without)} lie, or on which mesh, is not known, so there is "
                             "no map of them; scores by voxel are in scores.parquet.")  # fmt: skip


Panels = list[tuple[str, Callable[[], bytes]]]


def _groups(
    run: FinishedRun, drawn: Drawn, opened: dict[tuple[str, str], SubjectMaps]
) -> Iterator[tuple[str, str, Panels]]:
    shown = {subject: maps for subject, maps in drawn.maps.items() if maps.kind != "none" and maps.has("r")}
    r = {subject: maps.column("r") for subject, maps in shown.items()}
    drawn.scale = Scale.around_zero("Pearson r, scored runs", *limit_of(list(r.values())))
    scale = drawn.scale
    width = 420 if len(shown) == 1 else 270
    names = {subject: subject if len({m for _, m in opened}) == 1 else f"{subject}, {maps.prefix.rsplit('/', 1)[-1]}"
             for subject, maps in shown.items()}  # fmt: skip
    yield ("Held-out r", "Correlation of predicted with measured responses, every voxel; one scale for all subjects.",
           [(_with_spread(names[s], r[s]), _later(shown[s], r[s], scale, width)) for s in shown])  # fmt: skip
    yield from _best(run, shown, opened, width)
    yield from _unique(run, shown, width)


def _unique(run: FinishedRun, shown: dict[str, SubjectMaps], width: int) -> Iterator[tuple[str, str, Panels]]:
    """Each band's unique variance, all on one scale."""
    unit = "r" if run.facts.get("mode") == "faithful" else "R2"
    names = bands(next(iter(shown.values())))
    found = {
        band: {s: maps.column(f"unique_{band}") for s, maps in shown.items() if maps.has(f"unique_{band}")}
        for band in names
    }
    if not names:
        return
    limit = limit_of([values for own in found.values() for values in own.values()])
    caption = "What the full model explains less what it explains without this band; one scale for all bands."
    for band, own in found.items():
        scale = Scale.around_zero(f"unique {unit} of {band}", *limit)
        panels = [(_with_spread(s, values), _later(shown[s], values, scale, width)) for s, values in own.items()]
        yield f"Unique variance of {band}", caption, panels


def _best(
    run: FinishedRun, shown: dict[str, SubjectMaps], opened: dict[tuple[str, str], SubjectMaps], width: int
) -> Iterator[tuple[str, str, Panels]]:
    """Which band explains most by itself; of models that were fitted apart, which is best on training rows."""
    first = next(iter(shown.values()))
    if len(bands(first)) > 1:
        names, title = bands(first), "Best band"
        caption = f"Band of the largest unique variance, where r is significant (q < {Q:g}) and the band's is above 0."
        sources = {s: [maps.column(f"unique_{band}") for band in names] for s, maps in shown.items()}
    else:
        names = list(dict.fromkeys(model for _, model in opened))
        if not 1 < len(names) <= 8 or not all(maps.has("cv_r") for maps in opened.values()):
            return
        title = "Best model"
        caption = f"Model of the highest cross-validated r on training rows, where its r is significant (q < {Q:g})."
        sources = {s: [opened[s, model].column("cv_r") for model in names if (s, model) in opened] for s in shown}
    scale = Scale(title.lower(), names=tuple(names))
    panels: Panels = []
    for subject, columns in sources.items():
        maps = shown[subject]
        significant = maps.column("p_fdr") <= Q if maps.has("p_fdr") else np.isfinite(maps.column("r"))
        best = best_of(columns, significant)
        share = float(np.isfinite(best).sum()) / max(1, int(np.isfinite(maps.column("r")).sum()))
        panels.append((f"{subject}: shown in {100 * share:.0f} % of the map", _later(maps, best, scale, width)))
    yield title, caption, panels


def bands(maps: SubjectMaps) -> list[str]:
    """Bands with unique variance among a unit's columns."""
    columns = [str(name) for name in maps.table.columns]
    return [
        name.removeprefix("unique_")
        for name in columns
        if name.startswith("unique_")
        and not any(name.endswith(end) and name.removesuffix(end) in columns for end in _SUFFIXES)
    ]


def _later(maps: SubjectMaps, values: np.ndarray, scale: Scale, width_px: int) -> Callable[[], bytes]:
    return lambda: maps.draw(values, scale, width_px=width_px)


def _with_spread(name: str, values: np.ndarray) -> str:
    known = values[np.isfinite(values)]
    if not len(known):
        return f"{name}: no value"
    return f"{name}: median {number(float(np.median(known)))}, 99 % below {number(float(np.quantile(known, 0.99)))}"


def viewers(run: FinishedRun, drawn: Drawn) -> dict[str, tuple[str, str]]:
    """nilearn's interactive pages of r: file name to title and page, one a subject."""
    pages: dict[str, tuple[str, str]] = {}
    for subject, maps in drawn.maps.items():
        if drawn.scale is None or maps.kind == "none":
            continue
        title = f"{subject}, {maps.prefix.rsplit('/', 1)[-1]}: Pearson r, scored runs"
        page = maps.viewer(drawn.scale, title)
        if page is not None and len(page.encode()) <= MAX_VIEWER:
            pages[f"view-{subject}.html"] = (title, page)
        elif page is not None:
            logger.warning("%s: the interactive view has %d bytes, at most %d are written", subject, len(page.encode()),
                           MAX_VIEWER)  # fmt: skip
    return pages


def histogram(run: FinishedRun, units: Sequence[tuple[str, str, str]]) -> dict[str, Any] | None:
    """Voxels by r of the first subjects."""
    panels = []
    for subject, model, prefix in units[:MAX_PANELS]:
        table = SubjectMaps.open(run, prefix).table
        if "r" not in table or not table["r"].notna().any():
            continue
        r = table["r"].to_numpy(dtype=float)
        hit = table["p_fdr"].to_numpy(dtype=float) <= Q if "p_fdr" in table else np.zeros(len(r), dtype=bool)
        ceiling = table["ceiling"].to_numpy(dtype=float) if "ceiling" in table else None
        known = ceiling is not None and np.isfinite(ceiling).any()
        panels.append((f"{subject}, {model}"[:40], r, hit, ceiling if known else None))
    if not panels:
        return None
    alt = "Histograms over voxels of r, significant voxels darker: " + "; ".join(
        f"{title}: mean {number(float(np.nanmean(r)))}" for title, r, _, _ in panels
    )
    return image(histogram_figure(panels[:2], simulated=run.simulated), alt)


def layers(run: FinishedRun, table: pd.DataFrame | None) -> dict[str, Any] | None:
    """Curves over layers, where several were fitted."""
    if table is None or table["layer"].nunique() < 2:
        return None
    name = "band" if "band" in table else "model"
    score = "r" if "r" in table else "cv_r"
    best = table["best"].astype(str).isin(("True", "1", "1.0")) if "best" in table else _highest(table, name)
    rows = [
        {"subject": str(row["subject"]), "band": str(row[name]), "layer": str(row["layer"]), "value": row[score],
         "best": bool(chosen)}
        for (_, row), chosen in zip(table.iterrows(), best, strict=True)
    ]  # fmt: skip
    label = "mean r, scored runs" if score == "r" else "mean r, cross-validated"
    alt = f"Curves of {label} over {table['layer'].nunique()} layers, a line a subject, a panel each of " + ", ".join(
        dict.fromkeys(row["band"] for row in rows)
    )
    return image(layers_figure(rows, score=label, simulated=run.simulated), alt + ".")


def _highest(table: pd.DataFrame, name: str) -> pd.Series:
    score = "cv_r" if "cv_r" in table else "cv_r2" if "cv_r2" in table else "r"
    return table[score] == table.groupby(["subject", name])[score].transform("max")


def profiles(run: FinishedRun, table: pd.DataFrame | None, what: str = "r", least: int = 2) -> dict[str, Any] | None:
    """Means of `what` over regions, where there are `least` of them, the whole brain included."""
    if table is None or table["roi"].nunique() < least:
        return None
    means = table.groupby("roi")["mean"].mean().sort_values(ascending=False)
    regions = [str(roi) for roi in means.index[:MAX_REGIONS]]
    models = [str(model) for model in dict.fromkeys(table["model"])][:8]
    rows = [
        {"subject": str(r["subject"]), "roi": str(r["roi"]), "model": str(r["model"]), "mean": float(r["mean"])}
        for _, r in table[table["roi"].isin(regions) & table["model"].isin(models)].iterrows()
    ]
    png = profile_figure(rows, regions=regions, models=models, score=f"mean {what}, scored runs",
                         simulated=run.simulated)  # fmt: skip
    alt = f"Mean {what} by region and model; over subjects: " + "; ".join(
        f"{roi} {number(float(means[roi]))}" for roi in regions
    )
    return {**image(png, alt + "."), "n_regions": len(means), "n_shown": len(regions)}

"""The files that drama2brain's published code saves, by its names, for scripts that read them.

Where the published code pickles a dict (`multi`), a folder of the file's name holds one plain ``.npy`` a key:
``np.load("cc_raw.npy", allow_pickle=True).item()["all"]`` becomes ``np.load("cc_raw/all.npy")``.
"""

from __future__ import annotations

import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from wernicke.recipes.drama2brain_bands import Band, Fitted
from wernicke.store.files import write_bytes, write_npy


def suffix(bands: Mapping[str, Band], dataset: str) -> str:
    """``raw``, ``1280PCs`` or ``0.1eps``, and the half of the data: ``raw_splitA``."""
    kinds = {"pca": "{:.0f}PCs", "srp": "{:g}eps"}
    found = [kinds[band.reduction[0]].format(band.reduction[1]) if band.reduction else "raw" for band in bands.values()]
    return "_".join(dict.fromkeys(found)) + (f"_{dataset}" if dataset != "all" else "")


def place(bands: Mapping[str, Band]) -> str:
    """``TR8_10s/semantic/HPARAMS/MODEL/layer17``; with several bands the names of each part are joined."""
    delays = [band.shifts_s or band.delays_s or () for band in bands.values()]
    shifts = dict.fromkeys("TR" + "_".join(f"{d:g}" for d in delay) + "s" for delay in delays)
    parts = zip(*(band.folder.split("/") for band in bands.values()), strict=True)
    modality, hparams, model, layers = ("_".join(part) for part in parts)
    return "/".join(("_".join(shifts), modality, hparams, model, "layer" + layers.replace("layer", "")))


def key(band: Band) -> str:
    """``semantic_HPARAMS_MODEL_17``: a band's key in the published dicts."""
    return band.folder.replace("/layer", "/").replace("/", "_")


def write_published(
    folder: Path, fitted: Fitted, bands: Mapping[str, Band], dataset: str, save_pred: bool = False
) -> None:
    """Write cc, cv_cc, pvalues_corrected, coef, preds (mono: if asked for) and the histogram below `folder`."""
    target, end = folder / place(bands), suffix(bands, dataset)
    columns = fitted.columns
    if len(bands) == 1:
        cv = next(name for name in ("cv_r", "cv_r2") if name in columns)
        files: dict[str, Any] = {
            "cv_cc": columns[cv].astype(np.float32), "cc": columns["r"].astype(np.float32),
            "pvalues_corrected": columns["p_fdr"].astype(np.float64),
            "coef": next(iter(fitted.coef.values()), None),
            "preds_val": fitted.predictions.get("all") if save_pred else None, "preds_trn": fitted.nested_predictions,
        }  # fmt: skip
        for name, values in files.items():
            if values is not None:
                write_npy(target / f"{name}_{end}.npy", values)
    else:
        keys = {"all": "all", **{name: key(band) for name, band in bands.items()}}
        groups: dict[str, Mapping[str, np.ndarray]] = {
            "cc": {name: part["r"].astype(np.float32) for name, part in fitted.parts.items()},
            "pvalues_corrected": {name: part["p"] for name, part in fitted.parts.items() if "p" in part},
            "coef": fitted.coef,
            "preds": fitted.predictions,
        }
        for name, group in groups.items():
            for band, values in group.items():
                if band in keys:
                    write_npy(target / f"{name}_{end}" / f"{keys[band]}.npy", values)
    histogram = {name: part["r"] for name, part in fitted.parts.items() if name != "all"} or {"all": columns["r"]}
    write_bytes(target / f"dist_{end}.png", draw_histogram(histogram))


def draw_histogram(scores: Mapping[str, np.ndarray]) -> bytes:
    """The published histogram of r, one colour a band, as PNG."""
    from matplotlib.figure import Figure

    figure = Figure()
    axes = figure.subplots()
    highest = max(float(np.nanmax(values)) for values in scores.values())
    for name, values in scores.items():
        axes.hist(values[np.isfinite(values)], np.linspace(0, max(highest, 1e-3), 100).tolist(), alpha=0.5, label=name)
    axes.set(xlabel="Pearson r", ylabel="voxels", title="Prediction accuracy on scored runs")
    axes.legend()
    content = io.BytesIO()
    figure.savefig(content, format="png", metadata={"Software": None})
    return content.getvalue()

"""Curves over layers and profiles over regions: one line a subject, the mean over subjects on top."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.lines import Line2D

from wernicke.report.brain_figures import BAND_COLORS
from wernicke.report.canvas import FAINT, INK, QUIET, drawing
from wernicke.scoring.show import printable

# Subjects are told apart by mark, not by colour alone.
_MARKS = "os^vDP*X"


def layers_figure(rows: Sequence[Mapping[str, Any]], *, score: str, simulated: bool) -> bytes:
    """Score by layer, one panel a band.

    Parameters
    ----------
    rows : sequence of dict
        `subject`, `band`, `layer` (a number as text, or a name), `value`, `best` (chosen on training rows).
    score : str
        What `value` is, for the axis.
    """
    bands = list(dict.fromkeys(row["band"] for row in rows))
    subjects = list(dict.fromkeys(row["subject"] for row in rows))
    layers = sorted({str(row["layer"]) for row in rows}, key=_layer_order)
    embedding = 0 if "0" in layers else 1  # drama2brain counts from 1
    n_columns = min(len(bands), 3)
    n_rows = -(-len(bands) // n_columns)
    with drawing(850, 90 + 205 * n_rows, simulated=simulated) as drawn:
        axes = drawn.figure.subplots(n_rows, n_columns, squeeze=False, sharey=True).ravel()
        for ax in axes[len(bands) :]:
            ax.set_axis_off()
        for ax, band in zip(axes, bands, strict=False):
            lines = []
            for k, subject in enumerate(subjects):
                own = {str(r["layer"]): r for r in rows if r["band"] == band and r["subject"] == subject}
                y = np.array([own[layer]["value"] if layer in own else np.nan for layer in layers], dtype=float)
                lines.append(y)
                ax.plot(range(len(layers)), y, color=QUIET, linewidth=0.9, alpha=0.8)
                best = [i for i, layer in enumerate(layers) if layer in own and own[layer]["best"]]
                ax.plot(best, y[best], _MARKS[k % len(_MARKS)], color=BAND_COLORS[k % len(BAND_COLORS)], markersize=6,
                        markeredgecolor="white", markeredgewidth=0.6, zorder=4)  # fmt: skip
            if len(lines) > 1:
                ax.plot(range(len(layers)), np.mean(lines, axis=0), color=INK, linewidth=2.2, zorder=3)
            ax.set_title(printable(band, 30))
            ax.set_xlabel(f"layer ({embedding} is the embedding output)")
            step = max(1, -(-len(layers) // 9))
            ax.set_xticks(range(0, len(layers), step), layers[::step])
            ax.grid(axis="y", color=FAINT, linewidth=0.6)
        for ax in axes[::n_columns]:
            ax.set_ylabel(score)
        handles = [
            Line2D([], [], color=BAND_COLORS[k % len(BAND_COLORS)], marker=_MARKS[k % len(_MARKS)], linewidth=0.9,
                   markeredgecolor="white", label=printable(subject, 20)) for k, subject in enumerate(subjects)
        ]  # fmt: skip
        mean = [Line2D([], [], color=INK, linewidth=2.2, label="mean over subjects")] if len(subjects) > 1 else []
        drawn.figure.legend(handles=[*handles, *mean], loc="outside lower center", ncols=7,
                            title="the layer that cross-validation on training rows chose in")  # fmt: skip
    return drawn.png


def _layer_order(layer: str) -> tuple[int, float, str]:
    return (0, float(layer), "") if layer.replace(".", "", 1).isdigit() else (1, 0.0, layer)


def profile_figure(
    rows: Sequence[Mapping[str, Any]], *, regions: Sequence[str], models: Sequence[str], score: str, simulated: bool
) -> bytes:
    """Mean score of each region: a large mark a model for the mean over subjects, a small one for each subject.

    Parameters
    ----------
    rows : sequence of dict
        `subject`, `roi`, `model`, `mean`.
    regions, models : sequence of str
        Which, and in what order.
    score : str
        What the values are, for the axis.
    """
    found: dict[tuple[str, str], list[float]] = {}
    for row in rows:
        found.setdefault((row["roi"], row["model"]), []).append(float(row["mean"]))
    with drawing(850, 96 + 21 * len(regions), simulated=simulated) as drawn:
        ax = drawn.figure.subplots()
        ax.grid(axis="x", color=FAINT, linewidth=0.6)
        ax.set_axisbelow(True)
        for k, model in enumerate(models):
            color, mark = BAND_COLORS[k % len(BAND_COLORS)], _MARKS[k % len(_MARKS)]
            shift = 0.0 if len(models) == 1 else 0.56 * (k / (len(models) - 1) - 0.5)
            for i, region in enumerate(regions):
                values = [value for value in found.get((region, model), []) if np.isfinite(value)]
                if values:
                    ax.plot(values, [i + shift] * len(values), "|", color=color, markersize=5, alpha=0.75)
                    ax.plot([np.mean(values)], [i + shift], mark, color=color, markersize=6, markeredgecolor="white",
                            markeredgewidth=0.7, zorder=4)  # fmt: skip
        ax.axvline(0, color=QUIET, linewidth=0.8)
        ax.set_yticks(range(len(regions)), [printable(region, 34) for region in regions])
        ax.set_ylim(len(regions) - 0.4, -0.6)
        ax.tick_params(axis="y", length=0)
        ax.spines["left"].set_visible(False)
        ax.set_xlabel(score)
        handles = [Line2D([], [], linestyle="", color=BAND_COLORS[k % len(BAND_COLORS)], marker=_MARKS[k % len(_MARKS)],
                          markersize=6, label=printable(model, 28)) for k, model in enumerate(models)]  # fmt: skip
        drawn.figure.legend(handles=handles, loc="outside lower center", ncols=min(5, len(models)))
    return drawn.png

"""The figure that every section has: all models' scores, with null, ceiling and chance in the same axes."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from wernicke.report.canvas import BLUE, FAINT, GREEN, INK, ORANGE, QUIET, drawing
from wernicke.report.words import number
from wernicke.scoring.show import printable


@dataclass(frozen=True)
class Panel:
    """One metric of all models.

    Attributes
    ----------
    title : str
    rows : sequence of dict
        `name`, `mean`, `ci`, `draws` (one value a fit).
    null, null_name
        Values of the null, drawn as the band that holds 95 % of them; None where it was not run.
    ceiling, ceiling_name
        Drawn as a line.
    chance : float, optional
        Drawn as another.
    """

    title: str
    rows: Sequence[Mapping[str, Any]]
    null: Sequence[float] | None
    null_name: str
    ceiling: float | None
    ceiling_name: str
    chance: float | None = None


def scores_figure(panels: Sequence[Panel], *, simulated: bool) -> bytes:
    """Every model's score as dot and interval, single fits as small dots, with null and ceiling, one metric a panel."""
    n_rows = len(panels[0].rows)
    with drawing(850, 160 + 36 * n_rows, simulated=simulated) as drawn:
        axes = drawn.figure.subplots(1, len(panels), sharey=True, squeeze=False)[0]
        for ax, panel in zip(axes, panels, strict=True):
            _score_panel(ax, panel)
        axes[0].set_yticks(range(n_rows), [printable(row["name"], 24) for row in panels[0].rows])
        axes[0].set_ylim(n_rows - 0.4, -0.6)
        for ax in axes:
            ax.tick_params(axis="y", length=0)
            ax.spines["left"].set_visible(False)
    return drawn.png


def _score_panel(ax: Axes, panel: Panel) -> None:
    ax.set_title(panel.title, pad=8)
    ax.grid(axis="x", color=FAINT, linewidth=0.6)
    ax.set_axisbelow(True)
    handles: list[Any] = []
    if panel.null is not None:
        low, high = np.quantile(panel.null, (0.025, 0.975))
        ax.axvspan(low, high, color="#e9d8c7", zorder=0.6, linewidth=0)
        handles.append(Patch(color="#e9d8c7", label=wrap(f"null: 95 % of {len(panel.null)} fits, {panel.null_name}")))
    if panel.ceiling is not None:
        ax.axvline(panel.ceiling, color=GREEN, linestyle=(0, (5, 2)), linewidth=1.4, zorder=1.5)
        handles.append(Line2D([], [], color=GREEN, linestyle=(0, (5, 2)), linewidth=1.4,
                              label=wrap(f"ceiling {number(panel.ceiling)}: {panel.ceiling_name}")))  # fmt: skip
    if panel.chance is not None:
        ax.axvline(panel.chance, color=INK, linestyle=":", linewidth=1.3, zorder=1.5)
        handles.append(Line2D([], [], color=INK, linestyle=":", linewidth=1.3, label=f"chance {number(panel.chance)}"))
    for i, row in enumerate(panel.rows):
        color = BLUE if i == 0 else ORANGE if len(row["draws"]) > 1 else INK
        if len(row["draws"]) > 1:
            # Below the mean, spread in a fixed pattern, so that equal numbers give equal pictures.
            offsets = 0.3 + 0.05 * ((np.arange(len(row["draws"])) * 2) % 5 - 2)
            ax.plot(row["draws"], i + offsets, "o", color=ORANGE, alpha=0.5, markersize=3, markeredgewidth=0)
        if row["ci"] is not None:
            ax.plot(row["ci"], [i, i], color=color, linewidth=1.8, solid_capstyle="butt", zorder=3)
        ax.plot([row["mean"]], [i], "D" if i == 0 else "o", color=color, markersize=6, markeredgecolor="white",
                markeredgewidth=0.8, zorder=4)  # fmt: skip
    low, high = ax.get_xlim()
    if low < 0 < high:
        ax.axvline(0, color=QUIET, linewidth=0.8, zorder=1)
    if handles:
        ax.legend(handles=handles, loc="upper left", bbox_to_anchor=(0, -0.1), borderaxespad=0, borderpad=0,
                  handlelength=1.8)  # fmt: skip


def wrap(text: str, width: int = 46) -> str:
    """Break a legend's text into lines."""
    return "\n".join(textwrap.wrap(printable(text, 4 * width), width))

"""Figures of a decoding run: which category was named for which, and how the bridge learnt."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.ticker import MaxNLocator

from wernicke.report.canvas import BLUE, FAINT, INK, ORANGE, drawing
from wernicke.scoring.show import printable


def confusion_figure(counts: np.ndarray, truths: Sequence[str], named: Sequence[str], *, simulated: bool) -> bytes:
    """Counts of what was named, shape (n_truths, n_named), one row a true category."""
    n_rows, n_columns = counts.shape
    with drawing(min(850, 210 + 56 * n_columns), min(850, 130 + 40 * n_rows), simulated=simulated) as drawn:
        ax = drawn.figure.subplots()
        ax.imshow(counts, cmap="Blues", vmin=0, vmax=max(1, counts.max()), aspect="auto")
        for (i, j), count in np.ndenumerate(counts):
            if count:
                light = count > 0.55 * counts.max()
                ax.text(j, i, str(int(count)), ha="center", va="center", color="white" if light else INK,
                        weight="bold" if truths[i] == named[j] else "normal")  # fmt: skip
        ax.set_xticks(range(n_columns), [printable(name, 16) for name in named], rotation=40, ha="right")
        ax.set_yticks(range(n_rows), [printable(name, 16) for name in truths])
        ax.set_xlabel("named in the sentence")
        ax.set_ylabel("shown")
        ax.tick_params(length=0)
        ax.set_xticks(np.arange(n_columns + 1) - 0.5, minor=True)
        ax.set_yticks(np.arange(n_rows + 1) - 0.5, minor=True)
        ax.grid(which="minor", color="white", linewidth=1.5)
        ax.tick_params(which="minor", length=0)
        ax.spines[:].set_visible(False)
    return drawn.png


def learning_figure(curve: Sequence[Mapping[str, Any]], *, simulated: bool) -> bytes:
    """Loss by step while the bridge was primed, and the validation loss where there is one."""
    with drawing(560, 260, simulated=simulated) as drawn:
        ax = drawn.figure.subplots()
        ax.grid(axis="y", color=FAINT, linewidth=0.6)
        for name, label, color in (("loss", "training", BLUE), ("valid", "validation", ORANGE)):
            rows = [row for row in curve if name in row and np.isfinite(row[name])]
            if rows:
                ax.plot([row["step"] for row in rows], [row[name] for row in rows], color=color, label=label,
                        linewidth=1.5, marker="." if len(rows) < 60 else "", markersize=4)  # fmt: skip
        ax.set_xlabel("step")
        ax.set_ylabel("cross-entropy a token")
        ax.set_ylim(bottom=0)
        ax.xaxis.set_major_locator(MaxNLocator(integer=True))
        ax.legend()
    return drawn.png

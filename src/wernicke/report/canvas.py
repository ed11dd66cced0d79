"""Figures as small PNGs with the same bytes for the same numbers, ready to stand inside a page."""

from __future__ import annotations

import base64
import io
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import matplotlib
from markupsafe import Markup
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

MAX_WIDTH_PX = 850

INK, QUIET, FAINT = "#1b1f24", "#5c6670", "#d5dae0"
BLUE, ORANGE, GREEN, RED = "#0b5cad", "#c2570c", "#1a7f4b", "#b3261e"

# Text is never read as TeX: a model's name may hold a dollar sign.
_STYLE: dict[str, Any] = {
    "font.family": "DejaVu Sans", "font.size": 9, "text.parse_math": False, "text.color": INK,
    "axes.edgecolor": QUIET, "axes.labelcolor": INK, "axes.linewidth": 0.8, "axes.titlesize": 10,
    "axes.titleweight": "bold", "axes.titlelocation": "left", "axes.spines.top": False, "axes.spines.right": False,
    "axes.unicode_minus": False, "xtick.color": QUIET, "ytick.color": QUIET, "xtick.labelcolor": INK,
    "ytick.labelcolor": INK, "xtick.labelsize": 8.5, "ytick.labelsize": 9, "legend.frameon": False,
    "legend.fontsize": 8.5, "figure.facecolor": "white", "savefig.facecolor": "white",
}  # fmt: skip


class Drawing:
    """A figure and, once its ``with`` block has ended, its PNG."""

    def __init__(self, figure: Figure) -> None:
        self.figure = figure
        self.png = b""


@contextmanager
def drawing(
    width_px: int, height_px: int, *, simulated: bool, scale: int = 1, colors: int | None = None
) -> Iterator[Drawing]:
    """Yield a figure to draw into, whatever the user's matplotlib settings; afterwards `Drawing.png` holds it.

    Parameters
    ----------
    width_px, height_px : int
        Size on the page.
    simulated : bool
        Write SIMULATED across the figure.
    scale : int
        Pixels of the file for each pixel on the page; at most `MAX_WIDTH_PX` wide in all.
    colors : int, optional
        Keep at most so many colours: about a third of the bytes where a figure is a picture.
    """
    if width_px * scale > MAX_WIDTH_PX:
        raise ValueError(f"{width_px} x {scale} px is wider than {MAX_WIDTH_PX}")
    with matplotlib.rc_context(_settings()), warnings.catch_warnings():
        # A name in a script that the font lacks is shown as boxes here and in full in the table.
        warnings.filterwarnings("ignore", message="Glyph .* missing from")
        warnings.filterwarnings("ignore", category=matplotlib.MatplotlibDeprecationWarning)
        figure = Figure(figsize=(width_px / 100, height_px / 100), dpi=100 * scale, layout="constrained")
        canvas = FigureCanvasAgg(figure)
        drawn = Drawing(figure)
        yield drawn
        if simulated:
            figure.text(0.5, 0.5, "SIMULATED", color=RED, alpha=0.16, fontsize=0.075 * width_px, weight="bold",
                        ha="center", va="center", rotation=12, zorder=100)  # fmt: skip
        buffer = io.BytesIO()
        # No metadata: neither time nor version stands in the bytes.
        packing: dict[str, Any] = {"optimize": True} if colors is None else {"compress_level": 1}
        canvas.print_png(buffer, metadata={"Software": None}, pil_kwargs=packing)
        drawn.png = buffer.getvalue() if colors is None else _with_fewer_colors(buffer, colors)


def _with_fewer_colors(png: io.BytesIO, colors: int) -> bytes:
    from PIL import Image

    reduced = io.BytesIO()
    with Image.open(png) as picture:
        palette = picture.convert("RGB").quantize(colors, Image.Quantize.MAXCOVERAGE, dither=Image.Dither.NONE)
        palette.save(reduced, "PNG", optimize=True)
    return reduced.getvalue()


def _settings() -> Any:
    """Matplotlib's defaults with our style, so that a user's matplotlibrc changes nothing; the backend is not ours."""
    defaults = {k: v for k, v in dict(matplotlib.rcParamsDefault).items() if not k.startswith(("backend", "interac"))}
    return {**defaults, **_STYLE}


def image(png: bytes, alt: str, scale: int = 1) -> dict[str, Any]:
    """What an ``img`` element needs: `src` with the PNG in it, `alt`, and `width` and `height` on the page."""
    width, height = (int.from_bytes(png[i : i + 4], "big") // scale for i in (16, 20))
    source = Markup("data:image/png;base64,{}").format(base64.b64encode(png).decode("ascii"))
    return {"src": source, "alt": alt, "width": width, "height": height}

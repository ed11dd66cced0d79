"""Drawing a page's figures takes over a second: most tests are about its words, and get one grey pixel a figure."""

from __future__ import annotations

import base64
from typing import IO, Any

import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg

PIXEL = base64.b64decode("iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAAAAAA6fptVAAAACklEQVR4nGNgAAAAAgABSK+kcQAAAABJRU5ErkJggg==")


@pytest.fixture
def real_figures() -> None:
    """Asked for by tests that want the figures themselves."""


@pytest.fixture(autouse=True)
def quick_figures(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Everything is drawn into the figure, but not rendered."""
    if "real_figures" in request.fixturenames:
        return

    def print_png(self: FigureCanvasAgg, file: IO[bytes], **settings: Any) -> None:
        file.write(PIXEL)

    monkeypatch.setattr(FigureCanvasAgg, "print_png", print_png)

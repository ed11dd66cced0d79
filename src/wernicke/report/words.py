"""Numbers and lists as they are written in reports: one rounding for page, methods and alt texts."""

from __future__ import annotations

from collections.abc import Iterable, Sequence


def number(value: float | None, digits: int = 3) -> str:
    """``0.197``; a dash where there is none."""
    return "–" if value is None else f"{value:.{digits}f}".replace("-0." + "0" * digits, "0." + "0" * digits)


def signed(value: float, digits: int = 3) -> str:
    """``+0.085``."""
    return f"{value:+.{digits}f}"


def interval(ends: Sequence[float] | None, digits: int = 3) -> str:
    """``0.189 to 0.204``; a dash where there is none."""
    return "–" if ends is None else f"{number(ends[0], digits)} to {number(ends[1], digits)}"


def listed(items: Iterable[object]) -> str:
    """``1, 2, 3 and 4``."""
    words = [str(item) for item in items]
    return " and ".join([", ".join(words[:-1]), words[-1]]) if len(words) > 1 else "".join(words)


def plural(n: int, noun: str) -> str:
    """``1 run``, ``12 runs``."""
    return f"{n:,} {noun}{'' if n == 1 else 's'}" if n < 10_000 else f"{n:,} {noun}s"


def size_mm(lengths_mm: Sequence[float]) -> str:
    """``3.1 x 3.75 x 3.75 mm``; headers store single precision."""
    return " × ".join(f"{length:.4g}" for length in lengths_mm) + " mm"

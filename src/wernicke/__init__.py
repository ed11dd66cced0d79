"""wernicke: brain recordings and language, both ways, and how far each result is to be believed."""

from __future__ import annotations

from importlib import import_module
from typing import Any

__version__ = "0.1.0"

# Where each public function lives; loaded at first use, so that `import wernicke` needs neither torch nor nilearn.
_PUBLIC = {
    "decode": "wernicke.decoding.arrays",
    "encode": "wernicke.encoding.arrays",
    "evaluate": "wernicke.scoring.evaluate",
}

__all__ = ["__version__", *_PUBLIC]


def __getattr__(name: str) -> Any:
    if name in _PUBLIC:
        return getattr(import_module(_PUBLIC[name]), name)
    raise AttributeError(f"module 'wernicke' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *_PUBLIC])

"""One seed a run; every stream of random numbers is derived from it by name."""

from __future__ import annotations

import hashlib

import numpy as np


def derive_rng(seed: int, *names: str | int) -> np.random.Generator:
    """Return an independent generator for (seed, names).

    The same seed and names give the same numbers; another name gives another stream, so adding a consumer
    never changes what an existing one draws.
    """
    words = [int.from_bytes(hashlib.sha256(repr(name).encode()).digest()[:8], "little") for name in names]
    return np.random.default_rng(np.random.SeedSequence([int(seed), *words]))

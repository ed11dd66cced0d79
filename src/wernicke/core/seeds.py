"""One seed a run; every stream of random numbers is derived from it by name."""

from __future__ import annotations

import hashlib
import operator

import numpy as np

from wernicke.core.errors import InputError


def derive_rng(seed: int, *names: str | int) -> np.random.Generator:
    """Return an independent generator for (seed, names).

    The same seed and names give the same numbers; another name gives another stream, so adding a consumer
    never changes what an existing one draws.

    Raises
    ------
    InputError
        E-CFG for a seed that is no whole number of at least 0.
    """
    if not isinstance(seed, (int, np.integer)) or seed < 0:
        raise InputError("E-CFG", f"found {seed!r}, expected a whole number of at least 0", field="seed")
    # numpy's integers count as Python's: `repr` tells them apart.
    plain = [name if isinstance(name, str) else operator.index(name) for name in names]
    words = [int.from_bytes(hashlib.sha256(repr(name).encode()).digest()[:8], "little") for name in plain]
    return np.random.default_rng(np.random.SeedSequence([int(seed), *words]))

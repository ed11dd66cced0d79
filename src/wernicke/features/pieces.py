"""Long computations, kept in the user's cache piece by piece: an interrupted one goes on where it stood."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from wernicke.core.checks import check_finite
from wernicke.store.cache import Cache, cache_key
from wernicke.store.fingerprint import fingerprint

PIECE = 128  # items a cache entry; independent of batch_size, which therefore is in no key


def in_pieces(
    name: str,
    items: Sequence[Any],
    prints: Sequence[str],
    compute: Callable[[Sequence[Any]], Mapping[str, np.ndarray]],
    *,
    config: Mapping[str, Any],
    model: str,
    code: str,
    unit: str,
    cache: bool = True,
) -> dict[str, np.ndarray]:
    """Return `compute` of all items, with the rows of each piece put one below another.

    Parameters
    ----------
    name : str
        Of the cache entries and the progress bar.
    items : sequence
    prints : sequence of str
        A fingerprint of each item's content.
    compute : callable
        From some items to arrays by band, one row an item, independent of which other items come along.
    config, model, code
        Settings, model fingerprint and code fingerprint, which the cache's key holds beside the items'.
    unit : str
        What an item is, for the progress bar.
    cache : bool

    Raises
    ------
    InputError
        E-NONFIN, such as an overflow of half precision.
    """
    from tqdm import tqdm

    bands: dict[str, np.ndarray] = {}
    with tqdm(total=len(items), desc=name, unit=unit, disable=None) as bar:
        for start in range(0, len(items), PIECE):
            part = slice(start, start + PIECE)

            def fresh(part: slice = part) -> dict[str, np.ndarray]:
                made = dict(compute(items[part]))
                for band, values in made.items():
                    check_finite(values, f"band `{band}`")
                return made

            if cache:
                inputs = {"items": fingerprint(list(prints[part])), "model": model}
                key = cache_key(name.replace(" ", "-"), config=config, inputs=inputs, code=code)
                rows = Cache().fetch(key, fresh)
            else:
                rows = fresh()
            for band, values in rows.items():
                if band not in bands:
                    bands[band] = np.empty((len(items), *values.shape[1:]), values.dtype)
                bands[band][part] = values
            bar.update(len(items[part]))
    return bands

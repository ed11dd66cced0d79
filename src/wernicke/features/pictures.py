"""Hidden states of picture models for pictures and frames of films."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np
import pandas as pd

from wernicke.core.checks import check_option, check_range
from wernicke.core.errors import InputError
from wernicke.core.features import Features
from wernicke.features.picture_files import check_index, picture_print, read_picture
from wernicke.features.pieces import in_pieces
from wernicke.features.text import choose_layers
from wernicke.pretrained.vision import VisionModel, load_vision
from wernicke.store.fingerprint import code_fingerprint

_CODE = ("wernicke.features.pictures", "wernicke.features.picture_files", "wernicke.features.pieces",
         "wernicke.pretrained.vision", "wernicke.pretrained.frozen")  # fmt: skip
Pool = Literal["mean", "first", "flat"]


def picture_features(
    pictures: Mapping[str, Any] | Sequence[Any],
    model: str | os.PathLike[str] | VisionModel,
    *,
    layers: int | Sequence[int] | Literal["all"],
    index: pd.DataFrame | None = None,
    pool: Pool = "mean",
    special_tokens: bool = False,
    squeeze: bool = False,
    batch_size: int = 8,
    device: str = "auto",
    dtype: str | None = None,
    cache: bool = True,
) -> Features:
    """Return one vector a picture and layer.

    drama2brain (`faithful`) is ``pool="flat", squeeze=True`` on `film_frames`, then the mean by TR.

    Parameters
    ----------
    pictures : mapping of stimulus_id to picture, or sequence of pictures
        As `wernicke.features.picture_files.read_picture` takes them; read a batch at a time.
    model : str, path-like or VisionModel
        See `wernicke.pretrained.vision.load_vision`; of CLIP and LLaVA the vision tower.
    layers : int, sequence of int, or "all"
        Indices into transformers' hidden states, 0 being the embedding output; negative ones count from the end.
    index : DataFrame, optional
        `run` and `onset_s` of each picture, where they are frames; default: `stimulus_id`, by key or number.
    pool : str
        ``"mean"`` over places, the ``"first"`` token (a class token), or ``"flat"``: everything side by side. Feature
        maps (ResNet) have places and channels, and no first token.
    special_tokens : bool
        Whether class, distillation, register and detection tokens count in the mean. ``"flat"`` always holds them.
    squeeze : bool
        Squeeze the whole picture into the model's square first, as drama2brain does; by default the model's own
        preprocessing may crop the sides of a wide one.
    batch_size, device, dtype, cache
        As in `language_features`; half precision on CUDA only.

    Returns
    -------
    Features
        Bands ``layer<k>``, float32.

    Raises
    ------
    InputError
        What `read_picture` and `load_vision` raise; E-CFG (a layer that is not there, ``"first"`` of a feature map),
        E-META (no picture), E-NONFIN.
    """
    check_option(pool, ("mean", "first", "flat"), "pool")
    check_range(batch_size, "batch_size", low=1)
    names, items = named(pictures, "pictures")
    table = check_index(index, names, len(items), "pictures")
    network = model if isinstance(model, VisionModel) else load_vision(model, device=device, dtype=dtype)
    wanted = choose_layers(layers, network.n_states - 1)

    def compute(some: Sequence[Any]) -> dict[str, np.ndarray]:
        return picture_states(some, network, layers=wanted, pool=pool, special_tokens=special_tokens, squeeze=squeeze,
                              batch_size=batch_size)  # fmt: skip

    settings = {
        "layers": wanted,
        "pool": pool,
        "special_tokens": special_tokens,
        "dtype": network.dtype,
        "squeeze": squeeze,
    }
    code, prints = code_fingerprint(*_CODE), [picture_print(item) for item in items]
    bands = in_pieces("picture features", items, prints, compute, config=settings,
                      model=network.located.fingerprint, code=code, unit="picture", cache=cache)  # fmt: skip
    provenance = {
        "kind": "hidden states of a picture model",
        "model": network.located.source.name,
        "revision": network.located.revision,
        "model_fingerprint": network.located.fingerprint,
        "code": code,
        **settings,
    }
    return Features(bands, table, provenance)


def picture_states(
    pictures: Sequence[Any],
    network: VisionModel,
    *,
    layers: Sequence[int],
    pool: str = "mean",
    special_tokens: bool = False,
    squeeze: bool = False,
    batch_size: int = 8,
) -> dict[str, np.ndarray]:
    """Return pooled hidden states of pictures by band, float32; arguments as in `picture_features`, nothing cached."""
    import torch

    side = network.side_px if squeeze else None
    rows: dict[str, list[np.ndarray]] = {f"layer{k}": [] for k in layers}
    with torch.inference_mode():
        for start in range(0, len(pictures), batch_size):
            pixels = network.pixels([read_picture(p, squeeze_px=side) for p in pictures[start : start + batch_size]])
            states = network.states(pixels)
            for k in layers:
                places = slice(None) if special_tokens else network.places(pixels, states[k])
                rows[f"layer{k}"].append(_pooled(states[k].float(), pool, places).cpu().numpy())
    return {name: np.concatenate(parts) for name, parts in rows.items()}


def named(items: Mapping[str, Any] | Sequence[Any], field: str) -> tuple[list[str], list[Any]]:
    """Return names and items of a mapping, or of a sequence, numbered."""
    if isinstance(items, Mapping):
        names, found = list(items), list(items.values())
    else:
        found = list(items) if not isinstance(items, str | os.PathLike) else []
        names = [str(i) for i in range(len(found))]
    if not found:
        raise InputError("E-META", f"found {items!r}, expected a mapping or sequence of {field}", field=field)
    return names, found


def _pooled(states: Any, pool: str, places: slice) -> Any:
    """Pool (n, n_tokens, dim) or a feature map (n, channels, height, width)."""
    if pool == "flat":
        return states.flatten(1)
    if states.ndim == 4:
        if pool == "first":
            raise InputError("E-CFG", "this model has feature maps and no class token", field="pool",
                             hint="use mean or flat")  # fmt: skip
        return states.mean((2, 3))
    return states[:, 0] if pool == "first" else states[:, places].mean(1)

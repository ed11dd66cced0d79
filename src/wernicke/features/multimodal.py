"""Hidden states of models that see a picture and read a caption at once."""

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
from wernicke.features.pictures import named
from wernicke.features.pieces import in_pieces
from wernicke.features.text import choose_layers
from wernicke.features.windows import MISSING
from wernicke.pretrained.vision_language import Halves, VisionLanguageModel, load_vision_language
from wernicke.store.fingerprint import code_fingerprint, fingerprint

_CODE = ("wernicke.features.multimodal", "wernicke.features.picture_files", "wernicke.features.pieces",
         "wernicke.pretrained.vision_language", "wernicke.pretrained.frozen")  # fmt: skip


def multimodal_features(
    pictures: Mapping[str, Any] | Sequence[Any],
    captions: Sequence[Sequence[str | None]],
    model: str | os.PathLike[str] | VisionLanguageModel,
    *,
    layers: int | Sequence[int] | Literal["all"],
    index: pd.DataFrame | None = None,
    pool: Literal["mean", "flat"] = "mean",
    mode: Literal["corrected", "faithful"] = "corrected",
    squeeze: bool = False,
    batch_size: int = 4,
    device: str = "auto",
    dtype: str | None = None,
    cache: bool = True,
) -> Features:
    """Return, a picture and layer, the mean over picture tokens beside the mean over text tokens.

    Each picture is paired with every annotator's caption, and the pairs are averaged. Frames of a second are averaged
    by `wernicke.features.resample.resample_to_tr`.

    Parameters
    ----------
    pictures : mapping of stimulus_id to picture, or sequence of pictures
        As `wernicke.features.picture_files.read_picture` takes them.
    captions : sequence of sequence of (str or None), n_pictures by n_annotators
        None or ``".."``: the annotator says nothing; see `captions_of_frames` for frames.
    model : str, path-like or VisionLanguageModel
        See `wernicke.pretrained.vision_language.load_vision_language`.
    layers : int, sequence of int, or "all"
        Of BridgeTower, into its cross-modal layers.
    index : DataFrame, optional
        `run` and `onset_s` of each picture; default: `stimulus_id`, by key or number.
    pool : str
        Of the picture's tokens: their ``"mean"``, or ``"flat"``: side by side. The text's are always averaged.
    mode : str
        ``"corrected"``: special tokens do not count as text, an annotator who says nothing is left out, and a picture
        without any caption has its own half and zeros for the text's. ``"faithful"``, as drama2brain (which also
        squeezes): special tokens count and ``".."`` is a caption. Padding never counts, the prompt's words do, and
        GIT's halves never drift.
    squeeze : bool
        Squeeze the whole picture into the model's square first, as drama2brain does; by default the model's own
        preprocessing may crop the sides of a wide one.
    batch_size, device, dtype, cache
        As in `language_features`; half precision on CUDA only.

    Returns
    -------
    Features
        Bands ``layer<k>``, float32 (n_pictures, dim_image + dim_text); ``"flat"``: n_image * dim_image + dim_text.

    Raises
    ------
    InputError
        E-SHAPE (captions for another number of pictures), E-META (no text, or one too long for the model), E-CFG,
        E-NONFIN, and what `read_picture` and loading raise.
    """
    check_option(mode, ("corrected", "faithful"), "mode")
    check_option(pool, ("mean", "flat"), "pool")
    check_range(batch_size, "batch_size", low=1)
    names, items = named(pictures, "pictures")
    table = check_index(index, names, len(items), "pictures")
    texts = said_captions(captions, len(items), mode)
    network = (
        model if isinstance(model, VisionLanguageModel) else load_vision_language(model, device=device, dtype=dtype)
    )
    check_lengths({text for row in texts for text in row}, network)
    wanted = choose_layers(layers, network.n_states - 1)

    def compute(some: Sequence[tuple[Any, tuple[str, ...]]]) -> dict[str, np.ndarray]:
        return pair_states(some, network, layers=wanted, pool=pool, special_tokens=mode == "faithful", squeeze=squeeze,
                           batch_size=batch_size)  # fmt: skip

    settings = {"layers": wanted, "pool": pool, "mode": mode, "prompt": network.prompt, "dtype": network.dtype,
                "squeeze": squeeze}  # fmt: skip
    code = code_fingerprint(*_CODE)
    pairs = list(zip(items, texts, strict=True))
    prints = [fingerprint({"picture": picture_print(item), "captions": list(said)}) for item, said in pairs]
    bands = in_pieces("multimodal features", pairs, prints, compute, config=settings,
                      model=network.located.fingerprint, code=code, unit="picture", cache=cache)  # fmt: skip
    provenance = {
        "kind": "hidden states of a model of pictures and text",
        "model": network.located.source.name,
        "revision": network.located.revision,
        "model_fingerprint": network.located.fingerprint,
        "n_without_caption": sum(not said for said in texts),
        "code": code,
        **settings,
    }
    return Features(bands, table, provenance)


def pair_states(
    pairs: Sequence[tuple[Any, Sequence[str]]],
    network: VisionLanguageModel,
    *,
    layers: Sequence[int],
    pool: str = "mean",
    special_tokens: bool = False,
    squeeze: bool = False,
    batch_size: int = 4,
) -> dict[str, np.ndarray]:
    """Return by band the states of each picture with its captions, averaged over these; nothing is cached.

    Parameters
    ----------
    pairs : sequence of (picture, captions)
        Without a caption the text's half is zeros. Other parameters as in `multimodal_features`.
    """
    import torch

    side = network.side_px if squeeze else None
    rows: dict[str, list[np.ndarray]] = {f"layer{k}": [] for k in layers}
    for picture, said in pairs:
        image = read_picture(picture, squeeze_px=side)
        texts = list(said) or [""]
        total: dict[int, Any] = {}
        with torch.inference_mode():
            for start in range(0, len(texts), batch_size):
                batch = texts[start : start + batch_size]
                halves = network.halves(network.inputs([image] * len(batch), batch), special_tokens=special_tokens)
                for k in layers:
                    total[k] = total.get(k, 0) + _both(halves[k], bool(said), pool).double().sum(0)
        for k in layers:
            rows[f"layer{k}"].append((total[k] / len(texts)).float().cpu().numpy())
    return {name: np.array(values) for name, values in rows.items()}


def captions_of_frames(
    index: pd.DataFrame, table: Sequence[Sequence[str | None]], *, step_s: float = 1.0
) -> list[Sequence[str | None]]:
    """Return the captions that hold at each frame: row k of a dense annotation of one run is for [k, k + 1) steps.

    Raises
    ------
    InputError
        E-META for several runs, or frames behind the annotation's end.
    """
    if index["run"].nunique() != 1:
        raise InputError("E-META", f"found {index['run'].nunique()} runs, expected one", field="index")
    check_range(step_s, "step_s", low=0, low_open=True)
    rows = np.floor(index["onset_s"].to_numpy(float) / step_s + 1e-9).astype(int)
    if (rows < 0).any() or (rows >= len(table)).any():
        raise InputError("E-META", f"frames from {rows.min() * step_s:g} to {rows.max() * step_s:g} s, annotation of "
                         f"{len(table) * step_s:g} s", field="index")  # fmt: skip
    return [table[row] for row in rows]


def said_captions(captions: Sequence[Sequence[str | None]], n: int, mode: str) -> list[tuple[str, ...]]:
    """Return what annotators say about each of `n` pictures; in ``faithful`` one who says nothing says ``".."``."""
    if len(captions) != n:
        raise InputError("E-SHAPE", f"found captions for {len(captions)} of {n} pictures", field="captions")
    rows: list[tuple[str, ...]] = []
    for i, row in enumerate(captions):
        if isinstance(row, str) or any(text is not None and not isinstance(text, str) for text in row):
            raise InputError("E-META", f"row {i} is {row!r}, expected one text an annotator", field="captions")
        said = [MISSING if text is None else text for text in row]
        if mode == "corrected":
            said = [text.strip() for text in said if text.strip() not in ("", MISSING)]
        rows.append(tuple(said))
    return rows


def check_lengths(texts: set[str], network: VisionLanguageModel) -> None:
    """Refuse a text that is too long for the model, or holds what stands for the picture in the prompt (E-META)."""
    token = network.image_token
    for text in sorted(texts):
        if token is not None and token in text:
            raise InputError("E-META", f"{text[:40]!r} holds {token!r}, which stands for the picture", field="captions")
    limit = network.max_tokens
    if limit is None:
        return
    for text in sorted(texts):
        n = len(network.processor.tokenizer(network.prompt.format(caption=text), verbose=False)["input_ids"])
        if n > limit:
            raise InputError("E-META", f"{text[:40]!r} has {n} tokens, the model takes {limit}", field="captions",
                             hint="shorten it")  # fmt: skip


def _both(halves: Halves, spoken: bool, pool: str) -> Any:
    """Picture tokens (their mean, or flat) beside the mean over text tokens, in float32."""
    import torch

    text = _masked_mean(halves.text, halves.text_mask)
    if pool == "flat":
        image = halves.image.float()[halves.image_mask].reshape(len(text), -1)
    else:
        image = _masked_mean(halves.image, halves.image_mask)
    return torch.cat([image, text if spoken else torch.zeros_like(text)], dim=1)


def _masked_mean(states: Any, mask: Any) -> Any:
    weights = mask.unsqueeze(-1).float()
    return (states.float() * weights).sum(1) / weights.sum(1).clamp(min=1)

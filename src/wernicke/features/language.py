"""Hidden states of causal and masked language models for texts by time.

Layers are numbered as transformers numbers `hidden_states`: 0 is the embedding output (drama2brain's ``layer1``).
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any, Literal

import numpy as np

from wernicke.core.checks import check_option, check_range
from wernicke.core.errors import InputError
from wernicke.core.features import Features
from wernicke.features.pieces import in_pieces
from wernicke.features.text import check_places, choose_layers
from wernicke.features.windows import TextWindows, average_texts
from wernicke.pretrained.llm import LanguageModel
from wernicke.pretrained.masked import load_text_model
from wernicke.store.fingerprint import code_fingerprint, fingerprint

_CODE = ("wernicke.features.language", "wernicke.features.windows", "wernicke.features.pieces",
         "wernicke.pretrained.llm", "wernicke.pretrained.masked", "wernicke.pretrained.frozen")  # fmt: skip
Pool = Literal["mean", "last", "flat"]
LongTexts = Literal["refuse", "cut", "cut_end"]


def language_features(
    windows: TextWindows,
    llm: str | os.PathLike[str] | LanguageModel,
    *,
    layers: int | Sequence[int] | Literal["all"],
    pool: Pool = "mean",
    special_tokens: bool = False,
    long_texts: LongTexts = "refuse",
    n_tokens: int | None = None,
    batch_size: int = 8,
    device: str = "auto",
    dtype: str | None = None,
    cache: bool = True,
) -> Features:
    """Return hidden states of each window's texts, averaged over annotators.

    drama2brain (`faithful`) is ``special_tokens=True, long_texts="cut_end"``.

    Parameters
    ----------
    windows : TextWindows
        A text that stands in neighbouring samples is computed once.
    llm : str, path-like or LanguageModel
        See `wernicke.pretrained.masked.load_text_model`; also an untrained twin.
    layers : int, sequence of int, or "all"
        Indices into the ``n_layers + 1`` hidden states; negative ones count from the end.
    pool : str
        Over tokens: their ``"mean"``, the ``"last"``, or ``"flat"``: side by side, with zeros for the positions behind
        a text (drama2brain's hold states of an untrained padding token).
    special_tokens : bool
        Whether tokens that the tokenizer adds ([CLS], [SEP], bos) count. Padding never does.
    long_texts : str
        ``"refuse"`` a text beyond the model's context; ``"cut"`` off its beginning, which was said longest ago, so that
        the sample's own words stay; or ``"cut_end"``, as drama2brain. How many were cut is in the provenance.
    n_tokens : int, optional
        Width of ``"flat"`` in tokens; default: the longest text's.
    batch_size : int
        Texts a forward pass; changes memory and time, not the result (to rounding).
    device, dtype : str
        As in `load_llm`; ignored for a `LanguageModel`.
    cache : bool

    Returns
    -------
    Features
        Bands ``layer<k>``, float32 (n_samples, hidden_size), or (n_samples, n_tokens * hidden_size) for ``"flat"``;
        zeros for samples without text, counted in the provenance (`n_empty`).

    Raises
    ------
    InputError
        E-META (no text at all, one without a token, one that is too long), E-CFG, E-NONFIN, and what loading raises.
    """
    check_option(pool, ("mean", "last", "flat"), "pool")
    check_option(long_texts, ("refuse", "cut", "cut_end"), "long_texts")
    check_range(batch_size, "batch_size", low=1)
    texts = windows.unique
    if not texts:
        raise InputError("E-META", "no window holds a text", field="windows")
    model = llm if isinstance(llm, LanguageModel) else load_text_model(llm, device=device, dtype=dtype)
    wanted = choose_layers(layers, model.n_layers)
    tokens = tokenize(texts, model, special_tokens=special_tokens, long_texts=long_texts)
    longest = longest_text(tokens)
    width = longest if n_tokens is None else int(check_range(n_tokens, "n_tokens", low=longest))
    settings: dict[str, Any] = {
        "layers": wanted, "pool": pool, "special_tokens": special_tokens, "long_texts": long_texts,
        "dtype": model.dtype, **({"n_tokens": width} if pool == "flat" else {}),
    }  # fmt: skip

    def compute(rows: Sequence[tuple[str | None, ...]]) -> dict[str, np.ndarray]:
        return row_states(rows, tokens, model, layers=wanted, pool=pool, width=width, batch_size=batch_size)

    code = code_fingerprint(*_CODE)
    prints = [fingerprint(list(row)) for row in windows.texts]
    bands = in_pieces(
        "language features", windows.texts, prints, compute, config=settings,
        model=f"{model.fingerprint}-{model.quantised}", code=code, unit="sample", cache=cache,
    )  # fmt: skip
    provenance = {
        "kind": "hidden states of a language model",
        "model": model.source.name,
        "revision": model.revision,
        "model_fingerprint": model.fingerprint,
        "texts_fingerprint": fingerprint(texts),
        "window_s": windows.window_s,
        "annotators": list(windows.annotators),
        "n_empty": windows.n_empty,
        "n_cut": n_cut(tokens),
        "code": code,
        **settings,
    }
    return Features(bands, windows.index, provenance)


Tokens = dict[str, tuple[list[int], list[bool], bool]]
"""By text: its token ids, which of them count, and whether some were cut off."""


def tokenize(texts: Sequence[str], llm: LanguageModel, *, special_tokens: bool, long_texts: str) -> Tokens:
    """Return the tokens of each text; parameters and errors as in `language_features`."""
    return {text: _tokens(text, llm, special_tokens, long_texts) for text in texts}


def longest_text(tokens: Tokens) -> int:
    """Return how many tokens count in the longest text: the width of ``pool="flat"``."""
    return max((sum(keep) for _, keep, _ in tokens.values()), default=1)


def n_cut(tokens: Tokens) -> int:
    """Return how many texts were cut to the model's context."""
    return sum(cut for _, _, cut in tokens.values())


def row_states(
    rows: Sequence[tuple[str | None, ...]],
    tokens: Tokens,
    llm: LanguageModel,
    *,
    layers: Sequence[int],
    pool: str,
    width: int,
    batch_size: int,
) -> dict[str, np.ndarray]:
    """Return the mean over annotators of each row's states, float32, zeros where none speaks; nothing is cached.

    Parameters
    ----------
    rows : sequence of tuple of (str or None)
        One text an annotator, all in `tokens`.
    """
    # Where nobody speaks, any text does: zeros need the states' widths, which may differ by layer.
    said = list(dict.fromkeys(text for row in rows for text in row if text is not None)) or list(tokens)[:1]
    states = token_states([tokens[text][:2] for text in said], llm, layers=layers, pool=pool, width=width,
                          batch_size=batch_size)  # fmt: skip
    return {name: average_texts(rows, said, values) for name, values in states.items()}


def token_states(
    tokens: Sequence[tuple[list[int], list[bool]]],
    llm: LanguageModel,
    *,
    layers: Sequence[int],
    pool: str,
    width: int,
    batch_size: int,
) -> dict[str, np.ndarray]:
    """Return pooled hidden states of token ids with the mask of those that count; one row each, nothing cached."""
    import torch

    bands: dict[str, np.ndarray] = {}
    order = sorted(range(len(tokens)), key=lambda i: len(tokens[i][0]))
    with torch.inference_mode():
        for start in range(0, len(order), batch_size):
            rows = order[start : start + batch_size]
            ids, attention, keep = _padded([tokens[i] for i in rows], llm)
            states = llm.model.base_model(
                input_ids=ids, attention_mask=attention, output_hidden_states=True,
            ).hidden_states  # fmt: skip
            check_places(states, layers, ids.shape[1])
            for k in layers:
                pooled = _pooled(states[k].float(), keep, pool, width).cpu().numpy()
                band = bands.setdefault(f"layer{k}", np.empty((len(tokens), pooled.shape[1]), np.float32))
                band[rows] = pooled
    return bands


def _tokens(text: str, llm: LanguageModel, special_tokens: bool, long_texts: str) -> tuple[list[int], list[bool], bool]:
    """Return the ids of a text, which of them count, and whether some were cut off."""
    found = llm.tokenizer(text, return_special_tokens_mask=True, verbose=False)
    ids, special = list(found["input_ids"]), [bool(mask) for mask in found["special_tokens_mask"]]
    shown = text if len(text) <= 40 else text[:37] + "..."
    if all(special) and not (special_tokens and ids):
        raise InputError("E-META", f"{shown!r} gives no token", field="windows")
    n_beyond = 0 if llm.max_positions is None else max(0, len(ids) - llm.max_positions)
    if n_beyond and long_texts == "refuse":
        raise InputError("E-META", f"{shown!r} has {len(ids)} tokens, the model takes {llm.max_positions}",
                         field="long_texts", hint="shorten the window, or set long_texts='cut'")  # fmt: skip
    if n_beyond:
        # Not the tokenizer's own truncation: its side is a setting of the model's folder, and it spares no ends.
        first, last = special.index(False), len(special) - special[::-1].index(False)
        if last - first <= n_beyond:
            raise InputError("E-META", f"the model's {llm.max_positions} tokens hold special ones only", field="llm")
        gone = slice(first, first + n_beyond) if long_texts == "cut" else slice(last - n_beyond, last)
        del ids[gone], special[gone]
    n_rows = llm.model.get_input_embeddings().weight.shape[0]
    if max(ids) >= n_rows:
        raise InputError("E-CKPT", f"the tokenizer knows token {max(ids)}, the model has {n_rows}", path=llm.folder)
    return ids, [special_tokens or not mask for mask in special], n_beyond > 0


def _padded(tokens: list[tuple[list[int], list[bool]]], llm: LanguageModel) -> tuple[Any, Any, Any]:
    """Pad on the right; masks by length, so that a pad token equal to eos hides no real eos."""
    import torch

    width = max(len(ids) for ids, _ in tokens)
    pad = llm.tokenizer.pad_token_id
    ids = torch.tensor([row + [pad] * (width - len(row)) for row, _ in tokens], device=llm.device)
    attention = torch.tensor([[1] * len(row) + [0] * (width - len(row)) for row, _ in tokens], device=llm.device)
    keep = torch.tensor([keep + [False] * (width - len(keep)) for _, keep in tokens], device=llm.device)
    return ids, attention, keep


def _pooled(states: Any, keep: Any, pool: str, width: int) -> Any:
    """Pool (n, n_tokens, dim) over the tokens that `keep` (n, n_tokens) marks."""
    import torch

    if pool == "mean":
        weights = keep.unsqueeze(-1).float()
        return (states * weights).sum(1) / weights.sum(1)
    if pool == "last":
        last = keep.shape[1] - 1 - keep.flip(1).int().argmax(1)
        return states[torch.arange(len(states), device=states.device), last]
    flat = states.new_zeros(len(states), width, states.shape[-1])
    for i, mask in enumerate(keep):
        flat[i, : int(mask.sum())] = states[i][mask]
    return flat.flatten(1)

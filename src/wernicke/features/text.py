"""Hidden states of a language model for texts.

Layers are numbered as transformers numbers `hidden_states`: 0 is the embedding output, k the output of block k, and
the last one (``n_layers``) has passed the model's final norm in most architectures. drama2brain's files count from 1
(its ``layer1`` is our layer 0).
"""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np
import pandas as pd

from wernicke.core.checks import check_finite, check_option, check_range
from wernicke.core.errors import InputError
from wernicke.core.features import Features
from wernicke.pretrained.llm import LanguageModel, resolve_device, resolve_dtype
from wernicke.pretrained.locate import LocatedLLM, locate_llm
from wernicke.pretrained.masked import load_text_model
from wernicke.store.cache import Cache, cache_key
from wernicke.store.files import read_json
from wernicke.store.fingerprint import code_fingerprint, fingerprint

logger = logging.getLogger(__name__)

_CODE = ("wernicke.features.text", "wernicke.pretrained.llm", "wernicke.pretrained.masked",
         "wernicke.pretrained.frozen")  # fmt: skip


def text_features(
    texts: Mapping[str, str] | Sequence[str],
    llm: str | os.PathLike[str] | LanguageModel,
    *,
    layers: int | Sequence[int] | Literal["all"],
    stimulus_ids: Sequence[str] | None = None,
    pool: Literal["mean", "last", "first"] = "mean",
    chat: bool = False,
    batch_size: int = 8,
    device: str = "auto",
    dtype: str | None = None,
    cache: bool = True,
) -> Features:
    """Return one vector a text and layer: the pooled hidden states of a language model.

    Parameters
    ----------
    texts : mapping of stimulus_id to text, or sequence of str
    llm : str, path-like or LanguageModel
        See `wernicke.pretrained.masked.load_text_model`: causal or masked. By name or folder it is not even loaded when
        the cache has the result.
    layers : int, sequence of int, or "all"
        Indices into the ``n_layers + 1`` hidden states; negative ones count from the end.
    stimulus_ids : sequence of str, optional
        One a text, where `texts` is a sequence; default ``"0"``, ``"1"``, ...
    pool : str
        Over the text's tokens: their ``"mean"``, the ``"last"`` or the ``"first"``. Padding never counts; special
        tokens that the tokenizer adds (such as bos) do.
    chat : bool
        Put each text into the model's chat template as a user's turn, with the start of the assistant's; `pool` then
        goes over all tokens of that prompt, so that ``"last"`` is the state from which an answer would begin.
    batch_size : int
        Texts a forward pass; changes memory and time, not the result (to rounding).
    device, dtype : str
        As in `load_llm`; ignored for a `LanguageModel`.
    cache : bool
        Keep the result in the user's cache, by settings, texts, model and code.

    Returns
    -------
    Features
        Bands ``layer<k>``, float32 (n_texts, hidden_size); index `stimulus_id`.

    Raises
    ------
    InputError
        E-META (no texts, an empty one, one longer than the context, no chat template), E-CFG (a layer that is not
        there), E-NONFIN (a half-precision overflow), and what `load_text_model` raises.
    """
    check_option(pool, ("mean", "last", "first"), "pool")
    check_range(batch_size, "batch_size", low=1)
    table = _table(texts, stimulus_ids)
    located, dtype = _identity(llm, device, dtype)
    wanted = choose_layers(layers, _n_layers(llm, located))
    settings = {"layers": wanted, "pool": pool, "chat": bool(chat), "dtype": dtype}

    def compute() -> dict[str, np.ndarray]:
        model = llm if isinstance(llm, LanguageModel) else load_text_model(located, device=device, dtype=dtype)
        return hidden_states(list(table["text"]), model, layers=wanted, pool=pool, chat=chat, batch_size=batch_size)

    code = code_fingerprint(*_CODE)
    if cache:
        inputs = {"texts": fingerprint(list(table["text"])), "model": _model_fingerprint(llm, located)}
        bands = Cache().fetch(cache_key("text-features", config=settings, inputs=inputs, code=code), compute)
    else:
        bands = compute()
    provenance = {
        "kind": "hidden states of a language model",
        "model": located.source.name,
        "revision": located.revision,
        "model_fingerprint": _model_fingerprint(llm, located),
        "texts": dict(zip(table["stimulus_id"], table["text"], strict=True)),
        "code": code,
        **settings,
    }
    return Features(bands, table[["stimulus_id"]], provenance)


def hidden_states(
    texts: Sequence[str],
    llm: LanguageModel,
    *,
    layers: Sequence[int],
    pool: str = "mean",
    chat: bool = False,
    batch_size: int = 8,
) -> dict[str, np.ndarray]:
    """Return pooled hidden states by band, each float32 (n_texts, hidden_size); nothing is cached.

    Parameters and errors as in `text_features`; `layers` are 0 to ``llm.n_layers``.
    """
    import torch
    from tqdm import tqdm

    ids = [_token_ids(text, llm, chat) for text in texts]
    bands: dict[str, np.ndarray] = {}
    # Texts of like length share a batch; the result is put back in the given order.
    order = sorted(range(len(ids)), key=lambda i: len(ids[i]))
    batches = [order[i : i + batch_size] for i in range(0, len(order), batch_size)]
    backbone = llm.model.base_model  # without the output layer, which nobody reads here
    with torch.inference_mode(), tqdm(total=len(texts), desc="text features", unit="text", disable=None) as bar:
        for rows in batches:
            tokens, mask = _padded([ids[i] for i in rows], llm)
            states = backbone(input_ids=tokens, attention_mask=mask, output_hidden_states=True).hidden_states
            check_places(states, layers, tokens.shape[1])
            for k in layers:
                pooled = _pooled(states[k], mask, pool).cpu().numpy()
                band = bands.setdefault(f"layer{k}", np.empty((len(texts), pooled.shape[1]), np.float32))
                band[rows] = pooled
            bar.update(len(rows))
    for name, band in bands.items():
        check_finite(band, f"band `{name}`")
    return bands


def check_places(states: Sequence[Any], layers: Sequence[int], n_tokens: int) -> None:
    """Refuse (E-CFG) layers whose states are not one a token, as those of a model that pools within (Funnel)."""
    for k in layers:
        if states[k].shape[1] != n_tokens:
            raise InputError("E-CFG", f"layer {k} has {states[k].shape[1]} states for {n_tokens} tokens",
                             field="layers", hint="the model pools its tokens; choose layers before that")  # fmt: skip


def _padded(ids: list[list[int]], llm: LanguageModel) -> tuple[Any, Any]:
    """Pad on the right and mask by length, so that a pad token equal to eos hides no real eos."""
    import torch

    width = max(map(len, ids))
    pad = llm.tokenizer.pad_token_id
    tokens = torch.tensor([row + [pad] * (width - len(row)) for row in ids], device=llm.device)
    mask = torch.tensor([[1] * len(row) + [0] * (width - len(row)) for row in ids], device=llm.device)
    return tokens, mask


def _pooled(states: Any, mask: Any, pool: str) -> Any:
    """Pool (n, n_tokens, dim) over the tokens that `mask` (n, n_tokens) keeps, in float32."""
    import torch

    if pool == "first":
        return states[:, 0].float()
    lengths = mask.sum(1)
    if pool == "last":
        return states[torch.arange(len(states), device=states.device), lengths - 1].float()
    weights = mask.unsqueeze(-1).float()
    return (states.float() * weights).sum(1) / lengths.unsqueeze(-1)


def _token_ids(text: str, llm: LanguageModel, chat: bool) -> list[int]:
    if chat and not llm.has_chat_template:
        raise InputError("E-META", f"the tokenizer of {llm.folder.name} has no chat template", field="chat",
                         hint="use chat=False, or an instruction-tuned model")  # fmt: skip
    if chat:
        prompt = llm.tokenizer.apply_chat_template(
            [{"role": "user", "content": text}], tokenize=False, add_generation_prompt=True
        )
        ids = llm.tokenizer(prompt, add_special_tokens=False)["input_ids"]
    else:
        ids = llm.tokenizer(text)["input_ids"]
    shown = text if len(text) <= 40 else text[:37] + "..."
    if not ids:
        raise InputError("E-META", f"{shown!r} gives no token", field="texts")
    if llm.max_positions is not None and len(ids) > llm.max_positions:
        raise InputError("E-META", f"{shown!r} has {len(ids)} tokens, the model takes {llm.max_positions}",
                         field="texts", hint="shorten it, or use a model with a longer context")  # fmt: skip
    n_rows = llm.model.get_input_embeddings().weight.shape[0]
    if max(ids) >= n_rows:
        raise InputError("E-CKPT", f"the tokenizer knows token {max(ids)}, the model has {n_rows}", path=llm.folder)
    return ids


def _table(texts: Mapping[str, str] | Sequence[str], stimulus_ids: Sequence[str] | None) -> pd.DataFrame:
    if isinstance(texts, str):
        raise InputError("E-META", "found one string, expected a mapping or a sequence of texts", field="texts")
    if isinstance(texts, Mapping):
        if stimulus_ids is not None:
            raise InputError("E-CFG", "given twice: the mapping names the stimuli already", field="stimulus_ids")
        texts, stimulus_ids = list(texts.values()), list(texts)
    ids = [str(i) for i in range(len(texts))] if stimulus_ids is None else list(stimulus_ids)
    if len(ids) != len(texts):
        raise InputError("E-SHAPE", f"found {len(ids)} for {len(texts)} texts", field="stimulus_ids")
    if not len(texts):
        raise InputError("E-META", "no texts given", field="texts")
    for key, text in zip(ids, texts, strict=True):
        if not isinstance(text, str) or not text.strip():
            raise InputError("E-META", f"the text of {key!r} is {text!r}, expected words", field="texts")
    return pd.DataFrame({"stimulus_id": ids, "text": list(texts)})


def _identity(llm: str | os.PathLike[str] | LanguageModel, device: str, dtype: str | None) -> tuple[LocatedLLM, str]:
    if isinstance(llm, LanguageModel):
        return llm.located, llm.dtype
    return locate_llm(llm), resolve_dtype(dtype, resolve_device(device))


def _model_fingerprint(llm: Any, located: LocatedLLM) -> str:
    quantised = llm.quantised if isinstance(llm, LanguageModel) else None
    return located.fingerprint if quantised is None else f"{located.fingerprint}-{quantised}"


def _n_layers(llm: Any, located: LocatedLLM) -> int:
    if isinstance(llm, LanguageModel):
        return llm.n_layers
    config = read_json(located.folder / "config.json")
    config = config.get("text_config", config)
    for name in ("num_hidden_layers", "n_layer", "num_layers", "n_layers"):
        if isinstance(config.get(name), int):
            return config[name]
    from transformers import AutoConfig

    return int(AutoConfig.from_pretrained(located.folder).get_text_config().num_hidden_layers)


def choose_layers(layers: int | Sequence[int] | Literal["all"], n_layers: int) -> list[int]:
    """Return the wanted layers as indices 0 to `n_layers`, in the given order; E-CFG for one that is not there."""
    if isinstance(layers, str):
        check_option(layers, ("all",), "layers")
        return list(range(n_layers + 1))
    asked: list[Any] = list(layers) if isinstance(layers, Sequence | np.ndarray) else [layers]
    if not asked:
        raise InputError("E-CFG", "no layer given", field="layers")
    wanted = []
    for k in asked:
        if not isinstance(k, (int, np.integer)) or isinstance(k, bool) or not -n_layers - 1 <= k <= n_layers:
            raise InputError("E-CFG", f"found {k!r}, expected 0 (embeddings) to {n_layers} (last block), or negative",
                             field="layers")  # fmt: skip
        wanted.append(int(k) % (n_layers + 1))
    if len(set(wanted)) != len(wanted):
        raise InputError("E-CFG", f"a layer is named twice in {asked}", field="layers")
    return wanted

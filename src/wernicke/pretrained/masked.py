"""Text models that are not causal (BERT, RoBERTa, MiniLM, T5's encoder, ...), in the same frame as a language model."""

from __future__ import annotations

import os
from typing import Any

from wernicke.core.errors import InputError
from wernicke.pretrained.frozen import load_frozen
from wernicke.pretrained.llm import LanguageModel, load_llm, resolve_device, resolve_dtype
from wernicke.pretrained.locate import LocatedLLM, check_llm_folder, locate_llm


def load_text_model(
    llm: str | os.PathLike[str] | LocatedLLM,
    *,
    device: str = "auto",
    dtype: str | None = None,
    revision: str | None = None,
) -> LanguageModel:
    """Load a causal language model, or a masked one where the folder's config says so.

    Parameters and errors as in `wernicke.pretrained.llm.load_llm`.
    """
    from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

    located = llm if isinstance(llm, LocatedLLM) else locate_llm(llm, revision=revision)
    raw = check_llm_folder(located.folder)
    causal = MODEL_FOR_CAUSAL_LM_MAPPING_NAMES.get(str(raw.get("model_type")))
    if causal is not None and causal in (raw.get("architectures") or [causal]):
        return load_llm(located, device=device, dtype=dtype)
    return load_masked(located, device=device, dtype=dtype)


def load_masked(
    llm: str | os.PathLike[str] | LocatedLLM,
    *,
    device: str = "auto",
    dtype: str | None = None,
    revision: str | None = None,
) -> LanguageModel:
    """Load the encoder of a masked language model, or of an encoder-decoder, frozen, without its head.

    Parameters
    ----------
    llm : str or path-like
        A hub id such as ``"google-bert/bert-base-uncased"``, or a local folder.
    device, dtype, revision : str
        As in `wernicke.pretrained.llm.load_llm`.

    Returns
    -------
    LanguageModel
        `max_positions` is what a text may take, special tokens included.

    Raises
    ------
    InputError
        E-CFG (no text encoder that reports hidden states), E-META (no pad token), and what `load_frozen` raises.
    """
    device = resolve_device(device)
    dtype = resolve_dtype(dtype, device)
    located = llm if isinstance(llm, LocatedLLM) else locate_llm(llm, revision=revision)
    config = check_llm_folder(located.folder)
    model = load_frozen(located.folder, device=device, dtype=dtype)
    tokenizer = _tokenizer(located.folder)
    if getattr(model.config, "is_encoder_decoder", False):
        model = model.get_encoder()
    if not hasattr(model.config, "num_hidden_layers") or model.get_input_embeddings() is None:
        raise InputError("E-CFG", f"{config.get('model_type')!r} is not an encoder of text", field="llm",
                         path=located.folder / "config.json")  # fmt: skip
    n_rows = model.get_input_embeddings().weight.shape[0]
    if tokenizer.pad_token_id is None or tokenizer.pad_token_id >= n_rows:
        raise InputError("E-META", "the tokenizer has no pad token that the model knows", path=located.folder)
    return LanguageModel(
        model=model,
        tokenizer=tokenizer,
        located=located,
        n_layers=int(model.config.num_hidden_layers),
        hidden_size=int(model.config.hidden_size),
        max_positions=_usable_positions(model, tokenizer),
        pad_is_eos=False,
        dtype=dtype,
    )


def _tokenizer(folder: Any) -> Any:
    from transformers import AutoTokenizer

    try:
        return AutoTokenizer.from_pretrained(folder, trust_remote_code=False)
    except Exception as error:  # noqa: BLE001 - tokenizers (Rust) raises bare Exception for a damaged file
        raise InputError("E-FMT", f"the tokenizer cannot be read ({type(error).__name__}: {error})",
                         path=folder) from None  # fmt: skip


def _usable_positions(model: Any, tokenizer: Any) -> int | None:
    """Positions that a text can take: RoBERTa and its kin count them from the pad token's id on."""
    stated = getattr(model.config, "max_position_embeddings", None)
    table = getattr(getattr(model, "embeddings", None), "position_embeddings", None)
    padding = getattr(table, "padding_idx", None)
    if stated is not None and padding is not None:
        stated -= padding + 1
    limits = [n for n in (stated, tokenizer.model_max_length) if n is not None and 0 < n < 10**9]
    return min(limits) if limits else None

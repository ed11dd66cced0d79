"""The untrained twin of a language model: same architecture and tokenizer, random weights.

What a twin predicts of the brain, the wiring and the words' identity explain, not what was learnt from text (Schrimpf
et al. 2021, PNAS 118, "untrained models").
"""

from __future__ import annotations

import copy
import os
from dataclasses import replace

from wernicke.core.errors import InputError
from wernicke.core.seeds import derive_rng
from wernicke.pretrained.llm import LanguageModel
from wernicke.pretrained.masked import load_text_model

UNTRAINED = "untrained:"


def untrained_twin(llm: str | os.PathLike[str] | LanguageModel, seed: int, *, device: str = "auto") -> LanguageModel:
    """Return the same model with weights as before its training.

    Weights are drawn by the architecture's own initialisation on the CPU, so that a seed gives the same bytes on any
    device; the global random state is left alone.

    Parameters
    ----------
    llm : str, path-like or LanguageModel
        The trained model; it is not changed.
    seed : int
        Two twins of one seed are equal.
    device : str
        Where to load a model given by name; a `LanguageModel` keeps its device.

    Raises
    ------
    InputError
        E-CFG for a quantised model or a bad seed; what `load_text_model` raises.
    """
    import torch

    drawn = int(derive_rng(seed, "untrained-twin").integers(2**62))
    trained = llm if isinstance(llm, LanguageModel) else load_text_model(llm, device=device)
    if trained.quantised is not None:
        raise InputError("E-CFG", f"{trained.name} is quantised to {trained.quantised}", field="llm",
                         hint="load it in full precision: random weights are not quantised")  # fmt: skip
    config = copy.deepcopy(trained.model.config)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(drawn)
        model = type(trained.model)(config)
    model = model.to(device=trained.device, dtype=getattr(torch, trained.dtype)).eval().requires_grad_(False)
    located = replace(
        trained.located,
        name=f"{trained.name}, untrained twin of seed {seed}",
        revision=None,
        fingerprint=f"{trained.fingerprint}-untrained-{seed}",
    )
    return replace(trained, model=model, located=located)


def load_trained_or_twin(
    llm: str | os.PathLike[str], *, seed: int, device: str = "auto", dtype: str | None = None
) -> LanguageModel:
    """Load a text model by name, or its untrained twin by ``"untrained:NAME"``.

    Parameters
    ----------
    llm : str or path-like
        Such as ``"smollm2"`` or ``"untrained:smollm2"``.
    seed : int
        Of a twin's weights.
    device, dtype : str
        As in `wernicke.pretrained.llm.load_llm`.

    Raises
    ------
    InputError
        What `load_text_model` and `untrained_twin` raise.
    """
    name = os.fspath(llm)
    if not name.startswith(UNTRAINED):
        return load_text_model(llm, device=device, dtype=dtype)
    return untrained_twin(load_text_model(name.removeprefix(UNTRAINED), device=device, dtype=dtype), seed)

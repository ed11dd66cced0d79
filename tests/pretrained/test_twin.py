"""The untrained twin: another set of weights of the same architecture, by seed."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from tiny_llms import build_tiny_llm
from tiny_models import build_tiny
from wernicke.pretrained.masked import load_text_model
from wernicke.pretrained.twin import load_trained_or_twin, untrained_twin


def weights(llm):
    return {name: value.numpy() for name, value in llm.model.state_dict().items()}


@pytest.mark.parametrize("kind", ["llama", "gpt2", "bert"])
def test_same_architecture_other_weights(tmp_path, kind):
    folder = build_tiny(tmp_path / kind, kind) if kind == "bert" else build_tiny_llm(tmp_path / kind, kind)
    trained = load_text_model(folder, device="cpu")
    before = {name: value.copy() for name, value in weights(trained).items()}
    state = torch.random.get_rng_state()
    one, two, other = (untrained_twin(trained, seed) for seed in (0, 0, 1))
    assert torch.equal(torch.random.get_rng_state(), state)
    assert {n: v.shape for n, v in weights(one).items()} == {n: v.shape for n, v in before.items()}
    matrices = [n for n, v in before.items() if v.ndim == 2 and "position_ids" not in n]
    for name in before:
        np.testing.assert_array_equal(weights(trained)[name], before[name])
        np.testing.assert_array_equal(weights(one)[name], weights(two)[name])
    for name in matrices:
        assert np.abs(weights(one)[name] - weights(other)[name]).max() > 0
        assert abs(np.corrcoef(weights(one)[name].ravel(), before[name].ravel())[0, 1]) < 0.2
    assert one.fingerprint not in (trained.fingerprint, other.fingerprint)
    assert one.tokenizer is trained.tokenizer
    assert "untrained" in one.name
    assert not any(p.requires_grad for p in one.model.parameters())
    # Weights as the architecture draws them before training, not ours: BERT, GPT-2 and Llama state their spread.
    spread = trained.model.config.initializer_range
    widest = max(matrices, key=lambda n: before[n].size)
    assert weights(one)[widest].std() == pytest.approx(spread, rel=0.1)


def test_a_twin_by_name(tmp_path):
    folder = build_tiny_llm(tmp_path / "llm", "gpt2")
    plain, twin = (load_trained_or_twin(name, seed=3, device="cpu") for name in (folder, f"untrained:{folder}"))
    assert plain.fingerprint == load_text_model(folder, device="cpu").fingerprint
    expected = untrained_twin(plain, 3)
    assert twin.fingerprint == expected.fingerprint
    for name, value in weights(expected).items():
        np.testing.assert_array_equal(weights(twin)[name], value)

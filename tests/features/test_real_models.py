"""The same features by models that people use: SmolLM2 (causal) and MiniLM (a BERT), both out of packages."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from wernicke.features.language import language_features
from wernicke.features.windows import annotation_windows
from wernicke.pretrained.llm import load_llm
from wernicke.pretrained.masked import load_masked, load_text_model
from wernicke.pretrained.sentences import load_sentence_encoder, minilm_folder
from wernicke.pretrained.twin import untrained_twin

CAPTIONS = ["A man walks through the rain.", "He opens the door and looks at her for a long time", "Silence"]


@pytest.mark.slow
def test_minilm_gives_the_sentence_encoders_vectors():
    windows = annotation_windows([[c] for c in CAPTIONS], run="1")
    model = load_masked(minilm_folder(), device="cpu")
    found = language_features(windows, model, layers=-1, special_tokens=True, cache=False).bands["layer6"]
    unit = found / np.linalg.norm(found, axis=1, keepdims=True)
    np.testing.assert_allclose(unit, load_sentence_encoder()(CAPTIONS), atol=2e-6)


@pytest.mark.slow
def test_smollm2_and_its_untrained_twin():
    from transformers import AutoModelForCausalLM, AutoTokenizer

    windows = annotation_windows([[c] for c in CAPTIONS], run="1")
    trained = load_text_model("smollm2", device="cpu")
    found = language_features(windows, trained, layers=[0, 15, 30], batch_size=3, cache=False)
    model = AutoModelForCausalLM.from_pretrained(trained.folder, dtype=torch.float32).eval()
    tokenizer = AutoTokenizer.from_pretrained(trained.folder)
    for i, caption in enumerate(CAPTIONS):
        with torch.no_grad():
            states = model(**tokenizer(caption, return_tensors="pt"), output_hidden_states=True).hidden_states
        for k in (0, 15, 30):
            mean = states[k][0].mean(0).numpy()
            np.testing.assert_allclose(found.bands[f"layer{k}"][i], mean, rtol=1e-3, atol=1e-3 * np.abs(mean).max())
    twin = untrained_twin(load_llm("smollm2", device="cpu"), seed=0)
    control = language_features(windows, twin, layers=15, cache=False).bands["layer15"]
    assert np.isfinite(control).all()
    assert abs(np.corrcoef(control.ravel(), found.bands["layer15"].ravel())[0, 1]) < 0.2

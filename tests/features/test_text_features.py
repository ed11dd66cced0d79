"""Pooled hidden states against transformers' own, one text at a time."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from tiny_llms import SENTENCES, build_tiny_llm
from tiny_models import build_tiny
from wernicke.core.errors import InputError
from wernicke.features import text as module
from wernicke.features.text import text_features
from wernicke.pretrained.llm import load_llm
from wernicke.pretrained.masked import load_text_model

TEXTS = dict(zip("abcdefgh", SENTENCES, strict=True))


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("WERNICKE_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def folder(tmp_path):
    return build_tiny_llm(tmp_path / "tiny")


def by_hand(folder, texts, layer, pool):
    """One unpadded forward pass a text through the whole model."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    model, tokenizer = AutoModelForCausalLM.from_pretrained(folder).eval(), AutoTokenizer.from_pretrained(folder)
    rows = []
    for text in texts:
        with torch.no_grad():
            out = model(**tokenizer(text, return_tensors="pt"), output_hidden_states=True)
        states = out.hidden_states[layer][0].numpy()
        rows.append({"mean": states.mean(0), "last": states[-1], "first": states[0]}[pool])
    return np.array(rows)


@pytest.mark.parametrize("kind", ["llama", "mistral", "qwen2", "gpt2"])
@pytest.mark.parametrize("pad_token", [True, False])
def test_equal_to_transformers(tmp_path, kind, pad_token):
    folder = build_tiny_llm(tmp_path / kind, kind, pad_token=pad_token, n_layers=3)
    for pool in ("mean", "last", "first"):
        found = text_features(TEXTS, folder, layers="all", pool=pool, batch_size=3)
        assert list(found.bands) == ["layer0", "layer1", "layer2", "layer3"]
        for k in range(4):
            band = found.bands[f"layer{k}"]
            assert band.dtype == np.float32
            np.testing.assert_allclose(band, by_hand(folder, SENTENCES, k, pool), rtol=1e-4, atol=1e-5)
    assert found.index["stimulus_id"].tolist() == list("abcdefgh")


@pytest.mark.parametrize("pool", ["mean", "last", "first"])
def test_masked_models_by_folder(tmp_path, pool):
    from transformers import AutoModel, AutoTokenizer

    folder = build_tiny(tmp_path / "bert", "bert")
    model, tokenizer = AutoModel.from_pretrained(folder).eval(), AutoTokenizer.from_pretrained(folder)
    found = text_features(SENTENCES, folder, layers="all", pool=pool, batch_size=3).bands
    for k in range(3):
        for row, text in zip(found[f"layer{k}"], SENTENCES, strict=True):
            with torch.no_grad():
                states = model(**tokenizer(text, return_tensors="pt"), output_hidden_states=True).hidden_states[k][0]
            expected = {"mean": states.mean(0), "last": states[-1], "first": states[0]}[pool]
            np.testing.assert_allclose(row, expected, rtol=1e-4, atol=1e-5)


def test_layer_zero_is_the_embedding(folder):
    llm = load_llm(folder)
    found = text_features(["A cat"], llm, layers=0, cache=False).bands["layer0"]
    tokens = llm.tokenizer("A cat")["input_ids"]
    expected = llm.model.get_input_embeddings().weight[tokens].mean(0)
    np.testing.assert_allclose(found[0], expected.numpy(), rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("kind", ["llama", "gpt2"])
def test_batches_do_not_matter(tmp_path, kind):
    llm = load_llm(build_tiny_llm(tmp_path / kind, kind, pad_token=False))
    one = text_features(TEXTS, llm, layers=[1, 2], batch_size=1, cache=False)
    all_ = text_features(TEXTS, llm, layers=[1, 2], batch_size=8, cache=False)
    assert len({len(llm.tokenizer(t)["input_ids"]) for t in SENTENCES}) > 2  # so that some are padded
    for name in one.bands:
        np.testing.assert_allclose(one.bands[name], all_.bands[name], rtol=1e-4, atol=1e-5)


def test_chat_puts_the_text_into_the_template(folder):
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder)
    prompt = tokenizer.apply_chat_template(
        [{"role": "user", "content": SENTENCES[0]}], tokenize=False, add_generation_prompt=True
    )
    assert prompt.endswith("<|im_start|>assistant\n")
    found = text_features(TEXTS, folder, layers=[2], pool="last", chat=True).bands["layer2"]
    np.testing.assert_allclose(found[:1], by_hand(folder, [prompt], 2, "last"), rtol=1e-4, atol=1e-5)


def test_layers_are_chosen_as_numpy_indexes(folder):
    found = text_features(TEXTS, folder, layers=(-1, 0))
    assert list(found.bands) == ["layer2", "layer0"]
    for layers in (3, -4, [], [0, 0], [2, -1], 1.0, [True], "some"):
        with pytest.raises(InputError, match="E-CFG"):
            text_features(TEXTS, folder, layers=layers)


def test_sequences_and_ids(folder):
    assert text_features(SENTENCES, folder, layers=0).index["stimulus_id"].tolist() == list("01234567")
    named = text_features(SENTENCES, folder, layers=0, stimulus_ids=list("abcdefgh"))
    assert named.index["stimulus_id"].tolist() == list("abcdefgh")
    with pytest.raises(InputError, match="E-SHAPE"):
        text_features(SENTENCES, folder, layers=0, stimulus_ids=["a"])
    with pytest.raises(InputError, match="given twice"):
        text_features(TEXTS, folder, layers=0, stimulus_ids=list(TEXTS))


@pytest.mark.parametrize("texts", [[], {}, ["a", ""], ["a", "  "], ["a", None], "one string", {"x": 3}])
def test_texts_that_cannot_be(folder, texts):
    with pytest.raises(InputError, match="E-META"):
        text_features(texts, folder, layers=0)


def test_too_long_and_no_template(tmp_path):
    folder = build_tiny_llm(tmp_path / "short", chat_template=False, max_positions=16)
    with pytest.raises(InputError, match="the model takes 16"):
        text_features([" ".join(SENTENCES)], folder, layers=0)
    with pytest.raises(InputError, match="no chat template"):
        text_features(["short"], folder, layers=0, chat=True)


def test_cache_spares_even_loading(folder, monkeypatch):
    first = text_features(TEXTS, folder, layers=[1])
    loads = []
    monkeypatch.setattr(module, "load_text_model", lambda *a, **k: loads.append(a) or load_text_model(*a, **k))
    again = text_features(TEXTS, folder, layers=[1], batch_size=2)
    assert not loads
    np.testing.assert_array_equal(first.bands["layer1"], again.bands["layer1"])
    assert again.provenance == first.provenance
    for change in ({"layers": [2]}, {"pool": "last"}, {"chat": True}, {"dtype": "bfloat16"}, {"cache": False}):
        text_features(TEXTS, folder, **{"layers": [1], **change})
        assert loads, change
        loads.clear()
    text_features(TEXTS | {"a": "Another sentence."}, folder, layers=[1])
    assert loads


def test_other_weights_are_another_result(folder):
    first = text_features(TEXTS, folder, layers=[1])
    path = folder / "model.safetensors"
    tensors = load_file(path)
    tensors["model.layers.0.mlp.up_proj.weight"] *= 1.5
    save_file(tensors, path, metadata={"format": "pt"})
    second = text_features(TEXTS, folder, layers=[1])
    assert np.abs(first.bands["layer1"] - second.bands["layer1"]).max() > 1e-3
    assert first.provenance["model_fingerprint"] != second.provenance["model_fingerprint"]


def test_damaged_cache_is_computed_again(folder, own_cache):
    first = text_features(TEXTS, folder, layers=[1])
    (entry,) = own_cache.glob("text-features-*")
    (array,) = entry.glob("*.npy")
    content = bytearray(array.read_bytes())
    content[-5] ^= 1
    array.write_bytes(bytes(content))
    again = text_features(TEXTS, folder, layers=[1])
    np.testing.assert_array_equal(first.bands["layer1"], again.bands["layer1"])


def test_without_cache_nothing_is_written(folder, own_cache):
    text_features(TEXTS, folder, layers=[1], cache=False)
    assert not own_cache.exists()


def test_overflow_is_refused(folder):
    path = folder / "model.safetensors"
    tensors = load_file(path)
    tensors["model.embed_tokens.weight"][:] = 3e38
    save_file(tensors, path, metadata={"format": "pt"})
    with pytest.raises(InputError, match="E-NONFIN"):
        text_features(TEXTS, folder, layers="all", cache=False)

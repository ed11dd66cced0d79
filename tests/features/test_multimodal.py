"""Multimodal features against the published classes, one unpadded pair at a time."""

from __future__ import annotations

from functools import cache

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

from tiny_models import build_tiny, picture
from wernicke.core.errors import InputError
from wernicke.features.multimodal import captions_of_frames, multimodal_features, said_captions
from wernicke.pretrained.vision_language import load_vision_language

KINDS = ("llava", "git", "bridgetower")
PICTURES = [picture(i) for i in range(3)]
CAPTIONS = [["a cat sits on the floor .", "a cat", ".."], ["a house", None, "a leather shoe"], ["..", "..", ".."]]


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("WERNICKE_CACHE", str(tmp_path / "cache"))


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    root = tmp_path_factory.mktemp("models")
    return {kind: build_tiny(root / kind, kind) for kind in KINDS}


@cache
def reference(folder, kind):
    import transformers as t

    name = {"llava": "LlavaForConditionalGeneration", "git": "GitForCausalLM", "bridgetower": "BridgeTowerModel"}[kind]
    model = getattr(t, name).from_pretrained(folder).eval()
    processor = t.AutoProcessor.from_pretrained(folder, backend="pil")
    return model, processor


def one_pair(folder, kind, array, caption, special):
    """Both halves of every layer by the class with its head, no padding, places found from the definition."""
    model, processor = reference(folder, kind)
    text = f"USER: <image>\n{caption}\nASSISTANT:" if kind == "llava" else caption
    inputs = processor(text=text, images=Image.fromarray(array), return_tensors="pt")
    ids = inputs["input_ids"][0].numpy()
    with torch.no_grad():
        states = model(**inputs, output_hidden_states=True).hidden_states
    no_word = [processor.tokenizer.cls_token_id, processor.tokenizer.sep_token_id]
    words = np.ones(len(ids), bool) if special else ~np.isin(ids, no_word)
    rows = []
    for state in states[2] if kind == "bridgetower" else states:
        if kind == "bridgetower":
            picture_half, text_half = state[1][0].numpy(), state[0][0].numpy()[words]
        elif kind == "git":  # 16 patches and CLIP's class token, then the text
            picture_half, text_half = state[0].numpy()[:17], state[0].numpy()[17:][words]
        else:
            first = int(np.argmax(ids == processor.tokenizer.convert_tokens_to_ids("<image>")))
            inside = (np.arange(len(ids)) >= first) & (np.arange(len(ids)) < first + 16)
            picture_half, text_half = state[0].numpy()[inside], state[0].numpy()[~inside & words]
        rows.append(np.r_[picture_half.mean(0), text_half.mean(0) if len(text_half) else np.zeros(text_half.shape[1])])
    return np.array(rows)


def by_hand(folder, kind, mode):
    pictures = []
    for array, row in zip(PICTURES, CAPTIONS, strict=True):
        said = [c if c is not None else ".." for c in row]
        said = said if mode == "faithful" else [c for c in said if c != ".."]
        both = [one_pair(folder, kind, array, c, mode == "faithful") for c in said or [""]]
        mean = np.mean(both, 0)
        if not said:
            mean[:, mean.shape[1] - 32 :] = 0
        pictures.append(mean)
    return np.stack(pictures, 1)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("mode", ["corrected", "faithful"])
def test_equal_to_transformers(folders, kind, mode):
    model = load_vision_language(folders[kind], device="cpu")
    expected = by_hand(folders[kind], kind, mode)
    assert model.n_states == len(expected)
    for batch_size in (1, 3):
        found = multimodal_features(PICTURES, CAPTIONS, model, layers="all", mode=mode, batch_size=batch_size)
        for k in range(model.n_states):
            np.testing.assert_allclose(found.bands[f"layer{k}"], expected[k], rtol=1e-3, atol=2e-5)
    assert found.provenance["n_without_caption"] == (1 if mode == "corrected" else 0)


@pytest.mark.parametrize("kind", KINDS)
def test_halves_do_not_drift_from_picture_to_picture(folders, kind):
    model = load_vision_language(folders[kind], device="cpu")
    same = multimodal_features([PICTURES[0]] * 30, [["a cat"]] * 30, model, layers="all", cache=False)
    for band in same.bands.values():
        np.testing.assert_allclose(band, band[[0] * 30], rtol=1e-5, atol=1e-6)


def test_picture_and_caption_both_count(folders):
    model = load_vision_language(folders["llava"], device="cpu")
    pairs = [(0, "a cat"), (1, "a cat"), (0, "a house")]
    found = multimodal_features([PICTURES[i] for i, _ in pairs], [[c] for _, c in pairs], model, layers=2, cache=False)
    band = found.bands["layer2"]
    assert np.abs(band[0, :32] - band[1, :32]).max() > 1e-3  # the picture's half follows the picture
    np.testing.assert_allclose(band[0, :32], band[2, :32], atol=1e-5)  # which comes before the caption
    assert np.abs(band[0, 32:] - band[2, 32:]).max() > 1e-3


def test_captions_of_frames():
    index = pd.DataFrame({"run": ["1"] * 4, "onset_s": [0, 0.5, 1, 1.5]})
    table = [["a"], ["b"]]
    assert captions_of_frames(index, table) == [["a"], ["a"], ["b"], ["b"]]
    with pytest.raises(InputError, match="annotation of 1 s"):
        captions_of_frames(index, table[:1])


def test_refused(folders):
    model = load_vision_language(folders["git"], device="cpu")
    for captions, code in (([["a"]], "E-SHAPE"), (["a", "b", "c"], "E-META"), ([["cat " * 99]] * 3, "E-META")):
        with pytest.raises(InputError) as caught:
            multimodal_features(PICTURES, captions, model, layers=1)
        assert caught.value.code == code
    with pytest.raises(InputError, match="caption"):
        load_vision_language(folders["llava"], prompt="USER: {caption}", device="cpu")


@pytest.mark.parametrize("kind", KINDS)
def test_flat_keeps_the_pictures_places(folders, kind):
    model = load_vision_language(folders[kind], device="cpu")
    mean = multimodal_features(PICTURES[:2], CAPTIONS[:2], model, layers=1, cache=False).bands["layer1"]
    flat = multimodal_features(PICTURES[:2], CAPTIONS[:2], model, layers=1, pool="flat", cache=False).bands["layer1"]
    n_places = 16 if kind == "llava" else 17
    width = (flat.shape[1] - 32) // n_places
    assert flat.shape[1] == n_places * width + 32
    np.testing.assert_allclose(flat[:, :-32].reshape(2, n_places, width).mean(1), mean[:, :-32], rtol=1e-3, atol=2e-5)
    np.testing.assert_array_equal(flat[:, -32:], mean[:, -32:])


def test_blanks_around_a_caption_stay_in_faithful_mode_only():
    rows = [[" a cat", "..", None, " "]]
    assert said_captions(rows, 1, "faithful") == [(" a cat", "..", "..", " ")]
    assert said_captions(rows, 1, "corrected") == [("a cat",)]


def test_texts_that_llava_cannot_take(folders):
    model = load_vision_language(folders["llava"], device="cpu")
    with pytest.raises(InputError, match="stands for the picture"):
        multimodal_features(PICTURES[:1], [["an <image> of a cat"]], model, layers=1)
    n_prompt = len(model.processor.tokenizer(model.prompt.format(caption=""))["input_ids"])
    fits = 256 - 16 - (n_prompt - 1)  # its context, the patches, the prompt without the token that they replace
    multimodal_features(PICTURES[:1], [["cat " * fits]], model, layers=1, cache=False)
    with pytest.raises(InputError, match=f"has {fits + 1 + n_prompt} tokens, the model takes {fits + n_prompt}"):
        multimodal_features(PICTURES[:1], [["cat " * (fits + 1)]], model, layers=1)

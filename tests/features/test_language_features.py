"""Language features against transformers, one unpadded text at a time, causal and masked."""

from __future__ import annotations

from functools import cache

import numpy as np
import pandas as pd
import pytest
import torch

from tiny_llms import build_tiny_llm
from tiny_models import build_tiny, wordpiece_tokenizer
from wernicke.core.errors import InputError
from wernicke.core.study import Events
from wernicke.features import language as module
from wernicke.features.language import language_features
from wernicke.features.text import text_features
from wernicke.features.windows import annotation_windows, word_windows
from wernicke.pretrained.masked import load_masked, load_text_model

TABLE = [
    ["a cat sits on the floor", "a cat"],
    ["a house stands in a quiet street .", ".."],
    ["..", ".."],
    ["a leather shoe", "a wooden chair stands in an empty room"],
]


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("WERNICKE_CACHE", str(tmp_path / "cache"))


def build(tmp_path, kind):
    folder = tmp_path / kind
    if kind in ("t5", "bart"):
        return build_encoder_decoder(folder, kind)
    return build_tiny(folder, kind) if kind in ("bert", "roberta") else build_tiny_llm(folder, kind)


def build_encoder_decoder(folder, kind):
    import transformers as t

    tokenizer = wordpiece_tokenizer()
    shared = {"vocab_size": len(tokenizer), "d_model": 32, "pad_token_id": 0, "eos_token_id": 3}
    shared["decoder_start_token_id"] = 2
    if kind == "t5":
        config = t.T5Config(d_kv=8, d_ff=48, num_layers=2, num_heads=4, **shared)
        model = t.T5ForConditionalGeneration(config)
    else:
        config = t.BartConfig(
            encoder_layers=2, decoder_layers=1, encoder_attention_heads=4, decoder_attention_heads=4,
            encoder_ffn_dim=48, decoder_ffn_dim=48, max_position_embeddings=64, init_std=0.2, **shared,
        )  # fmt: skip
        model = t.BartForConditionalGeneration(config)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@cache
def reference(folder):
    from transformers import AutoModel, AutoTokenizer

    model = AutoModel.from_pretrained(folder).eval()
    if model.config.is_encoder_decoder:
        model = model.get_encoder()
    return model, AutoTokenizer.from_pretrained(folder)


def by_hand(folder, table, layer, pool, special, width=32):
    """The mean over annotators of one unpadded pass each, by AutoModel."""
    model, tokenizer = reference(folder)
    rows = []
    for row in table:
        each = []
        for text in row:
            if text == "..":
                continue
            batch = tokenizer(text, return_tensors="pt", return_special_tokens_mask=True)
            keep = batch.pop("special_tokens_mask")[0].numpy() == 0
            with torch.no_grad():
                states = model(**batch, output_hidden_states=True).hidden_states[layer][0].numpy()
            states = states if special else states[keep]
            each.append(states.mean(0) if pool == "mean" else states[-1])
        rows.append(np.mean(each, 0) if each else np.zeros(width))
    return np.array(rows)


@pytest.mark.parametrize("kind", ["bert", "roberta", "llama", "gpt2", "opt", "t5", "bart"])
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_equal_to_transformers(tmp_path, kind):
    folder = build(tmp_path, kind)
    windows = annotation_windows(TABLE, run="r")
    for pool in ("mean", "last"):
        for special in (False, True):
            found = language_features(windows, folder, layers="all", pool=pool, special_tokens=special, batch_size=3)
            assert list(found.bands) == ["layer0", "layer1", "layer2"]
            for k in range(3):
                expected = by_hand(folder, TABLE, k, pool, special)
                np.testing.assert_allclose(found.bands[f"layer{k}"], expected, rtol=1e-4, atol=1e-5)
    assert found.provenance["n_empty"] == 1
    assert not found.bands["layer1"][2].any()


def test_special_tokens_matter_for_bert_only_where_asked(tmp_path):
    windows, model = annotation_windows(TABLE, run="r"), load_masked(build(tmp_path, "bert"))
    with_, without = (
        language_features(windows, model, layers=2, special_tokens=s, cache=False).bands["layer2"]
        for s in (True, False)
    )
    assert np.abs(with_ - without).max() > 1e-2


def build_odd(folder, kind):
    """OPT whose embeddings are narrower than its states (as OPT-350m), XLNet without a limit, Funnel, which pools."""
    import transformers as t

    tokenizer = wordpiece_tokenizer()
    ids = {"vocab_size": len(tokenizer), "bos_token_id": 2, "eos_token_id": 3, "pad_token_id": 0}
    if kind == "opt":
        config = t.OPTConfig(hidden_size=32, ffn_dim=48, num_hidden_layers=2, num_attention_heads=4,
                             word_embed_proj_dim=16, do_layer_norm_before=False, init_std=0.2, **ids)  # fmt: skip
        model = t.OPTForCausalLM(config)
    elif kind == "xlnet":
        config = t.XLNetConfig(d_model=32, n_layer=2, n_head=4, d_inner=48, initializer_range=0.2, **ids)
        model = t.XLNetLMHeadModel(config)
    else:
        config = t.FunnelConfig(block_sizes=[1, 1], d_model=32, n_head=4, d_head=8, d_inner=48, **ids)
        model = t.FunnelForMaskedLM(config)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.mark.parametrize(("kind", "widths"), [("opt", [32, 32, 16]), ("xlnet", [32, 32, 32])])
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_models_of_other_widths_and_without_a_limit(tmp_path, kind, widths):
    folder = build_odd(tmp_path / kind, kind)
    windows = annotation_windows([*TABLE, [".."] * 2], run="r")
    for pool in ("mean", "last"):
        found = language_features(windows, folder, layers="all", pool=pool, batch_size=3)
        alone = text_features(["a leather shoe"], folder, layers="all", pool=pool)
        for k, width in enumerate(widths):
            expected = by_hand(folder, TABLE, k, pool, False, width)
            np.testing.assert_allclose(found.bands[f"layer{k}"][:4], expected, rtol=1e-4, atol=1e-5)
            assert alone.bands[f"layer{k}"].shape == (1, width)


def test_a_model_that_pools_its_tokens_is_refused_by_layer(tmp_path):
    folder = build_odd(tmp_path / "funnel", "funnel")
    windows = annotation_windows(TABLE, run="r")
    assert language_features(windows, folder, layers=0).bands["layer0"].shape == (4, 32)
    with pytest.raises(InputError, match="layer 2 has"):
        language_features(windows, folder, layers=[0, 2])


@pytest.mark.parametrize("kind", ["bert", "roberta", "gpt2"])
def test_batches_do_not_matter(tmp_path, kind):
    windows, model = annotation_windows(TABLE, run="r"), load_text_model(build(tmp_path, kind))
    for pool in ("mean", "last", "flat"):
        one = language_features(windows, model, layers=[1, 2], pool=pool, batch_size=1, cache=False)
        all_ = language_features(windows, model, layers=[1, 2], pool=pool, batch_size=8, cache=False)
        for name in one.bands:
            np.testing.assert_allclose(one.bands[name], all_.bands[name], rtol=1e-4, atol=1e-5)


def test_flat_puts_tokens_side_by_side(tmp_path):
    model = load_masked(build(tmp_path, "bert"))
    windows = annotation_windows([["a cat"], ["a leather shoe"]], run="r")
    found = language_features(windows, model, layers=1, pool="flat", n_tokens=4, cache=False).bands["layer1"]
    assert found.shape == (2, 4 * 32)
    batch = model.tokenizer("a cat", return_tensors="pt")
    with torch.no_grad():
        states = model.model(**batch, output_hidden_states=True).hidden_states[1][0, 1:-1].numpy()
    np.testing.assert_allclose(found[0, : 2 * 32], states.ravel(), rtol=1e-4, atol=1e-5)
    assert not found[0, 2 * 32 :].any()
    with pytest.raises(InputError, match="at least 3"):
        language_features(windows, model, layers=1, pool="flat", n_tokens=2, cache=False)


@pytest.mark.parametrize("kind", ["bert", "roberta", "llama"])
def test_a_text_beyond_the_context(tmp_path, kind):
    folder = build(tmp_path, kind) if kind != "llama" else build_tiny_llm(tmp_path / "short", max_positions=64)
    model = load_text_model(folder)
    assert model.max_positions == 64
    text = " ".join(np.random.default_rng(0).choice(["cat", "house", "floor", "chair", "shoe"], 80))
    windows = annotation_windows([[text]], run="r")
    with pytest.raises(InputError, match="the model takes 64"):
        language_features(windows, model, layers=1, cache=False)
    reference_model, tokenizer = reference(folder)
    for cut, side in (("cut", "left"), ("cut_end", "right")):
        found = language_features(windows, model, layers=1, long_texts=cut, special_tokens=True, cache=False)
        assert found.provenance["n_cut"] == 1
        tokenizer.truncation_side = side
        batch = tokenizer(text, truncation=True, max_length=64, return_tensors="pt")
        with torch.no_grad():
            expected = reference_model(**batch, output_hidden_states=True).hidden_states[1][0].mean(0)
        np.testing.assert_allclose(found.bands["layer1"][0], expected, rtol=1e-4, atol=1e-5)


def test_a_cut_left_context_ends_with_its_word(tmp_path):
    words = np.random.default_rng(0).choice(["cat", "house", "floor", "chair", "shoe"], 90)
    events = Events(pd.DataFrame({"run": "r", "onset_s": np.arange(90) * 0.4, "duration_s": 0.3, "text": words}))
    found = language_features(word_windows(events, window_s=99), build(tmp_path, "bert"), layers=0, pool="last",
                              long_texts="cut", cache=False)  # fmt: skip
    assert found.provenance["n_cut"] > 0
    states = found.bands["layer0"][-20:]
    same_state = (states[:, None] == states[None]).all(-1)
    np.testing.assert_array_equal(same_state, words[-20:, None] == words[None, -20:])


def test_an_interrupted_computation_goes_on(tmp_path, monkeypatch):
    monkeypatch.setattr("wernicke.features.pieces.PIECE", 2)
    windows, model = (
        annotation_windows([[f"a cat {w}"] for w in "abcdef"], run="r"),
        load_masked(build(tmp_path, "bert")),
    )
    real, seen = module.token_states, []

    def watched(tokens, *args, **kwargs):
        if len(seen) == 2:
            raise KeyboardInterrupt
        seen.append(len(tokens))
        return real(tokens, *args, **kwargs)

    monkeypatch.setattr(module, "token_states", watched)
    with pytest.raises(KeyboardInterrupt):
        language_features(windows, model, layers=1)
    seen.clear()
    monkeypatch.setattr(module, "token_states", lambda t, *a, **k: seen.append(len(t)) or real(t, *a, **k))
    again = language_features(windows, model, layers=1)
    assert seen == [2]  # two of three pieces were kept
    plain = language_features(windows, model, layers=1, cache=False)
    np.testing.assert_allclose(again.bands["layer1"], plain.bands["layer1"], rtol=1e-5, atol=1e-6)


def test_nothing_said_is_refused(tmp_path):
    with pytest.raises(InputError, match="no window"):
        language_features(annotation_windows([[".."]], run="r"), build(tmp_path, "bert"), layers=1)


def test_a_piece_without_text_is_zeros(tmp_path, monkeypatch):
    monkeypatch.setattr("wernicke.features.pieces.PIECE", 2)
    windows = annotation_windows([["a cat"], [".."], [".."], [".."], ["a cat"]], run="r")
    found = language_features(windows, build(tmp_path, "bert"), layers=[1]).bands["layer1"]
    assert found[[0, 4]].any(axis=1).all()
    assert not found[1:4].any()

"""Sound features against transformers, one window at a time."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest
import torch
from scipy.io import wavfile

from tiny_models import build_tiny, sound
from wernicke.core.errors import InputError
from wernicke.features.sound import Sound, read_sound, sound_features, sound_windows
from wernicke.pretrained.audio import load_audio


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("WERNICKE_CACHE", str(tmp_path / "cache"))


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    root = tmp_path_factory.mktemp("models")
    return {kind: build_tiny(root / kind, kind) for kind in ("ast", "wav2vec2")}


@cache
def reference(folder, kind):
    import transformers as t

    name = {"ast": "ASTForAudioClassification", "wav2vec2": "Wav2Vec2ForCTC"}[kind]
    model = getattr(t, name).from_pretrained(folder).eval()
    extractor = t.AutoFeatureExtractor.from_pretrained(folder)
    return model, extractor


def by_hand(folder, kind, values, layer, pool):
    model, extractor = reference(folder, kind)
    rows = []
    for second in range(len(values) // 16000):
        inputs = extractor(values[second * 16000 :][:16000], sampling_rate=16000, return_tensors="pt")
        with torch.no_grad():
            state = model(**inputs, output_hidden_states=True).hidden_states[layer][0].numpy()
        if pool == "flat":
            rows.append(state.ravel())
        else:
            rows.append(state[2 if kind == "ast" else 0 :].mean(0))
    return np.array(rows)


@pytest.mark.parametrize("kind", ["ast", "wav2vec2"])
def test_equal_to_transformers(folders, kind):
    values = sound(0, 4)
    model = load_audio(folders[kind], device="cpu")
    assert model.rate_hz == 16000
    for pool in ("mean", "flat"):
        found = sound_features({"1": Sound(values, 16000)}, model, layers="all", pool=pool, batch_size=3)
        for k in range(3):
            expected = by_hand(folders[kind], kind, values, k, pool)
            np.testing.assert_allclose(found.bands[f"layer{k}"], expected, rtol=1e-3, atol=2e-5)
    assert found.index["onset_s"].tolist() == [0, 1, 2, 3]


@pytest.mark.parametrize("kind", ["ast", "wav2vec2"])
def test_batches_runs_and_the_cache_do_not_matter(folders, kind):
    model = load_audio(folders[kind], device="cpu")
    runs = {"a": Sound(sound(0, 3), 16000), "b": Sound(sound(1, 2), 16000)}
    one = sound_features(runs, model, layers=[1, -1], batch_size=1, cache=False)
    for _ in range(2):
        all_ = sound_features(runs, model, layers=[1, -1], batch_size=8)
        for name in ("layer1", "layer2"):
            np.testing.assert_allclose(one.bands[name], all_.bands[name], rtol=1e-3, atol=2e-5)
    assert all_.index["run"].tolist() == ["a"] * 3 + ["b"] * 2
    alone = sound_features({"b": runs["b"]}, model, layers=-1).bands["layer2"]
    np.testing.assert_allclose(alone, all_.bands["layer2"][3:], rtol=1e-3, atol=2e-5)


def padding_models():
    """Whisper, which fills up to 30 s, and AST of 2.56 s."""
    import transformers as t

    size = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 48}
    whisper = t.WhisperConfig(
        vocab_size=60, d_model=32, encoder_layers=2, decoder_layers=1, encoder_attention_heads=4,
        decoder_attention_heads=4, encoder_ffn_dim=48, decoder_ffn_dim=48, pad_token_id=0, bos_token_id=1,
        eos_token_id=2, decoder_start_token_id=3,
    )  # fmt: skip
    ast = t.ASTConfig(num_mel_bins=32, max_length=256, patch_size=16, frequency_stride=10, time_stride=10, **size)
    yield "whisper", t.WhisperModel(whisper), t.WhisperFeatureExtractor()
    yield "ast", t.ASTModel(ast), t.ASTFeatureExtractor(num_mel_bins=32, max_length=256)


def test_what_was_filled_up_does_not_count(tmp_path):
    waves = [sound(i, 1.0) for i in range(2)]
    for kind, model, extractor in padding_models():
        model.save_pretrained(tmp_path / kind)
        extractor.save_pretrained(tmp_path / kind)
        loaded = load_audio(tmp_path / kind, device="cpu")
        network = model.get_encoder() if kind == "whisper" else model
        found = {
            pool: sound_features({"1": Sound(np.concatenate(waves), 16000)}, loaded, layers=1, pool=pool, cache=False)
            for pool in ("mean", "last", "flat")
        }
        for row, wave in enumerate(waves):
            inputs = extractor(wave, sampling_rate=16000, return_tensors="pt")
            with torch.no_grad():
                state = network.eval()(**inputs, output_hidden_states=True).hidden_states[1][0].numpy()
            if kind == "whisper":  # 20 ms a place
                assert len(state) == 1500
                own = state[:50]
            else:  # two frequencies by 25 times, 10 of which begin within 98 frames; behind two class tokens
                own = state[2:].reshape(2, 25, 32)[:, :10].reshape(20, 32)
            for pool, expected in (("mean", own.mean(0)), ("last", own[-1]), ("flat", state.ravel())):
                np.testing.assert_allclose(found[pool].bands["layer1"][row], expected, rtol=1e-3, atol=2e-5)
    with pytest.raises(InputError, match=r"E-CFG window_s: found 3 s, the model hears 2.585 s"):
        sound_features({"1": Sound(sound(0, 3.0), 16000)}, loaded, layers=1, window_s=3.0, cache=False)
    loaded.model.config.model_type = "another"
    with pytest.raises(InputError, match="use flat"):
        sound_features({"1": Sound(waves[0], 16000)}, loaded, layers=1, cache=False)


def test_a_model_without_states_of_sound_is_refused_with_a_reason(tmp_path):
    import transformers as t

    config = t.EncodecConfig(num_filters=4, hidden_size=8, codebook_size=16, upsampling_ratios=[4, 2])
    t.EncodecModel(config).save_pretrained(tmp_path)
    t.EncodecFeatureExtractor().save_pretrained(tmp_path)
    with pytest.raises(InputError, match="E-CFG.*not a model of sound alone"):
        load_audio(tmp_path, device="cpu")


def test_windows_end_with_their_step():
    ramp = Sound(np.arange(10 * 4 + 3, dtype=np.float32) + 1, 4)  # 10.75 s
    windows, onset = sound_windows(ramp, window_s=2.0, step_s=1.0)
    assert windows.shape == (11, 8)
    assert onset.tolist() == list(range(11))
    assert windows[0].tolist() == [0, 0, 0, 0, 1, 2, 3, 4]  # silence before the start
    assert windows[1].tolist() == [1, 2, 3, 4, 5, 6, 7, 8]
    assert windows[10].tolist() == [37, 38, 39, 40, 41, 42, 43, 0]
    short, _ = sound_windows(ramp, window_s=0.5, step_s=1.0)
    assert short[0].tolist() == [3, 4]
    assert len(sound_windows(Sound(np.ones(41, np.float32), 4))[0]) == 10  # less than half a step more


@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.int32, np.float32])
def test_wav_files(tmp_path, dtype):
    values = sound(3, 0.5)
    stereo = np.stack([values, values / 2], axis=1)
    kind = np.dtype(dtype)
    stored = (
        stereo if kind.kind == "f" else stereo * (2.0 ** (8 * kind.itemsize - 1) - 1) + (128 if kind.kind == "u" else 0)
    )
    wavfile.write(tmp_path / "a.wav", 16000, stored.astype(dtype))
    found = read_sound(tmp_path / "a.wav")
    assert found.rate_hz == 16000
    assert found.values.dtype == np.float32
    np.testing.assert_allclose(found.values, values * 0.75, atol=0.012 if dtype == np.uint8 else 1e-4)


def test_another_rate_keeps_the_tone():
    time = np.arange(44100) / 44100
    slow = Sound(np.sin(2 * np.pi * 440 * time).astype(np.float32), 44100).at(16000)
    assert (slow.rate_hz, len(slow.values)) == (16000, 16000)
    expected = np.sin(2 * np.pi * 440 * np.arange(16000) / 16000)
    np.testing.assert_allclose(slow.values[200:-200], expected[200:-200], atol=2e-3)


def test_files_that_cannot_be_right(tmp_path):
    wavfile.write(tmp_path / "whole.wav", 16000, (sound(0, 1) * 30000).astype(np.int16))
    content = (tmp_path / "whole.wav").read_bytes()
    cases = {"cut.wav": content[:9000], "head.wav": content[:20], "empty.wav": b"", "mp3.wav": b"ID3\x04" + bytes(99),
             "none.wav": content[:40] + bytes(4)}  # fmt: skip
    codes = {"cut.wav": "E-TRUNC", "empty.wav": "E-TRUNC", "mp3.wav": "E-FMT"}
    for name, bad in cases.items():
        (tmp_path / name).write_bytes(bad)
        with pytest.raises(InputError) as caught:
            read_sound(tmp_path / name)
        assert caught.value.code == codes.get(name, caught.value.code)
        assert caught.value.code in ("E-TRUNC", "E-FMT")
    wavfile.write(tmp_path / "nan.wav", 16000, np.array([0, np.nan], np.float32))
    with pytest.raises(InputError) as caught:
        read_sound(tmp_path / "nan.wav")
    assert caught.value.code == "E-NONFIN"


def test_refused(folders):
    ten = Sound(sound(0, 1), 16000)
    for change, code in (
        ({"layers": 9}, "E-CFG"), ({"pool": "best"}, "E-CFG"), ({"window_s": 0}, "E-CFG"), ({"step_s": 1e-5}, "E-CFG"),
    ):  # fmt: skip
        with pytest.raises(InputError) as caught:
            sound_features({"1": ten}, folders["ast"], device="cpu", **{"layers": 1, **change})
        assert caught.value.code == code
    with pytest.raises(InputError, match=r"11474.747 samples of 16000 Hz(.|\n)*0.717125 or 0.7171875"):
        sound_windows(ten, step_s=0.7171717)
    with pytest.raises(InputError, match="shorter than half"):
        sound_windows(Sound(np.ones(3, np.float32), 16000))
    with pytest.raises(InputError, match="one channel"):
        Sound(np.ones((3, 2), np.float32), 16000)

"""Picture features against transformers, one picture at a time; pictures that cannot be right."""

from __future__ import annotations

import struct
import sys
import zlib
from functools import cache

import numpy as np
import pytest
import torch
from PIL import Image

from tiny_models import build_tiny, picture
from wernicke.core.errors import InputError
from wernicke.features.picture_files import film_frames, read_picture
from wernicke.features.pictures import picture_features
from wernicke.features.resample import resample_to_tr
from wernicke.pretrained.vision import load_vision

PICTURES = [picture(i, size) for i, size in enumerate([(40, 48), (32, 32), (64, 40), (48, 48), (40, 40)])]


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("WERNICKE_CACHE", str(tmp_path / "cache"))


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    root = tmp_path_factory.mktemp("models")
    return {kind: build_tiny(root / kind, kind) for kind in ("vit", "deit", "resnet", "clip", "llava")}


@cache
def reference(folder, kind):
    import transformers as t

    names = {
        "vit": "ViTForImageClassification", "deit": "DeiTForImageClassificationWithTeacher",
        "resnet": "ResNetForImageClassification", "clip": "CLIPVisionModel", "llava": "LlavaForConditionalGeneration",
    }  # fmt: skip
    model = getattr(t, names[kind]).from_pretrained(folder).eval()
    if kind == "llava":
        model = model.model.vision_tower
    processor = t.AutoImageProcessor.from_pretrained(folder, backend="pil")
    return model, processor


def by_hand(folder, kind, layer, pool, n_special):
    """The published class with its head, one picture a pass."""
    model, processor = reference(folder, kind)
    rows = []
    for array in PICTURES:
        pixels = processor(Image.fromarray(array), return_tensors="pt")["pixel_values"]
        with torch.no_grad():
            state = model(pixels, output_hidden_states=True).hidden_states[layer][0].numpy()
        if pool == "flat":
            rows.append(state.ravel())
        elif state.ndim == 3:
            rows.append(state.mean((1, 2)))
        else:
            rows.append(state[0] if pool == "first" else state[n_special:].mean(0))
    return np.array(rows)


@pytest.mark.parametrize(("kind", "n_special"), [("vit", 1), ("deit", 2), ("clip", 1), ("llava", 1), ("resnet", 0)])
def test_equal_to_transformers(folders, kind, n_special):
    model = load_vision(folders[kind], device="cpu")
    for pool in ("mean", "flat") if kind == "resnet" else ("mean", "flat", "first"):
        found = picture_features(PICTURES, model, layers="all", pool=pool, batch_size=2)
        for k in range(model.n_states):
            expected = by_hand(folders[kind], kind, k, pool, n_special)
            assert found.bands[f"layer{k}"].dtype == np.float32
            np.testing.assert_allclose(found.bands[f"layer{k}"], expected, rtol=1e-4, atol=1e-5)
    assert "torchvision" not in sys.modules


def test_a_masked_autoencoder_sees_every_patch_in_its_place(tmp_path, monkeypatch):
    import transformers as t

    masked = t.ViTMAEModel(t.ViTMAEConfig(image_size=32, patch_size=8, **SIZE))
    plain = t.ViTModel(t.ViTConfig(image_size=32, patch_size=8, **SIZE), add_pooling_layer=False).eval()
    plain.load_state_dict(masked.state_dict())
    model = load_vision(save(tmp_path / "mae", masked), device="cpu")
    found = picture_features(PICTURES, model, layers="all", pool="flat", cache=False)
    with torch.no_grad():
        pixels = model.pixels([Image.fromarray(p) for p in PICTURES])
        for k, state in enumerate(plain(pixels, output_hidden_states=True).hidden_states):
            np.testing.assert_allclose(found.bands[f"layer{k}"], state.flatten(1), rtol=1e-4, atol=1e-5)
    monkeypatch.setattr("wernicke.pretrained.vision._is_masked", lambda network: False)
    with pytest.raises(InputError, match="random numbers"):
        load_vision(tmp_path / "mae", device="cpu")


SIZE = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 48}


def save(folder, model):
    import transformers as t

    model.save_pretrained(folder)
    t.ViTImageProcessorPil(size={"height": 32, "width": 32}).save_pretrained(folder)
    return folder


def test_detection_tokens_behind_the_patches_are_no_places(tmp_path):
    import transformers as t

    config = t.YolosConfig(image_size=[32, 32], patch_size=8, num_detection_tokens=5, **SIZE)
    network = t.YolosModel(config, add_pooling_layer=False).eval()
    model = load_vision(save(tmp_path / "yolos", network), device="cpu")
    found = picture_features(PICTURES, model, layers=1, cache=False).bands["layer1"]
    with torch.no_grad():
        pixels = model.pixels([Image.fromarray(p) for p in PICTURES])
        states = network(pixels, output_hidden_states=True).hidden_states[1]
    assert states.shape[1] == 1 + 16 + 5
    np.testing.assert_allclose(found, states[:, 1:17].mean(1), rtol=1e-4, atol=1e-5)


def test_models_of_something_else_are_refused_with_a_reason(tmp_path):
    import transformers as t

    video = t.VideoMAEModel(t.VideoMAEConfig(image_size=32, patch_size=8, num_frames=4, **SIZE))
    with pytest.raises(InputError, match="E-CFG.*not a model of single pictures"):
        load_vision(save(tmp_path / "video", video), device="cpu")
    text = {"vocab_size": 50, "encoder_hidden_size": 32, "bos_token_id": 1, "pad_token_id": 0, "eos_token_id": 2,
            "sep_token_id": 2, **SIZE}  # fmt: skip
    blip = t.BlipForConditionalGeneration(
        t.BlipConfig(text_config=text, vision_config={"image_size": 32, "patch_size": 8, **SIZE})
    )
    with pytest.raises(InputError, match=r"saved as BlipForConditionalGeneration, read as BlipModel"):
        load_vision(save(tmp_path / "blip", blip), device="cpu")


def test_class_tokens_count_on_request(folders):
    found = picture_features(PICTURES, folders["deit"], layers=1, special_tokens=True, device="cpu")
    np.testing.assert_allclose(
        found.bands["layer1"], by_hand(folders["deit"], "deit", 1, "mean", 0), rtol=1e-4, atol=1e-5
    )


def test_batches_files_and_the_cache_do_not_matter(folders, tmp_path):
    model = load_vision(folders["vit"], device="cpu")
    files = {}
    for i, array in enumerate(PICTURES):
        files[f"s{i}"] = tmp_path / f"{i}.png"
        Image.fromarray(array).save(files[f"s{i}"])
    one = picture_features(PICTURES, model, layers=[-1], batch_size=1, cache=False)
    for _ in range(2):
        all_ = picture_features(files, model, layers=[-1], batch_size=5)
        np.testing.assert_allclose(one.bands["layer2"], all_.bands["layer2"], rtol=1e-4, atol=1e-5)
    assert all_.index["stimulus_id"].tolist() == list(files)


def test_pictures_of_the_same_numbers_and_another_look_are_not_taken_for_one_another(folders):
    numbers = np.kron(np.arange(16).reshape(4, 4), np.ones((8, 8))).astype(np.uint8)
    one, other = (Image.fromarray(numbers, mode="P") for _ in range(2))
    one.putpalette(bytes(range(48)))
    other.putpalette(bytes(range(255, 207, -1)))
    plain = Image.fromarray(picture(0, (32, 32)))
    turned = plain.copy()
    turned.getexif()[0x0112] = 6
    for pair in ((one, other), (plain, turned)):
        cached, fresh = (
            [picture_features([p], folders["vit"], layers=1, device="cpu", cache=cache).bands["layer1"] for p in pair]
            for cache in (True, False)
        )
        assert np.abs(fresh[0] - fresh[1]).max() > 0.01
        np.testing.assert_allclose(cached, fresh, rtol=1e-4, atol=1e-5)


def test_frames_of_a_film(folders, tmp_path):
    film = tmp_path / "film"
    film.mkdir()
    for i in range(13):
        Image.fromarray(picture(i)).save(film / f"{i:04d}.png")
    files, index = film_frames(film, run="1", fps=4)
    assert [f.name for f in files] == ["0000.png", "0002.png", "0004.png", "0006.png", "0008.png", "0010.png"]
    np.testing.assert_allclose(index["onset_s"], [0, 0.5, 1, 1.5, 2, 2.5])
    found = picture_features(files, folders["vit"], layers=1, pool="flat", index=index, device="cpu")
    seconds = resample_to_tr(found, n_tr={"1": 3}, tr_s=1.0, how="mean")
    each = found.bands["layer1"]
    np.testing.assert_allclose(seconds.bands["layer1"], (each[::2] + each[1::2]) / 2, rtol=1e-5, atol=1e-6)
    assert len(film_frames(film, run="1", fps=4, all_frames=True)[0]) == 13


def test_frames_are_in_the_order_of_their_numbers(tmp_path):
    for i in range(12):
        Image.fromarray(picture(i)).save(tmp_path / f"frame{i}.png")
    files, _ = film_frames(tmp_path, run="1", fps=4, all_frames=True)
    assert [f.stem for f in files] == [f"frame{i}" for i in range(12)]


def bomb(width, height):
    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", zlib.compress(bytes(10**6)))
        + chunk(b"IEND", b"")
    )


@pytest.mark.parametrize("side", [8_000, 12_000, 60_000])
def test_a_bomb_is_refused_before_it_is_unpacked(tmp_path, side):
    path = tmp_path / "bomb.png"
    path.write_bytes(bomb(side, side))
    with pytest.raises(InputError) as caught:
        read_picture(path)
    assert caught.value.code == "E-SIZE"


def test_damaged_and_other_files(tmp_path):
    whole = tmp_path / "whole.png"
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (64, 64, 3)).astype(np.uint8)).save(whole)
    content = whole.read_bytes()
    cases = {
        "cut.png": (content[: len(content) // 2], "E-TRUNC"), "empty.png": (b"", "E-TRUNC"),
        "page.png": (b"<!DOCTYPE html><html>", "E-FMT"), "pickle.png": (b"\x80\x04K\x01.", "E-FMT"),
        "script.eps": (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "E-FMT"),
    }  # fmt: skip
    for name, (bad, code) in cases.items():
        (tmp_path / name).write_bytes(bad)
        with pytest.raises(InputError) as caught:
            read_picture(tmp_path / name)
        assert (name, caught.value.code) == (name, code)
    for bad, code in ((np.zeros((4, 4)), "E-FMT"), (np.zeros((4, 4, 2), np.uint8), "E-SHAPE"), (3, "E-FMT")):
        with pytest.raises(InputError) as caught:
            read_picture(bad)
        assert caught.value.code == code
    with pytest.raises(InputError, match="mode 'F'"):
        read_picture(Image.new("F", (4, 4)))


def test_transparency_is_white_and_exif_turns(tmp_path):
    clear = Image.new("RGBA", (2, 2), (9, 9, 9, 0))
    assert np.asarray(read_picture(clear)).min() == 255
    turned = Image.fromarray(np.arange(24, dtype=np.uint8).reshape(2, 4, 3))
    exif = Image.Exif()
    exif[0x0112] = 6
    turned.save(tmp_path / "t.png", exif=exif)
    assert read_picture(tmp_path / "t.png").size == (2, 4)


def test_refused(folders, tmp_path):
    vit = load_vision(folders["vit"], device="cpu")
    for change, code in (({"layers": 9}, "E-CFG"), ({"pool": "best"}, "E-CFG"), ({"batch_size": 0}, "E-CFG")):
        with pytest.raises(InputError) as caught:
            picture_features(PICTURES, vit, **{"layers": 1, **change})
        assert caught.value.code == code
    with pytest.raises(InputError, match="no class token"):
        picture_features(PICTURES, folders["resnet"], layers=1, pool="first", device="cpu")
    with pytest.raises(InputError, match="expected float32"):
        load_vision(folders["vit"], device="cpu", dtype="float16")
    with pytest.raises(InputError, match="mapping or sequence"):
        picture_features([], vit, layers=1)
    with pytest.raises(InputError, match="no such folder"):
        load_vision(tmp_path / "nowhere")


@pytest.mark.parametrize("kind", ["clip", "vit", "llava"])
def test_squeezed_pictures_lose_no_side(folders, kind):
    wide = np.zeros((32, 128, 3), np.uint8)
    wide[:, :24] = 255  # in the part that a centre crop drops
    model = load_vision(folders[kind], device="cpu")
    by_us = picture_features([wide], model, layers=1, pool="flat", squeeze=True, cache=False).bands["layer1"]
    square = np.asarray(Image.fromarray(wide).resize((32, 32)))
    np.testing.assert_allclose(
        by_us,
        picture_features([square], model, layers=1, pool="flat", cache=False).bands["layer1"],
        rtol=1e-5,
        atol=1e-6,
    )
    if kind != "vit":  # whose preprocessing squeezes anyway
        plain = [
            picture_features([p], model, layers=1, cache=False).bands["layer1"] for p in (wide, np.zeros_like(wide))
        ]
        np.testing.assert_allclose(*plain)

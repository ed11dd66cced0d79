"""Folders of models that are refused before or while they are loaded."""

from __future__ import annotations

import json

import pytest
import torch
from safetensors.torch import load_file, save_file

from tiny_models import build_tiny
from wernicke.core.errors import InputError
from wernicke.pretrained.audio import load_audio
from wernicke.pretrained.frozen import locate_model
from wernicke.pretrained.masked import load_masked
from wernicke.pretrained.vision import load_vision
from wernicke.pretrained.vision_language import load_vision_language


@pytest.fixture
def vit(tmp_path):
    return build_tiny(tmp_path / "vit", "vit")


def code_of(call):
    with pytest.raises(InputError) as caught:
        call()
    return caught.value.code


def change(folder, file, **values):
    content = json.loads((folder / file).read_text())
    (folder / file).write_text(json.dumps({**content, **values}))


def test_frozen_and_fingerprinted(vit):
    first = locate_model(vit).fingerprint
    assert not any(p.requires_grad for p in load_vision(vit, device="cpu").model.parameters())
    change(vit, "preprocessor_config.json", image_mean=[0.1, 0.1, 0.1])
    assert locate_model(vit).fingerprint != first  # other preprocessing, other features


@pytest.mark.parametrize("file", ["config.json", "preprocessor_config.json"])
def test_code_of_its_own_is_never_run(vit, file):
    change(vit, file, auto_map={"AutoModel": "evil.Model"})
    assert code_of(lambda: load_vision(vit)) == "E-UNSAFE"


def test_weights_that_are_missing_damaged_or_pickled(vit):
    weights = load_file(vit / "model.safetensors")
    name = next(n for n in weights if "layer" in n and n.endswith("weight"))
    save_file({n: w for n, w in weights.items() if n != name}, vit / "model.safetensors")
    assert code_of(lambda: load_vision(vit, device="cpu")) == "E-CKPT"
    save_file({n: w[:1] if n == name else w for n, w in weights.items()}, vit / "model.safetensors")
    assert code_of(lambda: load_vision(vit, device="cpu")) == "E-CKPT"
    content = (vit / "model.safetensors").read_bytes()
    (vit / "model.safetensors").write_bytes(content[: len(content) // 2])
    assert code_of(lambda: load_vision(vit, device="cpu")) == "E-HDR"
    (vit / "model.safetensors").unlink()
    torch.save(weights, vit / "pytorch_model.bin")
    assert code_of(lambda: load_vision(vit, device="cpu")) == "E-UNSAFE"


def test_models_of_another_kind(tmp_path, vit):
    bert, wav = build_tiny(tmp_path / "bert", "bert"), build_tiny(tmp_path / "wav", "wav2vec2")
    assert code_of(lambda: load_vision(bert, device="cpu")) in ("E-REF", "E-CFG")
    assert code_of(lambda: load_audio(vit, device="cpu")) in ("E-REF", "E-CFG")
    assert code_of(lambda: load_vision_language(vit, device="cpu")) in ("E-REF", "E-CFG")
    assert code_of(lambda: load_vision(wav, device="cpu")) in ("E-REF", "E-CFG")
    assert code_of(lambda: load_masked(wav, device="cpu")) == "E-REF"  # no tokenizer
    change(vit, "config.json", model_type="novel")
    assert code_of(lambda: load_vision(vit, device="cpu")) in ("E-REF", "E-CFG")

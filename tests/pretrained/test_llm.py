"""Language models by one argument: what is refused, and what comes out equal to transformers' own loading."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from tiny_llms import SENTENCES, build_tiny_llm
from wernicke.core.errors import InputError
from wernicke.pretrained import llm as llm_module
from wernicke.pretrained import locate as locate_module
from wernicke.pretrained.llm import load_llm, resolve_device
from wernicke.pretrained.locate import fingerprint_llm, locate_llm

KINDS = ("llama", "mistral", "qwen2", "gpt2")


@pytest.fixture(scope="module")
def original(tmp_path_factory):
    return build_tiny_llm(tmp_path_factory.mktemp("llm") / "tiny")


@pytest.fixture
def folder(original, tmp_path):
    """A copy that a test may damage."""
    return Path(shutil.copytree(original, tmp_path / "tiny"))


def refused(code, llm, call=locate_llm, **kwargs):
    with pytest.raises(InputError) as caught:
        call(llm, **kwargs)
    message = str(caught.value)
    assert message.startswith(code + " "), message
    assert message.count("\n") <= 1
    return message


@pytest.mark.parametrize("kind", KINDS)
def test_loads_what_transformers_loads(tmp_path, kind):
    from transformers import AutoModelForCausalLM

    folder = build_tiny_llm(tmp_path / kind, kind, n_layers=3, max_positions=128)
    ours = load_llm(str(folder))
    theirs = AutoModelForCausalLM.from_pretrained(folder)
    tokens = ours.tokenizer(SENTENCES[0], return_tensors="pt")["input_ids"]
    assert torch.equal(ours.model(tokens).logits, theirs(tokens).logits)
    assert (ours.n_layers, ours.hidden_size, ours.max_positions, ours.dtype) == (3, 32, 128, "float32")
    assert ours.has_chat_template
    assert not ours.model.training
    assert not any(p.requires_grad for p in ours.model.parameters())
    assert ours.fingerprint == fingerprint_llm(folder)
    assert ours.revision is None


def test_dtype(original):
    model = load_llm(original, dtype="bfloat16")
    assert model.model.dtype == torch.bfloat16
    assert model.dtype == "bfloat16"
    assert "did you mean `bfloat16`" in refused("E-CFG", original, load_llm, dtype="bfloat")


@pytest.mark.parametrize("kind", ["llama", "gpt2"])
def test_missing_pad_token_never_changes_the_vocabulary(tmp_path, kind):
    folder = build_tiny_llm(tmp_path / kind, kind, pad_token=False)
    model = load_llm(folder)
    assert model.pad_is_eos
    assert model.tokenizer.pad_token_id == model.tokenizer.eos_token_id
    assert len(model.tokenizer) == model.model.get_input_embeddings().weight.shape[0]


def test_pad_token_of_its_own_is_kept(original):
    model = load_llm(original)
    assert not model.pad_is_eos
    assert model.tokenizer.pad_token == "<pad>"


def test_pad_token_beyond_the_embeddings_is_not_used(folder):
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder)
    tokenizer.add_special_tokens({"pad_token": "<added>"})
    tokenizer.save_pretrained(folder)
    assert load_llm(folder).pad_is_eos


def test_places_that_hold_no_model(tmp_path, folder):
    assert "no such folder" in refused("E-REF", tmp_path / "nothere")
    assert "no such folder" in refused("E-REF", str(tmp_path / "nothere"))
    assert "is a file" in refused("E-REF", folder / "config.json")
    (tmp_path / "empty").mkdir()
    assert "found nothing" in refused("E-REF", tmp_path / "empty")
    (tmp_path / "empty" / "adapter_config.json").write_text("{}")
    assert "LoRA adapter" in refused("E-REF", tmp_path / "empty")
    refused("E-CFG", "two words")


def test_missing_parts_are_named(folder):
    moved = folder.parent / "moved"
    moved.mkdir()
    (folder / "tokenizer.json").rename(moved / "tokenizer.json")
    assert "no tokenizer" in refused("E-REF", folder)
    (moved / "tokenizer.json").rename(folder / "tokenizer.json")
    weights = folder / "model.safetensors"
    weights.rename(moved / weights.name)
    assert "model.safetensors is missing" in refused("E-REF", folder)
    (folder / "pytorch_model.bin").write_bytes(b"\x80\x04")
    message = refused("E-UNSAFE", folder)
    assert "pytorch_model.bin" in message
    assert "weights_only" not in message
    (folder / "pytorch_model.bin").unlink()
    index = {"weight_map": {"a": "model-1-of-2.safetensors", "b": "model-2-of-2.safetensors"}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    assert "2 of 2 files missing" in refused("E-REF", folder)
    index["weight_map"]["a"] = "../../secret.safetensors"
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    assert "leaves the folder" in refused("E-UNSAFE", folder)


@pytest.mark.parametrize("file", ["config.json", "tokenizer_config.json"])
def test_code_of_its_own_is_never_run(folder, file):
    canary = folder / "canary"
    values = json.loads((folder / file).read_text())
    values["auto_map"] = {"AutoConfig": "own.Config", "AutoModelForCausalLM": "own.Model", "AutoTokenizer": "own.Tok"}
    (folder / file).write_text(json.dumps(values))
    (folder / "own.py").write_text(f"open({str(canary)!r}, 'w').close()\n")
    assert "auto_map" in refused("E-UNSAFE", folder, load_llm)
    assert not canary.exists()


def test_other_kinds_of_model(folder):
    config = json.loads((folder / "config.json").read_text())
    for change in (
        {"model_type": "bert", "architectures": ["BertModel"]},
        {"model_type": "t5", "architectures": ["T5ForConditionalGeneration"]},
        {"model_type": "nonesuch", "architectures": ["NoneSuch"]},
        {"architectures": ["LlamaForSequenceClassification"]},
    ):
        (folder / "config.json").write_text(json.dumps(config | change))
        assert "not a causal language model" in refused("E-CFG", folder, load_llm)
    (folder / "config.json").write_text("[1]")
    refused("E-FMT", folder, load_llm)
    (folder / "config.json").write_text("{")
    refused("E-FMT", folder, load_llm)


def test_weights_must_be_whole(folder):
    path = folder / "model.safetensors"
    tensors = load_file(path)
    name = "model.layers.1.mlp.up_proj.weight"
    save_file({k: v for k, v in tensors.items() if k != name}, path, metadata={"format": "pt"})
    assert f"1 weights are missing, such as {name}" in refused("E-CKPT", folder, load_llm)
    save_file(tensors | {name: torch.zeros(3, 3)}, path, metadata={"format": "pt"})
    refused("E-CKPT", folder, load_llm)
    path.write_bytes(path.read_bytes()[:-100])
    refused("E-HDR", folder, load_llm)


def test_damaged_tokenizer(folder):
    (folder / "tokenizer.json").write_text('{"version": "1.0", "model": {"type": "BPE", "vocab": 3}}')
    refused("E-FMT", folder, load_llm)


def test_devices(original, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert resolve_device("auto") == "cpu"
    assert "0 CUDA devices" in refused("E-CFG", "cuda", resolve_device)
    refused("E-CFG", "gpu", resolve_device)
    refused("E-CFG", "cpu:1", resolve_device)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert resolve_device("auto") == "cuda"
    assert resolve_device("cuda:1") == "cuda:1"
    assert "2 CUDA devices" in refused("E-CFG", "cuda:2", resolve_device)


def test_quantised_without_bitsandbytes(original, monkeypatch):
    monkeypatch.setattr(llm_module.importlib.util, "find_spec", lambda name: None)
    assert "wernicke[quantised]" in refused("E-CFG", original, load_llm, quantised="8bit")
    refused("E-CFG", original, load_llm, quantised="3bit")


# ------------------------------------------------------------------------------------------------------------ the hub


def test_offline_is_said(monkeypatch, tmp_path):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    assert "HF_HUB_OFFLINE is set" in refused("E-REF", "someone/some-model")
    assert "did you mean `smollm2`?" in refused("E-REF", "smollm")


@pytest.mark.parametrize(
    ("name", "code", "said"),
    [
        ("GatedRepoError", "E-CFG", "set HF_TOKEN"),
        ("RepositoryNotFoundError", "E-REF", "no model org/name on the Hugging Face hub"),
        ("RevisionNotFoundError", "E-REF", "no revision 'v9'"),
        ("LocalEntryNotFoundError", "E-REF", "not in the hub's cache"),
        ("HfHubHTTPError", "E-REF", "fetching org/name"),
        ("ConnectionError", "E-REF", "fetching org/name"),
    ],
)
def test_what_the_hub_answers(monkeypatch, name, code, said):
    import huggingface_hub
    from huggingface_hub import errors

    kind = getattr(errors, name, ConnectionError)

    def answer(*args, **kwargs):
        error = kind.__new__(kind)
        Exception.__init__(error, "401 Client Error.\nmany\nlines")
        raise error

    monkeypatch.setattr(huggingface_hub, "snapshot_download", answer)
    assert said in refused(code, "org/name", revision="v9")


def test_hub_cache_is_read_offline_and_the_commit_recorded(original, tmp_path, monkeypatch):
    """A folder laid out as the hub's cache: refs, snapshots and blobs named by their hash."""
    commit = "0123456789abcdef0123456789abcdef01234567"
    root = tmp_path / "hub" / "models--org--tiny"
    snapshot = root / "snapshots" / commit
    snapshot.mkdir(parents=True)
    (root / "blobs").mkdir()
    (root / "refs").mkdir()
    (root / "refs" / "main").write_text(commit)
    for path in original.iterdir():
        blob = root / "blobs" / locate_module.sha256_file(path)
        shutil.copy(path, blob)
        (snapshot / path.name).symlink_to(blob)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    from functools import partial

    import huggingface_hub

    download = partial(huggingface_hub.snapshot_download, cache_dir=tmp_path / "hub")
    monkeypatch.setattr(huggingface_hub, "snapshot_download", download)
    model = load_llm("org/tiny")
    assert model.revision == commit
    assert model.name == "org/tiny"
    assert commit in model.source.citation
    # The blob's name stands for its content: same fingerprint as the folder that it was copied from.
    assert model.fingerprint == fingerprint_llm(original)


# ------------------------------------------------------------------------------------------------------- fingerprints


def test_fingerprint_follows_content(folder, original, tmp_path):
    first = fingerprint_llm(folder)
    assert first == fingerprint_llm(original)  # where it lies does not matter
    (folder / "README.md").write_text("a card")
    assert fingerprint_llm(folder) == first
    path = folder / "model.safetensors"
    tensors = load_file(path)
    size = path.stat().st_size
    tensors["model.norm.weight"][3] += 1e-3  # as a finetune does: the same header, the same size
    save_file(tensors, path, metadata={"format": "pt"})
    assert path.stat().st_size == size
    second = fingerprint_llm(folder)
    assert second != first
    template = folder / "chat_template.jinja"
    template.write_text(template.read_text() + " ")
    assert fingerprint_llm(folder) != second

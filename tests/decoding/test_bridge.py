"""The bridge on tiny real architectures, against transformers' own loss and hand-made positions."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch

from tiny_llms import SENTENCES, build_tiny_llm
from wernicke.core.errors import InputError
from wernicke.decoding.bridge import Bridge, BridgeConfig
from wernicke.pretrained.llm import load_llm

KINDS = ("llama", "mistral", "qwen2", "gpt2")
MESSAGES = (
    {"role": "system", "content": "You describe pictures."},
    {"role": "user", "content": "<brain> <label> Describe it:"},
)
LABELS = ["cat", "a rather long house", "x", "pair of scissors", "y"]
TEXTS = [SENTENCES[2], "no", SENTENCES[3], "t t t", "A face"]


@pytest.fixture(scope="module")
def load(tmp_path_factory):
    made = {}

    def get(kind="llama", **settings):
        key = (kind, *sorted(settings.items()))
        if key not in made:
            made[key] = load_llm(build_tiny_llm(tmp_path_factory.mktemp("llm"), kind, **settings), device="cpu")
        return made[key]

    return get


def make_bridge(llm, messages=MESSAGES, n_tokens=2, seed=0, **settings) -> Bridge:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        bridge = Bridge(BridgeConfig(d_in=7, n_tokens=n_tokens, messages=messages, **settings), llm)
        for parameter in bridge.parameters():
            torch.nn.init.normal_(parameter, std=0.5)
    return bridge


def embeddings(n=5, seed=0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((n, 7))


def by_hand(bridge: Bridge, row: np.ndarray, label: str, text: str | None) -> tuple[torch.Tensor, int]:
    """Return one unpadded row's embeddings and its number of target tokens, without anything of `splice`."""
    table, prompt = bridge.llm.model.get_input_embeddings(), bridge.prompt
    soft = bridge.soft_tokens(torch.tensor(row[None], dtype=torch.float32))[0]
    target = [] if text is None else prompt.target_ids(text)
    parts = [table(torch.tensor(prompt.prefix_ids)), soft, table(torch.tensor(prompt.suffix_ids(label) + target))]
    return torch.cat(parts)[None], len(target)


@pytest.mark.parametrize("template", [True, "no_system", False])
@pytest.mark.parametrize("kind", KINDS)
def test_batched_generation_equals_single_and_plain_greedy(load, kind, template):
    bridge = make_bridge(load(kind, chat_template=template, pad_token=kind != "qwen2"))
    values = embeddings()
    together = bridge.generate_ids(values, labels=LABELS, max_new_tokens=10)
    for row in range(len(values)):
        alone = bridge.generate_ids(values[row : row + 1], labels=LABELS[row : row + 1], max_new_tokens=10)[0]
        assert together[row] == alone
        sequence, greedy = by_hand(bridge, values[row], LABELS[row], None)[0], []
        while len(greedy) < 10 and not (greedy and greedy[-1] in bridge.prompt.stop_ids):
            greedy.append(int(bridge.llm.model(inputs_embeds=sequence).logits[0, -1].argmax()))
            next_token = bridge.llm.model.get_input_embeddings()(torch.tensor([[greedy[-1]]]))
            sequence = torch.cat([sequence, next_token], 1)
        assert together[row] == greedy
    assert together == bridge.generate_ids(values, labels=LABELS, max_new_tokens=10, batch_size=2)


@pytest.mark.parametrize("pad_token", [True, False])
@pytest.mark.parametrize("kind", KINDS)
def test_loss_is_that_of_transformers_on_the_target_only(load, kind, pad_token):
    bridge = make_bridge(load(kind, pad_token=pad_token))
    values = embeddings()
    total, n_tokens = bridge.loss(values, TEXTS, LABELS)
    expected, count = 0.0, 0
    for row in range(len(values)):
        sequence, n_target = by_hand(bridge, values[row], LABELS[row], TEXTS[row])
        labels = torch.full((1, sequence.shape[1]), -100)
        labels[0, -n_target:] = torch.tensor(bridge.prompt.target_ids(TEXTS[row]))
        expected += bridge.llm.model(inputs_embeds=sequence, labels=labels).loss.item() * n_target
        count += n_target
    assert n_tokens == count
    np.testing.assert_allclose(float(total.detach()), expected, rtol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_gradient_is_that_of_the_uncached_sequence(load, kind):
    bridge = make_bridge(load(kind))
    values = embeddings(2)
    bridge.loss(values, TEXTS[:2], LABELS[:2])[0].backward()
    cached = bridge.projector.weight.grad.clone()
    bridge.projector.weight.grad = None
    for row in range(2):
        sequence, n_target = by_hand(bridge, values[row], LABELS[row], TEXTS[row])
        logits = bridge.llm.model(inputs_embeds=sequence).logits[0, -n_target - 1 : -1]
        wanted = torch.tensor(bridge.prompt.target_ids(TEXTS[row]))
        torch.nn.functional.cross_entropy(logits, wanted, reduction="sum").backward()
    torch.testing.assert_close(cached, bridge.projector.weight.grad, rtol=1e-4, atol=1e-5)
    assert all(parameter.grad is None for parameter in bridge.llm.model.parameters())


def test_positions_and_mask_of_padded_rows_by_hand(load):
    bridge = make_bridge(load(), messages=({"role": "user", "content": "<brain> <label>"},), n_tokens=3)
    soft = torch.zeros(2, 3, bridge.d_llm)
    rows = bridge._splicer.build(soft, ["cat", "a rather long house that stands"])
    lengths = [len(bridge.prompt.prefix_ids) + 3 + len(bridge.prompt.suffix_ids(label))
               for label in ("cat", "a rather long house that stands")]  # fmt: skip
    pad = lengths[1] - lengths[0]
    assert pad > 0
    assert rows.mask.tolist() == [[0] * pad + [1] * lengths[0], [1] * lengths[1]]
    assert rows.positions.tolist() == [[0] * pad + list(range(lengths[0])), list(range(lengths[1]))]


@pytest.mark.parametrize("label", ["cat", "cat " * 30])
def test_padding_longer_than_the_prefix_changes_nothing(load, label):
    bridge = make_bridge(load(), messages=({"role": "user", "content": "<brain> <label>"},))
    values = embeddings(2)
    assert len(bridge.prompt.prefix_ids) < 30
    together = float(bridge.loss(values, TEXTS[:2], ["x", label])[0].detach())
    apart = sum(float(bridge.loss(values[i : i + 1], TEXTS[i : i + 1], [("x", label)[i]])[0].detach()) for i in (0, 1))
    np.testing.assert_allclose(together, apart, rtol=1e-5)


def test_sliding_window_shorter_than_the_prompt(load):
    llm = load("mistral", seed=3)
    llm.model.config.sliding_window = 6
    bridge = make_bridge(llm)
    values = embeddings()
    together = bridge.generate_ids(values, labels=LABELS, max_new_tokens=8)
    for row in range(len(values)):
        sequence, ids = by_hand(bridge, values[row], LABELS[row], None)[0], []
        while len(ids) < 8 and not (ids and ids[-1] in bridge.prompt.stop_ids):
            ids.append(int(bridge.llm.model(inputs_embeds=sequence, use_cache=False).logits[0, -1].argmax()))
            sequence = torch.cat([sequence, llm.model.get_input_embeddings()(torch.tensor([[ids[-1]]]))], 1)
        assert together[row] == ids


def test_pad_equal_to_eos_loses_no_token(load):
    """The published code counts end-of-turn tokens inside the prompt as padding and cuts as many real ones."""
    llm = load("qwen2", pad_token=False, seed=1)
    llm.tokenizer.pad_token = llm.tokenizer.eos_token
    bridge = make_bridge(llm)
    eos = llm.tokenizer.eos_token_id
    assert eos in bridge.prompt.prefix_ids  # the system turn's end
    ids = bridge.prompt.prefix_ids + bridge.prompt.suffix_ids("cat")
    text = llm.tokenizer.decode(ids)
    assert text == (
        "<|im_start|>system\nYou describe pictures.<|im_end|>\n"
        "<|im_start|>user\n cat Describe it:<|im_end|>\n<|im_start|>assistant\n"
    )
    rows = bridge._splicer.build(torch.zeros(2, 2, bridge.d_llm), ["cat", "a rather long house"])
    assert int(rows.mask[0].sum()) == len(ids) + 2


@pytest.mark.parametrize(("template", "expected"), [(True, "<|im_end|>"), ("no_system", "<|im_end|>"), (False, "</s>")])
def test_target_ends_with_the_end_of_turn(load, template, expected):
    llm = load("llama", chat_template=template)
    bridge = make_bridge(llm)
    ids = bridge.prompt.target_ids("A cat.")
    assert llm.tokenizer.decode(ids) == f"A cat.{expected}"


def test_template_without_system_role_keeps_the_system_text(load):
    bridge = make_bridge(load("llama", chat_template="no_system"))
    prefix = bridge.llm.tokenizer.decode(bridge.prompt.prefix_ids)
    assert prefix == "<|im_start|>user\nYou describe pictures.\n\n"


def test_without_chat_template_the_prompt_is_plain_lines(load):
    bridge = make_bridge(load("gpt2", chat_template=False))
    assert bridge.llm.tokenizer.decode(bridge.prompt.prefix_ids) == "You describe pictures.\n"
    assert bridge.llm.tokenizer.decode(bridge.prompt.suffix_ids("cat")) == " cat Describe it:\n"


def test_the_llms_own_sampling_is_set_aside(load):
    llm = load("llama")
    bridge = make_bridge(llm)
    before = bridge.generate_ids(embeddings(), labels=LABELS, max_new_tokens=8)
    own = llm.model.generation_config
    try:
        llm.model.generation_config = type(own)(do_sample=True, temperature=5.0, repetition_penalty=3.0)
        theirs = llm.model.generation_config
        assert bridge.generate_ids(embeddings(), labels=LABELS, max_new_tokens=8) == before
        assert llm.model.generation_config is theirs
    finally:
        llm.model.generation_config = own


def test_options_of_generation_reach_transformers(load):
    bridge = make_bridge(load("llama"))
    greedy = bridge.generate_ids(embeddings(), labels=LABELS, max_new_tokens=8)
    beams = bridge.generate_ids(embeddings(), labels=LABELS, max_new_tokens=8, num_beams=3)
    assert len(beams) == len(greedy) == 5
    assert beams != greedy


def test_generation_without_brain_has_no_soft_token(load):
    bridge = make_bridge(load("llama"))
    ids = torch.tensor([bridge.prompt.prefix_ids + bridge.prompt.suffix_ids("cat")])
    expected = bridge.llm.model.generate(ids, max_new_tokens=8, do_sample=False, eos_token_id=bridge.prompt.stop_ids)
    text = bridge.llm.tokenizer.decode(expected[0, ids.shape[1] :], skip_special_tokens=True).strip()
    assert bridge.generate_without_brain(max_new_tokens=8, label="cat") == text


def test_beginning_from_texts_puts_each_text_where_it_lies(load):
    bridge = make_bridge(load("llama"), n_tokens=4)
    values = embeddings(3)
    bridge.begin_from_texts(values, TEXTS[:3], penalty=1e-9)
    soft = bridge.soft_tokens(torch.tensor(values, dtype=torch.float32))
    tokens = bridge.llm.model.get_input_embeddings()(torch.tensor(bridge.prompt.target_ids(TEXTS[0])[:-1]))
    expected = torch.nn.functional.adaptive_avg_pool1d(tokens.T, 4).T
    torch.testing.assert_close(soft[0], expected, rtol=1e-3, atol=1e-4)
    with pytest.raises(InputError, match="E-CFG"):
        make_bridge(load("llama"), d_hidden=8).begin_from_texts(values, TEXTS[:3])


@pytest.mark.parametrize("d_hidden", [None, 5])
def test_save_and_load(load, tmp_path, d_hidden):
    llm = load("llama")
    bridge = make_bridge(llm, d_hidden=d_hidden)
    bridge.save_pretrained(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["config.json", "model.safetensors"]
    again = Bridge.from_pretrained(tmp_path, llm)
    assert again.config.d_hidden == d_hidden
    assert [dict(m) for m in again.config.messages] == [dict(m) for m in MESSAGES]
    values = embeddings()
    assert again.generate_ids(values, labels=LABELS) == bridge.generate_ids(values, labels=LABELS)
    with pytest.raises(InputError, match="E-CKPT .*other weights"):
        Bridge.from_pretrained(tmp_path, load("gpt2"))
    stored = json.loads((tmp_path / "config.json").read_text())
    stored["bridge"]["n_token"] = stored["bridge"].pop("n_tokens")
    (tmp_path / "config.json").write_text(json.dumps(stored))
    with pytest.raises(InputError, match="did you mean `n_tokens`"):
        Bridge.from_pretrained(tmp_path, llm)
    stored["bridge"]["n_tokens"] = 1
    del stored["bridge"]["n_token"]
    (tmp_path / "config.json").write_text(json.dumps(stored))
    with pytest.raises(InputError, match="E-CKPT"):
        Bridge.from_pretrained(tmp_path, llm)
    content = (tmp_path / "model.safetensors").read_bytes()
    (tmp_path / "model.safetensors").write_bytes(content[:-7])
    with pytest.raises(InputError, match="E-CKPT"):
        Bridge.from_pretrained(tmp_path, llm)


def test_bad_embeddings_and_texts(load):
    bridge = make_bridge(load("llama"), messages=({"role": "user", "content": "<brain>"},))
    good = embeddings(2)
    with pytest.raises(InputError, match=r"E-SHAPE embeddings: found shape \(2, 6\), expected \(n, 7\)"):
        bridge.generate(good[:, :6])
    for bad in (np.where(np.eye(2, 7) > 0, np.nan, good), torch.full((2, 7), torch.inf)):
        with pytest.raises(InputError, match="E-NONFIN embeddings"):
            bridge.loss(bad, TEXTS[:2])
    for empty in ("", "  ", None):
        with pytest.raises(InputError, match="E-META texts: found the empty target"):
            bridge.loss(good, ["A cat.", empty])
    with pytest.raises(InputError, match="E-SHAPE texts: 1 texts for 2"):
        bridge.loss(good, ["A cat."])
    with pytest.raises(InputError, match="E-CFG labels: the prompt has no place"):
        bridge.generate(good, labels=["a", "b"])
    with pytest.raises(InputError, match="E-SHAPE labels: 1 labels for 2"):
        make_bridge(load("llama")).generate(good, labels=["a"])
    with pytest.raises(InputError, match="E-CFG labels: the prompt needs a label"):
        make_bridge(load("llama")).generate(good)
    with pytest.raises(InputError, match=r"E-FMT texts: .*<\|im_end\|>"):
        bridge.loss(good, ["A cat.<|im_end|>", "x"])


def test_context_shorter_than_the_prompt(load):
    llm = load("llama", max_positions=24)
    with pytest.raises(InputError, match=r"E-CFG llm: .* tokens, the LLM's context has 24"):
        make_bridge(llm, n_tokens=30)
    bridge = make_bridge(llm, messages=({"role": "user", "content": "<brain>"},))
    with pytest.raises(InputError, match="E-CFG llm: prompt and new tokens take"):
        bridge.generate(embeddings(1), max_new_tokens=20)
    with pytest.raises(InputError, match="E-CFG llm: prompt and answer take"):
        bridge.loss(embeddings(1), [" ".join(SENTENCES)])


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("no place", "occurs 0 times"),
        ("<brain> <brain>", "occurs 2 times"),
        ("<label> <brain>", "may occur once, after"),
    ],
)
def test_bad_prompts(load, content, message):
    with pytest.raises(InputError, match=f"E-CFG messages: .*{message}"):
        make_bridge(load("llama"), messages=({"role": "user", "content": content},))


def test_unknown_role(load):
    with pytest.raises(InputError, match="did you mean `user`"):
        make_bridge(load("llama"), messages=({"role": "usr", "content": "<brain>"},))

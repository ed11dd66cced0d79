"""Causal language models of a few thousand random weights, with a tokenizer trained here, saved as real folders.

They stand in for Llama, Mistral, Qwen2, GPT-2 and OPT wherever the code path counts and not the meaning of the text.
Test files import this module by its name: ``from tiny_llms import build_tiny_llm``.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal

SENTENCES = (
    "A person's face looks straight at the camera.",
    "A house stands in a quiet street.",
    "A cat sits on the floor and looks up.",
    "A glass bottle stands on a table.",
    "A pair of scissors lies open.",
    "A leather shoe seen from the side.",
    "A wooden chair stands in an empty room.",
    "A picture of meaningless scrambled texture.",
)

SPECIAL = ("<pad>", "<s>", "</s>", "<|im_start|>", "<|im_end|>", "<|endoftext|>")

_TURNS = (
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>\\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
)
CHAT_TEMPLATE = _TURNS
# As Gemma and early Mistral templates do: a system turn is an error, not ignored.
NO_SYSTEM_TEMPLATE = (
    "{% if messages[0]['role'] == 'system' %}{{ raise_exception('System role not supported') }}{% endif %}" + _TURNS
)


def build_tiny_llm(
    folder: Path,
    kind: Literal["llama", "mistral", "qwen2", "gpt2", "opt"] = "llama",
    *,
    chat_template: bool | Literal["no_system"] = True,
    pad_token: bool = True,
    max_positions: int = 256,
    hidden_size: int = 32,
    n_layers: int = 2,
    seed: int = 0,
) -> Path:
    """Write a random causal LLM with its tokenizer into `folder` and return it.

    Parameters
    ----------
    folder : Path
        Made if it is missing.
    kind : str
        Architecture.
    chat_template : bool or "no_system"
        A ChatML-like template, none, or one that refuses a system turn.
    pad_token : bool
        Whether the tokenizer declares ``<pad>``. Without, there is none, except for "qwen2", whose tokenizer class
        always has ``<|endoftext|>``.
    max_positions : int
        Context length.
    hidden_size, n_layers : int
        Width (a multiple of 8) and number of blocks.
    seed : int
        Of the random weights; the global random state is left alone.
    """
    import torch

    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer = build_tokenizer(chat_template=chat_template, pad_token=pad_token, max_positions=max_positions)
    tokenizer.save_pretrained(folder)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = _model(kind, len(tokenizer), tokenizer, max_positions, hidden_size, n_layers, pad_token)
    model.save_pretrained(folder)
    return folder


def build_tokenizer(*, chat_template=True, pad_token=True, max_positions=256):
    """Return a byte-level BPE tokenizer trained on `SENTENCES`: any text can be written in it."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bpe.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=400,
        special_tokens=list(SPECIAL),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    bpe.train_from_iterator(SENTENCES, trainer)
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=bpe,
        bos_token="<s>",
        # An instruct model ends a turn, a base model ends the text.
        eos_token="<|im_end|>" if chat_template else "</s>",
        model_max_length=max_positions,
        clean_up_tokenization_spaces=False,
        **({"pad_token": "<pad>"} if pad_token else {}),
    )
    if chat_template:
        tokenizer.chat_template = NO_SYSTEM_TEMPLATE if chat_template == "no_system" else CHAT_TEMPLATE
    return tokenizer


def _model(kind, vocab_size, tokenizer, max_positions, hidden_size, n_layers, pad_token):
    import transformers

    ids = {
        "bos_token_id": tokenizer.bos_token_id,
        "eos_token_id": tokenizer.eos_token_id,
        "pad_token_id": tokenizer.pad_token_id if pad_token else None,
    }
    if kind == "gpt2":
        config = transformers.GPT2Config(
            vocab_size=vocab_size, n_positions=max_positions, n_embd=hidden_size, n_layer=n_layers, n_head=4, **ids
        )
        return transformers.GPT2LMHeadModel(config)
    if kind == "opt":
        config = transformers.OPTConfig(
            vocab_size=vocab_size, max_position_embeddings=max_positions, hidden_size=hidden_size, ffn_dim=64,
            num_hidden_layers=n_layers, num_attention_heads=4, word_embed_proj_dim=hidden_size, init_std=0.2, **ids,
        )  # fmt: skip
        return transformers.OPTForCausalLM(config)
    names = {"llama": "Llama", "mistral": "Mistral", "qwen2": "Qwen2"}
    config = getattr(transformers, f"{names[kind]}Config")(
        vocab_size=vocab_size,
        hidden_size=hidden_size,
        intermediate_size=2 * hidden_size,
        num_hidden_layers=n_layers,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=max_positions,
        initializer_range=0.2,  # wide enough that random hidden states differ by token
        **ids,
    )
    return getattr(transformers, f"{names[kind]}ForCausalLM")(config)

"""The bridge: an embedding becomes one or several soft tokens in a frozen language model's prompt.

Notable choices
---------------
- Only the projector is trained; the LLM is frozen and stays in evaluation mode.
- The prompt's prefix runs through the LLM once; its keys and values are reused by every batch, in training too, where
  no gradient could reach it.
- Rows are padded on the left, masked by their length and never by a token's id: with pad = eos, as many LLMs have it,
  masking by id deletes the end-of-turn tokens inside the prompt and cuts as many real tokens.
- Only the answer's tokens are in the loss; the last of them is the end-of-turn token.
- Greedy unless told otherwise; what the LLM's own ``generation_config`` asks for (sampling, penalties) is set aside.

References
----------
Thought2Text: Mishra et al., NAACL Findings 2025, doi 10.18653/v1/2025.findings-naacl.207 (one soft token from a linear
projection). Soft prompts: Lester et al., EMNLP 2021. LLaVA's two-layer projector: Liu et al., CVPR 2024.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from transformers import DynamicCache, GenerationConfig

from wernicke.core.checks import check_file, check_matrix, check_range, suggest
from wernicke.core.errors import InputError
from wernicke.decoding.prompt import Prompt
from wernicke.store.files import atomic_path, read_json, write_json

DEFAULT_MESSAGES = ({"role": "user", "content": "<brain> Describe what is seen in one sentence:"},)


@dataclass(frozen=True)
class BridgeConfig:
    """What makes a bridge, besides its LLM.

    Parameters
    ----------
    d_in : int
        Width of the embeddings it takes.
    n_tokens : int
        Soft tokens an embedding becomes.
    d_hidden : int, optional
        Width of a hidden layer with GELU; None is one linear map.
    messages : sequence of {"role", "content"}
        The prompt; `placeholder` stands in it once.
    placeholder : str
        Where the soft tokens go.
    label_slot : str
        Where in the prompt a sample's own text goes, if anywhere; after the placeholder.
    """

    d_in: int
    n_tokens: int = 1
    d_hidden: int | None = None
    messages: Sequence[Mapping[str, str]] = DEFAULT_MESSAGES
    placeholder: str = "<brain>"
    label_slot: str = "<label>"

    def __post_init__(self) -> None:
        check_range(self.d_in, "d_in", low=1)
        check_range(self.n_tokens, "n_tokens", low=1)
        if self.d_hidden is not None:
            check_range(self.d_hidden, "d_hidden", low=1)


class Bridge(nn.Module):
    """A projector into the input-embedding space of a frozen causal LLM.

    Parameters
    ----------
    config : BridgeConfig
    llm : PreTrainedModel
        Any causal LLM of transformers; its parameters are frozen here.
    tokenizer : PreTrainedTokenizerBase
        Its tokenizer; a pad token is not needed.

    Raises
    ------
    InputError
        E-CFG: a prompt without the placeholder, or longer than the LLM's context.
    """

    def __init__(self, config: BridgeConfig, llm: Any, tokenizer: Any) -> None:
        super().__init__()
        self.config = config
        self.llm = llm.requires_grad_(False).eval()
        self.tokenizer = tokenizer
        self.prompt = Prompt(tokenizer, config.messages, config.placeholder, config.label_slot)
        self.d_llm = int(llm.get_input_embeddings().weight.shape[1])
        width = config.n_tokens * self.d_llm
        self.projector: nn.Module
        if config.d_hidden is None:
            self.projector = nn.Linear(config.d_in, width)
        else:
            self.projector = nn.Sequential(
                nn.Linear(config.d_in, config.d_hidden), nn.GELU(), nn.Linear(config.d_hidden, width)
            )
        self._prefix: tuple[Tensor, list[tuple[Tensor, Tensor]]] | None = None
        self._check_context(len(self.prompt.prefix_ids) + config.n_tokens, "the prompt")

    def train(self, mode: bool = True) -> Bridge:
        """Set the projector's mode; the LLM stays in evaluation mode."""
        super().train(mode)
        self.llm.eval()
        return self

    def _apply(self, fn: Any, recurse: bool = True) -> Bridge:
        self._prefix = None  # computed on another device or in another precision
        return super()._apply(fn, recurse)

    def soft_tokens(self, embeddings: Tensor) -> Tensor:
        """Project embeddings, shape (n, d_in), to soft tokens, shape (n, n_tokens, d_llm)."""
        return self.projector(embeddings).view(len(embeddings), self.config.n_tokens, self.d_llm)

    def loss(self, embeddings: Any, texts: Sequence[str], labels: Sequence[str] | None = None) -> tuple[Tensor, int]:
        """Return the summed cross-entropy of the texts' tokens, and how many tokens that is.

        Parameters
        ----------
        embeddings : array or tensor, shape (n, d_in)
        texts : sequence of n str
            What the LLM is to write; the end-of-turn token is added.
        labels : sequence of n str, optional
            Each sample's own text, if the prompt has a slot for it.

        Raises
        ------
        InputError
            E-SHAPE, E-NONFIN: embeddings of another width or not finite. E-META: an empty text. E-CFG: longer than
            the LLM's context.
        """
        soft = self.soft_tokens(self._check(embeddings))
        targets = [self.prompt.target_ids(text) for text in texts]
        if len(targets) != len(soft):
            raise InputError("E-SHAPE", f"{len(targets)} texts for {len(soft)} embeddings", field="texts")
        full, mask = self._assemble(soft, labels, targets)
        cache, n_cached = self._prefix_cache(mask)
        # The logits at one place predict the next token, hence one more than the longest target, less the last.
        longest = max(len(target) for target in targets)
        logits = self.llm(
            inputs_embeds=full[:, n_cached:],
            attention_mask=mask,
            position_ids=_positions(mask)[:, n_cached:],
            past_key_values=cache,
            use_cache=True,
            logits_to_keep=longest + 1,
        ).logits[:, -longest - 1 : -1]
        wanted = torch.full((len(targets), longest), -100, device=full.device)
        for row, target in enumerate(targets):
            wanted[row, longest - len(target) :] = torch.tensor(target, device=full.device)
        total = nn.functional.cross_entropy(logits.flatten(0, 1).float(), wanted.flatten(), reduction="sum")
        return total, sum(len(target) for target in targets)

    @torch.no_grad()
    def generate(
        self,
        embeddings: Any,
        *,
        max_new_tokens: int = 40,
        batch_size: int = 16,
        labels: Sequence[str] | None = None,
        **decoding: Any,
    ) -> list[str]:
        """Write one sentence for each embedding, greedily.

        Parameters
        ----------
        embeddings : array or tensor, shape (n, d_in)
        max_new_tokens : int
        batch_size : int
            Rows at once; the sentences do not depend on it.
        labels : sequence of n str, optional
            Each sample's own text, if the prompt has a slot for it.
        **decoding
            Passed to transformers' ``GenerationConfig``, such as ``num_beams`` or ``repetition_penalty``.

        Returns
        -------
        list of n str

        Raises
        ------
        InputError
            As `loss`.
        """
        ids = self.generate_ids(
            embeddings, max_new_tokens=max_new_tokens, batch_size=batch_size, labels=labels, **decoding
        )
        return self._texts(ids)

    @torch.no_grad()
    def generate_ids(
        self,
        embeddings: Any,
        *,
        max_new_tokens: int = 40,
        batch_size: int = 16,
        labels: Sequence[str] | None = None,
        **decoding: Any,
    ) -> list[list[int]]:
        """As `generate`, but return each sentence's token ids up to the end-of-turn token, which is included."""
        check_range(batch_size, "batch_size", low=1)
        values = self._check(embeddings)
        written: list[list[int]] = []
        for start in range(0, len(values), batch_size):
            part = slice(start, start + batch_size)
            soft = self.soft_tokens(values[part])
            written += self._continue(soft, None if labels is None else labels[part], max_new_tokens, decoding)
        return written

    @torch.no_grad()
    def generate_without_brain(self, *, max_new_tokens: int = 40, label: str | None = None, **decoding: Any) -> str:
        """Write what the LLM makes of the prompt alone, without soft tokens: a control."""
        nothing = torch.zeros(1, 0, self.d_llm, device=self._device)
        labels = None if label is None else [label]
        return self._texts(self._continue(nothing, labels, max_new_tokens, decoding))[0]

    def save_pretrained(self, folder: str | Path) -> None:
        """Write the projector and its configuration; the LLM is named by its shape, not copied."""
        folder = Path(folder)
        weights = {name: tensor.detach().cpu().contiguous() for name, tensor in self.projector.state_dict().items()}
        with atomic_path(folder / "model.safetensors") as path:
            save_file(weights, path)
        shape = {"d_llm": self.d_llm, "model_type": self.llm.config.model_type}
        write_json(folder / "config.json", {"bridge": asdict(self.config), "llm": shape})

    @classmethod
    def from_pretrained(cls, folder: str | Path, llm: Any, tokenizer: Any) -> Bridge:
        """Read a bridge for the LLM that it was trained with; strict.

        Raises
        ------
        InputError
            E-REF, E-FMT: files missing or unreadable. E-CFG: unknown keys. E-CKPT: another LLM, or weights that do
            not fit the configuration.
        """
        path = check_file(Path(folder) / "config.json")
        stored = read_json(path)
        shape = {"d_llm": int(llm.get_input_embeddings().weight.shape[1]), "model_type": llm.config.model_type}
        if not isinstance(stored, dict) or set(stored) != {"bridge", "llm"}:
            raise InputError("E-FMT", "is not a bridge's configuration", path=path)
        if stored["llm"] != shape:
            raise InputError("E-CKPT", f"was trained with the LLM {stored['llm']}, found {shape}", path=path,
                             field="llm")  # fmt: skip
        known = [field.name for field in fields(BridgeConfig)]
        for key in stored["bridge"]:
            if key not in known:
                raise InputError("E-CFG", f"unknown key `{key}`", path=path, hint=suggest(key, known))
        bridge = cls(BridgeConfig(**stored["bridge"]), llm, tokenizer)
        weights = check_file(Path(folder) / "model.safetensors")
        try:
            bridge.projector.load_state_dict(load_file(weights), strict=True)
        except (SafetensorError, RuntimeError) as error:
            raise InputError("E-CKPT", f"the weights cannot be used: {error}", path=weights) from error
        return bridge

    # -- the sequence ------------------------------------------------------------------------------------------------

    def _assemble(
        self, soft: Tensor, labels: Sequence[str] | None, targets: Sequence[list[int]] | None = None
    ) -> tuple[Tensor, Tensor]:
        """Return left-padded input embeddings, shape (n, length, d_llm), and their mask, shape (n, length)."""
        if labels is not None and len(labels) != len(soft):
            raise InputError("E-SHAPE", f"{len(labels)} labels for {len(soft)} embeddings", field="labels")
        table = self.llm.get_input_embeddings()
        prefix = self._compute_prefix()[0].to(soft.device)
        rows = []
        for row, tokens in enumerate(soft):
            after = self.prompt.suffix_ids(None if labels is None else labels[row])
            after = after + (targets[row] if targets is not None else [])
            tail = table(torch.tensor(after, dtype=torch.long, device=soft.device))
            rows.append(torch.cat([prefix, tokens.to(prefix.dtype), tail]))
        longest = max(len(row) for row in rows)
        self._check_context(longest, "prompt and answer")
        full = torch.stack([nn.functional.pad(row, (0, 0, longest - len(row), 0)) for row in rows])
        lengths = torch.tensor([len(row) for row in rows], device=soft.device)
        mask = torch.arange(longest, device=soft.device)[None] >= longest - lengths[:, None]
        return full, mask.long()

    def _compute_prefix(self) -> tuple[Tensor, list[tuple[Tensor, Tensor]]]:
        """Return the prefix's embeddings, shape (n_prefix, d_llm), and each layer's keys and values; computed once."""
        if self._prefix is None:
            ids = torch.tensor(self.prompt.prefix_ids, dtype=torch.long, device=self._device)
            with torch.no_grad():
                embedded = self.llm.get_input_embeddings()(ids)
                layers = []
                if len(ids):
                    # Without a config every layer keeps all tokens, those with a sliding window too.
                    cache = DynamicCache()
                    self.llm(inputs_embeds=embedded[None], past_key_values=cache, use_cache=True, logits_to_keep=1)
                    layers = [(layer.keys, layer.values) for layer in cache.layers]
            self._prefix = (embedded, layers)
        return self._prefix

    def _prefix_cache(self, mask: Tensor) -> tuple[DynamicCache, int]:
        """Return the prefix's keys and values for these rows, and how many columns they cover.

        A row padded by k starts its prefix at column k, so its last k prefix tokens lie beyond those columns and are
        computed again.
        """
        cache = DynamicCache()
        n_prefix = len(self.prompt.prefix_ids)
        pads = (mask == 0).sum(1, keepdim=True)
        columns = (torch.arange(n_prefix, device=mask.device)[None] - pads).clamp(min=0)
        for index, (keys, values) in enumerate(self._compute_prefix()[1]):
            if pads.any():
                keys, values = (x[0].transpose(0, 1)[columns].transpose(1, 2) for x in (keys, values))
            else:
                keys, values = (x.expand(len(mask), -1, -1, -1) for x in (keys, values))
            cache.update(keys, values, index)
        return cache, n_prefix

    def _continue(
        self, soft: Tensor, labels: Sequence[str] | None, max_new_tokens: int, decoding: Mapping[str, Any]
    ) -> list[list[int]]:
        full, mask = self._assemble(soft, labels)
        self._check_context(full.shape[1] + max_new_tokens, "prompt and new tokens")
        cache, _ = self._prefix_cache(mask)
        settings = {"do_sample": False, "num_beams": 1, **decoding}
        config = GenerationConfig(
            max_new_tokens=max_new_tokens,
            eos_token_id=self.prompt.stop_ids,
            pad_token_id=self.prompt.end_id,
            **settings,
        )
        with _own_generation_config(self.llm, config):
            ids = self.llm.generate(inputs_embeds=full, attention_mask=mask, past_key_values=cache)
        return [_until_stop(row, self.prompt.stop_ids) for row in ids.tolist()]

    def _texts(self, ids: Sequence[list[int]]) -> list[str]:
        return [text.strip() for text in self.tokenizer.batch_decode(ids, skip_special_tokens=True)]

    # -- checks ------------------------------------------------------------------------------------------------------

    @property
    def _device(self) -> torch.device:
        return next(self.projector.parameters()).device

    def _check(self, embeddings: Any) -> Tensor:
        if not isinstance(embeddings, Tensor):
            embeddings = torch.from_numpy(np.ascontiguousarray(check_matrix(embeddings, "embeddings")))
        if embeddings.ndim != 2 or embeddings.shape[1] != self.config.d_in:
            raise InputError("E-SHAPE", f"found shape {tuple(embeddings.shape)}, expected (n, {self.config.d_in})",
                             field="embeddings")  # fmt: skip
        if not torch.isfinite(embeddings).all():
            raise InputError("E-NONFIN", "found values that are NaN or infinite", field="embeddings")
        weight = next(self.projector.parameters())
        return embeddings.to(device=weight.device, dtype=weight.dtype)

    def _check_context(self, length: int, what: str) -> None:
        context = getattr(self.llm.config, "max_position_embeddings", None)
        if context is not None and length > context:
            raise InputError("E-CFG", f"{what} take {length} tokens, the LLM's context has {context}", field="llm",
                             hint="shorten the prompt, the texts or max_new_tokens, or take another LLM")  # fmt: skip


def _positions(mask: Tensor) -> Tensor:
    return (mask.cumsum(1) - 1).clamp(min=0)


def _until_stop(ids: list[int], stop_ids: Sequence[int]) -> list[int]:
    end = next((place for place, token in enumerate(ids) if token in stop_ids), len(ids) - 1)
    return ids[: end + 1]


@contextmanager
def _own_generation_config(llm: Any, config: GenerationConfig) -> Iterator[None]:
    """Set the LLM's generation defaults aside: whatever they name would be merged into the call."""
    before, llm.generation_config = llm.generation_config, config
    try:
        yield
    finally:
        llm.generation_config = before

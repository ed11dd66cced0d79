"""Soft tokens spliced into a prompt's embeddings: left-padded rows, masks by length, the prefix's keys and values.

Notable choices
---------------
- Rows are masked by their length and never by a token's id: with pad = eos, as many LLMs have it, masking by id deletes
  the end-of-turn tokens inside the prompt and cuts as many real tokens.
- The prefix runs through the LLM once; its keys and values are reused by every batch, in training too, where no
  gradient could reach it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from transformers import DynamicCache

from wernicke.core.errors import InputError
from wernicke.decoding.prompt import Prompt


@dataclass(frozen=True)
class Rows:
    """A batch, ready for the LLM.

    Attributes
    ----------
    embeds : Tensor, shape (n, length, d_llm)
        Input embeddings, padded on the left.
    mask : Tensor, shape (n, length)
        1 where there is a token.
    cache : DynamicCache
        Keys and values of the first `n_cached` columns.
    n_cached : int
    """

    embeds: Tensor
    mask: Tensor
    cache: DynamicCache
    n_cached: int

    @property
    def positions(self) -> Tensor:
        """Position of each token in its row, shape (n, length)."""
        return (self.mask.cumsum(1) - 1).clamp(min=0)


class Splicer:
    """Builds batches of prompt, soft tokens and answer for one prompt and one LLM.

    Parameters
    ----------
    model : PreTrainedModel
        Any causal LLM of transformers.
    prompt : Prompt
    max_positions : int, optional
        The LLM's context length.
    """

    def __init__(self, model: Any, prompt: Prompt, max_positions: int | None) -> None:
        self.model = model
        self.prompt = prompt
        self.max_positions = max_positions
        self._prefix: tuple[Tensor, list[tuple[Tensor, Tensor]]] | None = None

    def forget(self) -> None:
        """Drop what was computed of the prefix: the LLM moved to another device or precision."""
        self._prefix = None

    def build(
        self, soft: Tensor, labels: Sequence[str] | None = None, targets: Sequence[list[int]] | None = None
    ) -> Rows:
        """Put soft tokens, shape (n, n_tokens, d_llm), between prefix and suffix, and the targets' ids behind.

        Raises
        ------
        InputError
            E-SHAPE: another number of labels or targets than rows. E-CFG: longer than the LLM's context.
        """
        for name, given in (("labels", labels), ("texts", targets)):
            if given is not None and len(given) != len(soft):
                raise InputError("E-SHAPE", f"{len(given)} {name} for {len(soft)} embeddings", field=name)
        table = self.model.get_input_embeddings()
        prefix, _ = self._compute_prefix(soft.device)
        rows = []
        for row, tokens in enumerate(soft):
            ids = self.prompt.suffix_ids(None if labels is None else labels[row])
            ids = ids + (targets[row] if targets is not None else [])
            tail = table(torch.tensor(ids, dtype=torch.long, device=soft.device))
            rows.append(torch.cat([prefix, tokens.to(prefix.dtype), tail]))
        longest = max(len(row) for row in rows)
        self.check_context(longest, "prompt and answer")
        embeds = torch.stack([nn.functional.pad(row, (0, 0, longest - len(row), 0)) for row in rows])
        pads = torch.tensor([longest - len(row) for row in rows], device=soft.device)[:, None]
        mask = (torch.arange(longest, device=soft.device)[None] >= pads).long()
        return Rows(embeds, mask, self._expand_prefix(pads), len(self.prompt.prefix_ids))

    def check_context(self, length: int, what: str) -> None:
        """Refuse (E-CFG) what is longer than the LLM's context."""
        if self.max_positions is not None and length > self.max_positions:
            raise InputError("E-CFG", f"{what} take {length} tokens, the LLM's context has {self.max_positions}",
                             field="llm", hint="shorten prompt, texts or max_new_tokens")  # fmt: skip

    def _compute_prefix(self, device: torch.device) -> tuple[Tensor, list[tuple[Tensor, Tensor]]]:
        """Return the prefix's embeddings, shape (n_prefix, d_llm), and each layer's keys and values; computed once."""
        if self._prefix is None:
            ids = torch.tensor(self.prompt.prefix_ids, dtype=torch.long, device=device)
            with torch.no_grad():
                embedded = self.model.get_input_embeddings()(ids)
                layers: list[Any] = []
                if len(ids):
                    # Without a config every layer keeps all tokens, those with a sliding window too.
                    cache = DynamicCache()
                    self.model(inputs_embeds=embedded[None], past_key_values=cache, use_cache=True, logits_to_keep=1)
                    layers = list(cache.layers)
            self._prefix = (embedded, [(layer.keys, layer.values) for layer in layers])
        return self._prefix

    def _expand_prefix(self, pads: Tensor) -> DynamicCache:
        """Return the prefix's keys and values for rows with these paddings, shape (n, 1).

        A row padded by k starts its prefix at column k, so its last k prefix tokens lie behind the cached columns and
        are computed again.
        """
        cache = DynamicCache()
        columns = (torch.arange(len(self.prompt.prefix_ids), device=pads.device)[None] - pads).clamp(min=0)
        for index, pair in enumerate(self._compute_prefix(pads.device)[1]):
            if pads.any():
                keys, values = (x[0].transpose(0, 1)[columns].transpose(1, 2) for x in pair)
            else:
                keys, values = (x.expand(len(pads), -1, -1, -1) for x in pair)
            cache.update(keys, values, index)
        return cache

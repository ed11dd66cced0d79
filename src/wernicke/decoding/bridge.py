"""The bridge: an embedding becomes one or several soft tokens in a frozen language model's prompt.

Notable choices
---------------
- Only the projector is trained. The LLM is no part of the module: neither moved, saved nor synchronised with it.
- Only the answer's tokens are in the loss; the last of them is the end-of-turn token.
- Greedy unless told otherwise; what the LLM's own ``generation_config`` asks for (sampling, penalties) is set aside.
- A linear projector can begin where the texts lie in the LLM's own input space (`begin_from_texts`), from which a few
  dozen steps suffice.

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
from transformers import GenerationConfig

from wernicke.core.checks import check_file, check_matrix, check_range, suggest
from wernicke.core.errors import InputError
from wernicke.decoding.prompt import Prompt
from wernicke.decoding.splice import Splicer
from wernicke.pretrained.llm import LanguageModel
from wernicke.store.files import read_json, save_tensors, write_json

# What comes after the soft tokens is computed for every row, what comes before only once.
DEFAULT_MESSAGES = ({"role": "user", "content": "Describe what is seen in one sentence: <brain>"},)


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
    llm : LanguageModel
        Any causal LLM (`wernicke.pretrained.llm.load_llm`); a pad token is not needed. The projector is made on its
        device, in float32.

    Raises
    ------
    InputError
        E-CFG: a prompt without the placeholder, or longer than the LLM's context.
    """

    def __init__(self, config: BridgeConfig, llm: LanguageModel) -> None:
        super().__init__()
        self.config = config
        self.llm = llm
        self.prompt = Prompt(llm.tokenizer, config.messages, config.placeholder, config.label_slot)
        self._splicer = Splicer(llm.model, self.prompt, llm.max_positions)
        # What was published may differ from `hidden_size`: some models embed in another width.
        self.d_llm = int(llm.model.get_input_embeddings().weight.shape[1])
        width = config.n_tokens * self.d_llm
        self.projector: nn.Module
        if config.d_hidden is None:
            self.projector = nn.Linear(config.d_in, width, device=llm.device)
        else:
            self.projector = nn.Sequential(
                nn.Linear(config.d_in, config.d_hidden, device=llm.device),
                nn.GELU(),
                nn.Linear(config.d_hidden, width, device=llm.device),
            )
        self._splicer.check_context(len(self.prompt.prefix_ids) + config.n_tokens, "the prompt's first part")

    def soft_tokens(self, embeddings: Tensor) -> Tensor:
        """Project embeddings, shape (n, d_in), to soft tokens, shape (n, n_tokens, d_llm)."""
        return self.projector(embeddings).view(len(embeddings), self.config.n_tokens, self.d_llm)

    @torch.no_grad()
    def begin_from_texts(self, embeddings: Any, texts: Sequence[str], *, penalty: float = 1.0) -> None:
        """Set a linear projector to the ridge map from embeddings to the texts' own input embeddings.

        Each text's token embeddings are averaged in `n_tokens` neighbouring groups (adaptive average pooling); the
        projector becomes the ridge regression of these on the embeddings. It is a closed form without any training:
        the LLM then reads something like the text itself, and training has to teach it to say that, not what it is.

        Parameters
        ----------
        embeddings : array, shape (n, d_in)
        texts : sequence of n str
        penalty : float
            Of the ridge regression.

        Raises
        ------
        InputError
            E-CFG: a projector with a hidden layer.
        """
        if not isinstance(self.projector, nn.Linear):
            raise InputError("E-CFG", "only a linear projector can begin from texts", field="d_hidden")
        values = self._check(embeddings).double()
        pooled = []
        for text in texts:
            ids = torch.tensor(self.prompt.target_ids(text)[:-1], device=self.llm.device)
            tokens = self.llm.model.get_input_embeddings()(ids).to(values.device, torch.float64)
            pooled.append(nn.functional.adaptive_avg_pool1d(tokens.T, self.config.n_tokens).T.flatten())
        wanted = torch.stack(pooled)
        centre, mean = values.mean(0), wanted.mean(0)
        values, wanted = values - centre, wanted - mean
        gram = values @ values.T + penalty * torch.eye(len(values), dtype=torch.float64, device=values.device)
        weight = (values.T @ torch.linalg.solve(gram, wanted)).T
        self.projector.weight.copy_(weight)
        self.projector.bias.copy_(mean - weight @ centre)

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
        rows = self._splicer.build(soft, labels, targets)
        # The logits at one place predict the next token: one more than the longest target is kept, the last unused.
        longest = max(len(target) for target in targets)
        logits = self.llm.model(
            inputs_embeds=rows.embeds[:, rows.n_cached :],
            attention_mask=rows.mask,
            position_ids=rows.positions[:, rows.n_cached :],
            past_key_values=rows.cache,
            use_cache=True,
            logits_to_keep=longest + 1,
        ).logits[:, -longest - 1 : -1]
        wanted = torch.full((len(targets), longest), -100, device=logits.device)
        for row, target in enumerate(targets):
            wanted[row, longest - len(target) :] = torch.tensor(target, device=logits.device)
        total = nn.functional.cross_entropy(logits.flatten(0, 1).float(), wanted.flatten(), reduction="sum")
        return total, sum(len(target) for target in targets)

    def generate(
        self,
        embeddings: Any,
        *,
        max_new_tokens: int = 40,
        batch_size: int = 32,
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
        return self._texts(
            self.generate_ids(
                embeddings, max_new_tokens=max_new_tokens, batch_size=batch_size, labels=labels, **decoding
            )
        )

    @torch.no_grad()
    def generate_ids(
        self,
        embeddings: Any,
        *,
        max_new_tokens: int = 40,
        batch_size: int = 32,
        labels: Sequence[str] | None = None,
        **decoding: Any,
    ) -> list[list[int]]:
        """As `generate`, but return each sentence's token ids, the end-of-turn token included where it was reached."""
        check_range(batch_size, "batch_size", low=1)
        check_range(max_new_tokens, "max_new_tokens", low=1)
        values = self._check(embeddings)
        if labels is not None and len(labels) != len(values):
            raise InputError("E-SHAPE", f"{len(labels)} labels for {len(values)} embeddings", field="labels")
        written: list[list[int]] = []
        for start in range(0, len(values), batch_size):
            part = slice(start, start + batch_size)
            soft = self.soft_tokens(values[part])
            written += self._continue(soft, None if labels is None else labels[part], max_new_tokens, decoding)
        return written

    @torch.no_grad()
    def generate_without_brain(self, *, max_new_tokens: int = 40, label: str | None = None, **decoding: Any) -> str:
        """Write what the LLM makes of the prompt alone, without soft tokens: a control."""
        nothing = torch.zeros(1, 0, self.d_llm, device=self.llm.device)
        labels = None if label is None else [label]
        return self._texts(self._continue(nothing, labels, max_new_tokens, decoding))[0]

    def save_pretrained(self, folder: str | Path) -> None:
        """Write the projector and its configuration; the LLM is named by its fingerprint, not copied."""
        folder = Path(folder)
        save_tensors(folder / "model.safetensors", dict(self.state_dict()), save_file)
        llm = {"name": self.llm.name, "fingerprint": self.llm.fingerprint}
        write_json(folder / "config.json", {"bridge": asdict(self.config), "llm": llm})

    @classmethod
    def from_pretrained(cls, folder: str | Path, llm: LanguageModel) -> Bridge:
        """Read a bridge for the LLM that it was trained with; strict.

        Raises
        ------
        InputError
            E-REF, E-FMT: files missing or unreadable. E-CFG: unknown keys. E-CKPT: another LLM, or weights that do
            not fit the configuration.
        """
        path = check_file(Path(folder) / "config.json")
        stored = read_json(path)
        if not isinstance(stored, dict) or set(stored) != {"bridge", "llm"} or not isinstance(stored["bridge"], dict):
            raise InputError("E-FMT", "is not a bridge's configuration", path=path)
        if not isinstance(stored["llm"], dict) or stored["llm"].get("fingerprint") != llm.fingerprint:
            name = stored["llm"].get("name") if isinstance(stored["llm"], dict) else stored["llm"]
            raise InputError("E-CKPT", f"was trained with the LLM {name!r}, found {llm.name!r} of other weights",
                             path=path, field="llm")  # fmt: skip
        known = [field.name for field in fields(BridgeConfig)]
        for key in stored["bridge"]:
            if key not in known:
                raise InputError("E-CFG", f"unknown key `{key}`", path=path, hint=suggest(key, known))
        bridge = cls(BridgeConfig(**stored["bridge"]), llm)
        weights = check_file(Path(folder) / "model.safetensors")
        try:
            bridge.load_state_dict(load_file(weights), strict=True)
        except (SafetensorError, RuntimeError) as error:
            raise InputError("E-CKPT", f"the weights cannot be used: {error}", path=weights) from error
        return bridge

    def _continue(
        self, soft: Tensor, labels: Sequence[str] | None, max_new_tokens: int, decoding: Mapping[str, Any]
    ) -> list[list[int]]:
        rows = self._splicer.build(soft, labels)
        self._splicer.check_context(rows.mask.shape[1] + max_new_tokens, "prompt and new tokens")
        settings = {"do_sample": False, "num_beams": 1, **decoding}
        config = GenerationConfig(
            max_new_tokens=max_new_tokens,
            eos_token_id=self.prompt.stop_ids,
            pad_token_id=self.prompt.end_id,
            **settings,
        )
        if settings["num_beams"] > 1:
            rows.cache.batch_repeat_interleave(settings["num_beams"])
        with _own_generation_config(self.llm.model, config):
            ids = self.llm.model.generate(
                inputs_embeds=rows.embeds, attention_mask=rows.mask, past_key_values=rows.cache
            )
        return [_until_stop(row, self.prompt.stop_ids) for row in ids.tolist()]

    def _texts(self, ids: Sequence[list[int]]) -> list[str]:
        return [text.strip() for text in self.llm.tokenizer.batch_decode(ids, skip_special_tokens=True)]

    def _check(self, embeddings: Any) -> Tensor:
        if not isinstance(embeddings, Tensor):
            embeddings = torch.from_numpy(np.ascontiguousarray(check_matrix(embeddings, "embeddings")))
        if embeddings.ndim != 2 or embeddings.shape[1] != self.config.d_in or not len(embeddings):
            raise InputError("E-SHAPE", f"found shape {tuple(embeddings.shape)}, expected (n, {self.config.d_in})",
                             field="embeddings")  # fmt: skip
        if not torch.isfinite(embeddings).all():
            raise InputError("E-NONFIN", "found values that are NaN or infinite", field="embeddings")
        weight = next(self.projector.parameters())
        return embeddings.to(device=weight.device, dtype=weight.dtype)


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

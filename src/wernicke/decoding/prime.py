"""Priming: the bridge learns to say each sentence, given that sentence's embedding; no brain is needed.

Notable choices
---------------
- A sentence's embedding is the LLM's own, so that nothing else has to be installed: the mean over tokens of its last
  hidden states, whitened over the distinct sentences (`standardise`).
- What a brain will deliver is a noisy mixture of fixed length (`linear.BrainToBridge`). So each visit adds noise with
  the covariance of the embeddings themselves (random mixtures of the other sentences) and restores the
  length.
- The projector begins in closed form (`Bridge.begin_from_texts`); without that start the same loss takes several
  times as many steps.

Source: Thought2Text primes its LLM on image embeddings before any EEG (stage 2; Mishra et al., 2025).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from wernicke.core.checks import check_matrix
from wernicke.core.errors import InputError
from wernicke.core.seeds import derive_rng
from wernicke.decoding.bridge import Bridge, BridgeConfig
from wernicke.decoding.exposure import Exposure
from wernicke.decoding.fit import FitConfig, FitResult, fit
from wernicke.decoding.linear import set_length
from wernicke.pretrained.llm import LanguageModel
from wernicke.store.run import RunFolder

PRIMING = FitConfig(epochs=40, max_steps=400, batch_size=16, lr=2e-4, warmup_steps=3, schedule="cosine")


@torch.no_grad()
def embed_sentences(llm: LanguageModel, sentences: Sequence[str]) -> np.ndarray:
    """Return the mean over tokens of the LLM's last hidden states, shape (n_sentences, d_llm), float64."""
    rows = []
    for sentence in sentences:
        if not isinstance(sentence, str) or not sentence.strip():
            raise InputError("E-META", f"found the empty sentence {sentence!r}", field="sentences")
        ids = torch.tensor([llm.tokenizer(sentence.strip(), add_special_tokens=False)["input_ids"]], device=llm.device)
        states = llm.model(input_ids=ids, output_hidden_states=True, logits_to_keep=1).hidden_states[-1]
        rows.append(states[0].double().mean(0).cpu().numpy())
    return np.stack(rows)


def standardise(embeddings: np.ndarray) -> np.ndarray:
    """Centre and whiten embeddings over the rows, shape (n, d), float32, mean square 1.

    Sentences that begin alike have embeddings that differ in a few shared directions; a mapping fitted to those learns
    little of what tells the others apart. Whitened, up to d sentences lie equally far from one another: what they mean
    no longer shows in their distances. Directions of less than a hundredth of the mean variance are shrunk, so that
    many sentences keep theirs.

    Raises
    ------
    InputError
        E-CONST: fewer than two different rows.
    """
    centred = embeddings - embeddings.mean(0)
    left, scale, right = np.linalg.svd(centred, full_matrices=False)
    kept = scale > 1e-8 * max(float(scale[0]), float(np.abs(embeddings).max()))
    if not kept.any():
        raise InputError("E-CONST", "all embeddings are the same, so nothing could be told apart", field="sentences")
    power = scale[kept] ** 2
    even = left[:, kept] * np.sqrt(power / (power + 0.01 * power.mean())) @ right[kept]
    return (even / np.sqrt((even**2).mean())).astype(np.float32)


class NoisyEmbeddings:
    """Embeddings with their texts, as `fit` takes them: noise is drawn from (seed, epoch, row).

    Parameters
    ----------
    embeddings : array, shape (n, d)
    texts : sequence of n str
    noise : float
        Its standard deviation as a multiple of the embeddings' own, in every direction; 0 leaves them as they are.
    seed : int
    ids : sequence of n str, optional
        Default: the texts.
    """

    def __init__(
        self, embeddings: np.ndarray, texts: Sequence[str], noise: float, seed: int, ids: Sequence[str] | None = None
    ) -> None:
        self.embeddings = check_matrix(embeddings, "embeddings", n_rows=len(texts))
        self.texts = list(texts)
        self.ids = list(texts if ids is None else ids)
        self.noise = noise
        self.seed = seed
        self._centre = self.embeddings.mean(0)
        self._away = self.embeddings - self._centre
        self._length = float(np.linalg.norm(self._away, axis=1).mean())

    def batch(self, rows: np.ndarray, epoch: int) -> tuple[np.ndarray, list[str]]:
        texts = [self.texts[row] for row in rows]
        if self.noise == 0:
            return self.embeddings[rows], texts
        draws = np.stack([derive_rng(self.seed, "noise", epoch, int(row)).standard_normal(len(self.texts))
                          for row in rows])  # fmt: skip
        away = self._away[rows] + self.noise / np.sqrt(len(self.texts)) * draws @ self._away
        return self._centre + set_length(away, self._length), texts


def prime(
    llm: LanguageModel,
    embeddings: np.ndarray,
    sentences: Sequence[str],
    *,
    stimuli: Sequence[str] | None = None,
    seed: int = 0,
    config: BridgeConfig | None = None,
    training: FitConfig = PRIMING,
    noise: float = 0.7,
    run: RunFolder | None = None,
    stage: str = "",
) -> tuple[Bridge, FitResult]:
    """Train a bridge to say each sentence, given its embedding.

    Parameters
    ----------
    llm : LanguageModel
    embeddings : array, shape (n_sentences, d)
        Such as ``standardise(embed_sentences(llm, sentences))``.
    sentences : sequence of n_sentences str
        Each once.
    stimuli : sequence of n_sentences str, optional
        What each sentence is about, for the `Exposure` of the checkpoints; default: the sentences themselves.
    seed : int
    config : BridgeConfig, optional
        Default: eight soft tokens, one linear map.
    training : FitConfig
    noise : float
        See `NoisyEmbeddings`.
    run : RunFolder, optional
    stage : str
        As in `wernicke.decoding.fit.fit`.
    """
    data = NoisyEmbeddings(embeddings, sentences, noise, seed, stimuli)
    bridge = Bridge(config or BridgeConfig(d_in=data.embeddings.shape[1], n_tokens=8), llm)
    bridge.begin_from_texts(data.embeddings, data.texts)
    result = fit(bridge, lambda batch: bridge.loss(*batch), data, training, seed=seed, run=run, stage=stage,
                 exposure=Exposure.of(stimuli=data.ids))  # fmt: skip
    return bridge, result

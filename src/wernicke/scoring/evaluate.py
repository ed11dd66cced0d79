"""`wernicke.evaluate`: texts and their references -> metrics, controls and the credibility card."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any, Literal

import numpy as np
import pandas as pd

from wernicke import __version__
from wernicke.core.checks import check_option, check_range
from wernicke.core.errors import InputError
from wernicke.core.results import Captions
from wernicke.data.captions import read_captions, read_references
from wernicke.scoring import category
from wernicke.scoring.caption_card import caption_card
from wernicke.scoring.caption_controls import CaptionControls, caption_controls, clusters, column, intervals
from wernicke.scoring.card import Card
from wernicke.scoring.category import NamedCategories, named_categories
from wernicke.scoring.show import evaluation_html, evaluation_text
from wernicke.scoring.similarity import best_similarity, similarity_implementation
from wernicke.scoring.text import Preset, TextScores, rouge, text_scores
from wernicke.store.fingerprint import code_fingerprint, fingerprint

PathLike = str | os.PathLike[str]
References = Sequence[str | Sequence[str]] | Mapping[str, str | Sequence[str]] | PathLike


@dataclass(frozen=True)
class Evaluation:
    """What `evaluate` found. Shows itself as a table and the card, in a notebook or a terminal.

    Parameters
    ----------
    metrics : dict of str to float
        Fractions (BLEU 19.0 is 0.190); CIDEr may exceed 1.
    items : DataFrame
        One row a caption: `id`, `text`, every metric, and what category the text names.
    controls : dict
        Plain data; described in ``docs/evaluate-json.md``.
    card : Card
    """

    metrics: dict[str, float]
    items: pd.DataFrame
    controls: dict[str, Any]
    card: Card

    def to_json(self) -> dict[str, Any]:
        """Return plain data: metrics, items, controls, card."""
        return {
            "metrics": dict(self.metrics),
            "items": self.items.to_dict("records"),
            "controls": self.controls,
            "card": self.card.to_json(),
        }

    def __str__(self) -> str:
        return evaluation_text(self.metrics, self.controls, self.card)

    def _repr_html_(self) -> str:
        return evaluation_html(self.metrics, self.controls, self.card)


def evaluate(
    captions: Captions | PathLike | Sequence[str],
    references: References | None = None,
    *,
    preset: Preset | None = None,
    controls: Literal["fast", "full", "none"] = "fast",
    seed: int = 0,
    groups: str | None = None,
    synonyms: Mapping[str, Sequence[str]] | None = None,
    similarity: bool | None = None,
    smallest_effect: float = 0.01,
    generated: Mapping[str, Sequence[Captions]] | None = None,
    facts: Mapping[str, Any] | None = None,
) -> Evaluation:
    """Score texts against their references, with controls, and say how far the scores can be believed.

    Parameters
    ----------
    captions : Captions, path or sequence of str
        Texts; a file is read by `wernicke.data.captions.read_captions`.
    references : sequence, mapping or path, optional
        One text or several for each caption, in the captions' order or by their ids. Default: those of `captions`.
    preset : {"coco", "thought2text"}, optional
        Whose table the metrics are to compare with; see `wernicke.scoring.text`.
    controls : {"fast", "full", "none"}
        999 or 9999 re-pairings, or none, which the card then says.
    seed : int
    groups : str, optional
        Column that is resampled for intervals; default `stimulus`, else `run`, else items with equal references.
    synonyms : mapping of label to names, optional
        Further names of categories, see `wernicke.scoring.category`.
    similarity : bool, optional
        Whether to compare sentence embeddings (MiniLM). Default: where its package is installed.
    smallest_effect : float
        Smallest gain in ROUGE-1 of interest. To be chosen before the scores are seen.
    generated : mapping of str to sequence of Captions, optional
        What the decoder wrote under controls that need the decoder, with the same ids: ``noise``, ``shuffled``,
        ``no_brain``, ``constant``, or another name; one Captions a repetition.
    facts : mapping, optional
        What a recipe knows and a file does not: `wernicke.scoring.caption_card.FACTS`.

    Returns
    -------
    Evaluation

    Raises
    ------
    InputError
        E-META where references are missing; E-SHAPE where their number is another; E-CFG for an unknown option; and
        those of `read_captions`.

    Examples
    --------
    >>> import wernicke
    >>> found = wernicke.evaluate(["a dog runs", "a cat"], ["the dog runs", "a black cat"], controls="none")
    >>> round(found.metrics["rouge1"], 3)
    0.733
    """
    check_option(controls, ("fast", "full", "none"), "controls")
    check_range(smallest_effect, "smallest_effect", low=0)
    captions = _with_references(_as_captions(captions), references)
    scores, named = _scores(captions, preset, synonyms, similarity)
    metrics = scores.metrics
    found = caption_controls(captions, named, mode=controls, preset=preset, groups=groups, seed=seed,
                             generated=generated)  # fmt: skip
    ends, over = _intervals(scores, captions, groups, seed)
    settings = {
        "preset": preset,
        "controls": controls,
        "seed": seed,
        "groups": groups,
        "similarity": "similarity" in metrics,
        "synonyms": {label: list(names) for label, names in (synonyms or {}).items()},
        "smallest_effect": smallest_effect,
    }
    card = caption_card(
        captions,
        _headline(captions, groups, seed),
        found,
        model_accuracy=metrics.get("label_accuracy", metrics.get("category_accuracy")),
        smallest_effect=smallest_effect,
        groups=groups,
        facts=facts,
        hashes=_hashes(captions, settings, generated or {}),
    )
    report = _report(found, controls, named, scores.n_empty)
    report |= {"implementations": scores.implementations, "intervals": ends, "intervals_over": over}
    report["settings"] = settings
    return Evaluation(metrics, _items(captions, scores.items, named), report, card)


def _scores(
    captions: Captions, preset: Preset | None, synonyms: Mapping[str, Sequence[str]] | None, similarity: bool | None
) -> tuple[TextScores, NamedCategories | None]:
    """All metrics that the columns allow."""
    texts, labels = captions.table["text"].tolist(), column(captions, "label")
    scores = text_scores(texts, captions.references, preset=preset)
    items, names = dict(scores.items), dict(scores.implementations)
    near = best_similarity(texts, captions.references, similarity)
    if near is not None:
        items["similarity"], names["similarity"] = near, similarity_implementation()
    named = None if labels is None else named_categories(texts, labels, synonyms)
    if named is not None:
        items["category_accuracy"] = named.right
        names["category_accuracy"] = f"wernicke {__version__}, {category.IMPLEMENTATION}"
    predicted = column(captions, "predicted_label")
    if labels is not None and predicted is not None:
        items["label_accuracy"] = np.array([float(a == b) for a, b in zip(labels, predicted, strict=True)])
        names["label_accuracy"] = "share of items whose column predicted_label equals label"
    metrics = {name: scores.metrics.get(name, float(values.mean())) for name, values in items.items()}
    return TextScores(metrics, items, names, scores.n_empty), named


def _as_captions(captions: Captions | PathLike | Sequence[str]) -> Captions:
    if isinstance(captions, Captions):
        return captions
    if isinstance(captions, (str, os.PathLike)):
        return read_captions(captions)
    texts = list(captions)
    return Captions(pd.DataFrame({"id": [str(i) for i in range(len(texts))], "text": pd.Series(texts, dtype=object)}))


def _with_references(captions: Captions, references: References | None) -> Captions:
    if references is None:
        if not captions.references:
            raise InputError("E-META", "no references", field="reference",
                             hint="add a column reference (or reference_1, ...), or give references apart")  # fmt: skip
        return captions
    if isinstance(references, (str, os.PathLike)):
        references = read_references(references)
    if isinstance(references, Mapping):
        by_id = references
        missing = [name for name in captions.table["id"] if name not in by_id]
        if missing:
            raise InputError("E-REF", f"no reference for id {missing[0]!r} ({len(missing)} in all)", field="references")
        references = [by_id[name] for name in captions.table["id"]]
    several = tuple((item,) if isinstance(item, str) else tuple(item) for item in references)
    if not several:
        raise InputError("E-META", "no references", field="references")
    return Captions(captions.table, several, captions.decoding, captions.parameters, captions.split_fingerprints)


def _intervals(
    scores: TextScores, captions: Captions, groups: str | None, seed: int
) -> tuple[dict[str, list[float]], str]:
    """95 % intervals of the metrics that are means over items."""
    resampled, over = clusters(captions, groups)
    # BLEU over a corpus is no mean of its items.
    means = {name: v for name, v in scores.items.items() if abs(v.mean() - scores.metrics[name]) < 1e-12}
    return {name: [low, high] for name, (_, low, high) in intervals(means, resampled, seed).items()}, over


def _headline(captions: Captions, groups: str | None, seed: int) -> str:
    """ROUGE-1 as the controls have it, whatever the preset."""
    values = rouge(captions.table["text"].tolist(), captions.references)["rouge1"]
    resampled, over = clusters(captions, groups)
    ends = intervals({"rouge1": values}, resampled, seed).get("rouge1")
    made = f"ROUGE-1 {values.mean():.3f}"
    if ends is not None:
        made += f" (95 % CI [{ends[1]:.3f}, {ends[2]:.3f}], cluster bootstrap by {over})"
    return f"{made}; rouge-score {version('rouge-score')}"


def _hashes(
    captions: Captions, settings: Mapping[str, Any], generated: Mapping[str, Sequence[Captions]]
) -> dict[str, str]:
    hashes = {
        "captions": fingerprint({"table": captions.table, "references": [list(r) for r in captions.references],
                                 "decoding": captions.decoding}),
        "splits": fingerprint(list(captions.split_fingerprints)),
        "settings": fingerprint(dict(settings)),
        "code": code_fingerprint("wernicke.scoring"),
    }  # fmt: skip
    for name, repeats in generated.items():
        hashes[f"control {name}"] = fingerprint([repeat.table["text"].tolist() for repeat in repeats])
    return hashes


def _items(captions: Captions, values: Mapping[str, np.ndarray], named: NamedCategories | None) -> pd.DataFrame:
    columns: dict[str, Any] = {"id": captions.table["id"].tolist(), "text": captions.table["text"].tolist(), **values}
    if named is not None:
        columns |= {"named": ["; ".join(names) for names in named.named], "outcome": list(named.outcomes)}
    return pd.DataFrame({name: pd.Series(v, dtype=object if name in ("id", "text", "named", "outcome") else None)
                         for name, v in columns.items()})  # fmt: skip


def _report(found: CaptionControls, mode: str, named: NamedCategories | None, n_empty: int) -> dict[str, Any]:
    order = found.order
    return {
        "mode": mode,
        "metric": "rouge1",
        "n_empty": n_empty,
        "named_categories": None if named is None else named.counts,
        "repairing": {
            name: {"score": test.score, "null_mean": float(test.null.mean()), "null_sd": float(test.null.std()),
                   "p": test.p, "n_permutations": len(test.null), "n_strata": test.n_strata,
                   "n_movable": test.n_movable, "gain": _list(found.gains.get(name))}
            for name, test in found.repairings.items()
        },
        "subject_p": dict(found.subject_p),
        "baselines": [{"name": b.name, "mean": b.mean, "brain_free": b.brain_free, "example": b.example}
                      for b in found.baselines],
        "brain_gain": _list(found.gains.get("brain-free")),
        "time_only": None if order is None else {"accuracy": order.accuracy, "null_mean": float(order.null.mean()),
                                                 "p": order.p, "n_neighbours": order.n_neighbours},
        "generated": {name: {**item, "gain": _list(item["gain"])} for name, item in found.generated.items()},
        "columns": {name: dict(column) for name, column in found.columns.items()},
    }  # fmt: skip


def _list(gain: tuple[float, float, float] | None) -> list[float] | None:
    return None if gain is None else list(gain)

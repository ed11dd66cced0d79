"""The credibility card of a file of captions."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from wernicke.core.checks import suggest
from wernicke.core.errors import InputError
from wernicke.core.results import Captions
from wernicke.scoring.caption_controls import CaptionControls, clusters, column
from wernicke.scoring.card import Card, Claim, Result
from wernicke.scoring.lines import (
    Made,
    group_overlap,
    lines_of,
    poison_audit,
    pretraining,
    seeds,
    selection,
    stimulus_overlap,
)
from wernicke.scoring.pairing import Repairing

# Facts that a recipe knows and a file does not; keys and meaning as in `encoding_card`, and `target_swap`.
FACTS = ("target_swap", "overlaps", "accepted_leaks", "poison_audit", "selection", "n_seeds", "stimuli_public_since",
         "cannot_tell", "hashes")  # fmt: skip
ALPHA = 0.05

BRAIN = "the texts carry information about what was seen, read from the brain"
FITS = "as a property of this file: a text fits its own item better than other items of the same subject"
BEYOND = "the texts say more about their item than its class"


def caption_card(
    captions: Captions,
    headline: str,
    controls: CaptionControls,
    *,
    model_accuracy: float | None,
    smallest_effect: float,
    groups: str | None = None,
    facts: Mapping[str, Any] | None = None,
    hashes: Mapping[str, str] | None = None,
) -> Card:
    """Make the card.

    Parameters
    ----------
    captions : Captions
    headline : str
    controls : CaptionControls
    model_accuracy : float, optional
        Share of items whose class the decoder has right, for comparison with presentation order.
    smallest_effect : float
        Smallest gain in ROUGE-1 of interest, stated beforehand.
    groups : str, optional
        Column that intervals resample.
    facts : mapping, optional
        What the file does not hold, by the keys of `FACTS`: ``target_swap`` is {"n": int, "changed": int}, texts
        generated again with other targets; the others are those of `encoding_card`.
    hashes : mapping of str to str, optional

    Raises
    ------
    InputError
        E-CFG for an unknown fact.
    """
    facts = dict(facts or {})
    for key in facts:
        if key not in FACTS:
            raise InputError("E-CFG", f"unknown fact `{key}`", field="facts", hint=suggest(str(key), FACTS))
    made = [
        _free_running(captions, facts),
        *_generated(controls),
        *_repaired(controls),
        _baseline(controls),
        _order(captions, controls, model_accuracy),
        stimulus_overlap(facts),
        group_overlap(facts),
        poison_audit(facts),
        _subjects(captions, controls),
        _collapse(captions),
        selection(facts),
        pretraining(facts),
        seeds(facts),
    ]
    return Card(
        _subject(captions),
        headline,
        _claims(controls, smallest_effect),
        lines_of(made),
        _summary(controls, groups, captions),
        (*(str(text) for text in facts.get("cannot_tell", ())), *_unknown(captions)),
        {**{str(k): str(v) for k, v in facts.get("hashes", {}).items()}, **(hashes or {})},
    )


def _claims(controls: CaptionControls, smallest: float) -> tuple[Claim, ...]:
    gains = controls.gains
    beyond = gains.get("true and predicted class", gains.get("class"))
    needs = ("V1", "V2", "V3", "V5", "V6", "V7", "V8", "V21")
    return (
        Claim(BRAIN, needs, gains.get("brain-free"), smallest),
        Claim(FITS, ("V3",), gains.get("subject"), smallest),
        Claim(BEYOND, ("V3", "V4"), beyond, smallest),
    )


def _subject(captions: Captions) -> str:
    subjects, labels = column(captions, "subject"), column(captions, "label")
    parts = [f"{len(captions)} texts", f"{len(set(captions.references))} distinct references"]
    parts += [f"{len(set(subjects))} subjects"] if subjects is not None else ["subjects unknown"]
    parts += [f"{len(set(labels))} classes"] if labels is not None else []
    return ", ".join(parts)


def _summary(controls: CaptionControls, groups: str | None, captions: Captions) -> tuple[tuple[str, str], ...]:
    resampled, name = clusters(captions, groups)
    rows = []
    best = controls.best_brain_free
    if best is not None:
        rows.append(("Best brain-free", f"{best.mean:.3f} ROUGE-1, {best.name}"))
    for title, key in (("BRAIN GAIN", "brain-free"), ("After the class", "true and predicted class"),
                       ("After the class", "class")):  # fmt: skip
        if key in controls.gains:
            rows.append((title, f"{_gain(controls.gains[key])}, cluster bootstrap by {name} ({len(set(resampled))})"))
    return tuple(rows)


def _gain(gain: tuple[float, float, float]) -> str:
    return f"{gain[0]:+.3f} ROUGE-1, 95 % CI [{gain[1]:+.3f}, {gain[2]:+.3f}]"


def _unknown(captions: Captions) -> tuple[str, ...]:
    missing = [name for name in ("label", "predicted_label", "subject", "stimulus", "order")
               if column(captions, name) is None]  # fmt: skip
    return (f"the file has no column {', '.join(missing)}: what depends on them is not judged",) if missing else ()


def _free_running(captions: Captions, facts: Mapping[str, Any]) -> Made:
    code, question = "V1", "Free-running decoding, targets hidden"
    if captions.decoding == "teacher_forced":
        return code, question, "FAIL", "the texts were made with their targets in sight"
    swap = facts.get("target_swap")
    if swap is not None:
        result: Result = "FAIL" if swap["changed"] else "PASS"
        return code, question, result, f"{swap['changed']}/{swap['n']} texts changed when targets were swapped"
    if captions.decoding == "free":
        return code, question, "PASS", "generated by a decoder that is not given the targets"
    return code, question, "CANNOT TELL", "how the texts were decoded is not in the file"


_GENERATED = {
    "noise": ("V2", "Noise of the same spectrum in place of the brain"),
    "shuffled": ("V3", "Refitted on shuffled pairs"),
    "no_brain": ("V5", "Prompt without brain tokens"),
    "constant": ("V5", "A constant sentence"),
}


def _generated(controls: CaptionControls) -> list[Made]:
    made: list[Made] = []
    for name, found in controls.generated.items():
        code, question = _GENERATED.get(name, ("V5", f"Control: {name}"))
        mean = float(np.mean(found["rouge1"]))
        detail = f"ROUGE-1 {mean:.3f} ({found['n_repeats']} times)"
        if found["category_accuracy"]:
            detail += f", right category named {np.mean(found['category_accuracy']):.3f}"
        gain = found["gain"]
        if gain is None:
            made.append((code, question, "CANNOT TELL", f"{detail}; one cluster only, no interval"))
            continue
        made.append((code, question, "PASS" if gain[1] > 0 else "FAIL", f"{detail}; gain {_gain(gain)}"))
    if "noise" not in controls.generated:
        made.insert(0, ("V2", _GENERATED["noise"][1], "NOT RUN", "needs the decoder, not only its texts"))
    return made


_REPAIRED = {
    "subject": ("V3", "Re-pairing texts and references within subject"),
    "named category": ("V3", "Re-pairing texts and categories within subject"),
    "predicted class": ("V4", "Re-pairing within the predicted class"),
    "true and predicted class": ("V4", "Re-pairing within the true and predicted class"),
    "class": ("V4", "Re-pairing within the class"),
}


def _repaired(controls: CaptionControls) -> list[Made]:
    made: list[Made] = []
    for name, (code, question) in _REPAIRED.items():
        test = controls.repairings.get(name)
        if test is not None:
            made.append((code, question, *_judged(test)))
    codes = {parts[0] for parts in made}
    if "V3" not in codes:
        made.append(("V3", _REPAIRED["subject"][1], "NOT RUN", controls.reasons.get("repairing", "not run")))
    if "V4" not in codes:
        why = controls.reasons.get("repairing", "no column label or predicted_label")
        made.append(("V4", _REPAIRED["class"][1], "NOT RUN", why))
    return made


def _judged(test: Repairing) -> tuple[Result, str]:
    if not test.n_movable:
        return "CANNOT TELL", "all items that could exchange references have the same ones"
    m = len(test.null)
    detail = f"{test.score:.3f} against {test.null.mean():.3f} (sd {test.null.std():.3f}), p={test.p:.3g} ({m} times)"
    if test.n_movable < len(test.gains):
        detail += f"; {test.n_movable} of {len(test.gains)} items could be exchanged"
    return ("PASS" if test.p <= ALPHA else "FAIL"), detail


def _baseline(controls: CaptionControls) -> Made:
    code, question = "V5", "Better than the best sentence without a brain"
    best, gain = controls.best_brain_free, controls.gains.get("brain-free")
    if best is None:
        return code, question, "NOT RUN", controls.reasons.get("baselines", "not run")
    known = [f"{b.name} {b.mean:.3f}" for b in controls.baselines]
    detail = ", ".join(known)
    if gain is None:
        return code, question, "CANNOT TELL", f"{detail}; one cluster only, no interval"
    if gain[1] > 0:
        return code, question, "PASS", detail
    result: Result = "FAIL" if gain[0] <= 0 else "CANNOT TELL"
    return code, question, result, f"{detail}; gain {_gain(gain)}"


def _order(captions: Captions, controls: CaptionControls, model_accuracy: float | None) -> Made:
    code, question = "V6", "Class cannot be told from the time of presentation"
    if column(captions, "order") is None:
        return code, question, "CANNOT TELL", "order unknown: no column order"
    if controls.order is None:
        return code, question, "NOT RUN", "needs controls, a column label and two items a subject"
    test = controls.order
    detail = f"time-only baseline {test.accuracy:.3f}, shuffled {test.null.mean():.3f}, p={test.p:.3g}"
    if model_accuracy is not None:
        detail += f"; decoder {model_accuracy:.3f}"
    if test.p > ALPHA:
        return code, question, "PASS", detail
    above = model_accuracy is not None and model_accuracy > test.accuracy
    return code, question, "WARN" if above else "FAIL", f"{detail}: classes are blocked in time"


def _subjects(captions: Captions, controls: CaptionControls) -> Made:
    code, question = "V16", "Holds in more than one subject"
    if column(captions, "subject") is None:
        return code, question, "CANNOT TELL", "no column subject"
    if not controls.subject_p:
        return code, question, "NOT RUN", controls.reasons.get("repairing", "not run")
    n, k = len(controls.subject_p), sum(p <= ALPHA for p in controls.subject_p.values())
    detail = f"{k} of {n} subjects p<=.05 (re-pairing)"
    if n == 1:
        return code, question, "WARN", f"{detail}: nothing is said about the population"
    return code, question, "PASS" if n >= 8 and k > n / 2 else "WARN", detail


def _collapse(captions: Captions) -> Made:
    texts = captions.table["text"].value_counts()
    share = float(texts.iloc[0]) / len(captions)
    detail = f"{len(texts)} of {len(captions)} texts are distinct, the most frequent makes up {100 * share:.1f} %"
    result: Result = "FAIL" if len(texts) == 1 and len(captions) > 1 else "WARN" if share > 0.5 else "PASS"
    return "V18", "Texts differ from item to item", result, detail

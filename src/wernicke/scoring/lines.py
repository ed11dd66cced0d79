"""Lines that the cards of encoding and of decoding share, made from plain facts (see `encoding_card`)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from wernicke.scoring.card import FATAL_CODES, CardLine, Result

Made = tuple[str, str, Result, str]


def lines_of(made: Iterable[Made]) -> tuple[CardLine, ...]:
    """Turn (code, question, result, detail) into lines; the code decides whether a failure is fatal."""
    return tuple(CardLine(*parts, fatal=parts[0] in FATAL_CODES) for parts in made)


def poison_audit(facts: Mapping[str, Any]) -> Made:
    code, question = "V11", "No fitted step saw the test rows (poison audit)"
    found = facts.get("poison_audit")
    if found is None:
        return code, question, "NOT RUN", "audit not run"
    changed = list(found["changed"])
    detail = f"{len(changed)}/{found['n_steps']} fitted steps changed" + (f": {', '.join(changed)}" if changed else "")
    if not found["n_steps"]:
        return code, question, "CANNOT TELL", "no fitted step was audited"
    return code, question, "FAIL" if changed else "PASS", detail


def stimulus_overlap(facts: Mapping[str, Any]) -> Made:
    return _overlap(facts, "V7", "No stimulus in both train and test", ("stimulus", "stimulus_id"))


def group_overlap(facts: Mapping[str, Any]) -> Made:
    keys = ("run", "block", "session", "subject", "story", "sentence")
    return _overlap(facts, "V8", "No run, block, session or subject in both train and test", keys)


def _overlap(facts: Mapping[str, Any], code: str, question: str, keys: tuple[str, ...]) -> Made:
    found = facts.get("overlaps")
    counted = {key: int(n) for key, n in (found or {}).items() if key in keys}
    if not counted:
        return code, question, "NOT RUN", "overlaps not counted"
    accepted = set(facts.get("accepted_leaks", ()))
    leaks = {key for key, n in counted.items() if n}
    detail = ", ".join(
        f"{key} {n}" + (" (accepted leak)" if key in accepted and n else "") for key, n in counted.items()
    )
    result: Result = "PASS" if not leaks else "WARN" if leaks <= accepted else "FAIL"
    return code, question, result, detail


def selection(facts: Mapping[str, Any]) -> Made:
    code, question = "V21", "Alpha, layer and the like chosen without the test set"
    found = facts.get("selection")
    if found is None:
        return code, question, "NOT RUN", "not given"
    detail = f"{', '.join(found['what']) or 'nothing'} chosen on {found['on']}" if found["on"] != "fixed" else "fixed"
    return code, question, "FAIL" if found["on"] == "test" else "PASS", detail


def seeds(facts: Mapping[str, Any]) -> Made:
    code, question = "V25", "Repeated over seeds"
    n = facts.get("n_seeds")
    if n is None:
        return code, question, "NOT RUN", "number of seeds not given"
    return code, question, "PASS" if n >= 3 else "WARN", f"{n} seed{'s' if n != 1 else ''}"


def pretraining(facts: Mapping[str, Any]) -> Made:
    code, question = "V23", "Stimuli unknown to the language model"
    year = facts.get("stimuli_public_since")
    detail = (
        "publication date of the stimuli not given"
        if year is None
        else f"stimuli public since {year}: memorisation possible"
    )
    return code, question, "CANNOT TELL", detail

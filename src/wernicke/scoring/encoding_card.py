"""The credibility card of an encoding model, from plain facts about how it was fitted and tested."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from wernicke.core.checks import suggest
from wernicke.core.errors import InputError
from wernicke.scoring.card import Card, Claim
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

# Every fact that the card knows. An absent one makes its line NOT RUN.
FACTS = (
    "subject", "claim", "headline", "gain", "smallest_effect", "cross_validation", "borders", "poison_audit",
    "overlaps", "accepted_leaks", "voxel_selection", "null", "correction", "ceiling", "nuisance", "reassigned",
    "selection", "n_subjects", "n_seeds", "stimuli_public_since", "cannot_tell", "hashes",
)  # fmt: skip

# Nulls that respect the autocorrelation of a time series.
_BLOCKED_NULLS = ("block permutation", "circular shift", "phase randomisation")


def encoding_card(facts: Mapping[str, Any]) -> Card:
    """Make the card of an encoding model.

    Parameters
    ----------
    facts : mapping, with these keys; each may be absent, and its line then says NOT RUN
        ``subject`` : str
            What was measured on what.
        ``claim``, ``headline`` : str
            What is claimed; the score with its interval, as it is printed.
        ``gain`` : {"estimate", "low", "high", "over"}
            The score's gain over the best simpler model, its 95 % interval, and that model's name.
        ``smallest_effect`` : float
            The smallest gain of interest, stated beforehand (default 0.01).
        ``cross_validation`` : {"scheme": str, "n_folds": int, "shuffled": bool, "oasm": float, "score": float}
            ``shuffled``: whether neighbouring samples were put into different folds. ``oasm`` (optional): held-out
            score of orthogonal autocorrelated sequences under the same folds; ``score``: the model's.
        ``borders`` : {"gap_tr": int, "delays_tr": list of int, "n_crossing": int, "whole_runs": bool}
            ``n_crossing``: delayed rows that reach across a run's border; ``whole_runs``: folds are whole runs.
        ``poison_audit`` : {"n_steps": int, "changed": list of str}
            Fitted steps whose parameters changed when the test rows were replaced by nonsense.
        ``overlaps`` : {column: int}
            Groups on both sides, as `Split.overlaps` gives them; the largest over folds.
        ``accepted_leaks`` : list of str
        ``voxel_selection`` : {"on": "none" | "training" | "separate" | "test", "detail": str}
        ``null`` : {"type": str, "n_permutations": int, "block_length_tr": int, "n_blocks": int,
        "autocorrelation_tr": float, "n_slow_significant": int}
            ``type``: one of "block permutation", "circular shift", "phase randomisation", or another name, which
            fails. ``n_slow_significant``: significant voxels whose own time asks for longer blocks; none: shorter
            blocks than the slowest voxels ask for harm no claim. All but the first two keys are optional.
        ``correction`` : {"method": str, "q": float, "n_tests": int, "n_significant": int, "smallest_p": float}
            ``method``: "BH", "BY", "max" or "none". ``smallest_p`` defaults to 1 / (n_permutations + 1).
        ``ceiling`` : {"median": float, "method": str, "n_without": int} or {"reason": str}
        ``nuisance`` : {"names": list of str, "gain": float, "low": float, "high": float, "metric": str}
            Gain of the model over the nuisance model (on/off, one-hot, word rate, motion), with its 95 % interval.
        ``reassigned`` : {"score": float, "null": list of float, "what": str}
            The score, and the scores with features given to the wrong stimuli or categories.
        ``selection`` : {"what": list of str, "on": "training" | "test" | "fixed"}
            Where alpha, layer and the like were chosen.
        ``n_subjects``, ``n_seeds`` : int
        ``stimuli_public_since`` : int
            Year; language models may have read about these stimuli.
        ``cannot_tell`` : list of str
            What this data set cannot show.
        ``hashes`` : {name: sha256}

    Returns
    -------
    Card
        Its first claim is `claim`; with ``reassigned`` a second one asks whether the features' own content matters.

    Raises
    ------
    InputError
        E-CFG for an unknown key.
    """
    for key in facts:
        if key not in FACTS:
            raise InputError("E-CFG", f"unknown fact `{key}`", field="encoding_card", hint=suggest(str(key), FACTS))
    makers = (_cross_validation, _borders, poison_audit, stimulus_overlap, group_overlap, _voxels, _null, _correction,
              _ceiling, _nuisance, _reassigned, selection, _subjects, seeds, pretraining)  # fmt: skip
    lines = lines_of([make(facts) for make in makers])
    gain = facts.get("gain")
    smallest = float(facts.get("smallest_effect", 0.01))
    interval = None if gain is None else (float(gain["estimate"]), float(gain["low"]), float(gain["high"]))
    needs = ("V7", "V8", "V9", "V10", "V11", "V12", "V14", "V15", "V20", "V21")
    claims = [Claim(str(facts.get("claim", "the features predict held-out responses")), needs, interval, smallest)]
    summary: list[tuple[str, str]] = []
    if gain is not None:
        summary.append(("GAIN", f"{gain['estimate']:+.3f} over {gain['over']}, 95 % CI "
                                f"[{gain['low']:+.3f}, {gain['high']:+.3f}]"))  # fmt: skip
    if "reassigned" in facts:
        claims.append(Claim("the content of the features matters, beyond which stimuli are alike", (*needs, "V3")))
    return Card(
        str(facts.get("subject", "encoding model")),
        str(facts.get("headline", "none")),
        tuple(claims),
        lines,
        tuple(summary),
        tuple(str(text) for text in facts.get("cannot_tell", ())),
        {str(k): str(v) for k, v in facts.get("hashes", {}).items()},
    )


def _cross_validation(facts: Mapping[str, Any]) -> Made:
    code, question = "V9", "Cross-validation keeps neighbouring samples together"
    found = facts.get("cross_validation")
    if found is None:
        return code, question, "NOT RUN", "scheme not given"
    detail = f"{found['scheme']}, {found['n_folds']} folds"
    if "oasm" in found:
        detail += f"; autocorrelated noise features r={found['oasm']:.3f}"
        detail += f", model r={found['score']:.3f}" if "score" in found else ""
    beaten = "oasm" in found and "score" in found and found["oasm"] >= found["score"]
    return code, question, "FAIL" if found["shuffled"] or beaten else "PASS", detail


def _borders(facts: Mapping[str, Any]) -> Made:
    code, question = "V10", "No delay crosses a run's border; fold edges have a gap"
    found = facts.get("borders")
    if found is None:
        return code, question, "NOT RUN", "delays and gap not given"
    delays = ", ".join(map(str, found["delays_tr"]))
    detail = f"delays {delays} TR; {found['n_crossing']} delayed rows cross a border; gap {found['gap_tr']} TR"
    whole = bool(found["whole_runs"])
    detail += "; folds are whole runs" if whole else "; folds cut through runs"
    if found["n_crossing"] or not (whole or found["gap_tr"] > max(found["delays_tr"], default=0)):
        return code, question, "FAIL", detail
    return code, question, "PASS", detail


def _voxels(facts: Mapping[str, Any]) -> Made:
    code, question = "V12", "Voxels were not chosen by what they are scored on"
    found = facts.get("voxel_selection")
    if found is None:
        return code, question, "NOT RUN", "not given"
    detail = str(found.get("detail", f"chosen on: {found['on']}"))
    return code, question, "FAIL" if found["on"] == "test" else "PASS", detail


def _null(facts: Mapping[str, Any]) -> Made:
    code, question = "V15", "The null keeps the autocorrelation"
    found = facts.get("null")
    if found is None:
        return code, question, "NOT RUN", "no null distribution"
    m = int(found["n_permutations"])
    detail = f"{found['type']}, m={m}, smallest reachable p {1 / (m + 1):.2g}"
    length, blocks = found.get("block_length_tr"), found.get("n_blocks")
    detail += f", blocks of {length} TR" if length is not None else ""
    detail += f" ({blocks} blocks)" if blocks is not None else ""
    time = found.get("autocorrelation_tr")
    detail += f", autocorrelation time {time:.1f} TR" if time is not None else ""
    short = time is not None and length is not None and length < 3 * time
    slow = found.get("n_slow_significant")
    if short:
        detail += "; blocks shorter than 3 autocorrelation times"
        detail += f" of {slow} significant voxels" if slow is not None else ""
    if found["type"] not in _BLOCKED_NULLS or (blocks is not None and blocks < 10) or (short and slow != 0):
        return code, question, "FAIL", detail
    return code, question, "PASS", detail


def _correction(facts: Mapping[str, Any]) -> Made:
    code, question = "V14", "Corrected for the number of tests"
    found = facts.get("correction")
    if found is None:
        return code, question, "NOT RUN", "no correction"
    q, n_tests, n_hits = float(found["q"]), int(found["n_tests"]), int(found["n_significant"])
    detail = f"{found['method']}, q={q:g}: {n_hits}/{n_tests}"
    if found["method"] == "none":
        return code, question, "PASS" if n_tests == 1 else "FAIL", detail
    smallest = found.get("smallest_p")
    if smallest is None and facts.get("null"):
        smallest = 1 / (int(facts["null"]["n_permutations"]) + 1)
    if smallest is not None and found["method"] in ("BH", "BY") and not n_hits and smallest > q / n_tests:
        needed = int(-(-smallest * n_tests // q))
        return (
            code,
            question,
            "WARN",
            f"{detail}; smallest reachable p {smallest:.2g}: needs {needed} at once to find any",
        )
    return code, question, "PASS", detail + (f"; smallest reachable p {smallest:.2g}" if smallest is not None else "")


def _ceiling(facts: Mapping[str, Any]) -> Made:
    code, question = "V13", "Noise ceiling beside the score"
    found = facts.get("ceiling")
    if found is None:
        return code, question, "NOT RUN", "not estimated"
    if "reason" in found:
        return code, question, "CANNOT TELL", str(found["reason"])
    without = found.get("n_without")
    detail = f"median {found['median']:.3f} ({found['method']})"
    return code, question, "PASS", detail + (f"; {without} voxels without a ceiling" if without is not None else "")


def _nuisance(facts: Mapping[str, Any]) -> Made:
    code, question = "V20", "Better than nuisances and simpler models"
    found = facts.get("nuisance")
    if found is None:
        return code, question, "NOT RUN", "no nuisance model was fitted"
    low, high = float(found["low"]), float(found["high"])
    detail = (f"{found.get('metric', 'gain')} {found['gain']:+.3f} [{low:+.3f}, {high:+.3f}] over "
              f"{', '.join(found['names'])}")  # fmt: skip
    return code, question, "PASS" if low > 0 else "FAIL", detail


def _reassigned(facts: Mapping[str, Any]) -> Made:
    code, question = "V3", "Features on the wrong stimuli do worse"
    found = facts.get("reassigned")
    if found is None:
        return code, question, "NOT RUN", "features were not reassigned"
    null = [float(value) for value in found["null"]]
    p = (1 + sum(value >= found["score"] for value in null)) / (len(null) + 1)
    mean = sum(null) / len(null)
    detail = f"{found['what']}: {found['score']:.3f} against {mean:.3f} reassigned ({len(null)} times), p={p:.3g}"
    if len(null) < 19:
        return code, question, "CANNOT TELL", f"{detail}; fewer than 19 cannot reach p=.05"
    return code, question, "PASS" if p <= 0.05 else "FAIL", detail


def _subjects(facts: Mapping[str, Any]) -> Made:
    code, question = "V16", "More than one subject"
    n = facts.get("n_subjects")
    if n is None:
        return code, question, "NOT RUN", "number of subjects not given"
    if n == 1:
        return code, question, "WARN", "1 subject: nothing is said about the population"
    return code, question, "PASS" if n >= 8 else "WARN", f"{n} subjects" + ("" if n >= 8 else ": report k of n")

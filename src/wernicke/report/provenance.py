"""What every section says alike: the split, the credibility card, its warnings, and where a run came from."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from wernicke.report.runs import FinishedRun
from wernicke.report.words import plural
from wernicke.scoring.card import Card
from wernicke.store.config import dump_yaml


def card_summary(stored: Mapping[str, Any]) -> dict[str, Any]:
    """The card for the page; its verdicts are computed anew from its lines, and refused (E-SUM) if they differ."""
    card = Card.from_json(stored)
    return {
        "subject": card.subject,
        "headline": card.headline,
        "void": card.failed_fatally,
        "summary": list(card.summary),
        "claims": [
            {"text": claim.text, "verdict": claim.verdict(card.lines), "reasons": card.reasons(claim)}
            for claim in card.claims
        ],
        "lines": [
            {"code": line.code, "question": line.question, "result": line.result, "detail": line.detail,
             "fatal": line.fatal and line.result == "FAIL"}
            for line in card.lines
        ],
        "hashes": sorted(card.hashes.items()),
    }  # fmt: skip


def card_warnings(card: Mapping[str, Any]) -> list[str]:
    """Lines of the card that a reader must see first: failures, then what was not run, then warnings."""
    order = {"FAIL": 0, "NOT RUN": 1, "WARN": 2}
    lines = [line for line in card["lines"] if line["result"] in order]
    lines.sort(key=lambda line: (not line["fatal"], order[line["result"]]))
    return [
        f"{line['code']} {line['result']}{' (fatal)' if line['fatal'] else ''}: {line['question']} ({line['detail']})"
        for line in lines
    ]


def provenance(run: FinishedRun) -> dict[str, Any]:
    """Config, versions, seed, fingerprints, command lines and times."""
    manifest = run.manifest
    environment = manifest["environment"]
    steps = {name: step for name, step in manifest["steps"].items() if name != "report"}
    fingerprints = [("config", manifest["config_fingerprint"])]
    fingerprints += [(f"{name}: code", step["code"]) for name, step in sorted(steps.items()) if step["code"]]
    for name, step in sorted(steps.items()):
        fingerprints += [(f"{name}: {key}", digest) for key, digest in sorted(step["inputs"].items())]
    splits = run.facts.get("split", {}).get("fingerprints", [])
    fingerprints += [(f"split {k + 1} of {len(splits)}", digest) for k, digest in enumerate(splits)]
    return {
        "seed": manifest["seed"],
        "commands": [(name, step["command"]) for name, step in sorted(steps.items())],
        "times": [(row["utc"], row["step"], row["event"]) for row in run.history],
        "versions": [
            ("wernicke", manifest["wernicke"]), ("Python", environment["python"]),
            ("platform", f"{environment['platform']} {environment['machine']}"),
            *sorted(environment["packages"].items()),
        ],
        "fingerprints": fingerprints,
        "config": dump_yaml(manifest["config"]),
        "n_files": len(run.files),
    }  # fmt: skip


def split_summary(split: Mapping[str, Any]) -> dict[str, Any]:
    """Scheme, groups on both sides, accepted leaks, audit."""
    accepted, audit = set(split["accepted_leaks"]), split.get("poison_audit", {})
    return {
        "scheme": f"{split['scheme'][:1].upper()}{split['scheme'][1:]}, {plural(split['n_folds'], 'fold')}",
        "overlaps": [
            (key, n, "accepted leak" if n and key in accepted else "leak" if n else "none")
            for key, n in sorted(split["overlaps"].items())
        ],
        "accepted": [key for key in split["accepted_leaks"] if split["overlaps"].get(key)],
        "audit": [(step, "changed" if changed else "unchanged") for step, changed in audit.items()],
    }

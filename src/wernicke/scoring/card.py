"""The credibility card: what was claimed, what was checked, what came out, and the verdict that follows.

The verdict is computed from the lines and never typed (see `Claim.verdict`), so that a reader can recompute it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal, get_args

from wernicke.core.errors import InputError
from wernicke.scoring.show import card_html, card_text, printable

SCHEMA = "wernicke.card/1"
Result = Literal["PASS", "FAIL", "WARN", "NOT RUN", "CANNOT TELL", "NOT APPLICABLE"]
Verdict = Literal["SUPPORTED", "NOT SUPPORTED", "UNDETERMINED"]

# Failures after which the number itself means nothing: teacher forcing, leaks into the test set, selection on it.
FATAL_CODES = frozenset({"V1", "V7", "V8", "V9", "V11", "V12", "V21"})


@dataclass(frozen=True)
class CardLine:
    """One way of fooling oneself, and what was found.

    Parameters
    ----------
    code : str
        ``V1`` ... ``V25`` (the list stands in ``docs/evaluate-json.md``).
    question : str
        What was checked.
    result : {"PASS", "FAIL", "WARN", "NOT RUN", "CANNOT TELL", "NOT APPLICABLE"}
    detail : str
        The figures.
    fatal : bool
        A FAIL here makes the headline worthless: it is struck through, and ``--strict`` ends with exit code 4.
    """

    code: str
    question: str
    result: Result
    detail: str
    fatal: bool = False

    def __post_init__(self) -> None:
        if self.result not in get_args(Result):
            raise InputError("E-CFG", f"unknown result {self.result!r}, known: {', '.join(get_args(Result))}",
                             field=f"card line {self.code}")  # fmt: skip


@dataclass(frozen=True)
class Claim:
    """A sentence that the card judges.

    Parameters
    ----------
    text : str
    needs : tuple of str
        Codes of the lines that must hold.
    gain : (estimate, low, high), optional
        Gain over the best explanation without the claim, with its 95 % interval.
    smallest_effect : float
        The smallest gain of interest, stated before the data were looked at.
    """

    text: str
    needs: tuple[str, ...]
    gain: tuple[float, float, float] | None = None
    smallest_effect: float = 0.01

    def verdict(self, lines: Sequence[CardLine]) -> Verdict:
        """Judge the claim.

        1. NOT SUPPORTED if any fatal line of the card fails.
        2. NOT SUPPORTED if the whole interval of the gain lies below the smallest effect of interest.
        3. UNDETERMINED if a needed line fails, was not run, cannot tell, or is absent: a missing control lowers
           what can be said and never passes. So too if the interval of the gain reaches zero.
        4. SUPPORTED otherwise; lines that warn are named beside it.
        """
        if any(line.fatal and line.result == "FAIL" for line in lines):
            return "NOT SUPPORTED"
        if self.gain is not None and self.gain[2] < self.smallest_effect:
            return "NOT SUPPORTED"
        if self.shortfalls(lines) or (self.gain is not None and not self.gain[1] > 0):
            return "UNDETERMINED"
        return "SUPPORTED"

    def shortfalls(self, lines: Sequence[CardLine]) -> list[str]:
        """Codes of needed lines that do not hold, in order."""
        good = ("PASS", "WARN", "NOT APPLICABLE")
        results = {code: [line.result for line in lines if line.code == code] for code in self.needs}
        return [code for code, found in results.items() if not found or any(r not in good for r in found)]


@dataclass(frozen=True)
class Card:
    """The whole card.

    Parameters
    ----------
    subject : str
        What was measured on what, in one line ("96 texts, 1 subject, 8 categories").
    headline : str
        The score with its interval.
    claims : tuple of Claim
        The first one decides `verdict`.
    lines : tuple of CardLine
    summary : tuple of (name, text)
        Further lines below the headline: best baseline, gain.
    cannot_tell : tuple of str
        What this data set cannot show, whatever the score.
    hashes : mapping
        SHA-256 of what went in and how, by name, so that the card can be recomputed.
    """

    subject: str
    headline: str
    claims: tuple[Claim, ...]
    lines: tuple[CardLine, ...]
    summary: tuple[tuple[str, str], ...] = ()
    cannot_tell: tuple[str, ...] = ()
    hashes: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not self.claims:
            raise InputError("E-CFG", "a card needs at least one claim", field="claims")

    @property
    def claim(self) -> str:
        """The first claim's text."""
        return self.claims[0].text

    @property
    def verdict(self) -> Verdict:
        """The verdict on the first claim."""
        return self.claims[0].verdict(self.lines)

    @property
    def failed_fatally(self) -> bool:
        """Whether the headline is struck through, and ``--strict`` ends with exit code 4."""
        return any(line.fatal and line.result == "FAIL" for line in self.lines)

    def reasons(self, claim: Claim) -> str:
        """Why the claim's verdict is what it is, in words."""
        fatal = [line.code for line in self.lines if line.fatal and line.result == "FAIL"]
        parts = [f"fatal: {', '.join(fatal)}"] if fatal else []
        if claim.gain is not None:
            estimate, low, high = claim.gain
            parts.append(f"gain {estimate:+.3f}, 95 % CI [{low:+.3f}, {high:+.3f}], "
                         f"smallest of interest {claim.smallest_effect:g}")  # fmt: skip
        short = claim.shortfalls(self.lines)
        parts += [f"does not hold: {', '.join(short)}"] if short else []
        warned = [line.code for line in self.lines if line.result == "WARN" and line.code in claim.needs]
        parts += [f"with warnings: {', '.join(dict.fromkeys(warned))}"] if warned else []
        return "; ".join(parts)

    def to_json(self) -> dict[str, Any]:
        """Return the card as plain data; the verdicts in it are copies of what `from_json` computes anew."""
        return {
            "schema": SCHEMA,
            "subject": self.subject,
            "headline": self.headline,
            "headline_valid": not self.failed_fatally,
            "verdict": self.verdict,
            "claims": [
                {**asdict(claim), "needs": list(claim.needs), "gain": None if claim.gain is None else list(claim.gain),
                 "verdict": claim.verdict(self.lines), "reasons": self.reasons(claim)}
                for claim in self.claims
            ],
            "summary": [list(pair) for pair in self.summary],
            "lines": [asdict(line) for line in self.lines],
            "cannot_tell": list(self.cannot_tell),
            "hashes": dict(self.hashes),
        }  # fmt: skip

    @classmethod
    def from_json(cls, data: Mapping[str, Any] | str) -> Card:
        """Read what `to_json` wrote.

        Raises
        ------
        InputError
            E-FMT if it is not a card of this schema; E-SUM if a verdict in it is not the one that its lines give.
        """
        try:
            content = json.loads(data) if isinstance(data, str) else data
            if content["schema"] != SCHEMA:
                raise InputError("E-FMT", f"found schema {content['schema']!r}, expected {SCHEMA!r}", field="card")
            card = cls(
                str(content["subject"]),
                str(content["headline"]),
                tuple(_claim(item) for item in content["claims"]),
                tuple(CardLine(**item) for item in content["lines"]),
                tuple((str(name), str(text)) for name, text in content["summary"]),
                tuple(str(text) for text in content["cannot_tell"]),
                {str(name): str(digest) for name, digest in content["hashes"].items()},
            )
            stored = [str(item["verdict"]) for item in content["claims"]]
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            if isinstance(error, InputError):
                raise
            raise InputError("E-FMT", f"not a card: {type(error).__name__} {error}", field="card") from None
        computed = [claim.verdict(card.lines) for claim in card.claims]
        if stored != computed or content.get("verdict") != card.verdict:
            raise InputError("E-SUM", f"the card says {stored}, its lines give {computed}", field="verdict",
                             hint="the card was edited by hand, or written by another version")  # fmt: skip
        return card

    def __str__(self) -> str:
        return card_text(self)

    def _repr_html_(self) -> str:
        return card_html(self)


def verify_card(card: Card, recomputed: Card) -> tuple[str, ...]:
    """Return how a card differs from the one computed anew from the same files; empty if it does not."""
    differences = [
        f"hash of {key}: card {card.hashes.get(key, 'none')[:12]}, now {recomputed.hashes.get(key, 'none')[:12]}"
        for key in sorted({*card.hashes, *recomputed.hashes})
        if card.hashes.get(key) != recomputed.hashes.get(key)
    ]
    ours, theirs = card.to_json(), recomputed.to_json()
    for key in ("subject", "headline", "verdict", "claims", "summary", "cannot_tell"):
        if ours[key] != theirs[key]:
            differences.append(f"{key}: card {printable(ours[key], 120)}, now {printable(theirs[key], 120)}")
    before = {(line.code, line.question): line for line in card.lines}
    after = {(line.code, line.question): line for line in recomputed.lines}
    for place in dict.fromkeys((*before, *after)):
        old, new = before.get(place), after.get(place)
        if old != new:
            said = [f"{line.result} {line.detail}" if line else "absent" for line in (old, new)]
            differences.append(f"{place[0]}: card {printable(said[0], 120)}, now {printable(said[1], 120)}")
    return tuple(differences)


def _claim(item: Mapping[str, Any]) -> Claim:
    gain = item["gain"]
    if gain is not None and len(gain) != 3:
        raise InputError("E-FMT", f"found a gain of {len(gain)} numbers, expected 3", field="card")
    numbers = None if gain is None else (float(gain[0]), float(gain[1]), float(gain[2]))
    return Claim(str(item["text"]), tuple(map(str, item["needs"])), numbers, float(item["smallest_effect"]))

"""How a card looks: plain text for a terminal, an HTML fragment for a notebook. Foreign text is made safe here."""

from __future__ import annotations

import html
import re
import textwrap
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from wernicke.scoring.card import Card, CardLine

# OSC, DCS and like strings up to their end; CSI sequences; other escapes.
_ESCAPE_SEQUENCE = re.compile(
    r"(?:\x1b[\]PX^_]|[\x9d\x90])[^\x07\x1b\x9c]*(?:\x07|\x1b\\|\x9c)?"
    r"|(?:\x1b\[|\x9b)[0-?]*[ -/]*[@-~]?|\x1b[ -/]*[0-~]?"
)
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]+")
_DIRECTION = re.compile("[\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069]")


def printable(text: object, limit: int = 500) -> str:
    """Return foreign text on one line, safe to print: no escape sequences, no C0 or C1, at most `limit` characters.

    Characters that turn the writing direction are shown by their code point; what was cut is said.
    """
    raw = str(text)
    clean = _CONTROL.sub(" ", _ESCAPE_SEQUENCE.sub("", raw[: 4 * limit]))
    clean = _DIRECTION.sub(lambda match: f"<U+{ord(match[0]):04X}>", clean).encode("utf-8", "replace").decode()
    if len(clean) > limit or len(raw) > 4 * limit:
        return f"{clean[:limit]}... ({len(raw):,} characters)"
    return clean


def card_text(card: Card, width: int = 120) -> str:
    """Return the card for a terminal: aligned, without control characters."""
    headline = f"[VOID: a fatal control failed] {card.headline}" if card.failed_fatally else card.headline
    rows = [("CREDIBILITY CARD", card.subject), ("Claim", card.claim), ("Headline", headline), *card.summary]
    out = [_wrapped(printable(name), text, 18, width) for name, text in rows]
    question = min(60, max((len(printable(line.question)) for line in card.lines), default=0))
    out.append("-- controls ".ljust(question + 5, "-") + " result -------- detail")
    for line in card.lines:
        name = printable(line.question)[:question].ljust(question)
        out.append(_wrapped(f"{printable(line.code):<4} {name} {_result(line):<15}", line.detail, question + 21, width))
    out += [_wrapped("Cannot be told", text, 18, width) for text in card.cannot_tell]
    for claim in card.claims:
        reasons = card.reasons(claim)
        text = f'"{claim.text}"' + (f" ({reasons})" if reasons else "")
        out.append(_wrapped(f"VERDICT  {claim.verdict(card.lines)}", text, 24, width))
    return "\n".join(out)


def card_html(card: Card) -> str:
    """Return the card as an HTML fragment, everything escaped."""

    def safe(text: str) -> str:
        return html.escape(printable(text, 2000))

    headline = f"<del>{safe(card.headline)}</del>" if card.failed_fatally else safe(card.headline)
    top = "".join(f"<p><b>{safe(name)}</b> {safe(text)}</p>" for name, text in card.summary)
    rows = "".join(
        f'<tr class="{line.result.lower().replace(" ", "-")}"><td>{safe(line.code)}</td>'
        f"<td>{safe(line.question)}</td><td>{_result(line)}</td><td>{safe(line.detail)}</td></tr>"
        for line in card.lines
    )
    verdicts = "".join(
        f"<li><b>{claim.verdict(card.lines)}</b>: {safe(claim.text)} <small>{safe(card.reasons(claim))}</small></li>"
        for claim in card.claims
    )
    unknown = "".join(f"<li>{safe(text)}</li>" for text in card.cannot_tell)
    unknown = f"<p><b>What this data set cannot tell</b></p><ul>{unknown}</ul>" if unknown else ""
    return (
        f'<div class="wernicke-card"><p><b>Credibility card</b> {safe(card.subject)}</p>'
        f"<p><b>Headline</b> {headline}</p>{top}"
        "<table><thead><tr><th></th><th>control</th><th>result</th><th>detail</th></tr></thead>"
        f"<tbody>{rows}</tbody></table>{unknown}<p><b>Verdict</b></p><ul>{verdicts}</ul></div>"
    )


def _result(line: CardLine) -> str:
    return line.result + (" (fatal)" if line.fatal and line.result == "FAIL" else "")


def _wrapped(head: str, text: str, indent: int, width: int) -> str:
    lines = textwrap.wrap(printable(text, 2000), max(20, width - indent)) or [""]
    return ("\n" + " " * indent).join([head.ljust(indent) + lines[0], *lines[1:]]).rstrip()

"""How results look: plain text for a terminal, HTML fragments for a notebook. Foreign text is made safe here."""

from __future__ import annotations

import html
import re
import textwrap
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

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


TITLES = {
    "bleu1": "BLEU-1", "bleu2": "BLEU-2", "bleu3": "BLEU-3", "bleu4": "BLEU-4", "rouge1": "ROUGE-1",
    "rouge2": "ROUGE-2", "rougeL": "ROUGE-L", "cider": "CIDEr", "similarity": "similarity",
    "category_accuracy": "category named", "label_accuracy": "predicted label",
}  # fmt: skip
COLUMNS = {"repaired": "re-paired", "constant": "constant", "human": "people"}


def evaluation_text(metrics: Mapping[str, float], controls: Mapping[str, Any], card: Card) -> str:
    """Return the table of metrics (times 100) and the card, for a terminal."""
    header, rows, notes = _evaluation_rows(metrics, controls)
    widths = [max(len(row[i]) for row in (header, *rows)) for i in range(len(header))]
    lines = ["  ".join(cell.rjust(w) if i else cell.ljust(w) for i, (cell, w) in enumerate(zip(r, widths, strict=True)))
             for r in (header, *rows)]  # fmt: skip
    return "\n".join(
        [*(line.rstrip() for line in lines), "", *(printable(note) for note in notes), "", card_text(card)]
    )


def evaluation_html(metrics: Mapping[str, float], controls: Mapping[str, Any], card: Card) -> str:
    """Return the same as an HTML fragment, everything escaped."""
    header, rows, notes = _evaluation_rows(metrics, controls)

    def cells(row: Sequence[str], tag: str) -> str:
        return "<tr>" + "".join(f"<{tag}>{html.escape(printable(cell))}</{tag}>" for cell in row) + "</tr>"

    below = "".join(f"<p><small>{html.escape(printable(note))}</small></p>" for note in notes)
    return (
        f'<div class="wernicke-evaluation"><table><thead>{cells(header, "th")}</thead>'
        f"<tbody>{''.join(cells(row, 'td') for row in rows)}</tbody></table>{below}</div>{card_html(card)}"
    )


def _evaluation_rows(
    metrics: Mapping[str, float], controls: Mapping[str, Any]
) -> tuple[list[str], list[list[str]], list[str]]:
    present = [name for name in COLUMNS if name in controls["columns"]]
    header = ["x 100", "score", "95 % CI", *(COLUMNS[name] for name in present)]
    rows = []
    for name, value in metrics.items():
        ends = controls["intervals"].get(name)
        row = [
            TITLES.get(name, name),
            f"{100 * value:.2f}",
            f"{100 * ends[0]:.2f} - {100 * ends[1]:.2f}" if ends else "-",
        ]
        for kind in present:
            other = controls["columns"][kind].get(name)
            if other is None and name == "category_accuracy" and kind == "repaired":
                other = controls["repairing"]["named category"]["null_mean"]
            row.append("-" if other is None else f"{100 * other:.2f}")
        rows.append(row)
    by_implementation: dict[str, list[str]] = {}
    for name in metrics:
        by_implementation.setdefault(controls["implementations"][name], []).append(TITLES.get(name, name))
    notes = [f"{', '.join(names)}: {implementation}" for implementation, names in by_implementation.items()]
    counts = controls["named_categories"]
    if counts is not None:
        notes.append("texts that name the right category and no other: "
                     + ", ".join(f"{outcome} {n}" for outcome, n in counts.items()))  # fmt: skip
    notes += [f"empty texts, scored 0: {controls['n_empty']}"] if controls["n_empty"] else []
    if present:
        notes += ["re-paired: each text with another item's references, within subject, once",
                  "constant: one sentence for all, chosen on this file"]  # fmt: skip
    notes += ["people: first reference against the others"] if "human" in present else []
    return header, rows, notes

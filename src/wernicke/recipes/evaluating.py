"""`wernicke decode` and `wernicke evaluate`: a trained run, or anyone's file of texts -> captions, scores, the card."""

from __future__ import annotations

import sys
from argparse import Namespace
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from wernicke.core.errors import ControlFailedError, InputError
from wernicke.recipes.arguments import Arguments

if TYPE_CHECKING:
    from wernicke.scoring.evaluate import Evaluation


def decode(argv: Sequence[str]) -> None:
    """Write a sentence for every held-out sample of a trained run; captions.json goes into the run folder."""
    parser = Arguments(prog="wernicke decode", description=decode.__doc__)
    parser.add_argument("--run", type=Path, required=True, metavar="DIR", help="a run of `wernicke train`")
    parser.add_argument("--out", type=Path, metavar="FILE", help="a copy, .csv, .tsv or .json")
    given = parser.parse_args(argv)
    if given.out is not None and given.out.suffix.lower() not in (".csv", ".tsv", ".json"):
        raise InputError("E-CFG", f"found suffix {given.out.suffix!r}, expected .csv, .tsv or .json", field="--out")

    from wernicke.recipes import haxby_decode

    captions = haxby_decode.decode(given.run, given.out, command=["wernicke", "decode", *argv])
    sys.stdout.write(f"captions: {given.out or given.run / 'captions.json'} ({len(captions)} sentences)\n")


def main(argv: Sequence[str]) -> None:
    """Score texts against their references, beside controls, and write the credibility card.

    With --run the controls that need the decoder go through its own fit and generation; a file (CSV, TSV or JSON with
    id, text, reference or reference_1, ..., and optionally label, predicted_label, subject, stimulus, order) gets those
    that it suffices for.
    """
    parser = Arguments(prog="wernicke evaluate", description=main.__doc__)
    parser.add_argument("captions", nargs="?", type=Path, metavar="FILE", help="a file of captions")
    parser.add_argument("--run", type=Path, metavar="DIR", help="a run that `wernicke decode` has finished")
    parser.add_argument("--references", type=Path, metavar="FILE", help="references by id, if the file has none")
    parser.add_argument("--preset", choices=("coco", "thought2text"), help="whose table the metrics compare with")
    parser.add_argument("--controls", choices=("fast", "full", "none"), default="fast")
    parser.add_argument("--json", type=Path, metavar="OUT", help="write metrics, items, controls and card as JSON")
    parser.add_argument("--strict", action="store_true", help="exit with 4 when a fatal control fails")
    parser.add_argument("--verify", type=Path, metavar="CARD", help="recompute, and compare with this card.json")
    parser.add_argument("--seed", type=int, default=0, help="of a file's re-pairings; a run has its own")
    given = parser.parse_args(argv)
    if (given.captions is None) == (given.run is None):
        raise InputError("E-CFG", "expected a FILE or --run DIR, one of them", field="evaluate",
                         hint="`wernicke evaluate --help` shows both")  # fmt: skip
    if given.run is not None and (given.references or given.preset):
        raise InputError("E-CFG", "a run brings its own references and metrics", field="--references/--preset")
    found = _evaluate(given, argv)
    sys.stdout.write(f"{found}\n")
    if given.json is not None:
        sys.stdout.write(f"json: {given.json.absolute()}\n")
    if given.verify is not None:
        _verify(found, given.verify)
    if given.strict and found.card.failed_fatally:
        failed = [line.code for line in found.card.lines if line.fatal and line.result == "FAIL"]
        raise ControlFailedError(f"E-CONTROL fatal controls failed: {', '.join(failed)} (--strict)")


def _evaluate(given: Namespace, argv: Sequence[str]) -> Evaluation:
    if given.run is not None:
        from wernicke.recipes.haxby_decode_results import evaluate_run

        return evaluate_run(given.run, controls=given.controls, out=given.json, command=["wernicke", "evaluate", *argv])
    from wernicke.scoring.evaluate import evaluate
    from wernicke.store.files import write_json

    found = evaluate(given.captions, given.references, preset=given.preset, controls=given.controls, seed=given.seed)
    if given.json is not None:
        write_json(given.json, found.to_json())
    return found


def _verify(found: Evaluation, path: Path) -> None:
    from wernicke.scoring.card import Card, verify_card
    from wernicke.store.files import read_json

    differences = verify_card(Card.from_json(read_json(path)), found.card)
    if differences:
        raise InputError("E-SUM", f"differs from what these captions give: {'; '.join(differences[:3])}", path=path)
    sys.stdout.write(f"verified: {path}\n")

"""`wernicke data`: is this folder what a recipe expects; a simulated data set; single-trial betas."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from wernicke.core.errors import EXIT_DONE, EXIT_USER
from wernicke.recipes.arguments import Arguments

RECIPES = ("drama2brain",)


def main(argv: Sequence[str]) -> int:
    """Check a folder of data, make a simulated one, or make single-trial betas of one."""
    if argv[:1] == ["betas"]:
        from wernicke.recipes.data_betas import main as betas

        return betas(argv[1:])
    parser = Arguments(prog="wernicke data", description=main.__doc__)
    actions = parser.add_subparsers(dest="action", required=True, metavar="check|simulate|betas",
                                    parser_class=Arguments)  # fmt: skip
    checks = actions.add_parser("check", description=check.__doc__, help="is this folder what a recipe expects")
    checks.add_argument("recipe", choices=RECIPES, help="which recipe")
    checks.add_argument("root", type=Path, help="the folder")
    makes = actions.add_parser("simulate", description=simulate.__doc__, help="a simulated data set")
    makes.add_argument("recipe", choices=RECIPES, help="which recipe")
    makes.add_argument("--out", required=True, type=Path, metavar="DIR", help="a new or empty folder")
    makes.add_argument("--size", choices=("small", "full"), default="small", help="small: 100 MB; full: 65 GB")
    makes.add_argument("--seed", type=int, default=0, metavar="N", help="the same seed gives the same bytes (now 0)")
    actions.add_parser("betas", add_help=False, help="BIDS derivatives, or GLMsingle's file -> one response a trial")
    given = parser.parse_args(argv)
    if given.action == "check":
        return check(given.root)
    simulate(given.out, given.size, given.seed)
    return EXIT_DONE


def check(root: Path) -> int:
    """Print what is there, what is unusual and what cannot be read; the exit code is 2 where something cannot.

    Only headers and small files are read: values that are not finite show when they are used.
    """
    from wernicke.data.drama2brain_check import ERROR, NOTE, check_drama2brain

    findings = check_drama2brain(root)
    width = max(len(finding.what) for finding in findings)
    for finding in findings:
        sys.stdout.write(f"{finding.state:<5}  {finding.what:<{width}}  {finding.text}\n")
    counts = {state: sum(finding.state == state for finding in findings) for state in (ERROR, NOTE)}
    simulated = " SIMULATED data: nobody's brain." if (root / "simulated.json").exists() else ""
    sys.stdout.write(f"{counts[ERROR]} errors, {counts[NOTE]} notes in {len(findings)} findings.{simulated}\n")
    return EXIT_USER if counts[ERROR] else EXIT_DONE


def simulate(out: Path, size: str, seed: int) -> None:
    """Write simulated subjects, states and annotations in the released layout, with a planted map of who carries what.

    Nobody's brain: random numbers with a known relation, which every file says. Beside them stand the two shipped
    configs with the simulated model's name.
    """
    from wernicke.recipes.drama2brain_simulate import simulate_drama2brain

    folder = simulate_drama2brain(out, size=size, seed=seed)
    sys.stdout.write(f"SIMULATED data set: {folder.absolute()}\n")
    for config in sorted(folder.glob("drama2brain_*.yaml")):
        sys.stdout.write(f"  wernicke encode --config {config} --data.root {folder} --run runs/{config.stem}\n")

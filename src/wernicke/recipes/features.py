"""`wernicke features`: texts, pictures, sound and films -> features, by the config's recipe."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path

from wernicke.core.checks import check_option
from wernicke.core.errors import EXIT_DONE, EXIT_USER
from wernicke.recipes.arguments import Arguments

#: What a config's `recipe` key may name: modules beside this one.
RECIPES = ("features_drama2brain", "features_any")
SHIPPED = ("drama2brain", "features")


def main(argv: Sequence[str]) -> int:
    """Write features, going on where an earlier call stopped."""
    from wernicke.recipes.config import build, load_config

    parser = Arguments(prog="wernicke features", add_help=False)
    parser.add_argument("--config")
    parser.add_argument("--out", type=Path)
    parser.add_argument("-h", "--help", action="store_true")
    given, rest = parser.parse_known_args(list(argv))
    if given.config is None and (given.help or not argv):
        sys.stdout.write("usage: wernicke features --config NAME|FILE --out DIR [--KEY VALUE ...]\n\n"
                         f"{main.__doc__}\n\nshipped configs: {', '.join(SHIPPED)}\n"
                         "`wernicke features --config NAME --help` lists the keys.\n")  # fmt: skip
        return EXIT_DONE if given.help else EXIT_USER
    if given.config is None:
        parser.error("--config is missing")
    recipe, values, path = load_config(given.config)
    check_option(recipe, RECIPES, "recipe", path)
    module = import_module(f"wernicke.recipes.{recipe}")
    prog = f"wernicke features --config {given.config} --out DIR"
    if given.help:
        build(module.Config, values, path, ["--help"], prog)
    if given.out is None:
        parser.error("--out is missing")
    config = build(module.Config, values, path, rest, prog)
    module.features(config, given.out, command=["wernicke", "features", *argv])
    sys.stdout.write(f"features: {given.out.absolute()}\n")
    return EXIT_DONE

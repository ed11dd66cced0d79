"""`wernicke demo`: both directions on real data, each step also a command of its own."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from wernicke.recipes.arguments import Arguments
from wernicke.recipes.config import build, load_config

WELCOME = (
    "Real fMRI of Haxby et al. 2001 (one person, one slice, eight kinds of pictures) and the language model\n"
    "SmolLM2-135M-Instruct, both ways. What is finished is reused; interrupted, call it again.\n"
)


def main(argv: Sequence[str]) -> None:
    """Run every step of the demo, reuse what is finished, print short tables and the report's path."""
    parser = Arguments(prog="wernicke demo", description=main.__doc__)
    parser.add_argument("--out", type=Path, default=Path("wernicke-demo"), help="folder of the demo's runs and report")
    out = parser.parse_args(argv).out
    began = time.monotonic()
    say(WELCOME)
    from wernicke.recipes import haxby_decode, haxby_decode_results, haxby_encode, haxby_encode_results, reporting

    command = ["wernicke", "demo", *argv]
    encoded, decoded = out / "encode", out / "decode"
    encode_config, decode_config = configured(haxby_encode), configured(haxby_decode)
    steps: list[tuple[str, Callable[[], Any]]] = [
        (f"wernicke encode --config haxby_encode --run {encoded}",
         lambda: haxby_encode.encode(encode_config, encoded, command)),
        (f"wernicke train --config haxby_decode --run {decoded}",
         lambda: haxby_decode.train(decode_config, decoded, command)),
        (f"wernicke decode --run {decoded}", lambda: haxby_decode.decode(decoded, command=command)),
        (f"wernicke evaluate --run {decoded}", lambda: haxby_decode_results.evaluate_run(decoded, command=command)),
        (f"wernicke report --run {encoded} {decoded} --out {out}", lambda: reporting.report([encoded, decoded], out)),
    ]  # fmt: skip
    for number, (text, step) in enumerate(steps, start=1):
        say(f"[{number}/{len(steps)}] {text}")
        started = time.monotonic()
        page = step()
        say(f"      {time.monotonic() - started:.0f} s")
    say(f"\nsentences -> voxels\n{haxby_encode_results.summary(encoded)}\n")
    say(f"voxels -> sentences\n{haxby_decode_results.summary(decoded)}\n")
    say(f"{time.monotonic() - began:.0f} s in all")
    sys.stdout.write(f"report: {page}\n")


def configured(recipe: Any) -> Any:
    """The shipped config of a recipe, as it is."""
    name = recipe.__name__.rsplit(".", 1)[-1]
    _, values, path = load_config(name)
    return build(recipe.Config, values, path, [], "wernicke demo")


def say(text: str) -> None:
    """Print at once, so that what is printed and the progress bars keep their order."""
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()

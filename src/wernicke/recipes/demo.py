"""`wernicke demo`: the main job on real data, each step also a command of its own."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from wernicke.recipes.config import build, load_config


def main(argv: Sequence[str]) -> None:
    """Run every step of the demo, reuse what is finished, print a short table and the report's path."""
    parser = argparse.ArgumentParser(prog="wernicke demo", description=main.__doc__)
    parser.add_argument("--out", type=Path, default=Path("wernicke-demo"), help="folder of the demo's runs and report")
    out = parser.parse_args(argv).out

    from wernicke.recipes import haxby_encode, haxby_encode_results, reporting

    began = time.monotonic()
    say("Real fMRI of Haxby et al. 2001 (one person, one slice) and the language model SmolLM2-135M-Instruct.\n")
    say("[1/2] wernicke encode --config haxby_encode: sentences -> voxels")
    _, values, path = load_config("haxby_encode")
    config = build(haxby_encode.Config, values, path, [], "wernicke demo")
    haxby_encode.encode(config, out / "encode", command=["wernicke", "demo"])
    say("[2/2] wernicke report")
    page = reporting.report([out / "encode"], out)
    say(f"\n{haxby_encode_results.summary(out / 'encode')}\n\n{time.monotonic() - began:.0f} s in all")
    sys.stdout.write(f"report: {page}\n")


def say(text: str) -> None:
    """Print at once, so that what is printed and the progress bars keep their order."""
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()

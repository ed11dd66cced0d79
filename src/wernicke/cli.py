"""The command line: the first word picks a recipe's function; only that function's parser and imports are built."""

from __future__ import annotations

import errno
import inspect
import logging
import os
import sys
import traceback
from collections.abc import Callable, Sequence
from importlib import import_module
from pathlib import Path

from wernicke.core.errors import (
    EXIT_DISK_FULL,
    EXIT_DONE,
    EXIT_INTERNAL,
    EXIT_SIGINT,
    EXIT_USER,
    InputError,
    WernickeError,
)

COMMANDS = {
    "demo": ("wernicke.recipes.demo", "main", "bundled real fMRI -> brain map, sentences, report"),
    "data": ("wernicke.recipes.data", "main", "check a folder of data; simulate one; single-trial betas"),
    "features": ("wernicke.recipes.features", "main", "texts, pictures, sound, films -> features of models"),
    "encode": ("wernicke.cli", "encode", "study + features -> maps, scores, credibility card"),
    "train": ("wernicke.cli", "train", "study -> decoder"),
    "decode": ("wernicke.recipes.evaluating", "decode", "decoder + held-out recordings -> sentences"),
    "evaluate": ("wernicke.recipes.evaluating", "main", "a run, or anyone's file of texts -> scores, controls, card"),
    "report": ("wernicke.recipes.reporting", "main", "results of one or several runs -> one page"),
    "plan": ("wernicke.recipes.planning", "main", "time, memory and disk of an encoding run, beforehand"),
    "doctor": ("wernicke.recipes.doctor", "main", "what is installed, whole, missing, and what to do about it"),
}

HELP = """\
usage: wernicke COMMAND [options]

Brain recordings and language, both ways, and how far each result is to be believed.

commands:
{commands}

`wernicke COMMAND --help` explains a command; `wernicke --version` prints the version.
A config is a name (`--config haxby_encode`) or a file, and every key in it is also a flag.
"""


def run(argv: Sequence[str]) -> int:
    """Run one command and return the process's exit code; errors of the user end in at most two lines."""
    logging.basicConfig(format="%(message)s", level=logging.INFO, stream=sys.stderr)
    for noisy in ("httpx", "transformers", "matplotlib", "fontTools", "absl"):
        logging.getLogger(noisy).setLevel(logging.ERROR)
    try:
        code = _call(argv)
        sys.stdout.flush()
        return code
    except WernickeError as error:
        sys.stderr.write(f"wernicke: {error}\n")
        return error.exit_code
    except KeyboardInterrupt:
        sys.stderr.write("wernicke: interrupted; the same command goes on from what is finished\n")
        return EXIT_SIGINT
    except BrokenPipeError:
        # The reader of our output went away, as `| head` does. Python would complain again at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return EXIT_DONE
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            sys.stderr.write(f"wernicke: disk full: {error.filename or error}\n  free some space and call again\n")
            return EXIT_DISK_FULL
        traceback.print_exc()
        return EXIT_INTERNAL
    except Exception:  # noqa: BLE001 - the last resort: an internal fault, shown whole
        traceback.print_exc()
        sys.stderr.write("wernicke: this is a fault of wernicke, please report it with the lines above\n")
        return EXIT_INTERNAL


def _call(argv: Sequence[str]) -> int:
    if not argv or argv[0] in ("-h", "--help", "help"):
        width = max(map(len, COMMANDS)) + 2
        sys.stdout.write(HELP.format(commands="\n".join(f"  {n:<{width}}{h}" for n, (_, _, h) in COMMANDS.items())))
        return EXIT_DONE if argv else EXIT_USER
    name = argv[0]
    if name == "--version":
        import wernicke

        sys.stdout.write(f"wernicke {wernicke.__version__}\n")
        return EXIT_DONE
    if name not in COMMANDS:
        from wernicke.core.checks import suggest

        raise InputError("E-CFG", f"unknown command `{name}`", hint=suggest(name, COMMANDS))
    module, function, _ = COMMANDS[name]
    command: Callable[[Sequence[str]], int | None] = getattr(import_module(module), function)
    try:
        return command(argv[1:]) or EXIT_DONE
    except SystemExit as end:  # argparse, after `--help` or with its own message
        return end.code if isinstance(end.code, int) else EXIT_DONE


# Recipes by command: what a config's `recipe` key may name, and where it is.
ENCODERS = {
    "haxby_encode": "wernicke.recipes.haxby_encode",
    "drama2brain_encode": "wernicke.recipes.drama2brain_encode",
    "bids_encode": "wernicke.recipes.bids_encode",
}
DECODERS = {"haxby_decode": "wernicke.recipes.haxby_decode"}


def encode(argv: Sequence[str]) -> int:
    """`wernicke encode --config C --run DIR [--part k/N|merge]`."""
    return _run_recipe("encode", ENCODERS, argv)


def train(argv: Sequence[str]) -> int:
    """`wernicke train --config C --run DIR`."""
    return _run_recipe("train", DECODERS, argv)


def _run_recipe(command: str, recipes: dict[str, str], argv: Sequence[str]) -> int:
    from wernicke.core.checks import check_option
    from wernicke.recipes.config import build, load_config, shipped

    rest = list(argv)
    helped = bool({"--help", "-h"} & set(rest))
    if not rest or (helped and not any(word.split("=")[0] == "--config" for word in rest)):
        sys.stdout.write(f"usage: wernicke {command} --config NAME|FILE --run DIR [--KEY VALUE ...]\n\n"
                         f"shipped configs: {', '.join(shipped(recipes))}\n"
                         f"`wernicke {command} --config NAME --help` lists the keys.\n")  # fmt: skip
        return EXIT_DONE if helped else EXIT_USER
    config = take(rest, "--config")
    recipe, values, path = load_config(config)
    check_option(recipe, recipes, "recipe", path)
    module = import_module(recipes[recipe])
    prog = f"wernicke {command} --config {config} --run DIR"
    if helped:
        build(module.Config, values, path, ["--help"], prog)
    folder = Path(take(rest, "--run"))
    share = take_part(rest, getattr(module, command))
    made = build(module.Config, values, path, rest, prog)
    getattr(module, command)(made, folder, command=["wernicke", command, *argv], **share)
    sys.stdout.write(f"run: {folder.absolute()}\n")
    return EXIT_DONE


def take_part(arguments: list[str], command: Callable[..., object]) -> dict[str, str]:
    """Remove ``--part`` from the arguments and return it as a keyword; refuse it for a recipe that has no shares."""
    if not any(argument.split("=")[0] == "--part" for argument in arguments):
        return {}
    part = take(arguments, "--part")
    if "part" not in inspect.signature(command).parameters:
        raise InputError("E-CFG", "this recipe is one piece of work, without shares", field="--part")
    return {"part": part}


def take(arguments: list[str], flag: str) -> str:
    """Remove a flag that must be there, with its value, from the arguments and return the value."""
    for i, argument in enumerate(arguments):
        if argument.startswith(f"{flag}="):
            del arguments[i]
            return argument.split("=", 1)[1]
        if argument == flag:
            if i + 1 == len(arguments) or arguments[i + 1].startswith("--"):
                raise InputError("E-CFG", "no value given", field=flag)
            value = arguments[i + 1]
            del arguments[i : i + 2]
            return value
    raise InputError("E-CFG", f"{flag} is missing", field=flag, hint="`--help` shows what the command takes")

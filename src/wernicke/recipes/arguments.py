"""The arguments of commands that have no config: argparse, with our messages."""

from __future__ import annotations

import argparse
import re
from typing import Any, NoReturn

from wernicke.core.errors import InputError


class Arguments(argparse.ArgumentParser):
    """An argument parser that raises `InputError` (E-CFG), naming the nearest known flag, where argparse would exit."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(allow_abbrev=False, **settings)

    def error(self, message: str) -> NoReturn:
        """Raise what argparse would have printed."""
        from wernicke.core.checks import suggest

        flag = re.match(r"unrecognized arguments: (--[^\s=]+)", message)
        if flag is None:
            raise InputError("E-CFG", message, hint=f"`{self.prog} --help` shows what it takes")
        known = [name for action in self._actions for name in action.option_strings if name.startswith("--")]
        raise InputError("E-CFG", f"unknown flag `{flag[1]}`", field=flag[1], hint=suggest(flag[1], known))

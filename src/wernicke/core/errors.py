"""Every error that a user can cause, and the exit code that the command line gives it."""

from __future__ import annotations

import os
from functools import partial
from pathlib import Path
from typing import Any

EXIT_DONE = 0
EXIT_INTERNAL = 1
EXIT_USER = 2
EXIT_IN_USE = 3
EXIT_CONTROL = 4
EXIT_NONFINITE = 5
EXIT_DISK_FULL = 6
EXIT_SIGINT = 130
EXIT_SIGTERM = 143


def _one_line(text: str, limit: int = 300) -> str:
    """Keep foreign text from breaking a message: printable characters only, one line, bounded."""
    clean = "".join(c if c.isprintable() else " " for c in str(text))
    return clean if len(clean) <= limit else clean[: limit - 3] + "..."


class WernickeError(Exception):
    """Base of all errors raised on purpose. The message is at most two lines; `exit_code` is the process's."""

    exit_code = EXIT_INTERNAL

    def __init__(self, message: str) -> None:
        # Messages hold names of files and folders, which may hold anything.
        super().__init__("\n  ".join(_one_line(line.strip(), 1200) for line in message.split("\n", 1)))


class InputError(WernickeError, ValueError):
    """Input that cannot be right.

    Parameters
    ----------
    code : str
        Stable short code, such as ``E-SHAPE`` (the list stands in ``docs/errors.md``).
    problem : str
        What was found and what was expected, in one sentence.
    path : path-like, optional
        The file, where there is one.
    field : str, optional
        The column, key, argument or header field.
    hint : str, optional
        What to do about it; printed as the second line.
    """

    exit_code = EXIT_USER

    def __init__(
        self,
        code: str,
        problem: str,
        *,
        path: str | os.PathLike[str] | None = None,
        field: str | None = None,
        hint: str | None = None,
    ) -> None:
        self.code = code
        self.problem = _one_line(problem)
        self.path = None if path is None else Path(path)
        self.field = field
        self.hint = None if hint is None else _one_line(hint)
        where = ": ".join(_one_line(str(part)) for part in (path, field) if part is not None)
        first = f"{code} {where}: {self.problem}" if where else f"{code} {self.problem}"
        super().__init__(first if self.hint is None else f"{first}\n  {self.hint}")

    def __reduce__(self) -> tuple[Any, ...]:
        # An error of a dask worker travels to its client as a pickle; by default that would call `InputError(message)`.
        return partial(type(self), path=self.path, field=self.field, hint=self.hint), (self.code, self.problem)


class RunInUseError(WernickeError):
    """Another process holds the run folder."""

    exit_code = EXIT_IN_USE


class ControlFailedError(WernickeError):
    """A fatal control failed and ``--strict`` was given."""

    exit_code = EXIT_CONTROL


class NonFiniteLossError(WernickeError):
    """Training met a loss or gradient that is not finite."""

    exit_code = EXIT_NONFINITE


class DiskFullError(WernickeError):
    """The disk is full, or would be; nothing half-written stays."""

    exit_code = EXIT_DISK_FULL


class Interrupted(WernickeError):
    """SIGINT or SIGTERM, after the work in hand was made safe."""

    def __init__(self, message: str, signal_number: int) -> None:
        super().__init__(message)
        self.exit_code = 128 + signal_number

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (str(self), self.exit_code - 128)

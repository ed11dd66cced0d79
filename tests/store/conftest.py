"""Children for fault injection: forked, so that torch (two seconds to import) is there already."""

from __future__ import annotations

import os
import sys
import tempfile
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from wernicke.core.errors import WernickeError

CHILD_FAILED = 99


@pytest.fixture
def fork() -> Callable[[Callable[[], None]], int]:
    """Return a function that runs another in a child process and returns the child's id.

    The child leaves with 0, the `exit_code` of a WernickeError, or 99 for any other exception.
    """

    def start(work: Callable[[], None]) -> int:
        sys.stdout.flush()
        pid = os.fork()
        if pid:
            return pid
        code = CHILD_FAILED
        try:
            work()
            code = 0
        except WernickeError as error:
            code = error.exit_code
        finally:
            if code == CHILD_FAILED:
                traceback.print_exc()
            os._exit(code)

    return start


@pytest.fixture
def run_child(fork: Callable[[Callable[[], None]], int]) -> Callable[[Callable[[], None]], int]:
    """Return a function that runs another in a child process, waits, and returns the exit code (negative: signal)."""

    def run(work: Callable[[], None]) -> int:
        _, status = os.waitpid(fork(work), 0)
        return os.waitstatus_to_exitcode(status)

    return run


@pytest.fixture
def memory_path() -> Iterator[Path]:
    """A folder in memory where there is one: hundreds of kills need no disk's fsync."""
    place = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
    with tempfile.TemporaryDirectory(dir=place) as folder:
        yield Path(folder)

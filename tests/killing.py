"""Fault injection: children, forked so that torch (two seconds to import) is there already, that die where told."""

from __future__ import annotations

import builtins
import fcntl
import io
import os
import sys
import tempfile
import threading
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
from tqdm import tqdm

from wernicke.core.errors import WernickeError

Fork = Callable[[Callable[[], None]], int]

CHILD_FAILED = 99
KILLED = 9
WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT
CALLS = {
    os: ["open", "mkdir", "rename", "replace", "fsync", "unlink", "rmdir", "posix_fallocate", "ftruncate", "pwrite"],
    io: ["open"],
    builtins: ["open"],
    fcntl: ["flock"],
}


def die_before_call(number: int) -> None:
    """Let this process die right before its `number`-th call that changes a file; writing tensors dies half-way too."""
    left = number

    def count() -> None:
        nonlocal left
        left -= 1
        if left == 0:
            os._exit(KILLED)

    def deadly(function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any, **options: Any) -> Any:
            how = arguments[1] if len(arguments) > 1 else options.get("mode", "r")
            if function.__name__ != "open" or (set(how) - set("rbt") if isinstance(how, str) else how & WRITING):
                count()  # reading a file changes nothing
            return function(*arguments, **options)

        return call

    for module, names in CALLS.items():
        for name in names:
            setattr(module, name, deadly(getattr(module, name)))
    real_save = safetensors.torch.save_file

    def save_file(tensors: dict[str, torch.Tensor], path: Path, metadata: Any = None) -> None:
        nonlocal left
        count()
        real_save(tensors, path, metadata)
        if left == 1:
            os.truncate(path, os.path.getsize(path) // 2)
        count()

    safetensors.torch.save_file = save_file


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
        # tqdm's own lock is shared between processes: a child that is killed with it would stop its parent for good.
        tqdm.set_lock(threading.RLock())
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

"""The first SIGINT or SIGTERM lets the work in hand be made safe; the second ends the process at once."""

from __future__ import annotations

import logging
import os
import signal
import threading
from types import FrameType, TracebackType
from typing import Any

from wernicke.core.errors import Interrupted

log = logging.getLogger(__name__)

_SIGNALS = (signal.SIGINT, signal.SIGTERM)


class GracefulExit:
    """Context manager for a loop that can stop between steps.

    ::

        with GracefulExit() as stop:
            for step in ...:
                ...
                if stop.requested:  # asked once a step: what a later signal finds unsaved, the next step saves
                    save_checkpoint(...)
                    stop.leave("interrupted after step 12; the same command goes on from there")

    Signals reach Python's main thread only; in another thread nothing is installed and `requested` stays False.

    Attributes
    ----------
    requested : bool
        Whether a signal has come.
    """

    def __init__(self) -> None:
        self.signal_number: int | None = None
        self._previous: dict[int, Any] = {}

    @property
    def requested(self) -> bool:
        return self.signal_number is not None

    def __enter__(self) -> GracefulExit:
        if threading.current_thread() is threading.main_thread():
            self._previous = {number: signal.signal(number, self._receive) for number in _SIGNALS}
        return self

    def _receive(self, number: int, frame: FrameType | None) -> None:
        if self.requested:
            os._exit(128 + number)
        self.signal_number = number
        log.warning("%s: finishing the step in hand; once more to end at once", signal.Signals(number).name)

    def leave(self, message: str) -> None:
        """Raise `Interrupted` (exit code 130 or 143) if a signal has come."""
        if self.signal_number is not None:
            raise Interrupted(message, self.signal_number)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)
        if error is None:
            self.leave("interrupted; what was finished is kept")

"""A stop that waits for the end of a step: Ctrl-C, and the signal by which schedulers end a process."""

from __future__ import annotations

import contextlib
import signal
import threading
import time
from collections.abc import Iterator
from types import FrameType
from typing import Any

from panderm.progress import say

_AGAIN = 1.0  # seconds after which another signal is meant as one: a terminal and a launcher may both send


class Stop:
    """Whether a stop was asked for."""

    def __init__(self, *, shown: bool) -> None:
        self.asked = False
        self._shown = shown
        self._since = 0.0

    def __call__(self, _number: int, _frame: FrameType | None) -> None:
        if self.asked and time.monotonic() - self._since > _AGAIN:
            raise KeyboardInterrupt
        if not self.asked:
            self.asked, self._since = True, time.monotonic()
            if self._shown:
                say("stopping after this step, with a checkpoint; once more stops at once")


@contextlib.contextmanager
def stop_after_a_step(*, shown: bool) -> Iterator[Stop]:
    """Let a signal only be noted, while the block runs; a second one stops at once."""
    stop = Stop(shown=shown)
    if threading.current_thread() is not threading.main_thread():
        yield stop
        return
    before: dict[signal.Signals, Any] = {}
    for number in (signal.SIGINT, signal.SIGTERM):
        before[number] = signal.signal(number, stop)
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler or signal.SIG_DFL)

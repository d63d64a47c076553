"""Stops a run at a signal: the iteration is finished and saved, then the process ends.

SIGINT (Ctrl-C), SIGTERM and SIGHUP end a training with exit status 128 + the signal's number: 130,
143, 129. A second signal ends the process at once, but for the processes of torchrun, which kills
them half a minute after the first.
"""

import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

from cmemd.errors import Stopped

__all__ = ["Stop", "handled_signals", "stop_at_signals"]

_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Stop:
    """Whether a signal has come; the trainer looks between iterations.

    Attributes:
        number: of the signal that came, or 0.
    """

    def __init__(self) -> None:
        self.number = 0
        self._at_once: str | None = None

    def take(self, number: int, frame: FrameType | None) -> None:
        """Handle a signal: remember the first one; a second one has its usual effect.

        torchrun passes on the signals that it gets, and a cluster's scheduler signals all processes
        of a job. So under torchrun a second signal may be the first one again, and changes nothing.
        """
        if self.number and "TORCHELASTIC_RUN_ID" in os.environ:
            return
        if self.number:
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)
            return
        self.number = number
        if self._at_once is not None:
            raise Stopped(number, self._at_once)

    @contextmanager
    def at_once(self, detail: str) -> Iterator[None]:
        """Let a signal end the run at once, in code that has nothing to save.

        Args:
            detail: what a user should know, for the line on stderr.
        """
        if self.number:
            raise Stopped(self.number, detail)
        self._at_once = detail
        try:
            yield
        finally:
            self._at_once = None


@contextmanager
def stop_at_signals() -> Iterator[Stop]:
    """Yield what says whether a signal has come; outside the main thread none ever does."""
    stop = Stop()
    with handled_signals(stop.take):
        yield stop


@contextmanager
def handled_signals(handler: Callable[[int, FrameType | None], None]) -> Iterator[None]:
    """Handle SIGINT, SIGTERM and SIGHUP; outside the main thread, where Python cannot, do nothing.

    A SIGHUP that ``nohup`` made the process ignore stays ignored.

    Args:
        handler: called in the main thread, as ``signal.signal`` calls it.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    ignored = signal.getsignal(signal.SIGHUP) is signal.SIG_IGN  # by nohup, which must go on
    numbers = [number for number in _SIGNALS if number != signal.SIGHUP or not ignored]
    before = {number: signal.signal(number, handler) for number in numbers}
    try:
        yield
    finally:
        for number, earlier in before.items():
            signal.signal(number, earlier)

"""Runs trainings in processes of their own, which stop with this one.

A signal to this process is passed on; each child then saves and ends, and so does this process. A
child whose parent was killed notices that between iterations, and saves and ends too.
"""

import os
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from types import FrameType
from typing import Any

from cmemd.engine.stopping import handled_signals
from cmemd.errors import Stopped

__all__ = ["Children", "is_orphan", "stop_with_parent", "stopping_children"]

_PARENT = "CMEMD_PARENT"  # environment variable: the process that a child stops with
_SAVED = "the runs have saved; the same command goes on from there"


class Children:
    """Running child processes.

    Attributes:
        number: of the signal that came, or 0.
    """

    def __init__(self) -> None:
        self.number = 0
        self._running: set[subprocess.Popen[Any]] = set()

    def run(
        self, words: Sequence[str], env: Mapping[str, str] | None = None, **options: Any
    ) -> int:
        """Run a command to its end; return its exit status.

        Args:
            words: the command line.
            env: the environment; this process's by default.
            options: of ``subprocess.Popen``.

        Raises:
            Stopped: a signal has come.
        """
        if self.number:
            raise Stopped(self.number, _SAVED)
        environment = {**(os.environ if env is None else env), _PARENT: str(os.getpid())}
        # In a session of its own a child gets no Ctrl-C from the terminal beside the one from here.
        with subprocess.Popen(words, env=environment, start_new_session=True, **options) as child:
            self._running.add(child)
            if self.number:  # it came in between
                child.send_signal(self.number)
            try:
                return child.wait()
            finally:
                self._running.discard(child)

    def take(self, number: int, frame: FrameType | None) -> None:
        """Handle a signal: pass it on to all children."""
        self.number = self.number or number
        for child in tuple(self._running):
            child.send_signal(number)


@contextmanager
def stopping_children() -> Iterator[Children]:
    """Yield what runs child processes; pass signals on to them in the meantime.

    Raises:
        Stopped: a signal came; the children have ended.
    """
    children = Children()
    with handled_signals(children.take):
        yield children
    if children.number:
        raise Stopped(children.number, _SAVED)


def stop_with_parent() -> None:
    """Let this process stop with the one that started it, such as torchrun."""
    os.environ[_PARENT] = str(os.getppid())


def is_orphan() -> bool:
    """Return whether the process that this one stops with has ended."""
    parent = os.environ.get(_PARENT)
    return parent is not None and os.getppid() != int(parent)

"""Errors that a user can cause and fix, and how a command shows them."""

import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager

__all__ = [
    "EXIT_BAD_INPUT",
    "EXIT_INTERRUPTED",
    "InputError",
    "MissingDependencyError",
    "Stopped",
    "readable_errors",
]

EXIT_BAD_INPUT = 2
EXIT_INTERRUPTED = 130  # 128 + SIGINT


class InputError(ValueError):
    """Bad input: "expected X, got Y: remedy".

    It is a ``ValueError``, so that callers who do not know this package can catch it.

    Args:
        expected: what was expected; or, as the only argument, a whole message (a loader's worker
            process raises its errors again with that).
        got: what was found instead.
        remedy: what the user can do about it.
    """

    def __init__(self, expected: str, got: object = None, remedy: str | None = None) -> None:
        whole = got is None and remedy is None
        super().__init__(expected if whole else f"expected {expected}, got {got}: {remedy}")


class MissingDependencyError(ImportError):
    """A package that this use of cmemd needs is not installed; the message says how to get it."""


class Stopped(BaseException):
    """A signal has ended the run.

    It is no ``Exception``, so that no handler of errors on the way takes it for one.

    Args:
        number: of the signal.
        detail: what a user should know, for the line on stderr.
    """

    def __init__(self, number: int, detail: str) -> None:
        super().__init__(f"stopped by {signal.Signals(number).name}: {detail}")
        self.number = number

    @property
    def status(self) -> int:
        """Exit status of the process."""
        return 128 + self.number


@contextmanager
def readable_errors() -> Iterator[None]:
    """Turn this module's errors into one line on stderr and exit status 2.

    Ctrl-C is one line and exit status 130. Any other exception is a defect of ours and keeps its
    traceback.
    """
    try:
        yield
    except KeyboardInterrupt:
        sys.stderr.write("stopped by SIGINT\n")
        raise SystemExit(EXIT_INTERRUPTED) from None
    except Stopped as stopped:
        sys.stderr.write(f"{stopped}\n")
        raise SystemExit(stopped.status) from None
    except (InputError, MissingDependencyError) as error:
        # A loader's worker process prefixes its traceback to the message.
        message = str(error).rstrip().rsplit("InputError: ", 1)[-1]
        sys.stderr.write(f"error: {message}\n")
        raise SystemExit(EXIT_BAD_INPUT) from None

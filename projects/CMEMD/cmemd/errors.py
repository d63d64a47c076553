"""Errors that a user can cause and fix, and how a command shows them."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager

__all__ = ["EXIT_BAD_INPUT", "InputError", "MissingDependencyError", "readable_errors"]

EXIT_BAD_INPUT = 2


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


@contextmanager
def readable_errors() -> Iterator[None]:
    """Turn this module's errors into one line on stderr and exit status 2.

    Any other exception is a defect of ours and keeps its traceback.
    """
    try:
        yield
    except (InputError, MissingDependencyError) as error:
        # A loader's worker process prefixes its traceback to the message.
        message = str(error).rstrip().rsplit("InputError: ", 1)[-1]
        sys.stderr.write(f"error: {message}\n")
        raise SystemExit(EXIT_BAD_INPUT) from None

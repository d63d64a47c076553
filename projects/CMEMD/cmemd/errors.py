"""What a user can cause and mend, and how a command shows it."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager

EXIT_BAD_INPUT = 2


class InputError(ValueError):
    """Bad input: says what was expected, what came, and what to do.

    As a ``ValueError`` it can be caught by callers of the library who do not know this package.
    """


class MissingDependencyError(ImportError):
    """A package that this use of cmemd needs is not installed; the message says how to get it."""


@contextmanager
def readable_errors() -> Iterator[None]:
    """Turns this module's errors into one line on stderr and exit status 2.

    Anything else is a defect of ours and keeps its traceback.
    """
    try:
        yield
    except (InputError, MissingDependencyError) as error:
        # A loader's worker process prefixes its traceback to the message.
        message = str(error).rstrip().rsplit("InputError: ", 1)[-1]
        sys.stderr.write(f"error: {message}\n")
        raise SystemExit(EXIT_BAD_INPUT) from None

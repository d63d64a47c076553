"""Many cases in one test, with the failing one named."""

import functools
import inspect
from collections.abc import Callable, Iterable

import pytest


def cases(names: str | tuple[str, ...], values: Iterable) -> Callable:
    """Run a test for each of its cases, as ``pytest.mark.parametrize`` does, but as one test.

    A theorem then is one test, and the set-up of pytest is paid once. Fixtures are shared by the
    cases. The first failing case ends the test; its message names the case.

    Args:
        names: of the test's parameter, or of several.
        values: of the parameter, or tuples of values.
    """
    several = not isinstance(names, str)
    values = list(values)
    assert values, "expected at least one case"

    def decorate(test: Callable[..., None]) -> Callable[..., None]:
        @functools.wraps(test)
        def run(**others: object) -> None:
            for value in values:
                case = dict(zip(names, value, strict=True)) if several else {names: value}
                try:
                    test(**others, **case)
                except (Exception, pytest.fail.Exception) as error:
                    words = ", ".join(f"{name}={value!r}" for name, value in case.items())
                    raise AssertionError(f"{words}: {type(error).__name__}: {error}") from error

        signature = inspect.signature(test)
        left = [p for n, p in signature.parameters.items() if n not in ((names,), names)[several]]
        run.__signature__ = signature.replace(parameters=left)
        return run

    return decorate

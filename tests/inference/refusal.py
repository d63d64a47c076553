from collections.abc import Callable

from cmemd.errors import InputError


def refusal(call: Callable, *args: object, **options: object) -> str:
    """Return the message of the InputError that a call raises, or "" if it raises none."""
    try:
        call(*args, **options)
    except InputError as error:
        return str(error)
    return ""

"""Read a time as a user writes it."""

from datetime import datetime, timezone

from cmemd.errors import InputError

__all__ = ["parse_seconds", "parse_time"]


def parse_time(text: str) -> datetime:
    """Return the time of an ISO 8601 text; without a zone it means UTC.

    Raises:
        InputError: the text is not ISO 8601.
    """
    try:
        time = datetime.fromisoformat(text.replace("Z", "+00:00"))  # Python 3.10 cannot read Z
    except ValueError:
        raise InputError(
            "a time such as 2024-05-31T14:00:00", repr(text), "write it as ISO 8601"
        ) from None
    return time if time.tzinfo else time.replace(tzinfo=timezone.utc)


def parse_seconds(text: str) -> float:
    """Return a time in seconds: of a number itself, of ISO 8601 the seconds since 1970.

    >>> parse_seconds("12.5"), parse_seconds("1970-01-02T00:00:01")
    (12.5, 86401.0)

    Raises:
        InputError: the text is neither.
    """
    try:
        seconds = float(text)
    except ValueError:
        return parse_time(text).timestamp()
    if seconds - seconds != 0:  # NaN or infinity
        raise InputError("a finite time", repr(text), "write seconds, or ISO 8601")
    return seconds

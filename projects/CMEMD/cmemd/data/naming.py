"""Names that data sets agree on: of an identity, of an image, and of the data set itself.

A data set may have methods ``person(pid)`` and ``place(item)``, and attributes ``title`` and
``licence``. For one without them, as of a user's own builder, its ``dataset_name`` and ``folder``
stand in.
"""

import os
from collections.abc import Callable, Iterable
from typing import Any

from cmemd.data.items import ImageItem
from cmemd.data.layouts import LAYOUTS

__all__ = [
    "UNKNOWN",
    "licences_of",
    "parts_of",
    "people_of",
    "person_of",
    "place_of",
    "published_licence",
    "record_name",
    "title_of",
]
UNKNOWN = "unknown"  # as a licence


def person_of(data: Any, pid: int) -> tuple[str, object]:
    """Return the naming of an identity, and the identity in it, as the leak guard compares them."""
    named = getattr(data, "person", None)
    return (data.dataset_name, pid) if named is None else named(pid)


def people_of(data: Any, items: Iterable[ImageItem]) -> set[tuple[str, object]]:
    """Return the naming and identity of each person in some images of a data set."""
    return {person_of(data, pid) for pid in {item.pid for item in items}}


def place_of(data: Any, item: ImageItem) -> str:
    """Return an image's path in its data set, with forward slashes, and its box and frame."""
    placed: Callable[[ImageItem], str] | None = getattr(data, "place", None)
    if placed is not None:
        return placed(item)
    return os.path.relpath(item.key, data.folder).replace(os.sep, "/")


def title_of(data: Any) -> str:
    """Return the name of a data set in results and messages."""
    return getattr(data, "title", type(data).__name__)


def record_name(data: Any) -> str:
    """Return the name of a data set in training records: published ones never change theirs."""
    name: str = getattr(data, "record_name", data.dataset_name)
    return name


def parts_of(data: Any) -> tuple[Any, ...]:
    """Return the data sets that were joined, or the data set itself."""
    return getattr(data, "parts", (data,))


def licences_of(data: Any) -> dict[str, str]:
    """Return the licence of each joined data set, by the name in training records."""
    return {
        record_name(part): getattr(part, "licence", published_licence(part.dataset_name))
        for part in parts_of(data)
    }


def published_licence(name: str) -> str:
    """Return the licence of a data set by its name in training records; "unknown" of others."""
    known = {layout.dataset_name: layout.licence for layout in LAYOUTS.values()}
    return known.get(name, UNKNOWN)

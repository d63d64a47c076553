"""Names that data sets agree on: of an identity, of an image, and of the data set itself.

A data set may have methods ``person(pid)`` and ``place(item)``, and attributes ``title`` and
``licence``. For one without them, as of a user's own builder, its ``dataset_name`` and ``folder``
stand in.
"""

import os
from collections.abc import Iterable
from typing import Any

from cmemd.data.items import ImageItem
from cmemd.data.layouts import LAYOUTS

__all__ = ["licence_of", "people_of", "person_of", "place_of", "title_of"]


def person_of(data: Any, pid: int) -> tuple[str, object]:
    """Return the naming of an identity, and the identity in it, as the leak guard compares them."""
    named = getattr(data, "person", None)
    return (data.dataset_name, pid) if named is None else named(pid)


def people_of(data: Any, items: Iterable[ImageItem]) -> set[tuple[str, object]]:
    """Return the naming and the identity of everybody in some images of a data set."""
    return {person_of(data, pid) for pid in {item.pid for item in items}}


def place_of(data: Any, item: ImageItem) -> str:
    """Return an image's path in its data set, with forward slashes, and its box and frame."""
    placed = getattr(data, "place", None)
    if placed is not None:
        return placed(item)
    return os.path.relpath(item.key, data.folder).replace(os.sep, "/")


def title_of(data: Any) -> str:
    """Return the name of a data set in results and messages."""
    return getattr(data, "title", type(data).__name__)


def licence_of(data: Any) -> str | None:
    """Return the licence of a data set; None where it is not known."""
    known = {layout.dataset_name: layout.licence for layout in LAYOUTS.values()}
    return getattr(data, "licence", known.get(data.dataset_name))

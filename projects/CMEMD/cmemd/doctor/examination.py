"""Examine a copy of a data set: folders, lists and every image."""

import json
import pkgutil
from collections.abc import Callable
from pathlib import Path

from cmemd.data.layouts import LAYOUTS
from cmemd.doctor import EXAMINERS
from cmemd.doctor.pixels import report_pixels
from cmemd.doctor.report import Report
from cmemd.doctor.tree import META, ImageFile
from cmemd.errors import InputError

__all__ = ["examine"]


def examine(layout: str, root: Path | str) -> Report:
    """Examine a copy of a data set: folders, lists, and every image decoded.

    Args:
        layout: name of one of ``EXAMINERS``.
        root: the data set's own folder.

    Returns:
        The report; ``usable`` says whether you can train and score on the data set.

    Raises:
        InputError: a missing folder, or one that you may not read.
    """
    root = Path(root)
    if not root.is_dir():
        raise InputError(
            f"a data set's folder at {root}",
            "a file" if root.exists() else "no such folder",
            "give --root the folder itself",
        )
    report = Report(LAYOUTS[layout].title, str(root), standin=_standin(root / META))
    examine_tree: Callable[[Path, Report], list[ImageFile]]
    examine_tree = pkgutil.resolve_name(EXAMINERS[layout])
    try:
        files = examine_tree(root, report)
    except PermissionError as error:
        raise InputError("readable folders", error, "change their permissions") from None
    report_pixels(root, files, report)
    report.compare_counts()
    return report


def _standin(meta: Path) -> str | None:
    """Return the title of the data set that a stand-in imitates, from its first line, or None."""
    try:
        with meta.open(encoding="utf-8") as file:
            name = json.loads(file.readline())["standin"]
    except (OSError, ValueError, TypeError, KeyError):
        return None
    return name if isinstance(name, str) else None

"""Examine a copy of a data set: folders, lists and every image."""

import contextlib
import json
import pkgutil
from collections.abc import Callable, Mapping
from pathlib import Path

from cmemd.data.images import max_pixels
from cmemd.data.layouts import LAYOUTS
from cmemd.doctor import EXAMINERS
from cmemd.doctor.pixels import report_pixels
from cmemd.doctor.report import Report
from cmemd.doctor.sums import report_sums
from cmemd.doctor.tree import META, ImageFile, report_left_out
from cmemd.errors import InputError
from cmemd.files import file_sha256

__all__ = ["examine", "standin_title"]

_LINE = 2**16  # bytes of a stand-in's first line, at most


def examine(layout: str, root: Path | str, sums: Mapping[str, str] | None = None) -> Report:
    """Examine a copy of a data set: folders, lists, and every image decoded.

    Args:
        layout: name of one of ``EXAMINERS``.
        root: the data set's own folder.
        sums: path below it -> SHA-256 that the file should have.

    Returns:
        The report; ``usable`` says whether you can train and score on the data set.

    Raises:
        InputError: a missing folder, one that you may not read, or an invalid limit of pixels.
    """
    root = Path(root)
    max_pixels()  # an invalid setting is no fault of the images
    if not root.is_dir():
        raise InputError(
            f"a data set's folder at {root}",
            "a file" if root.exists() else "no such folder",
            "give --root the folder itself",
        )
    report = Report(LAYOUTS[layout].title, str(root), standin=standin_title(root / META))
    examine_tree: Callable[[Path, Report], list[ImageFile]]
    examine_tree = pkgutil.resolve_name(EXAMINERS[layout])
    try:
        files = examine_tree(root, report)
    except PermissionError as error:
        raise InputError("readable folders", error, "change their permissions") from None
    report_left_out(root, report)
    report_pixels(root, files, report)
    _hash_lists(root, LAYOUTS[layout].list_folder, report)
    if sums is not None:
        report_sums(root, sums, report)
    report.compare_counts()
    return report


def _hash_lists(root: Path, folder: str, report: Report) -> None:
    if not (root / folder).is_dir():
        return
    for path in sorted((root / folder).iterdir()):
        if path.is_file() and not path.name.startswith("."):
            with contextlib.suppress(OSError):  # the reader of that list tells
                report.digests[f"{folder}/{path.name}"] = file_sha256(path)


def standin_title(meta: Path) -> str | None:
    """Return the title of the data set that a stand-in imitates, from its first line, or None."""
    if not meta.is_file():  # opening a pipe would wait for ever
        return None
    try:
        with meta.open(encoding="utf-8") as file:
            name = json.loads(file.readline(_LINE))["standin"]
    except (OSError, ValueError, TypeError, KeyError):
        return None
    return name if isinstance(name, str) else None

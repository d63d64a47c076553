"""Which images to embed, and what is known of each: identity, camera, time."""

import csv
import glob
import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path

from cmemd.data.images import list_images
from cmemd.errors import InputError

__all__ = ["LABELS", "Source", "find_sources", "parse_time"]

LABELS = ("identity", "camera", "time")


@dataclass(frozen=True)
class Source:
    """An image file and its labels.

    Attributes:
        path: absolute, so that one file has one name wherever a command is started.
        identity: who it shows, or None.
        camera: what took it, or None.
        time: when, with a zone, or None.
    """

    path: str
    identity: str | None = None
    camera: str | None = None
    time: datetime | None = None


def find_sources(what: str, pattern: str | None = None) -> list[Source]:
    """Finds images, each once.

    Args:
        what: a folder, searched with its subfolders; a ``.txt`` list of one path a line; a
            ``.csv`` list with a column ``path`` and any of ``LABELS``; an image; or a glob, with
            ``**`` for any folders. A list's relative paths start at the list's folder.
        pattern: regular expression with named groups out of ``LABELS``, searched for in each
            path as it was found. A list's columns come before it.

    Returns:
        The images in the order of the list, or else by path.

    Raises:
        InputError: no image there, a list with other columns or with one path under two labels, a
            pattern that is no such expression or that a path does not match, or a time that is
            none.
    """
    expression = _compile(pattern)
    sources: dict[str, Source] = {}
    for path, labels in _listed(what):
        source = _source(path, {**_match(expression, path), **labels})
        if sources.setdefault(source.path, source) != source:
            raise InputError(
                f"expected one set of labels for {source.path} in {what}, got two: keep one"
            )
    if not sources:
        raise InputError(
            f"expected images at {what}, got none: name an image, a folder, a list (.txt, .csv) or "
            "a glob"
        )
    return list(sources.values())


def parse_time(text: str) -> datetime:
    """A time out of ISO 8601; one without a zone is taken for UTC.

    Raises:
        InputError: for anything else.
    """
    try:
        time = datetime.fromisoformat(text.replace("Z", "+00:00"))  # Python 3.10 knows no Z
    except ValueError:
        raise InputError(
            f"expected a time such as 2024-05-31T14:00:00, got {text!r}: write it as ISO 8601"
        ) from None
    return time if time.tzinfo else time.replace(tzinfo=timezone.utc)


def _listed(what: str) -> Iterable[tuple[str, Mapping[str, str]]]:
    """Paths and the labels that a list has for them."""
    path = Path(what)
    if path.is_dir():
        folders = sorted(folder for folder, _, _ in os.walk(path))
        return [(str(image), {}) for folder in folders for image in list_images(Path(folder))]
    if not path.is_file():
        found = (Path(name) for name in sorted(glob.glob(what, recursive=True)))
        return [(str(image), {}) for image in found if image.is_file()]
    if path.suffix.lower() not in (".csv", ".txt"):
        return [(what, {})]
    try:
        text = path.read_text(encoding="utf-8-sig")  # spreadsheets start with a byte order mark
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(
            f"expected a list in UTF-8 at {path}, got: {error}: write it anew"
        ) from error
    if path.suffix.lower() == ".txt":
        return [(str(path.parent / line), {}) for line in text.splitlines() if line.strip()]
    return _rows(path, text)


def _rows(path: Path, text: str) -> list[tuple[str, Mapping[str, str]]]:
    reader = csv.DictReader(text.splitlines())
    columns = reader.fieldnames or []
    if "path" not in columns or not {"path", *LABELS}.issuperset(columns):
        raise InputError(
            f"expected columns path and any of {', '.join(LABELS)} in {path}, got "
            f"{', '.join(columns) or 'none'}: name them so in the first line"
        )
    rows = []
    for row in reader:
        if None in row or None in row.values() or not row["path"]:
            raise InputError(
                f"expected {len(columns)} values and a path in line {reader.line_num} of {path}, "
                "got another row: quote values that hold a comma"
            )
        labels = {name: row[name] for name in columns if name != "path" and row[name]}
        rows.append((str(path.parent / row["path"]), labels))
    return rows


def _compile(pattern: str | None) -> re.Pattern | None:
    if pattern is None:
        return None
    try:
        expression = re.compile(pattern)
    except re.error as error:
        raise InputError(
            f"expected a regular expression, got {pattern!r} ({error}): see Python's re"
        ) from None
    if not expression.groupindex or not set(LABELS).issuperset(expression.groupindex):
        raise InputError(
            f"expected a pattern with named groups out of {', '.join(LABELS)}, got {pattern!r}: "
            r"write such as cam(?P<camera>\d+)"
        )
    return expression


def _match(expression: re.Pattern | None, path: str) -> dict[str, str]:
    if expression is None:
        return {}
    found = expression.search(Path(path).as_posix())
    if not found:
        raise InputError(
            f"expected every path to match {expression.pattern!r}, got {path}: mend the pattern, "
            "or embed that image without it"
        )
    return {name: value for name, value in found.groupdict().items() if value}


def _source(path: str, labels: Mapping[str, str]) -> Source:
    path = os.path.abspath(path)
    try:
        path.encode()
    except UnicodeEncodeError:
        raise InputError(
            f"expected file names in UTF-8, got {os.fsencode(path)!r}: rename the file"
        ) from None
    time = parse_time(labels["time"]) if "time" in labels else None
    return Source(path, **{**labels, "time": time})

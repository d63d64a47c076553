"""Find the images to embed, and the labels of each: identity, camera, time."""

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

__all__ = ["LABELS", "Source", "find_sources", "given_labels", "parse_time"]

LABELS = ("identity", "camera", "time")


@dataclass(frozen=True)
class Source:
    """An image file and its labels.

    Attributes:
        path: absolute, so that a file has the same name from every working folder.
        identity: the person that it shows, or None.
        camera: the camera that took it, or None.
        time: when it was taken, with a zone, or None.
    """

    path: str
    identity: str | None = None
    camera: str | None = None
    time: datetime | None = None


def find_sources(what: str, pattern: str | None = None) -> list[Source]:
    """Return images and their labels, each image once: in a list's order, else sorted by path.

    Args:
        what: a folder, searched with its subfolders; a ``.txt`` list with one path per line; a
            ``.csv`` list with a column ``path`` and any of ``LABELS``; an image; or a glob, with
            ``**`` for any folders. A list's relative paths start at the list's folder.
        pattern: regular expression with named groups out of ``LABELS``, searched for in each
            path as found. A list's columns take precedence over it.

    Raises:
        InputError: no image is found; a list has other columns, or two sets of labels for a path;
            the pattern is invalid or does not match a path; or a time is invalid.
    """
    expression = _compile(pattern)
    sources: dict[str, Source] = {}
    for path, labels in _listed(what):
        source = _source(path, {**_match(expression, path), **labels})
        if sources.setdefault(source.path, source) != source:
            raise InputError(
                f"one set of labels for {source.path} in {what}", "two", "remove one of them"
            )
    if not sources:
        raise InputError(
            f"images at {what}", "none", "name an image, a folder, a list (.txt, .csv) or a glob"
        )
    return list(sources.values())


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


def _listed(what: str) -> Iterable[tuple[str, Mapping[str, str]]]:
    """Return paths, and the labels that a list gives them."""
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
        raise InputError(f"a list in UTF-8 at {path}", error, "save it again as UTF-8") from error
    if path.suffix.lower() == ".txt":
        return [(str(path.parent / line), {}) for line in text.splitlines() if line.strip()]
    return _rows(path, text)


def _rows(path: Path, text: str) -> list[tuple[str, Mapping[str, str]]]:
    reader = csv.DictReader(text.splitlines())
    columns = reader.fieldnames or []
    if "path" not in columns or not {"path", *LABELS}.issuperset(columns):
        raise InputError(
            f"columns path and any of {', '.join(LABELS)} in {path}",
            ", ".join(columns) or "none",
            "name the columns so in the first line",
        )
    rows = []
    for row in reader:
        if None in row or None in row.values() or not row["path"]:
            raise InputError(
                f"{len(columns)} values and a path in line {reader.line_num} of {path}",
                "another row",
                "complete it, and quote values that hold a comma",
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
            "a regular expression", f"{pattern!r} ({error})", "correct it as Python's re reads it"
        ) from None
    if not expression.groupindex or not set(LABELS).issuperset(expression.groupindex):
        raise InputError(
            f"a pattern with named groups out of {', '.join(LABELS)}",
            repr(pattern),
            r"write, for example, cam(?P<camera>\d+)",
        )
    return expression


def _match(expression: re.Pattern | None, path: str) -> dict[str, str]:
    if expression is None:
        return {}
    found = expression.search(Path(path).as_posix())
    if not found:
        raise InputError(
            f"every path to match {expression.pattern!r}",
            path,
            "correct the pattern, or embed that image without it",
        )
    return {name: value for name, value in found.groupdict().items() if value}


def _source(path: str, labels: Mapping[str, str]) -> Source:
    path = os.path.abspath(path)
    try:
        path.encode()
    except UnicodeEncodeError:
        raise InputError(
            "file names in UTF-8", repr(os.fsencode(path)), "rename the file"
        ) from None
    time = parse_time(labels["time"]) if "time" in labels else None
    return Source(path, **{**labels, "time": time})


def given_labels(what: str, pattern: str | None = None) -> set[str]:
    """Return which labels a list's columns or a pattern's groups give, though some may be empty.

    Args:
        what: as ``find_sources`` takes it.
        pattern: as ``find_sources`` takes it.
    """
    expression, path = _compile(pattern), Path(os.path.expanduser(what))
    given = set(expression.groupindex) if expression else set()
    if path.suffix.lower() == ".csv" and path.is_file():
        with path.open(encoding="utf-8-sig", newline="") as file:
            given |= {name.strip() for name in next(csv.reader(file), ())} & set(LABELS)
    return given

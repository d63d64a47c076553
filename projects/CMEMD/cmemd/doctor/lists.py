"""Index files, one ``relative/path label`` a line, read to the end whatever their faults."""

import os
from collections import defaultdict
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import NamedTuple

from cmemd.data.layouts.index_files import parse_line
from cmemd.doctor.report import Fault, Report, Severity

__all__ = ["Entry", "read_index", "report_overlap"]

NO_INDEX = Fault(
    Severity.ERROR, "index files that are not there", "copy the data set's idx folder whole"
)
BAD_LINE = Fault(
    Severity.ERROR,
    "lines of index files that are not `relative/path label`",
    "take the file from the data set again",
)
BAD_PATH = Fault(
    Severity.ERROR,
    "listed paths that name no identity folder of their modality",
    "take the file from the data set again",
)
LISTED_MISSING = Fault(
    Severity.ERROR, "listed images that are not there", "complete the copy, or mend the list"
)
LISTED_TWICE = Fault(
    Severity.WARNING,
    "images listed twice in one file",
    "take the file from the data set again: they would count twice",
)
LABELS = Fault(
    Severity.ERROR,
    "labels that do not go with one identity each",
    "take the file from the data set again: a person's images share one label, and nobody else's",
)
OVERLAP = Fault(
    Severity.ERROR,
    "identities listed for training and for testing",
    "take the lists from the data set again: scores on them would be far too high",
)
UNLISTED = Fault(
    Severity.WARNING,
    "images in no list",
    "complete the lists, or remove the images: they are never used",
)


class Entry(NamedTuple):
    """A line of an index file.

    Attributes:
        where: file and line number.
        path: relative to the data set's folder, with forward slashes.
        label: the file's own number of the identity.
        pid: the identity, which the path's folder says.
    """

    where: str
    path: str
    label: int
    pid: int


def read_index(
    root: Path, name: str, pid_of: Callable[[tuple[str, ...]], int | None], report: Report
) -> list[Entry]:
    """Reads the lines that can be read; what is wrong with any goes into the report.

    Args:
        root: the data set's folder.
        name: of the file, relative to it.
        pid_of: the identity that a path's parts name, or None.
        report: takes the findings.
    """
    file = root / name
    if not file.is_file():
        report.add(NO_INDEX, [name])
        return []
    entries = []
    text = file.read_text(encoding="utf-8-sig", errors="replace")
    if not text.strip():
        report.add(BAD_LINE, [f"{name}: empty"])
    for number, line in enumerate(text.split("\n"), 1):
        where = f"{name}:{number}"
        parsed = parse_line(line)
        if parsed is None:
            report.add(BAD_LINE, [f"{where}: {line[:80]!r}"] if line.strip() else [])
            continue
        parts = parsed[0].parts
        pid = pid_of(parts)
        if pid is None or ".." in parts:
            report.add(BAD_PATH, [f"{where}: {parsed[0].as_posix()}"])
        else:
            entries.append(Entry(where, "/".join(parts), parsed[1], pid))
    _report_files(root, entries, report)
    _report_labels(name, entries, report)
    return entries


def report_overlap(train: set[int], test: set[int], where: str, report: Report) -> None:
    """Reports identities of both sets."""
    report.add(OVERLAP, (f"{where}: identity {pid}" for pid in sorted(train & test)))


def _report_files(root: Path, entries: list[Entry], report: Report) -> None:
    seen: set[str] = set()
    for entry in entries:
        if not os.path.isfile(root / entry.path):  # Path.is_file would raise for some odd names
            report.add(LISTED_MISSING, [f"{entry.where}: {entry.path}"])
        if entry.path in seen:
            report.add(LISTED_TWICE, [f"{entry.where}: {entry.path}"])
        seen.add(entry.path)


def _report_labels(name: str, entries: list[Entry], report: Report) -> None:
    labels: dict[int, set[int]] = defaultdict(set)
    identities: dict[int, set[int]] = defaultdict(set)
    for entry in entries:
        labels[entry.pid].add(entry.label)
        identities[entry.label].add(entry.pid)
    report.add(
        LABELS,
        (f"{name}: identity {p} has labels {_join(x)}" for p, x in labels.items() if len(x) > 1),
    )
    report.add(
        LABELS,
        (
            f"{name}: label {x} is of identities {_join(p)}"
            for x, p in identities.items()
            if len(p) > 1
        ),
    )


def _join(numbers: Iterable[int]) -> str:
    return ", ".join(map(str, sorted(numbers)))

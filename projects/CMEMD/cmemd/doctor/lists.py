"""Report the faults of index files and identity lists."""

from collections import defaultdict
from collections.abc import Callable, Iterable

from cmemd.data.layouts.index_files import FaultKind, IndexEntry, IndexFault
from cmemd.doctor.report import Fault, Report, Severity

__all__ = ["NO_INDEX", "UNLISTED", "path_of", "read_to_the_end", "report_overlap"]

NO_INDEX = Fault(Severity.ERROR, "missing index files", "copy the data set's idx folder whole")
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
    Severity.ERROR, "listed images that are missing", "complete the copy, or correct the list"
)
LISTED_TWICE = Fault(
    Severity.WARNING,
    "images listed twice in one file",
    "take the file from the data set again: these images would count twice",
)
LABELS = Fault(
    Severity.ERROR,
    "labels that do not go with one identity each",
    "take the file from the data set again: each identity needs one label of its own",
)
OVERLAP = Fault(
    Severity.ERROR,
    "identities listed for training and for testing",
    "take the lists from the data set again: scores on these identities would be far too high",
)
UNLISTED = Fault(
    Severity.WARNING,
    "images in no list",
    "complete the lists, or remove the images: they are never used",
)

_FAULTS = {
    FaultKind.NO_FILE: NO_INDEX,
    FaultKind.EMPTY: BAD_LINE,
    FaultKind.NOT_PATH_LABEL: BAD_LINE,
    FaultKind.NOT_RELATIVE: BAD_PATH,
    FaultKind.NO_IDENTITY: BAD_PATH,
    FaultKind.NO_IMAGE: LISTED_MISSING,
}


def read_to_the_end(
    name: str, read: Callable[[Callable[[IndexFault], None]], list[IndexEntry]], report: Report
) -> list[IndexEntry]:
    """Read an index file to its end; report all of its faults.

    Args:
        name: path of the file, relative to the data set's folder.
        read: reads the file, given what to do with a fault.
        report: takes the findings.

    Returns:
        The lines that name an identity.
    """

    def add(fault: IndexFault) -> None:
        if fault.kind is FaultKind.LABEL:  # reported below, once for each label and identity
            return
        where = f"{name}:{fault.line}: " if fault.line else f"{name}: "
        case = name if fault.kind is FaultKind.NO_FILE else where + fault.text
        report.add(_FAULTS[fault.kind], [case])

    entries = read(add)
    _report_repeats(name, entries, report)
    _report_labels(name, entries, report)
    return entries


def path_of(entry: IndexEntry) -> str:
    """Return an entry's path relative to the data set's folder, with forward slashes."""
    return "/".join(entry.parts)


def report_overlap(train: set[int], test: set[int], where: str, report: Report) -> None:
    """Report identities in both sets."""
    report.add(OVERLAP, (f"{where}: identity {pid}" for pid in sorted(train & test)))


def _report_repeats(name: str, entries: list[IndexEntry], report: Report) -> None:
    seen: set[tuple[str, ...]] = set()
    for entry in entries:
        if entry.parts in seen:
            report.add(LISTED_TWICE, [f"{name}:{entry.line}: {path_of(entry)}"])
        seen.add(entry.parts)


def _report_labels(name: str, entries: list[IndexEntry], report: Report) -> None:
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

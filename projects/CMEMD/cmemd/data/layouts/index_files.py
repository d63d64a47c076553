"""Reader of RegDB's and LLCM's index files: a line ``relative/path label`` per image."""

import re
from collections.abc import Callable
from enum import Enum, auto
from pathlib import Path, PureWindowsPath
from typing import NamedTuple, NoReturn

from cmemd.data.image_files import why_left_out
from cmemd.errors import InputError

__all__ = ["FaultKind", "IndexEntry", "IndexFault", "raise_fault", "read_index"]

_AGAIN = "take the file from the data set again"


class FaultKind(Enum):
    """What is wrong with an index file or one of its lines."""

    NO_FILE = auto()
    EMPTY = auto()
    NOT_PATH_LABEL = auto()
    NOT_RELATIVE = auto()
    NO_IDENTITY = auto()
    LABEL = auto()
    NO_IMAGE = auto()


class IndexFault(NamedTuple):
    """A fault of an index file.

    Attributes:
        kind: what is wrong.
        line: number of the line from 1; 0 for the whole file.
        text: the line or path at fault, to be shown.
        error: the same for a user, ready to raise.
    """

    kind: FaultKind
    line: int
    text: str
    error: InputError


class IndexEntry(NamedTuple):
    """An image that an index file names.

    Attributes:
        path: the image.
        parts: folders and file name below the data set's folder.
        pid: the identity, by the folders.
        label: the file's own number of the identity.
        line: number of its line, from 1.
    """

    path: Path
    parts: tuple[str, ...]
    pid: int
    label: int
    line: int


def raise_fault(fault: IndexFault) -> NoReturn:
    """Raise a fault's error."""
    raise fault.error


def read_index(
    root: Path,
    name: str,
    pid_of: Callable[[tuple[str, ...]], int | None],
    pattern: str,
    on_fault: Callable[[IndexFault], None] = raise_fault,
) -> list[IndexEntry]:
    r"""Read an index file; skip blank lines, and take ``\`` for ``/``.

    The folders below ``root`` give the identity. Labels are the file's own numbers of the
    identities: each must go with one identity, and they have no other use. A line may repeat;
    who builds a data set takes it once (``cmemd.data.checks.once_each``).

    Args:
        root: the data set's folder.
        name: path of the index file below ``root``.
        pid_of: returns the identity that a path's parts name, or None.
        pattern: the paths that ``pid_of`` understands, for messages.
        on_fault: is called at each fault; raises at the first by default. If it returns, reading
            goes on: a line with a wrong label or a missing image is kept, other bad lines are not.

    Returns:
        The images in the file's order.

    Raises:
        InputError: without ``on_fault``: the file is missing or empty; or a line is not
            ``path label``, leaves the data set, names no identity or a missing image, or its label
            does not go with one identity alone.
    """
    file = root / name

    def report(
        kind: FaultKind, line: int, text: str, expected: str, got: str, remedy: str = _AGAIN
    ) -> None:
        where = f"{file}, line {line}" if line else file
        on_fault(IndexFault(kind, line, text, InputError(f"{expected} in {where}", got, remedy)))

    if not file.is_file():
        remedy = f"copy the data set's {file.parent.name} folder whole"
        error = InputError(f"an index file at {file}", "no file", remedy)
        on_fault(IndexFault(FaultKind.NO_FILE, 0, name, error))
        return []
    try:
        text = file.read_text(encoding="utf-8-sig", errors="replace")
    except OSError as error:
        raise InputError(
            f"a readable index file at {file}", error.strerror, "change its permissions"
        ) from None
    if not text.strip():
        report(FaultKind.EMPTY, 0, "empty", "a line `path label` per image", "an empty file")
    entries = []
    labels = _Labels()
    for number, line in enumerate(text.split("\n"), 1):
        if not line.strip():
            continue
        parsed = _parse(line)
        if parsed is None:
            shown = repr(line[:80])
            report(FaultKind.NOT_PATH_LABEL, number, shown, "`path label`", shown)
            continue
        listed, label = parsed
        shown = listed.as_posix()
        if listed.anchor or ".." in listed.parts:
            remedy = f"make it relative to {root}"
            expected = "a path within the data set"
            report(FaultKind.NOT_RELATIVE, number, shown, expected, repr(shown), remedy)
            continue
        pid = pid_of(listed.parts)
        if pid is None:
            report(FaultKind.NO_IDENTITY, number, shown, f"a path as {pattern}", repr(shown))
            continue
        if conflict := labels.conflict(pid, label):
            report(FaultKind.LABEL, number, shown, "one label an identity", conflict)
        path = root.joinpath(*listed.parts)
        if reason := why_left_out(path):
            expected, got = f"an image at {path}, named", reason.words
            report(FaultKind.NO_IMAGE, number, shown, expected, got, "complete the copy")
        entries.append(IndexEntry(path, listed.parts, pid, label, number))
    return entries


class _Labels:
    """The labels of one file, one to one with identities."""

    def __init__(self) -> None:
        self._label_of: dict[int, int] = {}
        self._pid_with: dict[int, int] = {}

    def conflict(self, pid: int, label: int) -> str | None:
        """Remember a pair; return how it contradicts the first ones, or None."""
        first, owner = self._label_of.setdefault(pid, label), self._pid_with.setdefault(label, pid)
        if (first, owner) == (label, pid):
            return None
        before = (label, owner) if first == label else (first, pid)
        return f"label {label} for identity {pid} after label {before[0]} for identity {before[1]}"


def _parse(line: str) -> tuple[PureWindowsPath, int] | None:
    r"""Return a line's path and label, or None; ``/`` and ``\`` both separate folders."""
    match = re.fullmatch(r"\s*(\S.*?)\s+([0-9]{1,9})\s*", line)
    return (PureWindowsPath(match[1]), int(match[2])) if match else None

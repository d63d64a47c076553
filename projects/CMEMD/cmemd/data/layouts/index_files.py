"""Index files of RegDB and LLCM, a line ``relative/path label`` per image, and whom paths name."""

import os
import re
from collections.abc import Callable
from pathlib import Path, PureWindowsPath
from typing import NamedTuple

from cmemd.errors import InputError

__all__ = ["IndexEntry", "llcm_identity", "parse_line", "read_index", "regdb_identity"]

_AGAIN = "take the file from the data set again"


class IndexEntry(NamedTuple):
    """An image that an index file names.

    Attributes:
        path: the image.
        parts: folders and file name below the data set's folder.
        pid: the identity, by the folders.
    """

    path: Path
    parts: tuple[str, ...]
    pid: int


def parse_line(line: str) -> tuple[PureWindowsPath, int] | None:
    r"""Path and label of a line, or None; both ``/`` and ``\`` separate the path's folders."""
    match = re.fullmatch(r"\s*(\S.*?)\s+([0-9]{1,9})\s*", line)
    return (PureWindowsPath(match[1]), int(match[2])) if match else None


def regdb_identity(parts: tuple[str, ...], folder: str) -> int | None:
    """Identity of RegDB's ``<folder>/<n>/<image>``, or None."""
    if len(parts) == 3 and parts[0] == folder and re.fullmatch("[1-9][0-9]{0,8}", parts[1]):
        return int(parts[1])
    return None


def llcm_identity(parts: tuple[str, ...]) -> int | None:
    """Identity of LLCM's ``<folder>/<identity>/<image>``, or None.

    The last folder that is named by a number; genuine paths are ``nir/0001/<image>``.
    """
    numbers = [int(part) for part in parts[:-1] if re.fullmatch("[0-9]{1,9}", part)]
    return numbers[-1] or None if numbers else None


def read_index(
    root: Path, name: str, pid_of: Callable[[tuple[str, ...]], int | None], pattern: str
) -> list[IndexEntry]:
    r"""Reads an index file; blank lines are skipped, and ``\`` separates folders as ``/`` does.

    The identity is what the folders below ``root`` say. Labels are the file's own numbering of the
    identities: they are checked against the folders and otherwise not used.

    Args:
        root: the data set's folder.
        name: the file's path in it.
        pid_of: the identity that a path's parts name, or None.
        pattern: the paths that ``pid_of`` understands, for messages.

    Returns:
        The images in the file's order.

    Raises:
        InputError: if the file is missing or empty; or, with the line's number, if a line is not
            ``path label``, its path is absolute, leaves the data set, names no identity or no file,
            or its label does not go with one identity alone.
    """
    file = root / name
    if not file.is_file():
        raise InputError(
            f"expected an index file at {file}, found none: copy the data set's "
            f"{file.parent.name} folder whole"
        )
    entries = []
    label_of: dict[int, int] = {}
    pid_with: dict[int, int] = {}
    text = file.read_text(encoding="utf-8-sig", errors="replace")
    for number, line in enumerate(text.split("\n"), 1):
        if not line.strip():
            continue
        where = f"{file}, line {number}"
        parsed = parse_line(line)
        if parsed is None:
            raise InputError(f"{where}: expected `path label`, got {line[:80]!r}: {_AGAIN}")
        listed, label = parsed
        if listed.anchor or ".." in listed.parts:
            raise InputError(
                f"{where}: expected a path within the data set, got {listed.as_posix()!r}: make it "
                f"relative to {root}"
            )
        pid = pid_of(listed.parts)
        if pid is None:
            raise InputError(
                f"{where}: expected a path as {pattern}, got {listed.as_posix()!r}: {_AGAIN}"
            )
        first, owner = label_of.setdefault(pid, label), pid_with.setdefault(label, pid)
        if (first, owner) != (label, pid):
            before = (label, owner) if first == label else (first, pid)
            raise InputError(
                f"{where}: expected one label an identity, got label {label} for identity {pid} "
                f"after label {before[0]} for identity {before[1]}: {_AGAIN}"
            )
        path = root.joinpath(*listed.parts)
        if not os.path.isfile(path):  # Path.is_file would raise for some odd names
            raise InputError(f"{where}: expected an image at {path}, found none: complete the copy")
        entries.append(IndexEntry(path, listed.parts, pid))
    if not entries:
        raise InputError(f"expected a line `path label` per image in {file}, got none: {_AGAIN}")
    return entries

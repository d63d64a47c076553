"""Checks of the paths that a user names, before any work."""

import errno
import os
import stat
from pathlib import Path

from cmemd.errors import InputError, reason

__all__ = ["check_input", "check_output", "check_picture", "check_place", "input_problem"]

_MARKED = 4096  # bytes at a file's start in which its mark lies

_KINDS = (
    (stat.S_ISDIR, os.strerror(errno.EISDIR)),
    (stat.S_ISFIFO, "a named pipe"),
    (stat.S_ISSOCK, "a socket"),
    (stat.S_ISCHR, "a device"),
    (stat.S_ISBLK, "a device"),
)


def input_problem(path: Path | str) -> str | None:
    """Return why a path is not a file that can be read from its start; None if it is one.

    A named pipe would make its reader wait for ever, or could be read only once.
    """
    try:
        mode = os.stat(path).st_mode
    except OSError as error:
        broken = isinstance(error, FileNotFoundError) and os.path.islink(path)
        return "a link to a file that is not there" if broken else error.strerror
    except ValueError:
        return "a name that no file can have"
    for is_kind, kind in _KINDS:
        if is_kind(mode):
            return kind
    return None if os.access(path, os.R_OK) else os.strerror(errno.EACCES)


def check_input(path: Path | str, what: str, remedy: str) -> None:
    """Raise unless a path is a file that can be read.

    Args:
        path: the file.
        what: what it should hold, for the message: "a results file".
        remedy: what the user can do, for the message.

    Raises:
        InputError: says what is there instead.
    """
    if problem := input_problem(path):
        raise InputError(f"{what} at {path}", problem, remedy)


def check_output(path: Path | str, mark: bytes) -> None:
    """Raise unless an output that a user names is new, or a file that this package wrote.

    Args:
        path: the output.
        mark: bytes near the start of each file of this kind that this package writes.

    Raises:
        InputError: another file, a folder or a link is there.
    """
    path = Path(path)
    if not os.path.lexists(path):
        return
    try:
        plain = path.is_file() and not path.is_symlink()
        if plain:
            with path.open("rb") as file:
                if mark in file.read(_MARKED):
                    return
        there = "a file of another kind" if plain else "a link, a folder or a device"
    except OSError as error:
        there = f"a file that cannot be read ({error.strerror})"
    raise InputError(
        f"a new file, or one that the same command wrote, at {path}",
        there,
        "name another file, or move that one away",
    )


def check_place(path: Path | str) -> None:
    """Raise unless a file can be made at a path; folders on the way to it may be missing.

    Raises:
        InputError: a file is where a folder should be, or the folder cannot be written to.
    """
    path = Path(path)
    remedy = "name a file in a folder of yours"
    try:
        folder = next(place for place in path.absolute().parents if os.path.lexists(place))
        os.stat(folder)
    except OSError as error:
        raise InputError(f"to write {path}", reason(error), remedy) from error
    if not folder.is_dir() or not os.access(folder, os.W_OK | os.X_OK):
        code = errno.EACCES if folder.is_dir() else errno.ENOTDIR
        raise InputError(f"to write {path}", f"{os.strerror(code)} at {folder}", remedy)


def check_picture(path: Path | str) -> None:
    """Raise where ``write_figure`` cannot write, or would replace a file that is no PNG.

    Raises:
        InputError: see ``check_output`` and ``check_place``; or a name of another kind of file.
    """
    if Path(path).suffix.lower() != ".png":
        raise InputError("a name that ends in .png for a picture", path, "name a .png file")
    check_place(path)
    check_output(path, b"\x89PNG\r\n\x1a\n")

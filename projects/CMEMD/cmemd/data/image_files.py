"""Which files are images, and what happens to the others: one rule for every command.

==================================== ===================================================
file                                 what happens
==================================== ===================================================
regular file of ``SUFFIXES``         used; capitals count as small letters
another extension                    left out
hidden file or folder (``.name``)    left out, unless a list or a path names the file
folder, pipe, socket, device         left out; never opened
missing file, link to nowhere        left out
name that is not UTF-8               left out
link to a folder                     not followed
folder that may not be read          left out
the same path again                  used once
the same file under another name     used under both names; counted
==================================== ===================================================

``Tally`` counts and names all of these. What only an image's content shows is in
``cmemd.data.images``. Nothing here imports Pillow, so that every command starts fast.
"""

import os
import stat
import threading
from collections.abc import Collection, Iterable
from enum import Enum
from pathlib import Path

from cmemd.errors import InputError, printable

__all__ = ["SUFFIXES", "Reason", "Tally", "find_images", "list_images", "why_left_out"]

SUFFIXES = (
    ".jpg",
    ".jpeg",
    ".png",
    ".bmp",
    ".tif",
    ".tiff",
    ".pgm",
    ".ppm",
    ".webp",
    ".gif",
)
_NAMES = 3  # shown for each reason


class Reason(Enum):
    """Why a file is left out, or what is worth knowing of an image that is used.

    Attributes:
        words: the reason, after "left out, " or "used, ".
        used: whether the file is used.
        fault: whether a file that the user asked for is lost.
    """

    EXTENSION = (f"not one of {', '.join(SUFFIXES)}", False, False)
    HIDDEN = ("hidden: the name starts with a dot", False, False)
    MISSING = ("no file", False, True)
    NOT_REGULAR = ("a folder, pipe, socket or device, not a file", False, True)
    NOT_UTF8 = ("a name that is not UTF-8", False, True)
    LINKED_FOLDER = ("a link to a folder, which is not followed", False, False)
    SUBFOLDER = ("a subfolder, which is not searched here", False, False)
    LOCKED_FOLDER = ("a folder that may not be read", False, True)
    REPEATED = ("named again", False, False)
    OTHER_MODALITY = ("images of the other modality", False, False)
    OTHER_SPLIT = ("images of other splits", False, False)
    SAME_FILE = ("the same file as another name", True, False)
    FRAMES = ("several frames: the first counts", True, False)
    ROTATED = ("an EXIF orientation, which is applied", True, False)
    RADIOMETRIC = ("FLIR's radiometric JPEG, of which the 8-bit picture counts", True, False)
    WIDE = ("wider than a person: a whole frame is squeezed; give boxes", True, False)
    IGNORED_BOX = ("boxes of confidence 0", False, False)
    OUTSIDE_BOX = ("boxes outside the frame", False, False)
    DOUBTFUL = ("damaged, or with stray bytes of its camera", True, False)

    def __init__(self, words: str, used: bool, fault: bool) -> None:
        self.words = words
        self.used = used
        self.fault = fault


class Tally:
    """Names, by reason, of files that were left out or are peculiar. Threads may share one."""

    def __init__(self) -> None:
        self._names: dict[Reason, list[str]] = {}
        self._files: dict[tuple[int, int], str] = {}
        self._lock = threading.Lock()

    def add(self, reason: Reason, name: str | os.PathLike[str]) -> None:
        """Count one file."""
        with self._lock:
            self._names.setdefault(reason, []).append(os.fspath(name))

    def names(self, reason: Reason) -> list[str]:
        """Return the names that were counted for a reason."""
        return list(self._names.get(reason, ()))

    def lines(self) -> list[str]:
        """Return a line for each reason: how many files, and the first names."""
        return [
            f"{'used' if reason.used else 'left out'}, {reason.words} ({len(names):,}): "
            + _some(names)
            for reason, names in self._sorted()
        ]

    def faults(self) -> str:
        """Return in one line the wanted files that are lost; empty if there are none."""
        return self._line(reason for reason in Reason if reason.fault)

    def left_out(self) -> str:
        """Return in one line all that was left out; empty if nothing was."""
        return self._line(reason for reason in Reason if not reason.used)

    def admit(self, path: Path | str, name: str | None = None) -> bool:
        """Return whether a file is an image by name and kind; count it if it is not.

        Args:
            path: of the file.
            name: says more in reports, for example where a list names the file.
        """
        reason, status = _judge(path)
        name = os.fspath(path) if name is None else name
        if reason is not None:
            self.add(reason, name)
            return False
        assert status is not None, "a file without a reason was found"
        with self._lock:
            first = self._files.setdefault((status.st_dev, status.st_ino), os.path.abspath(path))
        if first != os.path.abspath(path):
            self.add(Reason.SAME_FILE, f"{name} = {first}")
        return True

    def _sorted(self) -> list[tuple[Reason, list[str]]]:
        return [(reason, self._names[reason]) for reason in Reason if reason in self._names]

    def _line(self, reasons: Iterable[Reason]) -> str:
        wanted = set(reasons)
        return "; ".join(
            f"{reason.words} ({len(names):,}): {_some(names)}"
            for reason, names in self._sorted()
            if reason in wanted
        )


def why_left_out(path: Path | str) -> Reason | None:
    """Return why a named file is no image to use, or None if it is one; never open it."""
    return _judge(path)[0]


def list_images(folder: Path, tally: Tally | None = None) -> list[Path]:
    """Return the images directly in a folder, sorted by name.

    Args:
        folder: to list.
        tally: takes what is left out.

    Raises:
        InputError: the folder may not be read.
    """
    try:
        return _sift(folder, Tally() if tally is None else tally, deep=False)
    except PermissionError as error:
        raise InputError("readable folders", error, "change their permissions") from None


def find_images(folder: Path, tally: Tally, skip: Collection[Path] = ()) -> list[Path]:
    """Return the images in a folder and its subfolders, folder by folder, sorted by name.

    Links to folders are not followed, so that a link to its own parent does no harm.

    Args:
        folder: to search.
        tally: takes what is left out.
        skip: folders that are not searched.
    """
    folders = []
    for place, subfolders, _ in os.walk(
        folder, onerror=lambda error: tally.add(Reason.LOCKED_FOLDER, str(error.filename))
    ):
        folders.append(Path(place))
        subfolders[:] = [
            name
            for name in subfolders
            if not name.startswith(".")
            and not _looks_like_image(name)
            and Path(place, name) not in skip
        ]
    return [path for place in sorted(folders, key=str) for path in _sift(place, tally, deep=True)]


def _sift(folder: Path, tally: Tally, *, deep: bool) -> list[Path]:
    """Return a folder's images; ``deep`` if its subfolders are searched too."""
    images = []
    for path in sorted(folder.iterdir()):
        if path.name.startswith("."):
            tally.add(Reason.HIDDEN, path)
        elif _looks_like_image(path.name) or not path.is_dir():
            if tally.admit(path):
                images.append(path)
        elif not deep:
            tally.add(Reason.SUBFOLDER, path)
        elif path.is_symlink():
            tally.add(Reason.LINKED_FOLDER, path)
    return images


def _looks_like_image(name: str) -> bool:
    return os.path.splitext(name)[1].lower() in SUFFIXES


def _judge(path: Path | str) -> tuple[Reason | None, os.stat_result | None]:
    try:
        os.fspath(path).encode()
    except UnicodeEncodeError:
        return Reason.NOT_UTF8, None
    try:
        status = os.stat(path)
    except (OSError, ValueError):  # ValueError: a zero byte in the name
        return Reason.MISSING, None
    if not stat.S_ISREG(status.st_mode):
        return Reason.NOT_REGULAR, status
    if not _looks_like_image(os.fspath(path)):
        return Reason.EXTENSION, status
    return None, status


def _some(names: list[str]) -> str:
    text = ", ".join(printable(name) for name in names[:_NAMES])
    return text if len(names) <= _NAMES else f"{text} and {len(names) - _NAMES:,} more"

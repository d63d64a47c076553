"""Keep what a run to an embeddings file has done, so that a killed one can be continued.

``F.unfinished`` beside the file ``F`` is a gallery with a mark in its folder. A folder without the
mark is not ours and is left alone, and only the gallery and the mark are removed at the end.
"""

import contextlib
import os
import shutil
import tempfile
from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from cmemd.data.sensors import PLAIN, Sensor
from cmemd.errors import InputError
from cmemd.files import whole_folder
from cmemd.gallery.embedding import in_commits
from cmemd.gallery.embeddings_file import read_rows, write_embeddings
from cmemd.gallery.table import LOCK, TABLE_FILES, Gallery, create_gallery

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["unfinished_gallery", "write_in_order"]

_MARK = "cmemd-unfinished"
_DISCARDED = "discarded"  # the table while it is removed
_CHUNK = 1024  # rows in memory


@contextmanager
def unfinished_gallery(
    output: Path, model: str, size: int, sensor: Sensor = PLAIN
) -> Iterator[Gallery]:
    """Open the gallery of a run to a file, with the file's rows; remove it if the body succeeds.

    Args:
        output: the file; if it exists, ``write_embeddings`` wrote it.
        model: the model's digest.
        size: ``D``.
        sensor: of the thermal images.

    Raises:
        InputError: the folder's name is taken, another process writes to this file, the file is
            damaged, or the disk is full.
    """
    folder = output.with_name(f"{output.name}.unfinished")
    _make(folder)
    with create_gallery(folder, model, size, sensor=sensor, alone=True) as gallery:
        if output.exists():
            there, version = gallery.modalities(), gallery.version
            for rows in in_commits(_missing(read_rows(output), there), gallery):
                gallery.add_rows(rows, version)
        yield gallery
        _remove(folder)


def write_in_order(gallery: Gallery, paths: Sequence[str], output: Path) -> int:
    """Write the rows of some images and of all in an existing file; return their number.

    Args:
        gallery: of ``unfinished_gallery``.
        paths: images, whose rows go first, in this order; those without a row are left out.
        output: the file.

    Raises:
        InputError: there are no rows, or the file cannot be written.
    """
    before = _paths(output) if output.exists() else []
    order = dict.fromkeys([*paths, *before])
    number_of = {row["path"]: number for number, row in gallery.lookup(order.keys(), ())}
    numbers = [number_of[path] for path in order if path in number_of]
    if not numbers:
        _remove(Path(gallery.address))
    return write_embeddings(_taken(gallery, numbers), output, len(numbers))


def _missing(chunks: "Iterable[pa.Table]", there: Collection[str]) -> "Iterator[pa.Table]":
    """Yield the rows of other paths: one that a killed run has brought up to date stays."""
    for rows in chunks:
        keep = [path not in there for path in rows["path"].to_pylist()]
        if any(keep):
            yield rows if all(keep) else rows.filter(keep)


def _taken(gallery: Gallery, numbers: Sequence[int]) -> "Iterator[pa.Table]":
    for start in range(0, len(numbers), _CHUNK):
        yield gallery.take(numbers[start : start + _CHUNK])


def _paths(path: Path) -> list[str]:
    return [name for rows in read_rows(path) for name in rows["path"].to_pylist()]


def _make(folder: Path) -> None:
    """Make a marked folder; keep one that is there already."""
    if os.path.lexists(folder):
        _check_mark(folder)
        return
    try:
        with whole_folder(folder) as made:
            (made / _MARK).write_text("cmemd embed continues from this folder and removes it\n")
    except OSError as error:
        if os.path.lexists(folder):  # another process was faster
            _check_mark(folder)
            return
        raise InputError(
            f"to write {folder}", error.strerror or error, "choose another output folder"
        ) from error


def _check_mark(folder: Path) -> None:
    if folder.is_symlink() or not (folder / _MARK).is_file():
        raise InputError(
            f"no file or folder at {folder}, where an interrupted run is kept",
            "one that cmemd embed has not made",
            "move it away, or choose another --output",
        )


def _remove(folder: Path) -> None:
    """Remove what we wrote; a file of the user's in the folder keeps the folder.

    A kill at any moment leaves a marked folder with a whole table or none, or only hidden files: so
    the table and the folder move to other names before they are removed.
    """
    table, discarded = folder / TABLE_FILES, folder / _DISCARDED
    shutil.rmtree(discarded, ignore_errors=True)  # of a run that was killed here
    with contextlib.suppress(OSError):  # there is no table
        table.rename(discarded)
    shutil.rmtree(discarded, ignore_errors=True)
    (folder / LOCK).unlink(missing_ok=True)
    if [path.name for path in folder.iterdir()] == [_MARK]:
        prefix = f".{folder.name}.{os.getpid()}."
        folder = folder.rename(tempfile.mkdtemp(".tmp", prefix, folder.parent))
    (folder / _MARK).unlink(missing_ok=True)
    with contextlib.suppress(OSError):  # it is not empty
        folder.rmdir()

"""Write a gallery's rows to a new file: ``.parquet`` or ``.npz``, or labels to ``.csv``."""

import csv
import os
from pathlib import Path
from typing import TYPE_CHECKING

from cmemd.errors import InputError
from cmemd.files import whole_file
from cmemd.gallery.embeddings_file import check_suffix, write_embeddings
from cmemd.gallery.sources import LABELS
from cmemd.gallery.table import Gallery
from cmemd.paths import check_place

if TYPE_CHECKING:
    from lancedb.expr import Expr

__all__ = ["check_export", "export_gallery"]

_COLUMNS = ("path", "modality", *LABELS)  # of a .csv file


def check_export(path: Path) -> None:
    """Raise unless rows can go to a file; none is replaced, not even an earlier export.

    Raises:
        InputError: another suffix, a file that is there, or a folder that cannot be written to.
    """
    if path.suffix != ".csv":
        check_suffix(path)
    if os.path.lexists(path):
        raise InputError(f"a new file at {path}", "one that is there", "name another file")
    check_place(path)


def export_gallery(gallery: Gallery, path: Path, where: "Expr | None" = None) -> int:
    """Write checked rows to a new file, whole or not at all, and return their number.

    Args:
        gallery: an open gallery.
        path: ``.parquet`` or ``.npz``, as ``cmemd embed --output`` writes them; or ``.csv``, which
            has the labels of each path and no vectors.
        where: the rows; all by default.

    Raises:
        InputError: as ``check_export``; no row fits; a row has changed since it was written; or the
            file cannot be written.
    """
    check_export(path)
    count = gallery.count(where)
    if not count:
        raise InputError(
            f"rows to export from gallery {gallery.address}",
            f"none of its {len(gallery)}",
            "change the conditions",
        )
    if path.suffix != ".csv":
        return write_embeddings(gallery.rows(where), path, count)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with whole_file(path) as unfinished, unfinished.open("w", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(_COLUMNS)
            for rows in gallery.rows(where):
                for row in rows.select(_COLUMNS).to_pylist():
                    row["time"] = row["time"] and row["time"].isoformat()
                    writer.writerow(row.values())
    except OSError as error:
        raise InputError(
            f"to write {path}", error.strerror, "free disk space, or choose another folder"
        ) from error
    return count

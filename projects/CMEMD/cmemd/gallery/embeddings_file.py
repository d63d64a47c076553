"""Write and read embeddings in a file: the gallery's columns in ``.parquet`` or ``.npz``.

A parquet file is written a chunk at a time. An npz file's arrays are in one piece, so all rows are
held in memory before it is written. An npz file stores a missing label as an empty string and a
time as ISO 8601.
"""

import io
import itertools
import zipfile
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from cmemd.errors import InputError
from cmemd.files import whole_file, write_whole
from cmemd.gallery.rows import vectors_of
from cmemd.gallery.sources import LABELS

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["check_suffix", "read_embeddings", "write_embeddings"]

_NEEDED = ("vector", "path", "modality", "identity", "model")


def check_suffix(path: Path) -> None:
    """Raise unless a file's name ends in ``.npz`` or ``.parquet``.

    Raises:
        InputError: another suffix.
    """
    if path.suffix not in (".npz", ".parquet"):
        raise InputError("a file .npz or .parquet", path, "change the file's suffix")


def write_embeddings(chunks: "Iterable[pa.Table]", path: Path) -> int:
    """Write rows to a file, whole or not at all, and return their number.

    Args:
        chunks: at least one, all of ``row_schema``.
        path: ``.npz`` or ``.parquet``.

    Raises:
        InputError: another suffix, no rows, or a folder that cannot be written to.
    """
    check_suffix(path)
    return _write_parquet(chunks, path) if path.suffix == ".parquet" else _write_npz(chunks, path)


def read_embeddings(path: Path) -> dict[str, np.ndarray]:
    """Return ``vector`` (N, D), and ``path``, ``modality``, ``identity``, ``model`` (N,), strings.

    Raises:
        InputError: the file is missing or of another kind, or columns are missing or do not fit.
    """
    check_suffix(path)
    try:
        columns = _read_parquet(path) if path.suffix == ".parquet" else _read_npz(path)
        lengths = {len(column) for column in columns.values()}
        if len(lengths) > 1 or columns["vector"].ndim != 2:
            raise ValueError("columns of different lengths")
    except (OSError, ValueError, KeyError, zipfile.BadZipFile) as error:
        reason = " ".join(str(error).split())[:160]
        raise InputError(
            f"embeddings at {path}", reason, "write them with cmemd embed --output"
        ) from error
    return columns


def _write_parquet(chunks: "Iterable[pa.Table]", path: Path) -> int:
    import pyarrow.parquet as pq

    chunks, rows = iter(chunks), 0
    first = next(chunks, None)
    if first is None:
        raise _nothing(path)
    try:
        with whole_file(path) as unfinished, pq.ParquetWriter(unfinished, first.schema) as writer:
            for chunk in itertools.chain([first], chunks):
                writer.write_table(chunk)
                rows += len(chunk)
    except OSError as error:
        raise InputError(
            f"to write {path}",
            error.strerror or error,
            "free disk space, or choose another folder",
        ) from error
    return rows


def _write_npz(chunks: "Iterable[pa.Table]", path: Path) -> int:
    import pyarrow as pa

    tables = list(chunks)
    if not tables:
        raise _nothing(path)
    rows = pa.concat_tables(tables)
    columns = {name: _strings(rows[name]) for name in ("path", "modality", *LABELS, "model")}
    content = io.BytesIO()
    np.savez(content, vector=vectors_of(rows), **columns)
    write_whole(path, content.getbuffer())
    return len(rows)


def _read_parquet(path: Path) -> dict[str, np.ndarray]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        rows = pq.read_table(path, columns=list(_NEEDED))
        return {
            name: vectors_of(rows) if name == "vector" else _strings(rows[name]) for name in _NEEDED
        }
    except pa.ArrowException as error:  # not all of them are ValueErrors
        raise ValueError(str(error)) from error


def _read_npz(path: Path) -> dict[str, np.ndarray]:
    with np.load(path, allow_pickle=False) as file:  # a pickle could run code
        return {name: file[name] for name in _NEEDED}


def _strings(column: "pa.ChunkedArray") -> np.ndarray:
    values = column.to_pylist()
    return np.array(
        [
            "" if value is None else getattr(value, "isoformat", lambda v=value: v)()
            for value in values
        ],
        dtype=str,
    )


def _nothing(path: Path) -> InputError:
    return InputError(
        f"embeddings for {path}", "no readable image", "see the list above, and fix the images"
    )

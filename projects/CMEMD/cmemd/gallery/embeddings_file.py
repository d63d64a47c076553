"""Embeddings in a file: the gallery's columns in ``.parquet`` or ``.npz``.

A parquet file is written a chunk at a time; an npz file, whose arrays are in one piece, is held in
memory until it is whole. In an npz file missing labels are empty strings and times ISO 8601.
"""

import io
import itertools
import zipfile
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from cmemd.errors import InputError
from cmemd.files import whole_file, write_whole
from cmemd.gallery.rows import vectors_of
from cmemd.gallery.sources import LABELS

__all__ = ["check_suffix", "read_embeddings", "write_embeddings"]

_NEEDED = ("vector", "path", "modality", "identity", "model")


def check_suffix(path: Path) -> None:
    """Refuses a name that says neither format.

    Raises:
        InputError: for another suffix.
    """
    if path.suffix not in (".npz", ".parquet"):
        raise InputError(f"expected a file .npz or .parquet, got {path}: name it so")


def write_embeddings(chunks: Iterable[pa.Table], path: Path) -> int:
    """Writes rows, the whole file or none.

    Args:
        chunks: at least one, all of ``row_schema``.
        path: ``.npz`` or ``.parquet``.

    Returns:
        How many rows.

    Raises:
        InputError: another suffix, no rows, or a place that cannot be written.
    """
    check_suffix(path)
    return _write_parquet(chunks, path) if path.suffix == ".parquet" else _write_npz(chunks, path)


def read_embeddings(path: Path) -> dict[str, np.ndarray]:
    """Columns ``vector`` (N, D), ``path``, ``modality``, ``identity``, ``model`` (N,), strings.

    Raises:
        InputError: no such file, another kind of file, or columns that are missing or do not fit.
    """
    check_suffix(path)
    try:
        columns = _read_parquet(path) if path.suffix == ".parquet" else _read_npz(path)
        lengths = {len(column) for column in columns.values()}
        if len(lengths) > 1 or columns["vector"].ndim != 2:
            raise ValueError("columns of different lengths")
    except (OSError, ValueError, KeyError, zipfile.BadZipFile, pa.ArrowException) as error:
        reason = " ".join(str(error).split())[:160]
        raise InputError(
            f"expected embeddings at {path}, got: {reason}: write them with cmemd embed --output"
        ) from error
    return columns


def _write_parquet(chunks: Iterable[pa.Table], path: Path) -> int:
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
            f"expected to write {path}, got: {error}: free the disk, or choose another folder"
        ) from error
    return rows


def _write_npz(chunks: Iterable[pa.Table], path: Path) -> int:
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
    rows = pq.read_table(path, columns=list(_NEEDED))
    return {
        name: vectors_of(rows) if name == "vector" else _strings(rows[name]) for name in _NEEDED
    }


def _read_npz(path: Path) -> dict[str, np.ndarray]:
    with np.load(path, allow_pickle=False) as file:  # a pickle could run code
        return {name: file[name] for name in _NEEDED}


def _strings(column: pa.ChunkedArray) -> np.ndarray:
    values = column.to_pylist()
    return np.array(
        [
            "" if value is None else getattr(value, "isoformat", lambda v=value: v)()
            for value in values
        ],
        dtype=str,
    )


def _nothing(path: Path) -> InputError:
    return InputError(f"expected embeddings for {path}, got no readable image: see the list above")

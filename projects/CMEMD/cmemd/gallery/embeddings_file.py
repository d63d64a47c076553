"""Write and read embeddings in a file: the gallery's columns in ``.parquet`` or ``.npz``.

Both are written a part at a time. An npz file stores a missing label as an empty string, a time as
ISO 8601 and a missing number of ``FACTS`` as -1. It has no column ``crc``, because a zip file has
checksums of its own.

A file may come from anywhere. Before its arrays are read, the sizes that it declares are compared
with its own size and with this machine's memory. No pickle is ever loaded.
"""

import itertools
import os
import zipfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import numpy as np

from cmemd.data.modality import Modality
from cmemd.data.sensors import Sensor
from cmemd.errors import InputError, exhausted
from cmemd.files import whole_file
from cmemd.gallery.rows import (
    ADDED,
    MODEL,
    SENSOR,
    check_rows,
    check_vectors,
    complete,
    row_schema,
    sensor_in,
    sensor_of_text,
    vectors_of,
    with_checksums,
)
from cmemd.gallery.sources import LABELS

if TYPE_CHECKING:
    import pyarrow as pa
    import pyarrow.parquet as pq

__all__ = [
    "check_suffix",
    "own_model",
    "own_sensor",
    "read_embeddings",
    "read_rows",
    "write_embeddings",
]

_NEEDED = ("vector", "path", "modality", "identity", "model")
_STRINGS = ("path", "modality", *LABELS, "model", "file_sha256")
_NUMBERS = ("file_bytes", "file_modified")
_WRITTEN = {"vector", *_STRINGS, *_NUMBERS}
_COMMENT = "cmemd embeddings of model "  # of the zip file
_CHUNK = 1024  # rows
_SMALL = 64 * 2**20  # bytes that any file may unpack to
_SWELL = 100  # times its own size that a larger one may [chosen]; unit vectors hardly shrink
_ROW = 512  # bytes that a row's labels may take in memory [chosen]


def check_suffix(path: Path) -> None:
    """Raise unless a file's name ends in ``.npz`` or ``.parquet``.

    Raises:
        InputError: another suffix.
    """
    if path.suffix not in (".npz", ".parquet"):
        raise InputError("a file .npz or .parquet", path, "change the file's suffix")


def write_embeddings(chunks: "Iterable[pa.Table]", path: Path, rows: int | None = None) -> int:
    """Write rows to a file, whole or not at all, and return their number.

    Args:
        chunks: at least one, all of ``row_schema``; one is in memory at a time.
        path: ``.npz`` or ``.parquet``.
        rows: number of all rows, which an array's header tells before its numbers; needed unless
            ``chunks`` is a list.

    Raises:
        InputError: another suffix, no rows, or a folder that cannot be written to.
    """
    check_suffix(path)
    rows = sum(map(len, chunks)) if rows is None else rows
    chunks = iter(chunks)
    first = next(chunks, None)
    if first is None:
        raise InputError(
            f"embeddings for {path}",
            "no readable image",
            "see the list above, and fix the images",
        )
    write = _write_parquet if path.suffix == ".parquet" else _write_npz
    try:
        return write(itertools.chain([first], chunks), first.schema, path, rows)
    except OSError as error:
        raise InputError(
            f"to write {path}",
            error.strerror or error,
            "free disk space, or choose another folder",
        ) from error


def read_embeddings(path: Path, more: Sequence[str] = ()) -> dict[str, np.ndarray]:
    """Return ``vector`` (N, D) float32, and columns of strings (N,).

    These are ``path``, ``modality``, ``identity`` and ``model``, and what ``more`` names.

    Args:
        path: the file.
        more: further labels out of ``LABELS``; empty where the file has no such column.

    Raises:
        InputError: the file is missing, damaged, of another kind or too large; columns are missing
            or do not fit; a modality is unknown; or a vector is not of unit length.
    """
    check_suffix(path)
    with _damaged(path):
        if path.exists() and not path.is_file():
            raise ValueError("no plain file")  # a FIFO would never end
        read = _read_parquet if path.suffix == ".parquet" else _read_npz
        columns = read(path, more)
        lengths = {len(column) for column in columns.values()}
        if len(lengths) > 1 or columns["vector"].ndim != 2:
            raise ValueError("columns of different lengths")
        names = [modality.name.lower() for modality in Modality]
        if strange := set(columns["modality"].tolist()).difference(names):
            raise ValueError(f"the modality {min(strange)!r}")
    check_vectors(columns["vector"], lambda row: f"{columns['path'][row]} in {path}")
    return columns


def own_model(path: Path) -> str:
    """Return the model of a file that ``write_embeddings`` wrote; only such a file is replaced.

    Raises:
        InputError: this version of cmemd has not written the file.
    """
    try:
        if path.is_symlink() or not path.is_file():
            raise ValueError("no plain file")
        if path.suffix == ".parquet":
            import pyarrow.parquet as pq

            schema = pq.read_schema(path)
            if not set(row_schema("", 1).names).difference(ADDED).issubset(schema.names):
                raise ValueError("other columns")
            return schema.metadata[MODEL].decode()
        with zipfile.ZipFile(path) as archive:
            missing = {f"{name}.npy" for name in _WRITTEN} ^ set(archive.namelist())
            if not {f"{name}.npy" for name in ADDED}.issuperset(missing):
                raise ValueError("other arrays")
            comment = archive.comment.decode("ascii")
            if not comment.startswith(_COMMENT):
                raise ValueError("arrays of another program")
            return comment.removeprefix(_COMMENT).split(" ", 1)[0]
    except Exception as error:  # noqa: BLE001  whatever cannot be read is not a file of ours
        raise InputError(
            f"a new file for --output, or one that this version of cmemd embed wrote, at {path}",
            f"another file ({_line(error)})",
            "name another file, or move that one away",
        ) from None


def own_sensor(path: Path) -> Sensor:
    """Return the thermal sensor of a file that ``own_model`` accepts.

    Raises:
        InputError: the record is damaged.
    """
    if path.suffix == ".parquet":
        import pyarrow.parquet as pq

        return sensor_in(pq.read_schema(path), path)
    with zipfile.ZipFile(path) as archive:
        _, _, text = archive.comment.decode("ascii").removeprefix(_COMMENT).partition(" ")
    return sensor_of_text(text or "{}", path)


def read_rows(path: Path) -> "Iterator[pa.Table]":
    """Yield a file's rows as tables of ``row_schema``, ``_CHUNK`` rows each; check them.

    Args:
        path: written by ``write_embeddings``.

    Raises:
        InputError: the file is damaged.
    """
    chunks = _parquet_rows(path) if path.suffix == ".parquet" else _npz_rows(path)
    while True:
        with _damaged(path):
            rows = next(chunks, None)
        if rows is None:
            return
        check_rows(rows, str(path))
        yield rows


def _write_parquet(chunks: "Iterable[pa.Table]", schema: "pa.Schema", path: Path, rows: int) -> int:
    import pyarrow.parquet as pq

    written = 0
    with (
        whole_file(path) as unfinished,
        pq.ParquetWriter(unfinished, schema, write_page_checksum=True) as writer,
    ):
        for chunk in chunks:
            writer.write_table(chunk)
            written += len(chunk)
        _check_count(written, rows)
    return rows


def _write_npz(chunks: "Iterable[pa.Table]", schema: "pa.Schema", path: Path, rows: int) -> int:
    model, size = schema.metadata[MODEL].decode(), schema.field("vector").type.list_size
    labels = []
    with whole_file(path) as unfinished, zipfile.ZipFile(unfinished, "w") as archive:
        record = schema.metadata.get(SENSOR, b"")
        archive.comment = b" ".join([(_COMMENT + model).encode(), *([record] if record else [])])
        with _member(archive, "vector", (rows, size), "<f4") as file:
            for chunk in chunks:
                file.write(np.ascontiguousarray(vectors_of(chunk), dtype="<f4").data)
                # A copy, since a slice of a table keeps all of it in memory.
                labels.append({name: _array(chunk, name) for name in (*_STRINGS, *_NUMBERS)})
        _check_count(sum(len(part["path"]) for part in labels), rows)
        for name in (*_STRINGS, *_NUMBERS):
            kind = max((part[name].dtype for part in labels), key=lambda of: of.itemsize)
            with _member(archive, name, (rows,), kind.str) as file:
                for part in labels:
                    file.write(part.pop(name).astype(kind).tobytes())
    return rows


def _check_count(written: int, rows: int) -> None:
    if written != rows:
        raise InputError(f"{rows} rows to write", written, "run the command again")


@contextmanager
def _member(
    archive: zipfile.ZipFile, name: str, shape: tuple[int, ...], kind: str
) -> Iterator[IO[bytes]]:
    """Open an array of an npz file for its numbers; write its header."""
    with archive.open(f"{name}.npy", "w", force_zip64=True) as file:
        header = {"shape": shape, "fortran_order": False, "descr": kind}
        np.lib.format.write_array_header_1_0(file, header)
        yield file


def _array(rows: "pa.Table", name: str) -> np.ndarray:
    values = rows[name].to_pylist()
    if name in _NUMBERS:
        return np.array([-1 if value is None else value for value in values], dtype="<i8")
    texts = [
        "" if value is None else value.isoformat() if name == "time" else value for value in values
    ]
    return np.array(texts, dtype=str)


def _read_parquet(path: Path, more: Sequence[str]) -> dict[str, np.ndarray]:
    import pyarrow as pa

    with _open_parquet(path, _NEEDED) as file:
        names = [*_NEEDED, *(name for name in more if name in file.schema_arrow.names)]
        rows = file.read(columns=names)
    column = rows["vector"]
    if not pa.types.is_fixed_size_list(column.type):
        lengths = set(column.combine_chunks().value_lengths().to_pylist())
        if len(lengths) != 1:
            raise ValueError("vectors of different sizes")
    if column.null_count or column.combine_chunks().flatten().null_count:
        raise ValueError("missing vectors")
    read = {name: _strings(np.array(_texts(rows[name]), dtype=str), name) for name in names[1:]}
    return {"vector": _vectors(vectors_of(rows)), **_with_empty(read, more)}


def _with_empty(read: dict[str, np.ndarray], names: Sequence[str]) -> dict[str, np.ndarray]:
    """Return columns, with empty ones for those that a file lacks."""
    empty = np.full(len(read["path"]), "")
    return {**dict.fromkeys(names, empty), **read}


def _texts(column: "pa.ChunkedArray") -> list[object]:
    values = column.to_pylist()
    return [
        "" if value is None else value.isoformat() if isinstance(value, datetime) else value
        for value in values
    ]


def _read_npz(path: Path, more: Sequence[str]) -> dict[str, np.ndarray]:
    with zipfile.ZipFile(path) as archive:
        there = set(archive.namelist())
    names = [*_NEEDED, *(name for name in more if f"{name}.npy" in there)]
    with _open_npz(path, names) as archive:
        arrays = {name: _read_array(archive, name) for name in names}
    read = {name: _strings(arrays[name], name) for name in names[1:]}
    return {"vector": _vectors(arrays["vector"]), **_with_empty(read, more)}


def _vectors(array: np.ndarray) -> np.ndarray:
    if array.dtype.kind != "f":
        raise ValueError(f"vectors of {array.dtype}, not of floating-point numbers")
    with np.errstate(over="ignore"):
        return np.ascontiguousarray(array, dtype=np.float32)


def _strings(array: np.ndarray, name: str) -> np.ndarray:
    if array.dtype.kind in "iu" and name == "identity":
        array = array.astype(str)
    if array.dtype.kind != "U" or array.ndim != 1:
        raise ValueError(f"{name} as {array.dtype} of shape {array.shape}, not as a row of strings")
    return array


def _parquet_rows(path: Path) -> "Iterator[pa.Table]":
    import pyarrow as pa

    with _open_parquet(path, _NEEDED) as file:
        for batch in file.iter_batches(_CHUNK):
            yield complete(pa.Table.from_batches([batch], file.schema_arrow))


def _npz_rows(path: Path) -> "Iterator[pa.Table]":
    """The vectors are read a part at a time, the labels at once."""
    with _open_npz(path, _WRITTEN.difference(ADDED)) as archive:
        there = {name.removesuffix(".npy") for name in archive.namelist()}
        labels = [name for name in (*_STRINGS, *_NUMBERS) if name in there or name not in ADDED]
        columns = {name: _read_array(archive, name) for name in labels}
        with archive.open("vector.npy") as file:
            (rows, size), kind = _header(file)
            for start in range(0, rows, _CHUNK):
                stop = min(start + _CHUNK, rows)
                content = file.read((stop - start) * size * kind.itemsize)
                flat = np.frombuffer(content, dtype=kind).astype(np.float32)
                part = {name: of[start:stop].tolist() for name, of in columns.items()}
                yield _table(part, flat, size)
            file.read(1)  # the end, where zipfile compares the checksum


def _table(columns: Mapping[str, list[Any]], flat: np.ndarray, size: int) -> "pa.Table":
    import pyarrow as pa

    values: dict[str, Any] = {
        name: [None if value in ("", -1) else value for value in column]
        for name, column in columns.items()
    }
    values |= {name: [None] * len(columns["path"]) for name in ADDED if name not in columns}
    values["time"] = [text and datetime.fromisoformat(text) for text in values["time"]]
    values["vector"] = pa.FixedSizeListArray.from_arrays(pa.array(flat), size)
    values["crc"] = np.zeros(len(values["path"]), dtype=np.uint32)
    return with_checksums(pa.table(values, schema=row_schema(columns["model"][0], size)))


@contextmanager
def _open_parquet(path: Path, needed: Iterable[str]) -> "Iterator[pq.ParquetFile]":
    import pyarrow as pa
    import pyarrow.parquet as pq

    with pq.ParquetFile(path, page_checksum_verification=True) as file:
        schema, rows = file.schema_arrow, file.metadata.num_rows
        if missing := [name for name in needed if name not in schema.names]:
            raise ValueError(f"no column {missing[0]}")
        kind = schema.field("vector").type
        if not pa.types.is_list(kind) and not pa.types.is_fixed_size_list(kind):
            raise ValueError(f"vectors of {kind}")
        groups = (file.metadata.row_group(number) for number in range(file.num_row_groups))
        declared = sum(group.total_byte_size for group in groups)
        # A long run of equal values takes a few bytes in the file.
        size = kind.list_size if pa.types.is_fixed_size_list(kind) else 0
        _check_size(path, max(declared, rows * (4 * size + _ROW)))
        yield file


@contextmanager
def _open_npz(path: Path, needed: Iterable[str]) -> Iterator[zipfile.ZipFile]:
    with zipfile.ZipFile(path) as archive:
        members = [archive.getinfo(f"{name}.npy") for name in needed]
        _check_size(path, sum(member.file_size for member in members))
        yield archive


def _check_size(path: Path, declared: int) -> None:
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    if declared > max(_SMALL, min(_SWELL * path.stat().st_size, memory)):
        raise ValueError(
            f"{declared} bytes when unpacked, more than {_SWELL} times the file or this machine's "
            "memory"
        )


def _read_array(archive: zipfile.ZipFile, name: str) -> np.ndarray:
    member = archive.getinfo(f"{name}.npy")
    with archive.open(member) as file:
        shape, kind = _header(file)
        # NumPy would make room for whatever the header says.
        if file.tell() + kind.itemsize * int(np.prod(shape, dtype=object)) != member.file_size:
            raise ValueError(f"an array {name} of another size than its header says")
    with archive.open(member) as file:
        array = np.lib.format.read_array(file, allow_pickle=False)
        file.read(1)  # the end, where zipfile compares the checksum
        return array


def _header(file: IO[bytes]) -> tuple[tuple[int, ...], np.dtype]:
    """Return shape and kind of numbers of an array in a file; leave the file at the first."""
    version = np.lib.format.read_magic(file)
    read = {
        (1, 0): np.lib.format.read_array_header_1_0,
        (2, 0): np.lib.format.read_array_header_2_0,
    }.get(version)
    if read is None:
        raise ValueError(f"an array of NumPy's format {version}")
    shape, _, kind = read(file)
    if kind.hasobject:
        raise ValueError("an array of Python objects")
    return shape, kind


@contextmanager
def _damaged(path: Path) -> Iterator[None]:
    """Turn whatever a reader of the file raises into an error that names the file."""
    try:
        yield
    except (InputError, ImportError):
        raise
    except Exception as error:
        if exhausted(error):  # the file may be good
            raise
        raise InputError(
            f"embeddings at {path}", _line(error), "write them with cmemd embed --output"
        ) from error


def _line(error: Exception) -> str:
    text = getattr(error, "strerror", None) or str(error) or type(error).__name__
    text = "".join(letter if letter.isprintable() else " " for letter in text)
    return " ".join(text.split())[:160]

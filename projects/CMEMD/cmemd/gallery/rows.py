"""Make the rows of a gallery: one embedding each, and the labels of its image.

============= ======================= =======================================================
column        type                    what it holds
============= ======================= =======================================================
vector        float32, size fixed     L2-normalised embedding
path          string                  the image's absolute path; no two rows have the same
modality      string                  ``visible`` or ``thermal``
identity      string or null          the person
camera        string or null          the camera that took the image
time          microseconds or null    when it was taken, UTC
tracklet      string or null          of the person under the camera
model         string                  digest of the model that made the embedding
file_bytes    int64 or null           size of the image file when it was embedded
file_modified int64 or null           its modification time, nanoseconds since 1970
file_sha256   string or null          SHA-256 of its bytes
crc           uint32                  CRC-32 of all of these
============= ======================= =======================================================

Shape legend: ``N`` = images, ``D`` = size of the embedding.
"""

import json
import zlib
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np

from cmemd.data.modality import Modality
from cmemd.errors import InputError
from cmemd.gallery.facts import FileFacts
from cmemd.gallery.sources import LABELS, Source

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = [
    "FACTS",
    "MODEL",
    "check_rows",
    "check_vectors",
    "make_rows",
    "row_checksums",
    "row_schema",
    "vectors_of",
    "with_checksums",
    "wrong_lengths",
]

MODEL = b"cmemd.model"  # key of the digest in a schema's metadata, for galleries without rows
FACTS = ("file_bytes", "file_modified", "file_sha256")
_NORM_TOLERANCE = 1e-3
_CHECKED = ("path", "modality", *LABELS, "model", *FACTS)  # by the checksum
_REMEDY = "restore the file from a copy, or embed the images again"
# With a key, Lance notices when two writers add the same path at once.
_KEY = {
    b"lance-schema:unenforced-primary-key": b"true",
    b"lance-schema:unenforced-primary-key:position": b"1",
}


def row_schema(model: str, size: int) -> "pa.Schema":
    """Return the columns for embeddings of one model.

    Args:
        model: the model's digest.
        size: ``D``.
    """
    import pyarrow as pa

    fields = [
        pa.field("vector", pa.list_(pa.float32(), size), nullable=False),
        pa.field("path", pa.string(), nullable=False, metadata=_KEY),
        pa.field("modality", pa.string(), nullable=False),
        pa.field("identity", pa.string()),
        pa.field("camera", pa.string()),
        pa.field("time", pa.timestamp("us", "UTC")),
        pa.field("tracklet", pa.string()),
        pa.field("model", pa.string(), nullable=False),
        pa.field("file_bytes", pa.int64()),
        pa.field("file_modified", pa.int64()),
        pa.field("file_sha256", pa.string()),
        pa.field("crc", pa.uint32(), nullable=False),
    ]
    return pa.schema(fields, metadata={MODEL: model.encode()})


def make_rows(
    sources: Sequence[Source],
    vectors: np.ndarray,
    modality: Modality,
    model: str,
    files: "Sequence[FileFacts | None] | None" = None,
) -> "pa.Table":
    """Return rows of embeddings and labels.

    Args:
        sources: ``N`` images.
        vectors: ``(N, D)`` float32, L2-normalised.
        modality: of all images.
        model: digest of the model that embedded them.
        files: facts of the ``N`` image files; None where unknown.

    Raises:
        InputError: a vector is not of unit length, so that scores would not be cosines.
    """
    import pyarrow as pa

    check_vectors(vectors, lambda row: sources[row].path, "export the model again")
    facts = [of or (None, None, None) for of in files or [None] * len(sources)]
    size = vectors.shape[1]
    flat = pa.array(np.ascontiguousarray(vectors, dtype=np.float32).ravel())
    columns = {
        "vector": pa.FixedSizeListArray.from_arrays(flat, size),
        **{name: [getattr(source, name) for source in sources] for name in ("path", *LABELS)},
        "modality": [modality.name.lower()] * len(sources),
        "model": [model] * len(sources),
        **{name: [of[place] for of in facts] for place, name in enumerate(FACTS)},
        "crc": np.zeros(len(sources), dtype=np.uint32),
    }
    return with_checksums(pa.table(columns, schema=row_schema(model, size)))


def with_checksums(rows: "pa.Table") -> "pa.Table":
    """Return rows with the checksums of what they hold now."""
    import pyarrow as pa

    place = rows.schema.get_field_index("crc")
    return rows.set_column(place, rows.schema.field(place), pa.array(row_checksums(rows)))


def row_checksums(rows: "pa.RecordBatch | pa.Table") -> np.ndarray:
    """Return the CRC-32 ``(N,)`` uint32 of each row's embedding, labels and file facts."""
    import pyarrow as pa

    columns = [
        (rows.column(name).cast(pa.int64()) if name == "time" else rows.column(name)).to_pylist()
        for name in _CHECKED
    ]
    vectors = np.ascontiguousarray(vectors_of(rows), dtype="<f4")
    found = [
        zlib.crc32(json.dumps(values).encode(), zlib.crc32(vector))
        for vector, *values in zip(vectors, *columns, strict=True)
    ]
    return np.array(found, dtype=np.uint32)


def check_rows(rows: "pa.RecordBatch | pa.Table", what: str) -> None:
    """Raise unless rows are as they were written, and their vectors of unit length.

    Args:
        rows: all columns of ``row_schema``.
        what: where they are from, for messages: "gallery g".

    Raises:
        InputError: names the first path whose row has changed.
    """
    paths = rows.column("path")
    check_vectors(vectors_of(rows), lambda row: f"{paths[row].as_py()} in {what}", _REMEDY)
    wrong = np.flatnonzero(row_checksums(rows) != rows.column("crc").to_numpy())
    if len(wrong):
        raise InputError(
            f"the row of {paths[int(wrong[0])].as_py()} in {what} as it was written",
            "another checksum",
            _REMEDY,
        )


def check_vectors(vectors: np.ndarray, name: Callable[[int], str], remedy: str = _REMEDY) -> None:
    """Raise unless vectors are finite and of unit length, so that scores are cosines.

    Args:
        vectors: ``(N, D)``.
        name: returns what vector ``row`` is of, for messages.
        remedy: what the user can do, for messages.

    Raises:
        InputError: names the first wrong vector.
    """
    wrong = wrong_lengths(vectors)
    if len(wrong):
        with np.errstate(over="ignore"):
            length = np.linalg.norm(vectors[wrong[0]])
        raise InputError(
            "embeddings of unit length", f"one of length {length:g} for {name(wrong[0])}", remedy
        )


def wrong_lengths(vectors: np.ndarray) -> np.ndarray:
    """Return the numbers of vectors ``(N, D)`` that are not finite or not of unit length."""
    with np.errstate(over="ignore", invalid="ignore"):
        squares = np.einsum("ij,ij->i", vectors, vectors)  # no copy, unlike numpy.linalg.norm
    # NaN is wrong too; the lengths of 16-bit vectors are not exact.
    return np.flatnonzero(~(np.abs(np.sqrt(squares) - 1) <= _NORM_TOLERANCE))


def vectors_of(rows: "pa.RecordBatch | pa.Table") -> np.ndarray:
    """Return the embeddings ``(N, D)``; no copy is made of a batch or a table in one piece."""
    import pyarrow as pa

    column = rows.column("vector")
    if isinstance(column, pa.ChunkedArray):
        column = column.combine_chunks()
    flat = column.flatten().to_numpy(zero_copy_only=False)
    return flat.reshape(len(rows), -1) if len(rows) else flat.reshape(0, column.type.list_size)

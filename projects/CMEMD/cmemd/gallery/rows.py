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
model         string                  digest of the model that made the embedding
file_bytes    int64 or null           size of the image file when it was embedded
file_modified int64 or null           its modification time, nanoseconds since 1970
file_sha256   string or null          SHA-256 of its bytes
crc           uint32                  CRC-32 of all of the row's other columns
tracklet      string or null          the track of the person under the camera
============= ======================= =======================================================

Images of one modality, identity, camera and tracklet are one tracklet. Galleries and files without
the column ``tracklet``, which earlier versions wrote, stay valid: a row without a tracklet has the
checksum that it had there.

Shape legend: ``N`` = images, ``D`` = size of the embedding.
"""

import json
import zlib
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any

import numpy as np

from cmemd.data.modality import Modality
from cmemd.data.sensors import PLAIN, Sensor
from cmemd.errors import InputError
from cmemd.gallery.facts import FileFacts
from cmemd.gallery.sources import LABELS, Source, as_time

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = [
    "ADDED",
    "FACTS",
    "MODEL",
    "SENSOR",
    "check_rows",
    "check_vectors",
    "complete",
    "given_rows",
    "make_rows",
    "row_checksums",
    "row_schema",
    "sensor_in",
    "sensor_of_text",
    "vectors_of",
    "with_checksums",
    "with_labels",
    "wrong_lengths",
]

MODEL = b"cmemd.model"  # key of the digest in a schema's metadata, for galleries without rows
SENSOR = b"cmemd.sensor"  # key of the thermal sensor there, as JSON; absent: the default one
FACTS = ("file_bytes", "file_modified", "file_sha256")
_NORM_TOLERANCE = 1e-3
_CHECKED = ("path", "modality", "identity", "camera", "time", "model", *FACTS)  # by the checksum
ADDED = ("tracklet",)  # columns that galleries and files of earlier versions lack; null there
_REMEDY = "restore the file from a copy, or embed the images again"
# With a key, Lance notices when two writers add the same path at once.
_KEY = {
    b"lance-schema:unenforced-primary-key": b"true",
    b"lance-schema:unenforced-primary-key:position": b"1",
}


def row_schema(model: str, size: int, sensor: Sensor = PLAIN) -> "pa.Schema":
    """Return the columns for embeddings of one model.

    Args:
        model: the model's digest.
        size: ``D``.
        sensor: of the thermal images.
    """
    import pyarrow as pa

    fields = [
        pa.field("vector", pa.list_(pa.float32(), size), nullable=False),
        pa.field("path", pa.string(), nullable=False, metadata=_KEY),
        pa.field("modality", pa.string(), nullable=False),
        pa.field("identity", pa.string()),
        pa.field("camera", pa.string()),
        pa.field("time", pa.timestamp("us", "UTC")),
        pa.field("model", pa.string(), nullable=False),
        pa.field("file_bytes", pa.int64()),
        pa.field("file_modified", pa.int64()),
        pa.field("file_sha256", pa.string()),
        pa.field("crc", pa.uint32(), nullable=False),
        *(pa.field(name, pa.string()) for name in ADDED),
    ]
    metadata = {MODEL: model.encode()}
    if sensor != PLAIN:
        metadata[SENSOR] = json.dumps(sensor.to_dict()).encode()
    return pa.schema(fields, metadata=metadata)


def sensor_in(schema: "pa.Schema", where: object) -> Sensor:
    """Return the thermal sensor that a schema records.

    Raises:
        InputError: the record is damaged.
    """
    return sensor_of_text((schema.metadata or {}).get(SENSOR, b"{}"), where)


def sensor_of_text(text: bytes | str, where: object) -> Sensor:
    """Return the sensor of a record, which is JSON.

    Raises:
        InputError: the record is damaged.
    """
    try:
        return Sensor.from_dict(json.loads(text))
    except (ValueError, TypeError) as error:
        raise InputError(f"the record of a thermal sensor in {where}", error, _REMEDY) from None


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


def given_rows(
    vectors: np.ndarray, keys: Sequence[str], labels: "Mapping[str, object]", model: str
) -> "pa.Table":
    """Return rows of what a program gives; ``Gallery.add`` describes the arguments.

    Raises:
        InputError: names what does not fit.
    """
    vectors, keys = np.asarray(vectors), list(keys)
    if vectors.ndim != 2 or vectors.dtype.kind != "f" or len(vectors) != len(keys):
        raise InputError(
            "vectors (N, D) of floating-point numbers and N keys",
            f"{vectors.dtype} of shape {vectors.shape} and {len(keys)} keys",
            "give one row and one key for each image",
        )
    if strange := [key for key in keys if not isinstance(key, str) or not key.strip()]:
        raise InputError("keys that are texts", repr(strange[0]), "name each image, by its path")
    if len(set(keys)) < len(keys):
        twice = next(key for key, count in Counter(keys).items() if count > 1)
        raise InputError("different keys", f"{twice} twice", "remove one of them")
    known = ("modality", *LABELS)
    if "modality" not in labels or not set(known).issuperset(labels):
        raise InputError(
            f"labels modality and any of {', '.join(LABELS)}",
            ", ".join(map(str, labels)) or "none",
            "name the labels so",
        )
    columns = {name: _label(name, labels.get(name), len(keys)) for name in known}
    vectors = vectors.astype(np.float32)
    check_vectors(vectors, lambda row: keys[row], "divide each vector by its length")
    sources = [
        Source(key, **dict(zip(LABELS, values, strict=True)))
        for key, *values in zip(keys, *(columns[name] for name in LABELS), strict=True)
    ]
    rows = make_rows(sources, vectors, Modality.VISIBLE, model)
    return with_labels(rows, {"modality": columns["modality"]})


def _label(name: str, given: Any, count: int) -> list[Any]:
    """Return the ``count`` values of a label; raise unless they can be stored."""
    single = given is None or isinstance(given, (str, datetime, Modality))
    values = [given] * count if single else list(given)
    if len(values) != count:
        raise InputError(
            f"one {name} or {count}", len(values), "give one value for all rows, or one for each"
        )
    if name == "modality":
        values = [of.name.lower() if isinstance(of, Modality) else of for of in values]
    elif name == "time":
        values = [as_time(of) if isinstance(of, (str, datetime)) else of for of in values]
    words = [modality.name.lower() for modality in Modality]
    for value in values:
        if name == "modality":
            fits = value in words
        else:
            fits = value is None or isinstance(value, datetime if name == "time" else str)
        if not fits:
            kind = {"modality": " or ".join(words), "time": "a time or None"}.get(name)
            raise InputError(
                f"as {name} {kind or 'a text or None'}", repr(value), f"correct labels[{name!r}]"
            )
    return values


def complete(rows: "pa.Table") -> "pa.Table":
    """Return rows with the columns of ``row_schema``; those of ``ADDED`` are null if missing."""
    import pyarrow as pa

    for name in ADDED:
        if name not in rows.schema.names:
            rows = rows.append_column(name, pa.nulls(len(rows), pa.string()))
    return rows.select(row_schema("", 1).names)


def with_labels(rows: "pa.Table", labels: "Mapping[str, Sequence[object]]") -> "pa.Table":
    """Return rows with other labels, and the checksums of what they hold then.

    Args:
        rows: ``N``, of ``row_schema``.
        labels: ``N`` values of each label to change.
    """
    import pyarrow as pa

    for name, values in labels.items():
        field = rows.schema.field(name)
        place = rows.schema.get_field_index(name)
        rows = rows.set_column(place, field, pa.array(values, field.type))
    return with_checksums(rows)


def with_checksums(rows: "pa.Table") -> "pa.Table":
    """Return rows with the checksums of what they hold now."""
    import pyarrow as pa

    place = rows.schema.get_field_index("crc")
    return rows.set_column(place, rows.schema.field(place), pa.array(row_checksums(rows)))


def row_checksums(rows: "pa.RecordBatch | pa.Table") -> np.ndarray:
    """Return the CRC-32 ``(N,)`` uint32 of each row's embedding, labels and file facts.

    A missing value of ``ADDED`` adds nothing: rows of earlier versions keep their checksums.
    """
    import pyarrow as pa

    columns = [
        (rows.column(name).cast(pa.int64()) if name == "time" else rows.column(name)).to_pylist()
        for name in _CHECKED
    ]
    vectors = np.ascontiguousarray(vectors_of(rows), dtype="<f4")
    added = [rows.column(name).to_pylist() for name in ADDED if name in rows.schema.names]
    known = [[value for value in of if value is not None] for of in zip(*added, strict=True)]
    found = [
        zlib.crc32(json.dumps(values + extra).encode(), zlib.crc32(vector))
        for vector, extra, *values in zip(vectors, known or [[]] * len(rows), *columns, strict=True)
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

"""Make the rows of a gallery: one embedding each, and the labels of its image.

========== ======================= ==========================================================
column     type                    what it holds
========== ======================= ==========================================================
vector     float32, size fixed     L2-normalised embedding
path       string                  the image's absolute path; no two rows have the same
modality   string                  ``visible`` or ``thermal``
identity   string or null          the person
camera     string or null          the camera that took the image
time       microseconds or null    when it was taken, UTC
model      string                  digest of the model that made the embedding
========== ======================= ==========================================================

Shape legend: ``N`` = images, ``D`` = size of the embedding.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from cmemd.data.modality import Modality
from cmemd.errors import InputError
from cmemd.gallery.sources import Source

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["MODEL", "make_rows", "row_schema", "vectors_of"]

MODEL = b"cmemd.model"  # key of the digest in a schema's metadata, for galleries without rows
_NORM_TOLERANCE = 1e-3
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
        pa.field("model", pa.string(), nullable=False),
    ]
    return pa.schema(fields, metadata={MODEL: model.encode()})


def make_rows(
    sources: Sequence[Source], vectors: np.ndarray, modality: Modality, model: str
) -> "pa.Table":
    """Return rows of embeddings and labels.

    Args:
        sources: ``N`` images.
        vectors: ``(N, D)`` float32, L2-normalised.
        modality: of all images.
        model: digest of the model that embedded them.

    Raises:
        InputError: a vector is not of unit length, so that scores would not be cosines.
    """
    import pyarrow as pa

    norms = np.linalg.norm(vectors, axis=1)
    wrong = np.flatnonzero(~(np.abs(norms - 1) <= _NORM_TOLERANCE))  # NaN is wrong too
    if len(wrong):
        raise InputError(
            "embeddings of unit length",
            f"one of length {norms[wrong[0]]:g} for {sources[wrong[0]].path}",
            "export the model again",
        )
    size = vectors.shape[1]
    flat = pa.array(np.ascontiguousarray(vectors, dtype=np.float32).ravel())
    columns = {
        "vector": pa.FixedSizeListArray.from_arrays(flat, size),
        **{
            name: [getattr(source, name) for source in sources]
            for name in ("path", "identity", "camera", "time")
        },
        "modality": [modality.name.lower()] * len(sources),
        "model": [model] * len(sources),
    }
    return pa.table(columns, schema=row_schema(model, size))


def vectors_of(rows: "pa.RecordBatch | pa.Table") -> np.ndarray:
    """Return the embeddings ``(N, D)``; no copy is made of a batch or a table in one piece."""
    import pyarrow as pa

    column = rows.column("vector")
    if isinstance(column, pa.ChunkedArray):
        column = column.combine_chunks()
    flat = column.flatten().to_numpy(zero_copy_only=False)
    return flat.reshape(len(rows), -1) if len(rows) else flat.reshape(0, column.type.list_size)

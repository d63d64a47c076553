"""The rows of a gallery: one embedding each, and what is known of its image.

========== ======================= ==========================================================
column     type                    what it holds
========== ======================= ==========================================================
vector     float32, size fixed     L2-normalised embedding
path       string                  the image's absolute path; no two rows have the same
modality   string                  ``visible`` or ``thermal``
identity   string or null          who
camera     string or null          what took it
time       microseconds or null    when, UTC
model      string                  digest of the model that embedded it
========== ======================= ==========================================================

Shape legend: ``N`` = images, ``D`` = size of the embedding.
"""

from collections.abc import Sequence

import numpy as np
import pyarrow as pa

from cmemd.data.modality import Modality
from cmemd.errors import InputError
from cmemd.gallery.sources import Source

__all__ = ["MODEL", "make_rows", "row_schema", "vectors_of"]

MODEL = b"cmemd.model"  # the digest's name in a schema's metadata: known of an empty gallery too
_NORM_TOLERANCE = 1e-3
# Lance then notices when two writers add the same path at once.
_KEY = {
    b"lance-schema:unenforced-primary-key": b"true",
    b"lance-schema:unenforced-primary-key:position": b"1",
}


def row_schema(model: str, size: int) -> pa.Schema:
    """The columns for embeddings of one model.

    Args:
        model: the model's digest.
        size: ``D``.
    """
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
) -> pa.Table:
    """Rows out of embeddings.

    Args:
        sources: ``N`` images.
        vectors: ``(N, D)`` float32, L2-normalised.
        modality: of all of them.
        model: digest of the model that embedded them.

    Raises:
        InputError: for vectors that are not of unit length; scores would be no cosines.
    """
    norms = np.linalg.norm(vectors, axis=1)
    wrong = np.flatnonzero(~(np.abs(norms - 1) <= _NORM_TOLERANCE))  # NaN is wrong too
    if len(wrong):
        raise InputError(
            f"expected embeddings of unit length, got one of length {norms[wrong[0]]:g} for "
            f"{sources[wrong[0]].path}: export the model again"
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


def vectors_of(rows: pa.RecordBatch | pa.Table) -> np.ndarray:
    """The embeddings ``(N, D)``; of a batch, or a table in one piece, without a copy."""
    column = rows.column("vector")
    if isinstance(column, pa.ChunkedArray):
        column = column.combine_chunks()
    flat = column.flatten().to_numpy(zero_copy_only=False)
    return flat.reshape(len(rows), -1) if len(rows) else flat.reshape(0, column.type.list_size)

"""Turn image files into rows of a gallery, a chunk at a time."""

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np
from tqdm import tqdm

from cmemd.data.modality import Modality
from cmemd.errors import InputError
from cmemd.gallery.rows import make_rows
from cmemd.gallery.sources import Source
from cmemd.gallery.table import Gallery

if TYPE_CHECKING:
    import pyarrow as pa

    from cmemd.inference import Predictor

__all__ = ["CHUNK", "embed_chunks", "not_in_gallery", "relabelled"]

CHUNK = 1024  # rows per commit; a killed run loses at most as many


def not_in_gallery(sources: Sequence[Source], gallery: Gallery, modality: Modality) -> list[Source]:
    """Return the images whose paths the gallery does not hold.

    Raises:
        InputError: the gallery holds an image in the other modality, which must be a mistake.
    """
    name, there = modality.name.lower(), gallery.modalities()
    for source in sources:
        if there.get(source.path, name) != name:
            raise InputError(
                f"{source.path} to be {there[source.path]}, as in gallery {gallery.address}",
                name,
                "correct --modality, or remove the image from the gallery first",
            )
    return [source for source in sources if source.path not in there]


def embed_chunks(
    predictor: "Predictor", sources: Sequence[Source], modality: Modality
) -> "Iterator[pa.Table]":
    """Embed images; ``predictor.skipped`` lists those that cannot be read.

    Args:
        predictor: the model.
        sources: the images.
        modality: of all of them.

    Yields:
        Tables of ``row_schema`` with ``CHUNK`` rows each; the last may have fewer.
    """
    by_path = {source.path: source for source in sources}
    done: list[Source] = []
    vectors = []
    with tqdm(total=len(by_path), unit="image", desc="embedding") as bar:
        for path, vector in predictor.stream(by_path, modality):
            done.append(by_path[str(path)])
            vectors.append(vector)
            bar.update()
            if len(done) == CHUNK:
                yield _rows(done, vectors, modality, predictor.digest)
                done, vectors = [], []
    if done:
        yield _rows(done, vectors, modality, predictor.digest)


def relabelled(
    gallery: Gallery, sources: Sequence[Source], modality: Modality
) -> "Iterator[pa.Table]":
    """Yield a gallery's embeddings of images with the labels that the images have now.

    Args:
        gallery: holds the embeddings; its other images are left out.
        sources: the images; those without an embedding are left out.
        modality: of all of them.

    Yields:
        Tables of ``row_schema``, in the gallery's order.
    """
    by_path = {source.path: source for source in sources}
    for numbers, vectors in gallery.batches():
        labels = gallery.labels(numbers.tolist())
        paths = [labels[number]["path"] for number in numbers.tolist()]
        wanted = [path in by_path for path in paths]
        if any(wanted):
            known = [by_path[path] for path in paths if path in by_path]
            yield make_rows(known, vectors[wanted], modality, gallery.model)


def _rows(
    done: Sequence[Source], vectors: Sequence[np.ndarray], modality: Modality, model: str
) -> "pa.Table":
    return make_rows(done, np.stack(vectors), modality, model)

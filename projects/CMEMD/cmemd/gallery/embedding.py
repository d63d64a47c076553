"""From image files to rows, a chunk at a time."""

from collections.abc import Iterator, Sequence

import numpy as np
import pyarrow as pa
from tqdm import tqdm

from cmemd.data.modality import Modality
from cmemd.errors import InputError
from cmemd.gallery.rows import make_rows
from cmemd.gallery.sources import Source
from cmemd.gallery.table import Gallery

__all__ = ["embed_chunks", "labelled_anew", "not_in_gallery"]

CHUNK = 1024  # rows a commit: what a killed run embeds again


def not_in_gallery(sources: Sequence[Source], gallery: Gallery, modality: Modality) -> list[Source]:
    """The images whose paths the gallery does not have.

    Raises:
        InputError: it has one in the other modality: one of the two is a mistake.
    """
    name, there = modality.name.lower(), gallery.modalities()
    for source in sources:
        if there.get(source.path, name) != name:
            raise InputError(
                f"expected {source.path} to be {there[source.path]}, as in gallery "
                f"{gallery.address}, got {name}: correct --modality, or remove the image first"
            )
    return [source for source in sources if source.path not in there]


def embed_chunks(predictor, sources: Sequence[Source], modality: Modality) -> Iterator[pa.Table]:
    """Embeds images; those that cannot be read are in ``predictor.skipped`` afterwards.

    Args:
        predictor: a ``cmemd.inference.predictor.Predictor``.
        sources: the images.
        modality: of all of them.

    Yields:
        Tables of ``row_schema``, of ``CHUNK`` rows but the last.
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


def labelled_anew(
    gallery: Gallery, sources: Sequence[Source], modality: Modality
) -> Iterator[pa.Table]:
    """A gallery's embeddings of these images, with the labels that they have now.

    Args:
        gallery: has embedded them.
        sources: the images; others, and those that could not be read, are left out.
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


def _rows(done, vectors, modality: Modality, model: str) -> pa.Table:
    return make_rows(done, np.stack(vectors), modality, model)

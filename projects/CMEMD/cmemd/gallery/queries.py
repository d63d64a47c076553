"""Make queries out of images: one of each, of each tracklet, or one of all."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from cmemd.data.modality import Modality
from cmemd.gallery.groups import mean_vector
from cmemd.gallery.sources import Source

if TYPE_CHECKING:
    from cmemd.inference import Predictor

__all__ = ["GROUPS", "Query", "embed_queries"]

GROUPS = ("image", "tracklet", "all")


@dataclass(frozen=True)
class Query:
    """What is searched for.

    Attributes:
        paths: its images, those that could be read.
        identity: the person that all of them show, or None.
    """

    paths: tuple[str, ...]
    identity: str | None

    @property
    def name(self) -> str:
        """Return a short name: of one image its file's, else the number of images."""
        return Path(self.paths[0]).name if len(self.paths) == 1 else f"{len(self.paths)} images"


def embed_queries(
    predictor: "Predictor", sources: Sequence[Source], modality: Modality | str, group: str
) -> Iterator[tuple[Query, np.ndarray]]:
    """Yield queries and their embeddings ``(D,)``; of several images, the mean at unit length.

    Args:
        predictor: the model; its ``skipped`` lists the images that cannot be read.
        sources: the images, each once.
        modality: of all of them.
        group: out of ``GROUPS``; with "tracklet", images of one identity, camera and tracklet are a
            query, and an image without a tracklet is one of its own.

    Raises:
        InputError: the embeddings of a query cancel each other.
    """
    parts: dict[object, list[Source]] = {}
    for source in sources:
        parts.setdefault(_key(source, group), []).append(source)
    part_of = {source.path: number for number, of in enumerate(parts.values()) for source in of}
    by_path = {source.path: source for source in sources}
    ordered = [source.path for of in parts.values() for source in of]
    held: list[tuple[Source, np.ndarray]] = []
    for path, vector in predictor.stream(ordered, modality):
        if held and part_of[held[0][0].path] != part_of[str(path)]:
            yield _query(held)
            held = []
        held.append((by_path[str(path)], vector))
    if held:
        yield _query(held)


def _key(source: Source, group: str) -> object:
    if group == "all":
        return None
    if group == "tracklet" and source.tracklet is not None:
        return source.identity, source.camera, source.tracklet
    return source.path


def _query(held: Sequence[tuple[Source, np.ndarray]]) -> tuple[Query, np.ndarray]:
    sources, vectors = zip(*held, strict=True)
    identities = {source.identity for source in sources}
    query = Query(
        tuple(source.path for source in sources), identities.pop() if len(identities) == 1 else None
    )
    if len(vectors) == 1:
        return query, vectors[0]
    return query, mean_vector(np.stack(vectors), f"{len(vectors)} images with {sources[0].path}")

"""Find the ranked matches of queries in a gallery."""

from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

import numpy as np

from cmemd.errors import InputError
from cmemd.gallery.exact import search_exact
from cmemd.gallery.rows import check_vectors
from cmemd.gallery.table import Gallery

if TYPE_CHECKING:
    from lancedb.expr import Expr

__all__ = ["Match", "find_matches"]


_LARGEST = 1 + 1e-3  # a cosine, with the tolerance of the lengths of both vectors


@dataclass(frozen=True)
class Match:
    """A row of the gallery that a query found.

    Attributes:
        score: cosine of the two embeddings.
        path: the image.
        modality: ``visible`` or ``thermal``.
        identity: the person that it shows, or None.
        camera: the camera that took it, or None.
        time: when it was taken, or None.
    """

    score: float
    path: str
    modality: str
    identity: str | None
    camera: str | None
    time: datetime | None


def find_matches(
    gallery: Gallery,
    queries: np.ndarray,
    top: int = 10,
    *,
    where: "Expr | None" = None,
    threshold: float = -np.inf,
    exact: bool = False,
) -> list[list[Match]]:
    """Return the best matches of each query, best first.

    Args:
        gallery: an open gallery; its approximate index is used if it has one.
        queries: ``(Q, D)`` float32, L2-normalised, embedded by the gallery's model.
        top: largest number of matches per query.
        where: rows to search, from ``row_filter``.
        threshold: lowest score of a match; with it, a query of an unknown person finds nothing.
        exact: search without the index.

    Raises:
        InputError: a query or a row is not of unit length, a row has changed since it was written,
            or an argument is out of range.
    """
    if top < 1 or np.isnan(threshold):
        raise InputError(
            "top of at least 1 and a threshold that is a number",
            f"{top} and {threshold}",
            "leave them out for the defaults",
        )
    check_vectors(queries, lambda row: f"query {row}", "embed it with a model that is whole")
    top = min(top, len(gallery))
    if not top:
        return [[] for _ in queries]
    if gallery.indexed and not exact:
        found = [gallery.search_index(query, top, where) for query in queries]
    else:
        found = list(zip(*search_exact(gallery.batches(where), queries, top), strict=True))
    for scores, rows in found:
        _check_scores(gallery, scores, rows)
    kept = [
        [
            (score, row)
            for score, row in zip(scores.tolist(), rows.tolist(), strict=True)
            if score >= threshold
        ]
        for scores, rows in found
    ]
    labels = gallery.labels([row for pairs in kept for _, row in pairs])
    return [[Match(score=score, **labels[row]) for score, row in pairs] for pairs in kept]


def _check_scores(gallery: Gallery, scores: np.ndarray, rows: np.ndarray) -> None:
    wrong = np.flatnonzero(~(np.abs(scores) <= _LARGEST))  # NaN is wrong too
    if len(wrong):
        number = int(rows[wrong[0]])
        raise InputError(
            f"scores in [-1, 1] in gallery {gallery.address}",
            f"{scores[wrong[0]]:g} for {gallery.name(number)}",
            "run cmemd gallery check, and embed the images that it names again",
        )

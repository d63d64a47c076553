"""Ranked matches of queries in a gallery."""

from dataclasses import dataclass
from datetime import datetime

import numpy as np
from lancedb.expr import Expr

from cmemd.gallery.exact import search_exact
from cmemd.gallery.table import Gallery

__all__ = ["Match", "find_matches"]


@dataclass(frozen=True)
class Match:
    """A row of the gallery that a query found.

    Attributes:
        score: cosine of the two embeddings.
        path: the image.
        modality: ``visible`` or ``thermal``.
        identity: who it shows, or None.
        camera: what took it, or None.
        time: when, or None.
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
    where: Expr | None = None,
    threshold: float = -np.inf,
    exact: bool = False,
) -> list[list[Match]]:
    """The best matches of each query, best first.

    Args:
        gallery: an open gallery; searched by its approximate index where it has one.
        queries: ``(Q, D)`` float32, L2-normalised, of the gallery's model.
        top: at most that many a query.
        where: rows to look at, of ``row_filter``.
        threshold: leave out what scores less; a query of somebody unknown then finds nothing.
        exact: do without the index.
    """
    if gallery.indexed and not exact:
        found = [gallery.search_index(query, top, where) for query in queries]
    else:
        found = list(zip(*search_exact(gallery.batches(where), queries, top), strict=True))
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

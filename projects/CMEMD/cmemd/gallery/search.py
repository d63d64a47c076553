"""Find the ranked matches of queries in a gallery."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

import numpy as np

from cmemd.errors import InputError
from cmemd.gallery.exact import search_exact
from cmemd.gallery.groups import Tracklets, search_groups
from cmemd.gallery.rows import check_vectors
from cmemd.gallery.sources import TRACKLET
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
        tracklet: the track of the person under the camera, or None.
        images: number of images whose mean was compared; the row is the first of them.
    """

    score: float
    path: str
    modality: str
    identity: str | None
    camera: str | None
    time: datetime | None
    tracklet: str | None = None
    images: int = 1


def find_matches(
    gallery: Gallery,
    queries: np.ndarray,
    top: int = 10,
    *,
    where: "Expr | None" = None,
    threshold: float = -np.inf,
    exact: bool = False,
    one_per: str | None = None,
    tracklets: Tracklets | None = None,
    exclude: Sequence[Collection[str]] = (),
) -> list[list[Match]]:
    """Return the best matches of each query, best first.

    Args:
        gallery: an open gallery; its approximate index is used if it has one.
        queries: ``(Q, D)`` float32, L2-normalised, embedded by the gallery's model.
        top: largest number of matches per query.
        where: rows to search, from ``row_filter``.
        threshold: lowest score of a match; with it, a query of an unknown person finds nothing.
        exact: search without the index.
        one_per: keep the best match of each "identity", "camera" or "tracklet"; rows without that
            label all stay. Compares all rows, without the index.
        tracklets: compare these averages in place of the gallery's rows; ``where`` is theirs.
        exclude: paths that each query leaves out; none if empty.

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
    left_out = _rows_of(gallery, exclude)
    members = {rows[0]: rows for rows in tracklets.members} if tracklets is not None else {}
    more = min(top + max(map(len, left_out), default=0), len(gallery))
    if one_per is not None or tracklets is not None:
        batches = (
            tracklets.batches()
            if tracklets is not None
            else gallery.labelled_batches(TRACKLET, where)
        )
        of = {number: rows[0] for rows in members.values() for number in rows}
        left_out = [{of.get(number, number) for number in rows} for rows in left_out]
    if one_per is not None:
        found = search_groups(batches, queries, top, one_per, left_out)
    elif tracklets is not None:
        unlabelled = ((numbers, vectors) for numbers, vectors, _ in batches)
        found = list(zip(*search_exact(unlabelled, queries, more), strict=True))
    elif gallery.indexed and not exact:
        found = [gallery.search_index(query, more, where) for query in queries]
    else:
        found = list(zip(*search_exact(gallery.batches(where), queries, more), strict=True))
    if left_out:
        found = [_without(*pair, rows, top) for pair, rows in zip(found, left_out, strict=True)]
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
    shown = {row for pairs in kept for _, row in pairs}
    # Each row of an average is an answer, and so is checked.
    labels = gallery.labels([number for row in shown for number in members.get(row, [row])])
    return [
        [Match(score, **labels[row], images=len(members.get(row, [row]))) for score, row in pairs]
        for pairs in kept
    ]


def _rows_of(gallery: Gallery, exclude: Sequence[Collection[str]]) -> list[set[int]]:
    """Return the row numbers of the paths that each query leaves out."""
    wanted = {path for paths in exclude for path in paths}
    number_of = {row["path"]: number for number, row in gallery.lookup(wanted, ())}
    return [{number_of[path] for path in paths if path in number_of} for paths in exclude]


def _without(
    scores: np.ndarray, rows: np.ndarray, left_out: Collection[int], top: int
) -> tuple[np.ndarray, np.ndarray]:
    kept = ~np.isin(rows.astype(np.int64), list(left_out))
    return scores[kept][:top], rows[kept][:top]


def _check_scores(gallery: Gallery, scores: np.ndarray, rows: np.ndarray) -> None:
    wrong = np.flatnonzero(~(np.abs(scores) <= _LARGEST))  # NaN is wrong too
    if len(wrong):
        number = int(rows[wrong[0]])
        raise InputError(
            f"scores in [-1, 1] in gallery {gallery.address}",
            f"{scores[wrong[0]]:g} for {gallery.name(number)}",
            "run cmemd gallery check, and embed the images that it names again",
        )

"""CMC rank, average precision and inverse negative penalty of each query, from distances.

Shape legend: ``Q`` = queries, ``G`` = gallery images, ``I`` = identities in the gallery.
"""

from dataclasses import dataclass

import numpy as np

from cmemd.errors import InputError

# Bounds memory: a (256, 3010) block of the 10-shot gallery takes some 6 MB per array, and the
# work stays in the processor's cache.
_QUERIES_AT_ONCE = 256


@dataclass(frozen=True, eq=False)
class QueryScores:
    """One figure of each kind per query; NaN for a query without a positive.

    Attributes:
        match_rank: ``(Q,)`` rank of the right identity among the identities, from 1.
        ap: ``(Q,)`` average precision over the full ranking of images, in [0, 1].
        inp: ``(Q,)`` inverse negative penalty: positives / rank of the last positive, in [0, 1].
    """

    match_rank: np.ndarray
    ap: np.ndarray
    inp: np.ndarray

    @property
    def counted(self) -> np.ndarray:
        """``(Q,)`` booleans: the queries that have a positive, the only ones means are over."""
        return ~np.isnan(self.ap)

    def cmc(self, rank: int) -> float:
        """Share of counted queries whose identity is among the first ``rank`` identities.

        Beyond the number of ranked identities it stays at its last value, 1.
        """
        return float(np.mean(self.match_rank[self.counted] <= rank))


def rank_order(distances: np.ndarray) -> np.ndarray:
    """Gallery columns from near to far; equal distances keep the gallery's order.

    Args:
        distances: ``(Q, G)``.

    Returns:
        ``(Q, G)`` column numbers.
    """
    return np.argsort(distances, axis=1, kind="stable")


def score_queries(
    distances: np.ndarray,
    query_pids: np.ndarray,
    gallery_pids: np.ndarray,
    ignored: np.ndarray | None = None,
) -> QueryScores:
    """Score every query's ranking of the gallery.

    Ignored images are removed before anything is counted. With positives at ranks
    ``r_1 < ... < r_m`` of the full ranking, ``AP = mean(k / r_k)`` and ``INP = m / r_m``. The CMC
    looks at another list: the ranking reduced to the first image of each identity. Many shots
    therefore do not push the right identity down. Equal distances: the image earlier in the
    gallery ranks first.

    Gallery of identities 7, 8, 8, 9, 7 at distances 3, 1, 2, 4, 5 from a query of identity 7: the
    ranking is 8, 8, 7, 9, 7, by identities 8, 7, 9. The match is second by identities; positives
    at ranks 3 and 5 give AP = (1/3 + 2/5) / 2 = 0.3667 and INP = 2/5:

    >>> distances = np.array([[3.0, 1.0, 2.0, 4.0, 5.0]])
    >>> gallery = np.array([7, 8, 8, 9, 7])
    >>> scores = score_queries(distances, np.array([7]), gallery)
    >>> scores.match_rank, scores.ap.round(4), scores.inp
    (array([2.]), array([0.3667]), array([0.4]))

    Without the two images of identity 8, the match is first: AP = (1/1 + 2/3) / 2:

    >>> scores = score_queries(distances, np.array([7]), gallery, (gallery == 8)[None])
    >>> scores.match_rank, scores.ap.round(4), scores.inp.round(4)
    (array([1.]), array([0.8333]), array([0.6667]))

    Args:
        distances: ``(Q, G)``, smaller is nearer; infinity is allowed, NaN is not.
        query_pids: ``(Q,)`` identities.
        gallery_pids: ``(G,)`` identities.
        ignored: ``(Q, G)`` booleans, true where the image is not in the query's gallery.

    Returns:
        The figures of each query.

    Raises:
        InputError: Shapes do not agree, the gallery is empty, or a distance is NaN.
    """
    shape = (len(query_pids), len(gallery_pids))
    if ignored is None:
        ignored = np.zeros(shape, dtype=bool)
    if not distances.shape == ignored.shape == shape or shape[1] == 0:
        raise InputError(
            f"expected distances of {shape[0]} queries to {shape[1]} gallery images, at least one; "
            f"got shape {distances.shape}, ignored pairs {ignored.shape}"
        )
    if np.isnan(distances).any():
        raise InputError("expected distances that are numbers; got NaN; check the features")
    by_identity = np.argsort(gallery_pids, kind="stable")
    identities, identity_starts = np.unique(gallery_pids[by_identity], return_index=True)
    figures = np.full((3, shape[0]), np.nan)  # match_rank, ap, inp
    for start in range(0, shape[0], _QUERIES_AT_ONCE):
        block = slice(start, start + _QUERIES_AT_ONCE)
        order = rank_order(distances[block])  # (Q, G)
        kept = ~np.take_along_axis(ignored[block], order, axis=1)
        positive = kept & (gallery_pids[order] == query_pids[block, None])
        counted = positive.any(axis=1)
        order, kept, positive = order[counted], kept[counted], positive[counted]
        figures[0, block][counted] = _identity_rank(
            order, kept, positive, by_identity, identity_starts
        )
        figures[1:, block][:, counted] = _ap_and_inp(kept, positive)
    return QueryScores(*figures)


def _identity_rank(
    order: np.ndarray,
    kept: np.ndarray,
    positive: np.ndarray,
    by_identity: np.ndarray,
    identity_starts: np.ndarray,
) -> np.ndarray:
    """Rank of the first positive among the first images of each identity.

    Identities whose first kept image stands before the first positive, plus one.

    Args:
        order: ``(Q, G)`` gallery columns from near to far.
        kept: ``(Q, G)`` booleans along the ranking.
        positive: ``(Q, G)`` booleans along the ranking, at least one per row.
        by_identity: ``(G,)`` gallery columns sorted by identity.
        identity_starts: ``(I,)`` where each identity starts in ``by_identity``.

    Returns:
        ``(Q,)`` ranks from 1.
    """
    gallery = order.shape[1]
    place = np.empty_like(order)  # (Q, G): where each gallery image stands, G if ignored
    np.put_along_axis(place, order, np.where(kept, np.arange(gallery), gallery), axis=1)
    first_place = np.minimum.reduceat(place[:, by_identity], identity_starts, axis=1)  # (Q, I)
    return 1 + np.sum(first_place < np.argmax(positive, axis=1)[:, None], axis=1)


def _ap_and_inp(kept: np.ndarray, positive: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Average precision and inverse negative penalty, both ``(Q,)``.

    Args:
        kept: ``(Q, G)`` booleans along the ranking.
        positive: ``(Q, G)`` booleans along the ranking, at least one per row.
    """
    rank = np.cumsum(kept, axis=1)  # ignored images take no rank
    hits = np.cumsum(positive, axis=1)
    positives = hits[:, -1]
    precision = np.divide(hits, rank, out=np.zeros(rank.shape), where=positive)
    return precision.sum(axis=1) / positives, positives / np.max(rank * positive, axis=1)

"""CMC rank, average precision and inverse negative penalty of each query, from distances.

Ignored images are removed from a query's ranking before anything is counted. With positives at
ranks ``r_1 < ... < r_m`` of the full ranking of images::

    AP  = mean over k of k / r_k
    INP = m / r_m

The CMC at rank ``n`` is the share of queries whose match is among the first ``n``. The match's rank
is either ``r_1`` or the *identity rank*: its rank in the ranking reduced to the first image of each
identity, so that several images of a wrong identity count once. mAP and mINP are means of AP and
INP. A query without a positive is in none of these means.

Sources: identity ranks as in Wu et al., ICCV 2017; INP from AGW (Ye et al., TPAMI 2021).

Shape legend: ``Q`` = queries, ``b`` = queries of a block, all of one identity, ``V`` = gallery
images of all trials, ``P`` = positives among them, ``T`` = trials.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np

from cmemd.errors import InputError
from cmemd.evaluation.rank_counting import (
    Doubt,
    Galleries,
    PositiveRanks,
    positive_ranks,
    query_blocks,
)
from cmemd.evaluation.threads import in_threads

__all__ = ["IDENTITIES", "IMAGES", "QueryScores", "check_numbers", "score_blocks", "score_queries"]

# What a rank of the CMC counts.
IDENTITIES = "identities"
IMAGES = "images"


@dataclass(frozen=True, eq=False)
class QueryScores:
    """Metrics of each query in each trial, ``(T, Q)`` each; NaN where it has no positive.

    Attributes:
        identity_rank: rank of the right identity among the identities, from 1.
        image_rank: rank of the first positive among the images, from 1.
        ap: average precision over the full ranking of images, in [0, 1].
        inp: inverse negative penalty: positives / rank of the last positive, in [0, 1].
    """

    identity_rank: np.ndarray
    image_rank: np.ndarray
    ap: np.ndarray
    inp: np.ndarray

    @property
    def counted(self) -> np.ndarray:
        """``(T, Q)`` booleans: the queries that have a positive; means are over these only."""
        return ~np.isnan(self.ap)

    @property
    def metrics(self) -> tuple[np.ndarray, ...]:
        """The four metrics, in the order of the attributes."""
        return self.identity_rank, self.image_rank, self.ap, self.inp

    def hits(self, limit: int, cmc: str) -> np.ndarray:
        """Return whether each query's match is among the first ``limit`` ranks, as 1 or 0.

        Means over the counted queries are the CMC; beyond the number of ranks it stays at 1.

        Args:
            limit: a rank, from 1.
            cmc: what takes a rank: ``identities`` or ``images``.

        Returns:
            ``(T, Q)``, NaN for queries that are not counted.
        """
        rank = self.identity_rank if cmc == IDENTITIES else self.image_rank
        return np.where(self.counted, rank <= limit, np.nan)


def score_queries(
    distances: np.ndarray,
    query_pids: np.ndarray,
    gallery_pids: np.ndarray,
    ignored: np.ndarray | None = None,
    members: np.ndarray | None = None,
) -> QueryScores:
    """Score every query's ranking of the gallery, in every trial.

    Of equally distant images the earlier in the gallery ranks first, see
    ``cmemd.evaluation.rank_counting.rank_order``.

    Gallery of identities 7, 8, 8, 9, 7 at distances 3, 1, 2, 4, 5 from a query of identity 7: the
    ranking is 8, 8, 7, 9, 7, by identities 8, 7, 9. The match is third by images, second by
    identities; positives at ranks 3 and 5 give AP = (1/3 + 2/5) / 2 = 0.3667 and INP = 2/5:

    >>> distances = np.array([[3.0, 1.0, 2.0, 4.0, 5.0]])
    >>> gallery = np.array([7, 8, 8, 9, 7])
    >>> scores = score_queries(distances, np.array([7]), gallery)
    >>> scores.image_rank, scores.identity_rank
    (array([[3.]]), array([[2.]]))
    >>> scores.ap.round(4), scores.inp
    (array([[0.3667]]), array([[0.4]]))

    Without the two images of identity 8, the match is first: AP = (1/1 + 2/3) / 2:

    >>> scores = score_queries(distances, np.array([7]), gallery, (gallery == 8)[None])
    >>> scores.identity_rank, scores.ap.round(4), scores.inp.round(4)
    (array([[1.]]), array([[0.8333]]), array([[0.6667]]))

    Args:
        distances: ``(Q, V)``, smaller is nearer; infinity is allowed, NaN is not.
        query_pids: ``(Q,)`` identities.
        gallery_pids: ``(V,)`` identities.
        ignored: ``(Q, V)`` booleans, true where the image is not in the query's gallery.
        members: ``(T, V)`` booleans, the gallery of each trial; None for one trial of all images.

    Returns:
        The metrics of each query.

    Raises:
        InputError: shapes do not agree, the gallery is empty, or a distance is NaN.
    """
    shape = (len(query_pids), len(gallery_pids))
    members = np.ones((1, shape[1]), dtype=bool) if members is None else members
    if not distances.shape == shape == (shape if ignored is None else ignored.shape) or (
        members.shape[1:] != shape[1:] or 0 in (shape[1], len(members))
    ):
        raise InputError(
            f"distances of {shape[0]} queries to {shape[1]} gallery images, at least one",
            f"shape {distances.shape}, ignored pairs {None if ignored is None else ignored.shape}, "
            f"galleries {members.shape}",
            "give all arrays the same queries and gallery images",
        )
    check_numbers(distances)

    def block(queries: np.ndarray, positives: np.ndarray) -> tuple[np.ndarray, None]:
        of_block = distances[queries].astype(np.float64, copy=False)
        if ignored is not None:
            of_block[ignored[queries]] = np.nan
        return of_block, None

    return score_blocks(block, query_pids, Galleries(gallery_pids, members), in_threads)


def check_numbers(distances: np.ndarray) -> None:
    """Raise where a distance is NaN.

    Raises:
        InputError: one is.
    """
    if np.isnan(distances).any():
        raise InputError("distances that are numbers", "NaN", "check the features")


def score_blocks(
    block: Callable[[np.ndarray, np.ndarray], tuple[np.ndarray, Doubt | None]],
    query_pids: np.ndarray,
    galleries: Galleries,
    run: Callable[[Callable[[np.ndarray], None], Iterable[np.ndarray]], Iterable[None]] = map,
) -> QueryScores:
    """Do as ``score_queries``, with distances that are made block by block.

    Args:
        block: called with ``(b,)`` numbers of queries of one identity and
            ``(P,)`` columns of its images. Returns distances ``(b, V)``, NaN for ignored images,
            and how exact they are; None for exact ones.
        query_pids: ``(Q,)`` identities.
        galleries: the gallery of each trial.
        run: applies a function to each of some items; ``in_threads`` calls it in several threads.
    """
    metrics = np.full((4, len(galleries.members), len(query_pids)), np.nan)

    def score(queries: np.ndarray) -> None:
        positives = np.flatnonzero(galleries.pids == query_pids[queries[0]])
        if len(positives):
            distances, doubt = block(queries, positives)
            ranks = positive_ranks(distances, positives, galleries, doubt)
            metrics[:, :, queries] = _metrics(ranks)

    for _ in run(score, query_blocks(query_pids)):
        pass
    return QueryScores(*metrics)


def _metrics(ranks: PositiveRanks) -> tuple[np.ndarray, ...]:
    """Return the metrics of queries of one identity.

    Args:
        ranks: of their positives.

    Returns:
        Identity rank, image rank, average precision and inverse negative penalty, ``(T, b)`` each.
    """
    found, rank, identity_rank = ranks
    hits = np.cumsum(found, axis=1, dtype=np.int32)  # (b, P, T): k of r_k
    counts = hits[:, -1]  # (b, T): m
    with np.errstate(invalid="ignore"):  # 0 / 0 is the NaN of a query without a positive
        precision = np.divide(hits, rank, out=np.zeros(rank.shape), where=found)
        ap = precision.sum(axis=1) / counts
        inp = counts / np.max(rank * found, axis=1)
    first = np.argmax(found, axis=1)[:, None]  # (b, 1, T)
    image_rank = np.take_along_axis(rank, first, axis=1)[:, 0]
    missing = counts == 0
    firsts = (np.where(missing, np.nan, place).T for place in (identity_rank, image_rank))
    return *firsts, ap.T, inp.T

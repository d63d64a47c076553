"""CMC rank, average precision and inverse negative penalty of each query, from distances.

All trials are scored together: a query's images are sorted once, and each trial reads its own
ranking off that order.

Shape legend: ``Q`` = queries, ``b`` = queries of a block, all of one identity, ``V`` = gallery
images of all trials, ``P`` = positives among them, ``T`` = trials, ``I`` = identities of a trial.
"""

import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np

from cmemd.errors import InputError

# What a rank of the CMC counts.
IDENTITIES = "identities"
IMAGES = "images"

# A block's arrays of (b, V) stay in the processor's cache.
_QUERIES_AT_ONCE = 48


@dataclass(frozen=True, eq=False)
class QueryScores:
    """Figures of each query in each trial, ``(T, Q)`` each; NaN where it has no positive.

    Attributes:
        identity_rank: Rank of the right identity among the identities, from 1.
        image_rank: Rank of the first positive among the images, from 1.
        ap: Average precision over the full ranking of images, in [0, 1].
        inp: Inverse negative penalty: positives / rank of the last positive, in [0, 1].
    """

    identity_rank: np.ndarray
    image_rank: np.ndarray
    ap: np.ndarray
    inp: np.ndarray

    @property
    def counted(self) -> np.ndarray:
        """``(T, Q)`` booleans: the queries that have a positive, the only ones means are over."""
        return ~np.isnan(self.ap)

    @property
    def figures(self) -> tuple[np.ndarray, ...]:
        """The four figures, in the order of the attributes."""
        return self.identity_rank, self.image_rank, self.ap, self.inp

    def hits(self, limit: int, cmc: str) -> np.ndarray:
        """Whether each query's match is among the first ``limit`` ranks, as 1 or 0.

        Means over the counted queries are the CMC; beyond the number of ranks it stays at 1.

        Args:
            limit: A rank, from 1.
            cmc: What takes a rank: ``identities`` or ``images``.

        Returns:
            ``(T, Q)``, NaN for queries that are not counted.
        """
        rank = self.identity_rank if cmc == IDENTITIES else self.image_rank
        return np.where(self.counted, rank <= limit, np.nan)


def rank_order(distances: np.ndarray) -> np.ndarray:
    """Gallery columns from near to far; equal distances keep the gallery's order.

    Two distances count as equal where they agree in all but the last ``log2(V)`` bits of a
    float64: for the 6775 images of SYSU-MM01 to 12 digits, which is what the sums behind a
    distance are worth.

    Args:
        distances: ``(Q, V)``; NaN ranks behind infinity.

    Returns:
        ``(Q, V)`` column numbers.
    """
    # As integers, floats of one sign keep their order; so the column fits into the last bits, and
    # sorting numbers, several times faster than sorting indices by number, is stable.
    columns = np.arange(distances.shape[1])
    low_bits = (1 << int(columns[-1]).bit_length()) - 1
    keys = np.add(distances, 0.0, dtype=np.float64).view(np.int64)  # adding turns -0 into 0
    keys ^= (keys >> 63) & np.iinfo(np.int64).max  # below zero their order is turned round
    keys &= ~low_bits
    keys |= columns
    keys.sort(axis=1)
    keys &= low_bits
    return keys


def score_queries(
    distances: np.ndarray,
    query_pids: np.ndarray,
    gallery_pids: np.ndarray,
    ignored: np.ndarray | None = None,
    drawn: np.ndarray | None = None,
) -> QueryScores:
    """Score every query's ranking of the gallery, in every trial.

    Ignored images are removed before anything is counted. With positives at ranks
    ``r_1 < ... < r_m`` of the full ranking, ``AP = mean(k / r_k)`` and ``INP = m / r_m``. The
    identity rank looks at another list: the ranking reduced to the first image of each identity.
    Many shots therefore do not push the right identity down. Equal distances: the image earlier
    in the gallery ranks first, see ``rank_order``.

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
        drawn: ``(T, V)`` booleans, the gallery of each trial; None for one trial of all images.

    Returns:
        The figures of each query.

    Raises:
        InputError: Shapes do not agree, the gallery is empty, or a distance is NaN.
    """
    shape = (len(query_pids), len(gallery_pids))
    drawn = np.ones((1, shape[1]), dtype=bool) if drawn is None else drawn
    if not distances.shape == shape == (shape if ignored is None else ignored.shape) or (
        drawn.shape[1:] != shape[1:] or 0 in (shape[1], len(drawn))
    ):
        raise InputError(
            f"expected distances of {shape[0]} queries to {shape[1]} gallery images, at least one; "
            f"got shape {distances.shape}, ignored pairs "
            f"{None if ignored is None else ignored.shape}, galleries {drawn.shape}"
        )
    if np.isnan(distances).any():
        raise InputError("expected distances that are numbers; got NaN; check the features")
    galleries = _Galleries(gallery_pids, drawn)
    figures = np.full((4, len(drawn), shape[0]), np.nan)

    def score(queries: np.ndarray) -> None:
        block = distances[queries].astype(np.float64, copy=False)
        if ignored is not None:
            block[ignored[queries]] = np.nan  # behind every other image, and told from them
        positives = np.flatnonzero(gallery_pids == query_pids[queries[0]])
        if len(positives):
            figures[:, :, queries] = _score_block(block, positives, galleries)

    with ThreadPoolExecutor(len(os.sched_getaffinity(0))) as threads:
        list(threads.map(score, _blocks(query_pids)))  # a list, so that errors come out
    return QueryScores(*figures)


class _Galleries:
    """The galleries of all trials, arranged for counting.

    Args:
        pids: ``(V,)`` identities.
        drawn: ``(T, V)`` booleans.
    """

    def __init__(self, pids: np.ndarray, drawn: np.ndarray) -> None:
        self.drawn = drawn
        by_identity = np.argsort(pids, kind="stable")
        self.of_identities = [_table(pids, by_identity[d[by_identity]]) for d in drawn]
        # A counter of 16 bits holds a rank in fewer than 65,536 images, so that one addition of
        # 64-bit words counts in four trials at once.
        counter = np.uint16 if len(pids) < 2**16 else np.uint32
        self.per_word = 8 // np.dtype(counter).itemsize
        # One column more than there are, in no trial.
        ones = np.zeros((len(pids) + 1, -(-len(drawn) // self.per_word) * self.per_word), counter)
        ones[:-1, : len(drawn)] = drawn.T
        self.words = np.ascontiguousarray(ones.view(np.uint64).T)  # (T / per_word, V + 1)
        self.counter = counter


def _table(pids: np.ndarray, columns: np.ndarray) -> np.ndarray:
    """Columns, sorted by identity, as a table ``(images, I)``; short identities repeat their last.

    A minimum over each identity then runs down the table, over all identities at once.
    """
    if len(columns) == 0:
        return np.empty((1, 0), dtype=np.intp)
    counts = np.unique(pids[columns], return_counts=True)[1]
    starts = np.cumsum(counts) - counts
    return columns[starts + np.minimum(np.arange(counts.max())[:, None], counts - 1)]


def _blocks(pids: np.ndarray) -> Iterator[np.ndarray]:
    """Query numbers in blocks of one identity each: they share their positives."""
    order = np.argsort(pids, kind="stable")
    edges = np.flatnonzero(np.diff(pids[order])) + 1
    for queries in np.split(order, edges):
        for start in range(0, len(queries), _QUERIES_AT_ONCE):
            yield queries[start : start + _QUERIES_AT_ONCE]


def _score_block(
    distances: np.ndarray, positives: np.ndarray, galleries: _Galleries
) -> tuple[np.ndarray, ...]:
    """Figures of queries of one identity.

    Args:
        distances: ``(b, V)``, NaN for ignored images.
        positives: ``(P,)`` columns of their identity.
        galleries: The trials.

    Returns:
        Identity rank, image rank, average precision and inverse negative penalty, ``(T, b)`` each.
    """
    order = rank_order(distances)  # (b, V)
    place = _places(order)  # (b, V): where each image stands
    kept = np.sum(~np.isnan(distances), axis=1)  # (b,): ignored images stand behind these
    nearest_first = np.argsort(place[:, positives], axis=1)  # (b, P)
    columns = positives[nearest_first]
    places = np.take_along_axis(place, columns, axis=1)  # (b, P)
    found = galleries.drawn.T[columns] & (places < kept[:, None])[..., None]  # (b, P, T)
    rank = _ranks(order, places, galleries)  # (b, P, T)
    hits = np.cumsum(found, axis=1)
    counts = hits[:, -1]  # (b, T)
    with np.errstate(invalid="ignore"):  # 0 / 0 is the NaN of a query without a positive
        precision = np.divide(hits, rank, out=np.zeros(rank.shape), where=found)
        ap = precision.sum(axis=1) / counts
        inp = counts / np.max(rank * found, axis=1)
    first = np.argmax(found, axis=1)  # (b, T)
    image_rank = np.take_along_axis(rank, first[:, None], axis=1)[:, 0]
    first_place = np.take_along_axis(places, first, axis=1)  # (b, T)
    identity_rank = _identity_ranks(place, first_place, galleries)
    missing = counts == 0
    ranks = (np.where(missing, np.nan, ranks).T for ranks in (identity_rank, image_rank))
    return *ranks, ap.T, inp.T


def _places(order: np.ndarray) -> np.ndarray:
    """The inverse of each row's permutation, ``(b, V)``, in as few bytes as will do."""
    queries, size = order.shape
    place = np.empty((queries, size), np.uint16 if size < 2**16 else np.uint32)
    flat = order + size * np.arange(queries)[:, None]  # put_along_axis takes four times as long
    place.ravel()[flat.ravel()] = np.tile(np.arange(size, dtype=place.dtype), queries)
    return place


def _ranks(order: np.ndarray, places: np.ndarray, galleries: _Galleries) -> np.ndarray:
    """Images of each trial up to and including each positive's place.

    Args:
        order: ``(b, V)`` columns from near to far.
        places: ``(b, P)`` places of the positives.
        galleries: The trials.

    Returns:
        ``(b, P, T)``: the rank of a positive in each trial that drew it.
    """
    queries, size = order.shape
    # Sums from place to place, then sums of those: faster than a running sum over all images. The
    # column behind each row's last, in no trial, gives the sum behind the last place a beginning.
    padded = np.concatenate([order, np.full((queries, 1), size)], axis=1)
    edges = np.zeros((queries, places.shape[1] + 1), np.intp)
    edges[:, 1:] = places
    edges[:, 1:] += 1
    edges += (size + 1) * np.arange(queries)[:, None]
    counts = np.empty(padded.shape, np.uint64)
    at_places = []
    for word in galleries.words:
        np.take(word, padded, out=counts, mode="clip")  # no column is out of range; clip is fast
        between = np.add.reduceat(counts.ravel(), edges.ravel()).reshape(edges.shape)
        at_places.append(np.cumsum(between[:, :-1], axis=1))
    ranks = np.stack(at_places, axis=2).view(galleries.counter)
    return ranks[..., : len(galleries.drawn)].astype(np.int64)


def _identity_ranks(
    place: np.ndarray, first_place: np.ndarray, galleries: _Galleries
) -> np.ndarray:
    """Rank of the first positive among the first images of each identity.

    Identities whose first image stands before the first positive, plus one.

    Args:
        place: ``(b, V)``; ignored images stand last.
        first_place: ``(b, T)`` place of each trial's first positive.
        galleries: The trials.

    Returns:
        ``(b, T)`` ranks from 1.
    """
    place = np.ascontiguousarray(place.T)  # (V, b): fetching columns copies whole rows
    ranks = np.empty(first_place.shape)
    for trial, columns in enumerate(galleries.of_identities):
        firsts = place[columns].min(axis=0)  # (I, b)
        ranks[:, trial] = 1 + np.sum(firsts < first_place[:, trial], axis=0)
    return ranks

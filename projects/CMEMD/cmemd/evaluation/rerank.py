"""k-reciprocal re-ranking: mutual neighbours weigh more than a single distance.

Source: Zhong et al., "Re-ranking Person Re-identification with k-reciprocal Encoding", CVPR 2017;
the numbers are those of fast-reid's implementation.

It compares all queries of a trial with each other, so a query's ranking depends on the other
queries. Results with re-ranking are labelled and never share a table with results without it.

Shape legend: ``Q`` = queries, ``G`` = gallery images, ``N = Q + G``.
"""

from typing import TYPE_CHECKING

import numpy as np

from cmemd.errors import InputError
from cmemd.evaluation.rank_counting import rank_order

if TYPE_CHECKING:
    from numpy.typing import DTypeLike
    from scipy.sparse import csr_array

__all__ = ["k_reciprocal_distances"]

_ROWS_AT_ONCE = 512


def k_reciprocal_distances(
    query_gallery: np.ndarray,
    query_query: np.ndarray,
    gallery_gallery: np.ndarray,
    k1: int = 20,
    k2: int = 6,
    weight: float = 0.3,
    groups: np.ndarray | None = None,
) -> np.ndarray:
    """Return re-ranked distances from each query to each gallery image.

    ``d_ij`` is the squared distance from image ``i`` to image ``j``, divided by the largest of
    image ``i``. An image has weights ``V_ij = exp(-d_ij)`` on its k-reciprocal neighbours. To these
    are added the k-reciprocal neighbours of each neighbour that shares two thirds of its own. ``V``
    is averaged over the ``k2`` nearest images. The result is
    ``(1 - weight) * Jaccard distance of V + weight * d``.

    With groups, an image's neighbours come from each group in turn: its nearest one of every group,
    then its second nearest of every group. A group that lies nearer then fills no more than its
    share of the neighbours.

    Of equally distant images the earlier in (queries, gallery) is the nearer neighbour.

    Args:
        query_gallery: ``(Q, G)`` distances, not squared, at least 0.
        query_query: ``(Q, Q)`` distances, symmetric.
        gallery_gallery: ``(G, G)`` distances, symmetric.
        k1: number of neighbours, without the image itself, that may be reciprocal.
        k2: number of neighbours to average, the image itself included; 1 averages nothing.
        weight: share of the plain distance, in [0, 1].
        groups: ``(N,)`` the group of each image, such as its modality; None for plain neighbours.

    Returns:
        ``(Q, G)`` distances, float32.

    Raises:
        InputError: shapes do not agree, numbers out of range, or distances that are not finite.
    """
    _check(query_gallery, query_query, gallery_gallery, k1, k2, weight)
    queries = len(query_gallery)
    query_gallery, query_query, gallery_gallery = (
        np.square(plain).astype(np.float32)
        for plain in (query_gallery, query_query, gallery_gallery)
    )
    distances = np.block([[query_query, query_gallery], [query_gallery.T, gallery_gallery]])
    largest = distances.max(axis=1, keepdims=True)  # of (N, N)
    distances /= np.where(largest == 0, 1, largest)
    neighbours = np.concatenate(
        [
            _in_turn(rank_order(distances[start : start + _ROWS_AT_ONCE]), groups)[
                :, : max(k1 + 1, k2)
            ]
            for start in range(0, len(distances), _ROWS_AT_ONCE)
        ]
    )
    encoding = _encode(distances, neighbours, k1)
    if k2 > 1:  # at 1 keep the image's own V: an equal image may come first among neighbours
        nearest = _pattern(neighbours[:, :k2], np.float32)
        encoding = nearest @ encoding / min(k2, len(distances))
    jaccard = _jaccard(encoding, queries)
    return (1 - weight) * jaccard + np.float32(weight) * distances[:queries, queries:]


def _in_turn(order: np.ndarray, groups: np.ndarray | None) -> np.ndarray:
    """Return each row's images, which come from near to far, from each group in turn.

    >>> _in_turn(np.array([[0, 1, 2, 3]]), np.array([0, 0, 0, 1]))
    array([[0, 3, 1, 2]])

    Args:
        order: ``(b, N)`` image numbers.
        groups: ``(N,)``; None keeps the order.
    """
    if groups is None:
        return order
    of_order = groups[order]
    turn = np.empty(order.shape, dtype=np.intp)
    for group in np.unique(groups):
        mine = of_order == group
        turn[mine] = np.cumsum(mine, axis=1)[mine]
    return np.take_along_axis(order, np.argsort(turn, axis=1, kind="stable"), axis=1)


def _encode(distances: np.ndarray, neighbours: np.ndarray, k1: int) -> "csr_array":
    """Return weights of expanded reciprocal neighbours, sparse ``(N, N)``; rows sum to 1."""
    from scipy.sparse import csr_array  # half a second; plain scoring does not need it

    mutual = _reciprocal(neighbours[:, : k1 + 1])
    # Half of k1 as NumPy rounds it, to even: 5 neighbours for k1 = 10, 2 for 5.
    mutual_half = _reciprocal(neighbours[:, : int(np.around(k1 / 2)) + 1])
    shared = mutual.multiply(mutual @ mutual_half.T).tocoo()
    sizes = mutual_half.sum(axis=1)
    close = shared.data > 2 / 3 * sizes[shared.col]
    joined = csr_array(
        (np.ones(close.sum(), np.int32), (shared.row[close], shared.col[close])), mutual.shape
    )
    expanded = (mutual + joined @ mutual_half).tocoo()
    weights = np.exp(-distances[expanded.row, expanded.col])
    weights /= np.bincount(expanded.row, weights, len(distances))[expanded.row]
    return csr_array((weights.astype(np.float32), (expanded.row, expanded.col)), mutual.shape)


def _reciprocal(neighbours: np.ndarray) -> "csr_array":
    """Return ones where two images are among each other's neighbours, sparse ``(N, N)``."""
    pattern = _pattern(neighbours, np.int32)
    return pattern.multiply(pattern.T).tocsr()


def _pattern(neighbours: np.ndarray, dtype: "DTypeLike") -> "csr_array":
    """Return a one for each neighbour of each image, sparse ``(N, N)``."""
    from scipy.sparse import csr_array

    images, each = neighbours.shape
    starts = np.arange(0, images * each + 1, each)
    ones: np.ndarray = np.ones(neighbours.size, dtype)
    return csr_array((ones, neighbours.ravel(), starts), (images, images))


def _jaccard(encoding: "csr_array", queries: int) -> np.ndarray:
    """Return ``1 - sum(min) / sum(max)`` of the weights of query and gallery image, ``(Q, G)``."""
    gallery = encoding[queries:].T.tocsr()  # (N, G): weights of gallery images on each image
    shared = np.empty((queries, gallery.shape[1]), np.float32)
    for query in range(queries):
        row = slice(*encoding.indptr[query : query + 2])
        meeting = gallery[encoding.indices[row]]
        mine = np.repeat(encoding.data[row], np.diff(meeting.indptr))
        smaller = np.minimum(mine, meeting.data)
        shared[query] = np.bincount(meeting.indices, smaller, gallery.shape[1])
    return 1 - shared / (2 - shared)  # each row of weights sums to 1


def _check(
    query_gallery: np.ndarray,
    query_query: np.ndarray,
    gallery_gallery: np.ndarray,
    k1: int,
    k2: int,
    weight: float,
) -> None:
    if (
        query_gallery.size == 0
        or query_query.shape != query_gallery.shape[:1] * 2
        or gallery_gallery.shape != query_gallery.shape[1:] * 2
    ):
        raise InputError(
            "distances (Q, G), (Q, Q) and (G, G), none empty",
            f"{query_gallery.shape}, {query_query.shape} and {gallery_gallery.shape}",
            "compute all three from the same queries and gallery images",
        )
    if k1 < 1 or k2 < 1 or not 0 <= weight <= 1:
        raise InputError(
            "k1 and k2 of at least 1 and a weight in [0, 1]",
            f"{k1}, {k2} and {weight}",
            "change the settings (TEST.RERANK.K1, K2 and LAMBDA of a configuration)",
        )
    for distances in (query_gallery, query_query, gallery_gallery):
        if not np.isfinite(distances).all() or distances.min() < 0:
            raise InputError(
                "distances of at least 0 for re-ranking",
                "NaN, infinity or negative ones",
                "check the features",
            )

"""k-reciprocal re-ranking: neighbours that find each other weigh more than a single distance.

Source: Zhong et al., "Re-ranking Person Re-identification with k-reciprocal Encoding", CVPR 2017;
in its numbers as fast-reid computes it.

It looks at all queries of a trial together, so that a query's ranking hangs on the other queries.
Results with it are labelled and never beside results without it.

Shape legend: ``Q`` = queries, ``G`` = gallery images, ``N = Q + G``.
"""

import numpy as np

from cmemd.errors import InputError
from cmemd.evaluation.ranking import rank_order

_ROWS_AT_ONCE = 512


def k_reciprocal_distances(
    query_gallery: np.ndarray,
    query_query: np.ndarray,
    gallery_gallery: np.ndarray,
    k1: int = 20,
    k2: int = 6,
    weight: float = 0.3,
) -> np.ndarray:
    """Re-ranked distances from each query to each gallery image.

    Each image's neighbours are squared, divided by the image's largest, and turned into weights
    ``V_ij = exp(-d_ij)`` over its k-reciprocal neighbours, expanded by those of its neighbours
    that share two thirds of theirs; ``V`` is averaged over the ``k2`` nearest. The result is
    ``(1 - weight) * Jaccard distance of V + weight * d``.

    Equal distances: the image earlier in (queries, gallery) is the nearer neighbour.

    Args:
        query_gallery: ``(Q, G)`` distances, not squared, at least 0.
        query_query: ``(Q, Q)`` distances, symmetric.
        gallery_gallery: ``(G, G)`` distances, symmetric.
        k1: Neighbours, the image itself not counted, that may be reciprocal.
        k2: Neighbours, the image itself among them, that are averaged; 1 averages nothing.
        weight: Share of the plain distance, in [0, 1].

    Returns:
        ``(Q, G)`` distances, float32.

    Raises:
        InputError: Shapes do not agree, numbers out of range, or distances that are no numbers.
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
            rank_order(distances[start : start + _ROWS_AT_ONCE])[:, : max(k1 + 1, k2)]
            for start in range(0, len(distances), _ROWS_AT_ONCE)
        ]
    )
    encoding = _encode(distances, neighbours, k1)
    if k2 > 1:  # 1 keeps the image's own, which an equal image may precede in its neighbours
        nearest = _pattern(neighbours[:, :k2], np.float32)
        encoding = nearest @ encoding / min(k2, len(distances))
    jaccard = _jaccard(encoding, queries)
    return (1 - weight) * jaccard + np.float32(weight) * distances[:queries, queries:]


def _encode(distances: np.ndarray, neighbours: np.ndarray, k1: int):
    """Weights of each image's expanded reciprocal neighbours, a sparse ``(N, N)`` of row sum 1."""
    from scipy.sparse import csr_array  # half a second that plain scoring need not wait

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


def _reciprocal(neighbours: np.ndarray):
    """Pairs that are among each other's neighbours, a sparse ``(N, N)`` of ones."""
    pattern = _pattern(neighbours, np.int32)
    return pattern.multiply(pattern.T).tocsr()


def _pattern(neighbours: np.ndarray, dtype: type):
    """A one for each image's each neighbour, sparse ``(N, N)``."""
    from scipy.sparse import csr_array

    images, each = neighbours.shape
    starts = np.arange(0, images * each + 1, each)
    ones = np.ones(neighbours.size, dtype)
    return csr_array((ones, neighbours.ravel(), starts), (images, images))


def _jaccard(encoding, queries: int) -> np.ndarray:
    """``1 - sum(min) / sum(max)`` of each query's and each gallery image's weights, ``(Q, G)``."""
    gallery = encoding[queries:].T.tocsr()  # (N, G): who in the gallery has a weight on whom
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
            f"expected distances (Q, G), (Q, Q) and (G, G), none empty; got {query_gallery.shape}, "
            f"{query_query.shape} and {gallery_gallery.shape}"
        )
    if k1 < 1 or k2 < 1 or not 0 <= weight <= 1:
        raise InputError(
            f"expected k1 and k2 of at least 1 and a weight in [0, 1]; got {k1}, {k2} and {weight}"
        )
    for distances in (query_gallery, query_query, gallery_gallery):
        if not np.isfinite(distances).all() or distances.min() < 0:
            raise InputError(
                "expected distances of at least 0 for re-ranking; got NaN, infinity or negative "
                "ones; check the features"
            )

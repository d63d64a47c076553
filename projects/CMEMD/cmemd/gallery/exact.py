"""Exact search: every query against every vector, by faiss's inner products.

Shape legend: ``Q`` = queries, ``N`` = vectors of a batch, ``D`` = size, ``K`` = matches a query.
"""

from collections.abc import Iterable

import faiss
import numpy as np

__all__ = ["search_exact"]


def search_exact(
    batches: Iterable[tuple[np.ndarray, np.ndarray]], queries: np.ndarray, top: int
) -> tuple[np.ndarray, np.ndarray]:
    """The vectors with the largest inner products, a batch in memory at a time.

    It is what ``faiss.IndexFlatIP`` computes, without its copy of the vectors. The order of equal
    scores is not defined.

    Args:
        batches: row numbers ``(N,)`` and float32 vectors ``(N, D)``.
        queries: ``(Q, D)`` float32.
        top: how many a query.

    Returns:
        Scores, descending, and row numbers, both ``(Q, K)``; ``K`` is ``top``, or the number of
        all vectors where there are fewer.
    """
    best = faiss.ResultHeap(len(queries), top, keep_max=True)
    rows = 0
    for numbers, vectors in batches:
        count = min(top, len(vectors))
        if not count:
            continue
        scores, places = faiss.knn(queries, vectors, count, metric=faiss.METRIC_INNER_PRODUCT)
        best.add_result(scores, numbers.astype(np.int64)[places])
        rows += len(vectors)
    best.finalize()
    return best.D[:, :rows], best.I[:, :rows]

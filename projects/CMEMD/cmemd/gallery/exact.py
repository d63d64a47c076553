"""Exact search: every query against every vector, by faiss, on a GPU if it has one.

Shape legend: ``Q`` = queries, ``N`` = vectors of a batch, ``D`` = size, ``K`` = matches a query.
"""

from collections.abc import Callable, Iterable
from functools import partial

import faiss
import numpy as np

__all__ = ["search_exact"]

_MOST_ON_GPU = 2048  # matches a query; faiss's limit there


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
    nearest = _nearest(top)
    best = faiss.ResultHeap(len(queries), top, keep_max=True)
    rows = 0
    for numbers, vectors in batches:
        count = min(top, len(vectors))
        if not count:
            continue
        scores, places = nearest(queries, vectors, count, metric=faiss.METRIC_INNER_PRODUCT)
        best.add_result(scores, numbers.astype(np.int64)[places])
        rows += len(vectors)
    best.finalize()
    return best.D[:, :rows], best.I[:, :rows]


def _nearest(top: int) -> Callable[..., tuple[np.ndarray, np.ndarray]]:
    """How faiss searches vectors without an index: with faiss-gpu, on the GPU."""
    if top <= _MOST_ON_GPU and hasattr(faiss, "StandardGpuResources") and faiss.get_num_gpus():
        return partial(faiss.knn_gpu, faiss.StandardGpuResources())
    return faiss.knn

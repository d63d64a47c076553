"""Search exactly: compare every query with every vector in faiss, on a GPU if faiss has one.

Shape legend: ``Q`` = queries, ``N`` = vectors of a batch, ``D`` = size, ``K`` = matches per query.
"""

from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

import numpy as np

__all__ = ["search_exact"]

_MOST_ON_GPU = 2048  # matches per query; faiss's limit on a GPU


def search_exact(
    batches: Iterable[tuple[np.ndarray, np.ndarray]], queries: np.ndarray, top: int
) -> tuple[np.ndarray, np.ndarray]:
    """Return the vectors with the largest inner products; hold one batch in memory at a time.

    The result is that of ``faiss.IndexFlatIP``, without its copy of the vectors. The order of equal
    scores is undefined.

    Args:
        batches: row numbers ``(N,)`` and float32 vectors ``(N, D)``.
        queries: ``(Q, D)`` float32.
        top: matches per query.

    Returns:
        Scores, descending, and row numbers, both ``(Q, K)``; ``K`` is ``top``, or the number of
        all vectors if there are fewer.
    """
    import faiss  # the package's other modules do without

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
    """Return faiss's search of vectors without an index; with faiss-gpu it runs on the GPU."""
    import faiss

    if top <= _MOST_ON_GPU and hasattr(faiss, "StandardGpuResources") and faiss.get_num_gpus():
        on_gpu: Any = faiss.knn_gpu  # declared for PyTorch's tensors
        return partial(on_gpu, faiss.StandardGpuResources())
    return faiss.knn

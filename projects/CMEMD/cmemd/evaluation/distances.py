"""Distances between features.

Shape legend: ``D`` = feature dimension, ``Q`` = queries, ``V`` = gallery images.
"""

import numpy as np

from cmemd.errors import InputError

METRICS = ("euclidean", "cosine")


def check_metric(metric: str) -> None:
    """Refuse an unknown distance.

    Raises:
        InputError: Not in ``METRICS``.
    """
    if metric not in METRICS:
        raise InputError(f"expected a metric out of {', '.join(METRICS)}; got {metric!r}")


def distance_matrix(queries: np.ndarray, gallery: np.ndarray, metric: str) -> np.ndarray:
    """Distances between features, in float64 whatever the features' type.

    Args:
        queries: ``(Q, D)`` features.
        gallery: ``(V, D)`` features.
        metric: ``euclidean``: the squared distance, which ranks as the distance does;
            ``cosine``: one minus the cosine, 1 for a zero feature.

    Returns:
        ``(Q, V)``, at least 0 up to rounding; infinity where a feature is not finite.

    Raises:
        InputError: Unknown metric.
    """
    check_metric(metric)
    bad_queries, queries = _finite(queries)
    bad_gallery, gallery = _finite(gallery)
    query_squares = np.einsum("qd,qd->q", queries, queries)
    gallery_squares = np.einsum("vd,vd->v", gallery, gallery)
    if metric == "cosine":
        queries = queries / np.sqrt(np.where(query_squares == 0, 1, query_squares))[:, None]
        gallery = gallery / np.sqrt(np.where(gallery_squares == 0, 1, gallery_squares))[:, None]
    distances = queries @ gallery.T
    if metric == "cosine":
        np.subtract(1, distances, out=distances)
    else:
        distances *= -2
        distances += query_squares[:, None]
        distances += gallery_squares
    distances[bad_queries] = np.inf
    distances[:, bad_gallery] = np.inf
    return distances


def plain_distances(queries: np.ndarray, gallery: np.ndarray, metric: str) -> np.ndarray:
    """As ``distance_matrix``, for whom sizes matter: Euclidean ones not squared; at least 0."""
    distances = np.maximum(distance_matrix(queries, gallery, metric), 0)
    return np.sqrt(distances) if metric == "euclidean" else distances


def _finite(features: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Which rows are not finite, and the features in float64 with zeros there."""
    bad = ~np.isfinite(features).all(axis=1)
    features = features.astype(np.float64)
    features[bad] = 0
    return bad, features

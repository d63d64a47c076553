"""Distances between features.

Shape legend: ``D`` = feature dimension, ``Q`` = queries, ``V`` = gallery images.
"""

import numpy as np

from cmemd.errors import InputError

__all__ = ["DISTANCES", "check_distance", "distance_matrix", "plain_distances"]

DISTANCES = ("euclidean", "cosine")


def check_distance(distance: str) -> None:
    """Raise unless the distance is one of ``DISTANCES``.

    Raises:
        InputError: unknown distance.
    """
    if distance not in DISTANCES:
        raise InputError(
            f"a metric out of {', '.join(DISTANCES)}",
            repr(distance),
            "choose one of these (--metric, or TEST.METRIC of a configuration)",
        )


def distance_matrix(queries: np.ndarray, gallery: np.ndarray, distance: str) -> np.ndarray:
    """Return the distance of each query to each gallery image, in float64.

    Args:
        queries: ``(Q, D)`` features of any floating-point type.
        gallery: ``(V, D)`` features.
        distance: ``euclidean``: the squared distance, which ranks as the distance does;
            ``cosine``: one minus the cosine, 1 for a zero feature.

    Returns:
        ``(Q, V)``, at least 0 up to rounding; infinity where a feature is not finite.

    Raises:
        InputError: unknown distance.
    """
    check_distance(distance)
    bad_queries, queries = _finite(queries)
    bad_gallery, gallery = _finite(gallery)
    query_squares = np.einsum("qd,qd->q", queries, queries)
    gallery_squares = np.einsum("vd,vd->v", gallery, gallery)
    if distance == "cosine":
        queries = queries / np.sqrt(np.where(query_squares == 0, 1, query_squares))[:, None]
        gallery = gallery / np.sqrt(np.where(gallery_squares == 0, 1, gallery_squares))[:, None]
    distances = queries @ gallery.T
    if distance == "cosine":
        np.subtract(1, distances, out=distances)
    else:
        distances *= -2
        distances += query_squares[:, None]
        distances += gallery_squares
    distances[bad_queries] = np.inf
    distances[:, bad_gallery] = np.inf
    return distances


def plain_distances(queries: np.ndarray, gallery: np.ndarray, distance: str) -> np.ndarray:
    """Return distances whose sizes matter: at least 0, Euclidean ones not squared.

    Arguments and errors are those of ``distance_matrix``.
    """
    distances = np.maximum(distance_matrix(queries, gallery, distance), 0)
    return np.sqrt(distances) if distance == "euclidean" else distances


def _finite(features: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return which rows are not finite, and the features in float64 with zeros there."""
    bad = ~np.isfinite(features).all(axis=1)
    features = features.astype(np.float64)
    features[bad] = 0
    return bad, features

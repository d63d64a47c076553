"""Mixed-modality galleries: what a query confuses first, and distances centred per modality pair.

Features of one modality often lie closer together than features of one person. A query then finds
images of its own modality first, of any person.

Shape legend: ``N`` = images, ``Q`` = queries, ``G`` = gallery images.
"""

from typing import NamedTuple

import numpy as np

from cmemd.data.modality import Modality
from cmemd.errors import InputError
from cmemd.evaluation.distances import distance_matrix
from cmemd.evaluation.rank_counting import rank_order
from cmemd.evaluation.samples import Samples

__all__ = ["Centring", "centre", "fit_centring", "own_modality_first"]

_ROWS_AT_ONCE = 512


class Centring(NamedTuple):
    """Mean distances of different people, for each pair of modalities, query first."""

    visible_visible: float
    visible_thermal: float
    thermal_visible: float
    thermal_thermal: float

    @property
    def table(self) -> np.ndarray:
        """``(2, 2)``, by modality of the query and of the gallery image."""
        return np.array(self).reshape(2, 2)


def own_modality_first(
    distances: np.ndarray, right: np.ndarray, query_modalities: np.ndarray, gallery: np.ndarray
) -> np.ndarray:
    """Return whether each query's first wrong match is of its own modality, as 1 or 0.

    Args:
        distances: ``(Q, G)``, NaN for ignored images.
        right: ``(Q, G)`` booleans, whether the image is of the query's identity.
        query_modalities: ``(Q,)``.
        gallery: ``(G,)`` modalities.

    Returns:
        ``(Q,)``, NaN for a query without a wrong image.

    >>> own_modality_first(np.array([[1.0, 2, 3]]), np.array([[True, False, False]]),
    ...                    np.array([0]), np.array([1, 0, 1]))
    array([1.])
    """
    wrong = np.where(right, np.nan, distances)
    first = rank_order(wrong)[:, 0]
    own = (query_modalities == gallery[first]).astype(float)
    return np.where(np.isnan(wrong).all(axis=1), np.nan, own)


def fit_centring(samples: Samples, distance: str) -> Centring:
    """Return the mean distance of images of different people, per pair of modalities.

    Args:
        samples: ``N`` images of validation identities.
        distance: ``euclidean``, which is squared here, or ``cosine``.

    Raises:
        InputError: a modality with fewer than two identities, or features that are not finite.
    """
    rows = {modality: np.flatnonzero(samples.modalities == modality) for modality in Modality}
    people = {modality: len(np.unique(samples.pids[of])) for modality, of in rows.items()}
    if min(people.values()) < 2 or not samples.finite.all():
        raise InputError(
            "finite features of at least two validation identities in each modality",
            ", ".join(f"{count} {m.name.lower()}" for m, count in people.items()),
            "give more validation identities",
        )
    means = []
    for queries in rows.values():
        for gallery in rows.values():
            total, number = 0.0, 0
            for start in range(0, len(queries), _ROWS_AT_ONCE):
                part = queries[start : start + _ROWS_AT_ONCE]
                distances = distance_matrix(
                    samples.features[part], samples.features[gallery], distance
                )
                other = samples.pids[part][:, None] != samples.pids[gallery]
                total += float(distances[other].sum())
                number += int(other.sum())
            means.append(total / number)
    return Centring(*means)


def centre(
    distances: np.ndarray, query_modalities: np.ndarray, gallery: np.ndarray, centring: Centring
) -> np.ndarray:
    """Return distances less the mean of their pair of modalities.

    Args:
        distances: ``(Q, G)``, in the unit that ``fit_centring`` had.
        query_modalities: ``(Q,)``.
        gallery: ``(G,)`` modalities.
        centring: of validation identities.
    """
    return distances - centring.table[query_modalities[:, None], gallery]

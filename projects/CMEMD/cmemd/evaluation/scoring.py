"""Scores of samples under protocols, trial by trial.

Shape legend: ``N`` = samples, ``D`` = feature dimension, ``Q`` = queries, ``G`` = gallery images,
``T`` = trials.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from cmemd.data.splits import RandPermCam
from cmemd.errors import InputError
from cmemd.evaluation.draws import gallery_rows, ignored, query_rows, sort_rows
from cmemd.evaluation.protocols import AUTO, Protocol, choose_draw
from cmemd.evaluation.ranking import QueryScores, score_queries
from cmemd.evaluation.samples import Samples

METRICS = ("euclidean", "cosine")
CMC_RANKS = (1, 5, 10, 20)
FIGURES = (*(f"rank{rank}" for rank in CMC_RANKS), "mAP", "mINP")


@dataclass(frozen=True, eq=False)
class Score:
    """What one protocol says about one set of features.

    Attributes:
        protocol: The protocol.
        draw: The gallery draw used, ``official`` or ``python``.
        metric: The distance used.
        trials: Each of ``FIGURES`` -> ``(T,)`` values in [0, 1].
        queries: Images that asked.
        queries_without_positive: Those among them that nobody in the gallery could answer; not
            counted in any figure.
        gallery: Gallery images of one trial.
    """

    protocol: Protocol
    draw: str
    metric: str
    trials: Mapping[str, np.ndarray]
    queries: int
    queries_without_positive: int
    gallery: int

    def mean(self) -> dict[str, float]:
        """Mean of each figure over the trials, in [0, 1]."""
        return {name: float(np.mean(values)) for name, values in self.trials.items()}

    def std(self) -> dict[str, float]:
        """Population standard deviation (divisor ``T``) of each figure over the trials."""
        return {name: float(np.std(values)) for name, values in self.trials.items()}


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
        gallery: ``(G, D)`` features.
        metric: ``euclidean``: the squared distance, which ranks as the distance does;
            ``cosine``: one minus the cosine.

    Returns:
        ``(Q, G)``, at least 0 up to rounding.

    Raises:
        InputError: Unknown metric, or a zero feature, which has no direction, under ``cosine``.
    """
    check_metric(metric)
    queries, gallery = queries.astype(np.float64), gallery.astype(np.float64)
    query_squares = np.sum(queries**2, axis=1)
    gallery_squares = np.sum(gallery**2, axis=1)
    if metric == "euclidean":
        return query_squares[:, None] + gallery_squares - 2 * queries @ gallery.T
    zeros = np.sum(query_squares == 0) + np.sum(gallery_squares == 0)
    if zeros:
        raise InputError(
            f"expected features other than zero for the cosine metric; got {zeros} zero features; "
            "check the network, or use the euclidean metric"
        )
    directions = queries / np.sqrt(query_squares)[:, None]
    return 1 - directions @ (gallery / np.sqrt(gallery_squares)[:, None]).T


def score(
    samples: Samples,
    protocol: Protocol,
    draw: str = AUTO,
    perm: RandPermCam | None = None,
    metric: str = "euclidean",
) -> Score:
    """Score under one protocol; see ``score_all``."""
    return score_all(samples, [protocol], draw, perm, metric)[protocol.name]


def score_all(
    samples: Samples,
    protocols: Sequence[Protocol],
    draw: str = AUTO,
    perm: RandPermCam | None = None,
    metric: str = "euclidean",
) -> dict[str, Score]:
    """Score under several protocols, computing each distance once.

    Args:
        samples: ``N`` images.
        protocols: At least one.
        draw: ``official``, ``python``, or ``auto``: official where ``perm`` is given.
        perm: The official permutations.
        metric: ``euclidean`` or ``cosine``.

    Returns:
        Protocol name -> score, in the order of ``protocols``. The figures do not depend on the
        order of the samples.

    Raises:
        InputError: A draw or metric that is not to be had; no query, no gallery, or no query
            with a positive; images that do not fit the protocol.
    """
    queries = {protocol.name: query_rows(samples, protocol) for protocol in protocols}
    galleries = {
        protocol.name: gallery_rows(samples, protocol, draw, perm) for protocol in protocols
    }
    query_pool = _union(samples, queries.values())
    gallery_pool = _union(samples, (rows for trials in galleries.values() for rows in trials))
    distances = distance_matrix(
        samples.features[query_pool], samples.features[gallery_pool], metric
    )
    place = np.empty(len(samples.pids), dtype=np.int64)  # (N,): row or column of the distances
    place[query_pool] = np.arange(len(query_pool))
    place[gallery_pool] = np.arange(len(gallery_pool))
    scores = {}
    for protocol in protocols:
        asking = queries[protocol.name]
        trials = []
        for searched in galleries[protocol.name]:
            of_trial = distances[np.ix_(place[asking], place[searched])]
            trials.append(score_trial(samples, protocol, asking, searched, of_trial))
        scores[protocol.name] = Score(
            protocol=protocol,
            draw=choose_draw(protocol, draw, perm),
            metric=metric,
            trials=_figures(trials),
            queries=len(asking),
            # The same in each trial: every (identity, camera) with images gives at least one.
            queries_without_positive=int(np.sum(~trials[0].counted)),
            gallery=len(galleries[protocol.name][0]),
        )
    return scores


def score_trial(
    samples: Samples,
    protocol: Protocol,
    asking: np.ndarray,
    searched: np.ndarray,
    distances: np.ndarray,
) -> QueryScores:
    """Score every query of one trial by the protocol's rules.

    Args:
        samples: ``N`` images.
        protocol: Says which pairs are ignored.
        asking: ``(Q,)`` rows of the queries.
        searched: ``(G,)`` rows of the gallery.
        distances: ``(Q, G)``.

    Returns:
        The figures of each query.

    Raises:
        InputError: No query has a positive.
    """
    scores = score_queries(
        distances,
        samples.pids[asking],
        samples.pids[searched],
        ignored(protocol, samples.camids[asking], samples.camids[searched]),
    )
    if not scores.counted.any():
        raise InputError(
            f"expected a query whose identity is in the gallery of {protocol.name}; got none among "
            f"{len(asking)}; do queries and gallery come from one split?"
        )
    return scores


def _union(samples: Samples, rows: Iterable[np.ndarray]) -> np.ndarray:
    return sort_rows(samples, np.unique(np.concatenate(list(rows))))


def _figures(trials: Sequence[QueryScores]) -> dict[str, np.ndarray]:
    columns = [[trial.cmc(rank) for trial in trials] for rank in CMC_RANKS]
    columns.append([np.mean(trial.ap[trial.counted]) for trial in trials])
    columns.append([np.mean(trial.inp[trial.counted]) for trial in trials])
    return {name: np.array(column) for name, column in zip(FIGURES, columns, strict=True)}

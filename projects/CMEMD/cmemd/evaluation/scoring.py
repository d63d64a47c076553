"""Scores of samples under protocols, trial by trial.

Designed cases, each with its count in the score:

- A query without a positive in its gallery is left out of every mean, as in the official code.
- A feature with NaN or infinity cannot be compared. As a query it gets the worst metrics, 0 and no
  rank; in the gallery it ranks behind all others. The metrics get worse, never better by chance.
- A zero feature has no direction: its cosine distance to everything is 1, as if orthogonal.
- An (identity, camera) without an image adds nothing to a gallery; see ``pairs_without_image``.

No gallery image at all, and no query with a positive, are errors: there is nothing to measure.

Shape legend: ``N`` = samples, ``D`` = feature dimension, ``Q`` = queries, ``V`` = gallery images
of all trials, ``T`` = trials.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from cmemd.data.layouts.permutations import RandPermCam
from cmemd.errors import InputError
from cmemd.evaluation.distances import check_distance, distance_matrix, plain_distances
from cmemd.evaluation.protocols import AUTO, Protocol, choose_sampling
from cmemd.evaluation.ranking import QueryScores, score_queries
from cmemd.evaluation.rerank import k_reciprocal_distances
from cmemd.evaluation.samples import Samples
from cmemd.evaluation.sampling import (
    Trial,
    ignored,
    no_positive,
    pairs_without_image,
    sample_trials,
    sort_rows,
)

__all__ = ["CMC_RANKS", "METRICS", "Reranking", "Score", "score", "score_all", "score_trial"]

CMC_RANKS = (1, 5, 10, 20)
METRICS = (*(f"rank{rank}" for rank in CMC_RANKS), "mAP", "mINP")

# Distances in memory at a time, 256 MB: all of SYSU-MM01's; larger sets go in parts.
_DISTANCES_AT_ONCE = 2**25


class Reranking(NamedTuple):
    """Settings of k-reciprocal re-ranking (``cmemd.evaluation.rerank``); fast-reid's defaults."""

    k1: int = 20
    k2: int = 6
    weight: float = 0.3


@dataclass(frozen=True, eq=False)
class Score:
    """Metrics of one set of features under one protocol.

    Attributes:
        protocol: the protocol.
        sampling: the gallery sampling: ``official``, ``python`` or ``everything``.
        distance: ``euclidean`` or ``cosine``.
        reranking: settings of re-ranking, or None.
        trials: each of ``METRICS`` -> ``(T,)`` values in [0, 1].
        per_query: each of ``METRICS`` -> ``(Q,)`` means over the trials that counted the query;
            NaN where none did.
        query_rows: ``(Q,)`` rows of the samples that were a query in some trial.
        counts: by name: ``queries`` and ``gallery`` (images of one trial),
            ``queries_without_positive`` (the most of any trial), ``non_finite_features`` and
            ``zero_features`` (images among those scored), and ``pairs_without_image``.
    """

    protocol: Protocol
    sampling: str
    distance: str
    reranking: Reranking | None
    trials: Mapping[str, np.ndarray]
    per_query: Mapping[str, np.ndarray]
    query_rows: np.ndarray
    counts: Mapping[str, int]

    def mean(self) -> dict[str, float]:
        """Return the mean of each metric over the trials, in [0, 1]."""
        return {name: float(np.mean(values)) for name, values in self.trials.items()}

    def std(self) -> dict[str, float]:
        """Return each metric's population standard deviation (divisor ``T``) over the trials."""
        return {name: float(np.std(values)) for name, values in self.trials.items()}


def score(
    samples: Samples,
    protocol: Protocol,
    sampling: str = AUTO,
    perm: RandPermCam | None = None,
    distance: str = "euclidean",
    reranking: Reranking | None = None,
) -> Score:
    """Score under one protocol; see ``score_all``."""
    return score_all(samples, [protocol], sampling, perm, distance, reranking)[protocol.name]


def score_all(
    samples: Samples,
    protocols: Sequence[Protocol],
    sampling: str = AUTO,
    perm: RandPermCam | None = None,
    distance: str = "euclidean",
    reranking: Reranking | None = None,
) -> dict[str, Score]:
    """Score under several protocols, computing and sorting each distance once.

    Args:
        samples: ``N`` images.
        protocols: at least one.
        sampling: ``official``, ``python``, ``everything``, or ``auto``: official where ``perm`` is
            given and the protocol has it.
        perm: the official permutations.
        distance: ``euclidean`` or ``cosine``.
        reranking: re-rank each trial by the neighbours that its queries and gallery share. This
            compares all queries of a trial with each other, which a search cannot do.

    Returns:
        Protocol name -> score, in the order of ``protocols``. The metrics do not depend on the
        order of the samples.

    Raises:
        InputError: an unknown sampling or distance; no query, no gallery, or no query with a
            positive; images that do not fit the protocol.
    """
    check_distance(distance)
    sampled = {
        protocol.name: sample_trials(samples, protocol, sampling, perm) for protocol in protocols
    }
    together: dict[tuple, list[Protocol]] = {}
    for protocol in protocols:  # equal sides and rules: equal distances and order
        rules = protocol.query.modality, protocol.ignored_pairs, protocol.ignore_same_camera
        together.setdefault(rules, []).append(protocol)
    scores = {}
    for group in together.values():
        trials = [trial for protocol in group for trial in sampled[protocol.name]]
        queries = _union(samples, (trial.queries for trial in trials))
        if reranking is None:
            metrics = _rank(samples, group[0], trials, queries, distance)
        else:
            metrics = _rerank(samples, group[0], trials, queries, distance, reranking)
        start = 0
        for protocol in group:
            part = slice(start, start := start + protocol.trials)
            scores[protocol.name] = _score(
                samples,
                protocol,
                choose_sampling(protocol, sampling, perm),
                distance,
                reranking,
                trials[part],
                queries,
                QueryScores(*(of_all[part] for of_all in metrics)),
            )
    return {protocol.name: scores[protocol.name] for protocol in protocols}


def score_trial(
    samples: Samples, protocol: Protocol, trial: Trial, distances: np.ndarray
) -> QueryScores:
    """Score every query of one trial by the protocol's rules.

    Args:
        samples: ``N`` images.
        protocol: gives the pairs to ignore.
        trial: queries and gallery.
        distances: ``(Q, G)``, infinity for features that are not finite.

    Returns:
        The metrics of each query, ``(1, Q)`` each.
    """
    scores = score_queries(
        distances,
        samples.pids[trial.queries],
        samples.pids[trial.gallery],
        ignored(samples, protocol, trial.queries, trial.gallery),
    )
    _worst(scores, ~samples.finite[trial.queries])
    return scores


def _rank(
    samples: Samples,
    protocol: Protocol,
    trials: Sequence[Trial],
    queries: np.ndarray,
    distance: str,
) -> list[np.ndarray]:
    """Return the four metrics of ``QueryScores`` in all trials."""
    gallery = _union(samples, (trial.gallery for trial in trials))
    column = np.full(len(samples.pids), -1)
    column[gallery] = np.arange(len(gallery))
    members = np.zeros((len(trials), len(gallery)), dtype=bool)  # (T, V)
    for row, trial in enumerate(trials):
        members[row, column[trial.gallery]] = True
    at_once = max(1, _DISTANCES_AT_ONCE // len(gallery))
    parts = []
    for start in range(0, len(queries), at_once):
        rows = queries[start : start + at_once]
        scores = score_queries(
            distance_matrix(samples.features[rows], samples.features[gallery], distance),
            samples.pids[rows],
            samples.pids[gallery],
            ignored(samples, protocol, rows, gallery),
            members,
        )
        _worst(scores, ~samples.finite[rows])
        parts.append(scores.metrics)
    metrics = [np.concatenate(columns, axis=1) for columns in zip(*parts, strict=True)]
    for row, trial in enumerate(trials):
        absent = ~np.isin(queries, trial.queries)
        for metric in metrics:
            metric[row, absent] = np.nan
    return metrics


def _rerank(
    samples: Samples,
    protocol: Protocol,
    trials: Sequence[Trial],
    queries: np.ndarray,
    distance: str,
    reranking: Reranking,
) -> list[np.ndarray]:
    """Do as ``_rank``, with each trial re-ranked by itself."""
    if not samples.finite.all():
        raise InputError(
            "finite features for re-ranking, which compares every image with every other",
            f"NaN or infinity for {np.sum(~samples.finite)} of {len(samples.pids)} images",
            "score without re-ranking",
        )
    column = np.empty(len(samples.pids), dtype=np.int64)
    column[queries] = np.arange(len(queries))
    metrics = [np.full((len(trials), len(queries)), np.nan) for _ in range(4)]
    for row, trial in enumerate(trials):
        sides = samples.features[trial.queries], samples.features[trial.gallery]
        distances = [
            plain_distances(first, second, distance)
            for first, second in (sides, sides[:1] * 2, sides[1:] * 2)
        ]
        scores = score_trial(
            samples, protocol, trial, k_reciprocal_distances(*distances, **reranking._asdict())
        )
        for metric, of_trial in zip(metrics, scores.metrics, strict=True):
            metric[row, column[trial.queries]] = of_trial[0]
    return metrics


def _worst(scores: QueryScores, bad: np.ndarray) -> None:
    """Give queries that cannot be compared the worst metrics, in place."""
    for metric, worst in zip(scores.metrics, (np.inf, np.inf, 0.0, 0.0), strict=True):
        metric[:, bad] = np.where(np.isnan(metric[:, bad]), np.nan, worst)


def _score(
    samples: Samples,
    protocol: Protocol,
    sampling: str,
    distance: str,
    reranking: Reranking | None,
    trials: Sequence[Trial],
    queries: np.ndarray,
    scores: QueryScores,
) -> Score:
    counted = scores.counted
    if not counted.any(axis=1).all():
        raise no_positive(protocol, len(trials[0].queries))
    metrics = [scores.hits(limit, protocol.cmc) for limit in CMC_RANKS]
    metrics = dict(zip(METRICS, [*metrics, scores.ap, scores.inp], strict=True))
    own = np.isin(queries, np.concatenate([trial.queries for trial in trials]))
    scored = _union(samples, (rows for trial in trials for rows in (trial.queries, trial.gallery)))
    return Score(
        protocol=protocol,
        sampling=sampling,
        distance=distance,
        reranking=reranking,
        trials={name: np.nanmean(values, axis=1) for name, values in metrics.items()},
        per_query={name: _mean_of_counted(values[:, own]) for name, values in metrics.items()},
        query_rows=queries[own],
        counts={
            "queries": len(trials[0].queries),
            "queries_without_positive": int(
                max(
                    len(trial.queries) - np.sum(of_trial)
                    for trial, of_trial in zip(trials, counted, strict=True)
                )
            ),
            "gallery": len(trials[0].gallery),
            "non_finite_features": int(np.sum(~samples.finite[scored])),
            "zero_features": int(np.sum(~samples.features[scored].any(axis=1))),
            "pairs_without_image": pairs_without_image(samples, protocol),
        },
    )


def _mean_of_counted(values: np.ndarray) -> np.ndarray:
    """Return the mean over trials, ``(T, Q) -> (Q,)``; NaN where no trial counted the query."""
    counted = ~np.isnan(values)
    total = np.sum(values, axis=0, where=counted)
    number = counted.sum(axis=0)
    return np.divide(total, number, out=np.full(total.shape, np.nan), where=number > 0)


def _union(samples: Samples, rows: Iterable[np.ndarray]) -> np.ndarray:
    return sort_rows(samples, np.unique(np.concatenate(list(rows))))

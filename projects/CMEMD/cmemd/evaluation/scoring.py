"""Scores of samples under protocols, trial by trial.

Designed cases, each with its count in the score:

- A query without a positive in its gallery is left out of every mean, as in the official code.
- A feature with NaN or infinity cannot be compared. As a query it gets the worst figures, 0 and no
  rank; in the gallery it ranks behind all others. The figures get worse, never better by luck.
- A zero feature has no direction: its cosine distance to everything is 1, as if orthogonal.
- An (identity, camera) without an image gives a draw nothing; see ``pairs_without_image``. No
  gallery image at all, and no query with a positive, are errors: there is no figure to give.

Shape legend: ``N`` = samples, ``D`` = feature dimension, ``Q`` = queries, ``V`` = gallery images
of all trials, ``T`` = trials.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from cmemd.data.layouts.permutations import RandPermCam
from cmemd.errors import InputError
from cmemd.evaluation.distances import check_metric, distance_matrix, plain_distances
from cmemd.evaluation.draws import Trial, draw_trials, ignored, pairs_without_image, sort_rows
from cmemd.evaluation.protocols import AUTO, Protocol, choose_draw
from cmemd.evaluation.ranking import QueryScores, score_queries
from cmemd.evaluation.rerank import k_reciprocal_distances
from cmemd.evaluation.samples import Samples

CMC_RANKS = (1, 5, 10, 20)
FIGURES = (*(f"rank{rank}" for rank in CMC_RANKS), "mAP", "mINP")

# Distances held at once, 256 MB: all of SYSU-MM01's, while larger sets go in parts.
_DISTANCES_AT_ONCE = 2**25


class Reranking(NamedTuple):
    """Settings of k-reciprocal re-ranking (``cmemd.evaluation.rerank``); fast-reid's defaults."""

    k1: int = 20
    k2: int = 6
    weight: float = 0.3


@dataclass(frozen=True, eq=False)
class Score:
    """What one protocol says about one set of features.

    Attributes:
        protocol: The protocol.
        draw: The draw used: ``official``, ``python`` or ``everything``.
        metric: The distance used.
        reranking: How it was re-ranked, or None.
        trials: Each of ``FIGURES`` -> ``(T,)`` values in [0, 1].
        per_query: Each of ``FIGURES`` -> ``(Q,)`` means over the trials that counted the query;
            NaN where none did.
        query_rows: ``(Q,)`` rows of the samples that asked in some trial.
        counts: What was scored and what stood out, by name: ``queries`` and ``gallery`` (images
            of one trial), ``queries_without_positive`` (all trials together where they differ:
            the most of any), ``non_finite_features``, ``zero_features`` (images among those
            scored) and ``pairs_without_image``.
    """

    protocol: Protocol
    draw: str
    metric: str
    reranking: Reranking | None
    trials: Mapping[str, np.ndarray]
    per_query: Mapping[str, np.ndarray]
    query_rows: np.ndarray
    counts: Mapping[str, int]

    def mean(self) -> dict[str, float]:
        """Mean of each figure over the trials, in [0, 1]."""
        return {name: float(np.mean(values)) for name, values in self.trials.items()}

    def std(self) -> dict[str, float]:
        """Population standard deviation (divisor ``T``) of each figure over the trials."""
        return {name: float(np.std(values)) for name, values in self.trials.items()}


def score(
    samples: Samples,
    protocol: Protocol,
    draw: str = AUTO,
    perm: RandPermCam | None = None,
    metric: str = "euclidean",
    reranking: Reranking | None = None,
) -> Score:
    """Score under one protocol; see ``score_all``."""
    return score_all(samples, [protocol], draw, perm, metric, reranking)[protocol.name]


def score_all(
    samples: Samples,
    protocols: Sequence[Protocol],
    draw: str = AUTO,
    perm: RandPermCam | None = None,
    metric: str = "euclidean",
    reranking: Reranking | None = None,
) -> dict[str, Score]:
    """Score under several protocols, computing and sorting each distance once.

    Args:
        samples: ``N`` images.
        protocols: At least one.
        draw: ``official``, ``python``, ``everything``, or ``auto``: official where ``perm`` is
            given and the protocol knows it.
        perm: The official permutations.
        metric: ``euclidean`` or ``cosine``.
        reranking: Re-rank each trial by the neighbours that its queries and gallery share; all
            queries of a trial are then known together, as a search engine's are not.

    Returns:
        Protocol name -> score, in the order of ``protocols``. The figures do not depend on the
        order of the samples.

    Raises:
        InputError: A draw or metric that is not to be had; no query, no gallery, or no query
            with a positive; images that do not fit the protocol.
    """
    check_metric(metric)
    drawn = {protocol.name: draw_trials(samples, protocol, draw, perm) for protocol in protocols}
    together: dict[tuple, list[Protocol]] = {}
    for protocol in protocols:  # those that share sides and rules share distances and order
        rules = protocol.query.modality, protocol.ignored_pairs, protocol.ignore_same_camera
        together.setdefault(rules, []).append(protocol)
    scores = {}
    for group in together.values():
        trials = [trial for protocol in group for trial in drawn[protocol.name]]
        asking = _union(samples, (trial.queries for trial in trials))
        if reranking is None:
            figures = _rank(samples, group[0], trials, asking, metric)
        else:
            figures = _rerank(samples, group[0], trials, asking, metric, reranking)
        start = 0
        for protocol in group:
            part = slice(start, start := start + protocol.trials)
            scores[protocol.name] = _score(
                samples,
                protocol,
                choose_draw(protocol, draw, perm),
                metric,
                reranking,
                trials[part],
                asking,
                QueryScores(*(of_all[part] for of_all in figures)),
            )
    return {protocol.name: scores[protocol.name] for protocol in protocols}


def score_trial(
    samples: Samples, protocol: Protocol, trial: Trial, distances: np.ndarray
) -> QueryScores:
    """Score every query of one trial by the protocol's rules.

    Args:
        samples: ``N`` images.
        protocol: Says which pairs are ignored.
        trial: Who asks and who is searched.
        distances: ``(Q, G)``, infinity for features that are not finite.

    Returns:
        The figures of each query, ``(1, Q)`` each.
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
    asking: np.ndarray,
    metric: str,
) -> list[np.ndarray]:
    """The four figures of ``QueryScores``, of ``asking`` in all trials."""
    searched = _union(samples, (trial.gallery for trial in trials))
    column = np.full(len(samples.pids), -1)
    column[searched] = np.arange(len(searched))
    members = np.zeros((len(trials), len(searched)), dtype=bool)  # (T, V)
    for row, trial in enumerate(trials):
        members[row, column[trial.gallery]] = True
    at_once = max(1, _DISTANCES_AT_ONCE // len(searched))
    parts = []
    for start in range(0, len(asking), at_once):
        rows = asking[start : start + at_once]
        scores = score_queries(
            distance_matrix(samples.features[rows], samples.features[searched], metric),
            samples.pids[rows],
            samples.pids[searched],
            ignored(samples, protocol, rows, searched),
            members,
        )
        _worst(scores, ~samples.finite[rows])
        parts.append(scores.figures)
    figures = [np.concatenate(columns, axis=1) for columns in zip(*parts, strict=True)]
    for row, trial in enumerate(trials):
        silent = ~np.isin(asking, trial.queries)  # did not ask in this trial
        for figure in figures:
            figure[row, silent] = np.nan
    return figures


def _rerank(
    samples: Samples,
    protocol: Protocol,
    trials: Sequence[Trial],
    asking: np.ndarray,
    metric: str,
    reranking: Reranking,
) -> list[np.ndarray]:
    """As ``_rank``, each trial re-ranked by itself."""
    if not samples.finite.all():
        raise InputError(
            "expected finite features for re-ranking, which compares every image with every other;"
            f" got NaN or infinity for {np.sum(~samples.finite)} of {len(samples.pids)} images; "
            "score without re-ranking"
        )
    column = np.empty(len(samples.pids), dtype=np.int64)
    column[asking] = np.arange(len(asking))
    figures = [np.full((len(trials), len(asking)), np.nan) for _ in range(4)]
    for row, trial in enumerate(trials):
        sides = samples.features[trial.queries], samples.features[trial.gallery]
        distances = [
            plain_distances(first, second, metric)
            for first, second in (sides, sides[:1] * 2, sides[1:] * 2)
        ]
        scores = score_trial(
            samples, protocol, trial, k_reciprocal_distances(*distances, **reranking._asdict())
        )
        for figure, of_trial in zip(figures, scores.figures, strict=True):
            figure[row, column[trial.queries]] = of_trial[0]
    return figures


def _worst(scores: QueryScores, bad: np.ndarray) -> None:
    """Give queries that cannot be compared the worst figures, in place."""
    for figure, worst in zip(scores.figures, (np.inf, np.inf, 0.0, 0.0), strict=True):
        figure[:, bad] = np.where(np.isnan(figure[:, bad]), np.nan, worst)


def _score(
    samples: Samples,
    protocol: Protocol,
    draw: str,
    metric: str,
    reranking: Reranking | None,
    trials: Sequence[Trial],
    asking: np.ndarray,
    scores: QueryScores,
) -> Score:
    counted = scores.counted
    if not counted.any(axis=1).all():
        raise InputError(
            f"expected a query whose identity is in the gallery of {protocol.name}; got none among "
            f"{len(trials[0].queries)}; do queries and gallery come from one split?"
        )
    figures = [scores.hits(limit, protocol.cmc) for limit in CMC_RANKS]
    figures = dict(zip(FIGURES, [*figures, scores.ap, scores.inp], strict=True))
    asked = np.isin(asking, np.concatenate([trial.queries for trial in trials]))
    scored = _union(samples, (rows for trial in trials for rows in (trial.queries, trial.gallery)))
    return Score(
        protocol=protocol,
        draw=draw,
        metric=metric,
        reranking=reranking,
        trials={name: np.nanmean(values, axis=1) for name, values in figures.items()},
        per_query={name: _mean_of_counted(values[:, asked]) for name, values in figures.items()},
        query_rows=asking[asked],
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
    """Mean over trials, ``(T, Q) -> (Q,)``; NaN where no trial counted the query."""
    counted = ~np.isnan(values)
    total = np.sum(values, axis=0, where=counted)
    number = counted.sum(axis=0)
    return np.divide(total, number, out=np.full(total.shape, np.nan), where=number > 0)


def _union(samples: Samples, rows: Iterable[np.ndarray]) -> np.ndarray:
    return sort_rows(samples, np.unique(np.concatenate(list(rows))))

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

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from cmemd.data.layouts.permutations import RandPermCam
from cmemd.errors import InputError
from cmemd.evaluation.distances import check_distance, distance_matrix, plain_distances
from cmemd.evaluation.mixed import Centring, centre, own_modality_first
from cmemd.evaluation.products import Gallery, Products
from cmemd.evaluation.protocols import AUTO, Protocol, choose_sampling
from cmemd.evaluation.rank_counting import Doubt, Galleries
from cmemd.evaluation.ranking import QueryScores, check_numbers, score_blocks, score_queries
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
from cmemd.evaluation.searches import OpenSetScores, search_scores
from cmemd.evaluation.threads import in_threads, parts_of

__all__ = [
    "CMC_RANKS",
    "METRICS",
    "BalancedReranking",
    "Remedy",
    "Reranking",
    "Score",
    "score",
    "score_all",
    "score_trial",
]

CMC_RANKS = (1, 5, 10, 20)
METRICS = (*(f"rank{rank}" for rank in CMC_RANKS), "mAP", "mINP")

_PRODUCTS_AT_ONCE = 2**25  # in memory, in all threads: 128 MiB
_QUERIES_OF_A_PRODUCT = 1024  # more are no faster
_QUERIES_OF_A_BLOCK = 64  # fewer at once take more time
_QUERIES_AT_ONCE = 256  # where whole rows of distances are needed


class Reranking(NamedTuple):
    """Settings of k-reciprocal re-ranking (``cmemd.evaluation.rerank``); fast-reid's defaults."""

    k1: int = 20
    k2: int = 6
    weight: float = 0.3


class BalancedReranking(NamedTuple):
    """The same settings, with neighbours from each modality in turn."""

    k1: int = 20
    k2: int = 6
    weight: float = 0.3


# What may change the distances of a trial before they are ranked.
Remedy = Reranking | BalancedReranking | Centring


@dataclass(frozen=True, eq=False)
class Score:
    """Metrics of one set of features under one protocol.

    Attributes:
        protocol: the protocol.
        sampling: the gallery sampling: ``official``, ``python`` or ``everything``.
        distance: ``euclidean`` or ``cosine``.
        reranking: settings of re-ranking or of another remedy, or None.
        trials: each of ``METRICS`` -> ``(T,)`` values in [0, 1].
        per_query: each of ``METRICS`` -> ``(Q,)`` means over the trials that counted the query;
            NaN where none did.
        query_rows: ``(Q,)`` rows of the samples that were a query in some trial.
        counts: by name: ``queries`` and ``gallery`` (images of one trial),
            ``queries_without_positive`` (the most of any trial), ``non_finite_features`` and
            ``zero_features`` (images among those scored), and ``pairs_without_image``.
        own_modality_first: of a mixed protocol, ``(T,)`` shares of the counted queries whose first
            wrong match is of their own modality; else None.
        open_set: searches of all trials, one after the other, where the protocol has open-set
            metrics and some query has no positive; else None.
        open_set_pids: their identities.
    """

    protocol: Protocol
    sampling: str
    distance: str
    reranking: Remedy | None
    trials: Mapping[str, np.ndarray]
    per_query: Mapping[str, np.ndarray]
    query_rows: np.ndarray
    counts: Mapping[str, int]
    own_modality_first: np.ndarray | None = None
    open_set: OpenSetScores | None = None
    open_set_pids: np.ndarray | None = None

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
    reranking: Remedy | None = None,
) -> Score:
    """Score under one protocol; see ``score_all``."""
    return score_all(samples, [protocol], sampling, perm, distance, reranking)[protocol.name]


def score_all(
    samples: Samples,
    protocols: Sequence[Protocol],
    sampling: str = AUTO,
    perm: RandPermCam | None = None,
    distance: str = "euclidean",
    reranking: Remedy | None = None,
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
            compares all queries of a trial with each other, which a search cannot do. Or another
            remedy for distances.

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
    together: dict[tuple[object, ...], list[Protocol]] = {}
    for protocol in protocols:  # equal sides and rules: equal distances and order
        together.setdefault(_group(protocol), []).append(protocol)
    finite: np.ndarray = samples.finite
    zero = np.asarray(~samples.features.any(axis=1))
    scores = {}
    for group in together.values():
        trials = [trial for protocol in group for trial in sampled[protocol.name]]
        queries = _union(samples, (trial.queries for trial in trials))
        if reranking is None:
            metrics = _rank(samples, group[0], trials, queries, distance)
            own = [_own_first(samples, group[0], trial, distance) for trial in trials]
        else:
            _check_finite(finite)
            metrics, own = _rerank(samples, group[0], trials, queries, distance, reranking)
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
                finite,
                zero,
                own[part],
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
    _worst(scores, ~np.isfinite(samples.features[trial.queries]).all(axis=1))
    return scores


def _group(protocol: Protocol) -> tuple[object, ...]:
    """Return what protocols share whose distances are computed once."""
    return (
        protocol.query.modality,
        protocol.mixture,
        protocol.ignored_pairs,
        protocol.ignore_same_camera,
        protocol.ignore_same_view,
        protocol.ignore_same_tracklet,
        protocol.within,
    )


def _blocks(
    samples: Samples, protocol: Protocol, trial: Trial, distance: str
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield rows of queries, and their distances to the gallery: NaN for ignored images."""
    for start in range(0, len(trial.queries), _QUERIES_AT_ONCE):
        rows = trial.queries[start : start + _QUERIES_AT_ONCE]
        distances = distance_matrix(
            samples.features[rows], samples.features[trial.gallery], distance
        )
        distances[ignored(samples, protocol, rows, trial.gallery)] = np.nan
        yield rows, distances


def _own_first(
    samples: Samples, protocol: Protocol, trial: Trial, distance: str
) -> np.ndarray | None:
    """Return ``own_modality_first`` of a mixed protocol's queries, ``(Q,)``."""
    if protocol.mixture is None:
        return None
    return np.concatenate(
        [
            _own_first_of(samples, rows, trial.gallery, distances)
            for rows, distances in _blocks(samples, protocol, trial, distance)
        ]
    )


def _own_first_of(
    samples: Samples, queries: np.ndarray, gallery: np.ndarray, distances: np.ndarray
) -> np.ndarray:
    right = samples.pids[queries][:, None] == samples.pids[gallery]
    first = own_modality_first(
        distances, right, samples.modalities[queries], samples.modalities[gallery]
    )
    first[~samples.finite[queries] & ~np.isnan(first)] = 1  # the worst, as for other metrics
    return first


def _open_set(
    samples: Samples, protocol: Protocol, trials: Sequence[Trial], distance: str
) -> tuple[OpenSetScores, np.ndarray]:
    """Return the searches of all trials, and the identities of their queries.

    A score is the cosine, or the Euclidean distance with a minus sign.
    """
    found, pids = [], []
    for trial in trials:
        for rows, distances in _blocks(samples, protocol, trial, distance):
            scores = 1 - distances
            if distance == "euclidean":
                scores = -np.sqrt(np.maximum(distances, 0))
            same = samples.pids[rows][:, None] == samples.pids[trial.gallery]
            found.append(search_scores(scores, same, ~samples.finite[rows]))
            pids.append(samples.pids[rows])
    parts = zip(*((of.best, of.mate, of.rank) for of in found), strict=True)
    return OpenSetScores(*map(np.concatenate, parts)), np.concatenate(pids)


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
    skipping, skipped = _skipped(samples, protocol, queries, gallery)
    side = Gallery(samples.features, gallery, distance, skipped.astype(int))
    galleries = Galleries(samples.pids[gallery], members)

    def score_part(part: slice) -> QueryScores:
        rows, skips = queries[part], skipping[part]
        searched = [(np.flatnonzero(skips), 1), (np.flatnonzero(~skips), len(side.ends))]
        products = Products(samples.features, rows, side, searched)
        return _score_part(samples, protocol, rows, gallery, products, galleries)

    parts = parts_of(len(queries), _queries_of_a_thread(len(queries), len(gallery)))
    scores = list(in_threads(score_part, parts))
    metrics = np.concatenate([of_part.metrics for of_part in scores], axis=2)  # (4, T, Q)
    for row, trial in enumerate(trials):
        metrics[:, row, ~np.isin(queries, trial.queries)] = np.nan
    return list(metrics)


def _queries_of_a_thread(queries: int, images: int) -> int:
    """Return how many queries a thread takes at once: few enough that all threads have some."""
    threads = len(os.sched_getaffinity(0))
    most = max(1, min(_QUERIES_OF_A_PRODUCT, _PRODUCTS_AT_ONCE // threads // images))
    rounds = -(-queries // (most * threads))
    return min(most, max(_QUERIES_OF_A_BLOCK, -(-queries // (rounds * threads))))


def _skipped(
    samples: Samples, protocol: Protocol, queries: np.ndarray, gallery: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Return booleans of queries and of gallery images: these need no distance to those.

    All pairs of them are ignored. The rest of the ignored pairs gets distances.
    """
    none = np.zeros(len(queries), dtype=bool), np.zeros(len(gallery), dtype=bool)
    if not protocol.ignored_pairs:
        return none
    ignored_cameras: dict[int, set[int]] = {}
    for camera, other in protocol.ignored_pairs:
        ignored_cameras.setdefault(camera, set()).add(other)
    first, *_ = ignored_cameras.values()
    skipping = [camera for camera, others in ignored_cameras.items() if first <= others]
    return (
        np.isin(samples.camids[queries], skipping),
        np.isin(samples.camids[gallery], list(first)),
    )


def _score_part(
    samples: Samples,
    protocol: Protocol,
    rows: np.ndarray,
    gallery: np.ndarray,
    products: Products,
    galleries: Galleries,
) -> QueryScores:
    """Score queries against a gallery in all trials."""

    def block(queries: np.ndarray, positives: np.ndarray) -> tuple[np.ndarray, Doubt]:
        values, doubt = products.block(queries, positives)
        removed = ignored(samples, protocol, rows[queries], gallery)
        values[removed] = np.nan

        def everything() -> np.ndarray:
            exact = doubt.everything()
            check_numbers(exact)
            exact[removed] = np.nan
            return exact

        return values, doubt._replace(everything=everything)

    scores = score_blocks(block, samples.pids[rows], galleries)
    _worst(scores, products.bad)
    return scores


def _rerank(
    samples: Samples,
    protocol: Protocol,
    trials: Sequence[Trial],
    queries: np.ndarray,
    distance: str,
    reranking: Remedy,
) -> tuple[list[np.ndarray], list[np.ndarray | None]]:
    """Do as ``_rank`` and ``_own_first``, with each trial re-ranked by itself."""
    column = np.empty(len(samples.pids), dtype=np.int64)
    column[queries] = np.arange(len(queries))
    metrics = [np.full((len(trials), len(queries)), np.nan) for _ in range(4)]
    own: list[np.ndarray | None] = []
    for row, trial in enumerate(trials):
        distances = _remedied(samples, trial, distance, reranking)
        scores = score_trial(samples, protocol, trial, distances)
        for metric, of_trial in zip(metrics, scores.metrics, strict=True):
            metric[row, column[trial.queries]] = of_trial[0]
        if protocol.mixture is None:
            own.append(None)
            continue
        shown = distances.astype(np.float64)
        shown[ignored(samples, protocol, trial.queries, trial.gallery)] = np.nan
        own.append(_own_first_of(samples, trial.queries, trial.gallery, shown))
    return metrics, own


def _remedied(samples: Samples, trial: Trial, distance: str, remedy: Remedy) -> np.ndarray:
    """Return a trial's distances ``(Q, G)`` after a remedy."""
    sides = samples.features[trial.queries], samples.features[trial.gallery]
    modalities = samples.modalities[trial.queries], samples.modalities[trial.gallery]
    if isinstance(remedy, Centring):
        return centre(distance_matrix(*sides, distance), *modalities, remedy)
    pairs = sides, (sides[0], sides[0]), (sides[1], sides[1])
    between, of_queries, of_gallery = (plain_distances(*pair, distance) for pair in pairs)
    groups = np.concatenate(modalities) if isinstance(remedy, BalancedReranking) else None
    settings = remedy._asdict()
    return k_reciprocal_distances(between, of_queries, of_gallery, groups=groups, **settings)


def _check_finite(finite: np.ndarray) -> None:
    if not finite.all():
        raise InputError(
            "finite features for re-ranking, which compares every image with every other",
            f"NaN or infinity for {np.sum(~finite)} of {len(finite)} images",
            "score without re-ranking",
        )


def _worst(scores: QueryScores, bad: np.ndarray) -> None:
    """Give queries that cannot be compared the worst metrics, in place."""
    for metric, worst in zip(scores.metrics, (np.inf, np.inf, 0.0, 0.0), strict=True):
        metric[:, bad] = np.where(np.isnan(metric[:, bad]), np.nan, worst)


def _score(
    samples: Samples,
    protocol: Protocol,
    sampling: str,
    distance: str,
    reranking: Remedy | None,
    trials: Sequence[Trial],
    queries: np.ndarray,
    scores: QueryScores,
    finite: np.ndarray,
    zero: np.ndarray,
    own_first: Sequence[np.ndarray | None],
) -> Score:
    counted = scores.counted
    if not counted.any(axis=1).all():
        raise no_positive(protocol, len(trials[0].queries))
    column = np.empty(len(samples.pids), dtype=np.int64)
    column[queries] = np.arange(len(queries))
    shares = [
        _share(first, of_trial[column[trial.queries]])
        for trial, first, of_trial in zip(trials, own_first, counted, strict=True)
        if first is not None
    ]
    missed = [
        not of_trial[column[trial.queries]].all()
        for trial, of_trial in zip(trials, counted, strict=True)
    ]
    searches: tuple[OpenSetScores | None, np.ndarray | None] = None, None
    if protocol.fpir and reranking is None and any(missed):
        searches = _open_set(samples, protocol, trials, distance)
    hits = [scores.hits(limit, protocol.cmc) for limit in CMC_RANKS]
    metrics = dict(zip(METRICS, [*hits, scores.ap, scores.inp], strict=True))
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
            "non_finite_features": int(np.sum(~finite[scored])),
            "zero_features": int(np.sum(zero[scored])),
            "pairs_without_image": pairs_without_image(samples, protocol),
        },
        own_modality_first=np.array(shares) if shares else None,
        open_set=searches[0],
        open_set_pids=searches[1],
    )


def _share(first: np.ndarray, counted: np.ndarray) -> float:
    """Return the share of ones over the counted queries that have a wrong image; 0 of none."""
    of_counted = first[counted & ~np.isnan(first)]
    return float(of_counted.mean()) if len(of_counted) else 0.0


def _mean_of_counted(values: np.ndarray) -> np.ndarray:
    """Return the mean over trials, ``(T, Q) -> (Q,)``; NaN where no trial counted the query."""
    counted = ~np.isnan(values)
    total = np.sum(values, axis=0, where=counted)
    number = counted.sum(axis=0)
    mean = np.full(total.shape, np.nan)
    np.divide(total, number, out=mean, where=number > 0)
    return mean


def _union(samples: Samples, rows: Iterable[np.ndarray]) -> np.ndarray:
    return sort_rows(samples, np.unique(np.concatenate(list(rows))))

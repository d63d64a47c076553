"""What features show beyond the metrics: CMC curves, distances of pairs, the modality gap.

Shape legend: ``N`` = images, ``D`` = feature dimension, ``T`` = trials, ``Q`` = queries, ``R`` =
ranks, ``P`` = identities.
"""

from dataclasses import dataclass

import numpy as np

from cmemd.data.layouts.permutations import RandPermCam
from cmemd.data.modality import Modality
from cmemd.evaluation.distances import distance_matrix, plain_distances
from cmemd.evaluation.protocols import Protocol
from cmemd.evaluation.ranking import QueryScores
from cmemd.evaluation.samples import Samples
from cmemd.evaluation.sampling import Trial, ignored, sample_trials
from cmemd.evaluation.scoring import score_trial
from cmemd.evaluation.searches import OpenSetScores, search_scores

__all__ = [
    "FirstTrial",
    "Pairs",
    "cmc_curves",
    "first_trial",
    "gap_by_identity",
    "open_set_of",
    "pair_distances",
    "unit_rows",
]


@dataclass(frozen=True, eq=False)
class FirstTrial:
    """The ranking of a protocol's first trial.

    Attributes:
        protocol: the protocol.
        rows: its queries and its gallery.
        distances: ``(Q, G)``.
        hidden: ``(Q, G)`` booleans, gallery images that the protocol removes from a ranking.
        scores: metrics of each query, ``(1, Q)`` each.
    """

    protocol: Protocol
    rows: Trial
    distances: np.ndarray
    hidden: np.ndarray
    scores: QueryScores


@dataclass(frozen=True, eq=False)
class Pairs:
    """Distances of pairs of images.

    Attributes:
        same: of one identity.
        other: of two identities.
    """

    same: np.ndarray
    other: np.ndarray

    @property
    def nearer(self) -> float:
        """The share of (same, other) pairs of pairs in which the same identity is nearer."""
        if not len(self.same) or not len(self.other):
            return float("nan")
        other = np.sort(self.other)
        above = len(other) - np.searchsorted(other, self.same, side="right")
        ties = np.searchsorted(other, self.same, side="right") - np.searchsorted(other, self.same)
        return float((above + 0.5 * ties).mean() / len(other))


def first_trial(
    samples: Samples, protocol: Protocol, sampling: str, perm: RandPermCam | None, distance: str
) -> FirstTrial:
    """Rank the gallery of a protocol's first trial; arguments are those of ``score_all``."""
    rows = sample_trials(samples, protocol, sampling, perm)[0]
    distances = distance_matrix(
        samples.features[rows.queries], samples.features[rows.gallery], distance
    )
    hidden = ignored(samples, protocol, rows.queries, rows.gallery)
    return FirstTrial(
        protocol, rows, distances, hidden, score_trial(samples, protocol, rows, distances)
    )


def cmc_curves(
    samples: Samples,
    protocol: Protocol,
    sampling: str,
    perm: RandPermCam | None,
    distance: str,
    ranks: int = 20,
) -> np.ndarray:
    """Return each trial's share of queries with a match among the first 1..R ranks, ``(T, R)``."""
    curves = []
    for rows in sample_trials(samples, protocol, sampling, perm):
        distances = distance_matrix(
            samples.features[rows.queries], samples.features[rows.gallery], distance
        )
        scores = score_trial(samples, protocol, rows, distances)
        hits = (scores.hits(rank, protocol.cmc) for rank in range(1, ranks + 1))
        curves.append([np.nanmean(of_rank) for of_rank in hits])
    return np.array(curves)


def pair_distances(
    samples: Samples, distance: str, most: int = 1500, seed: int = 0
) -> dict[str, Pairs]:
    """Return distances of pairs across the modalities, and within each.

    Args:
        samples: ``N`` images; those without finite features are left out.
        distance: ``euclidean`` (not squared) or ``cosine``.
        most: images of each modality; more are drawn from.
        seed: of that draw.

    Returns:
        "visible and thermal", "visible", "thermal" -> pairs, for modalities that have images.
    """
    rng = np.random.default_rng(seed)
    rows = {}
    for modality in Modality:
        own = np.flatnonzero((samples.modalities == modality) & samples.finite)
        own = rng.choice(own, most, replace=False) if len(own) > most else own
        rows[modality.name.lower()] = own
    names = {" and ".join(rows): tuple(rows.values())}
    names |= {name: (own, own) for name, own in rows.items()}
    pairs = {}
    for name, (first, second) in names.items():
        if not len(first) or not len(second):
            continue
        values = plain_distances(samples.features[first], samples.features[second], distance)
        same = samples.pids[first][:, None] == samples.pids[second]
        once = np.ones_like(same) if first is not second else np.triu(np.ones_like(same), 1)
        pairs[name] = Pairs(values[same & once], values[~same & once])
    return pairs


def gap_by_identity(samples: Samples) -> dict[int, float]:
    """Return identity -> distance between the centres of its modalities, of L2-normalised features.

    Identities without finite features in both modalities are left out.
    """
    features, gaps = unit_rows(samples.features), {}
    for pid in np.unique(samples.pids).tolist():
        own = [
            (samples.pids == pid) & (samples.modalities == modality) & samples.finite
            for modality in Modality
        ]
        if all(mask.any() for mask in own):
            centres = [features[mask].mean(axis=0) for mask in own]
            gaps[pid] = float(np.linalg.norm(centres[0] - centres[1]))
    return gaps


def open_set_of(samples: Samples, found: FirstTrial) -> OpenSetScores | None:
    """Return open-set scores of a trial, by cosine; None where every query has its person there.

    Queries without a person in their gallery are the non-mated probes.
    """
    finite = samples.finite[found.rows.queries]
    queries = found.rows.queries[finite]
    gallery = found.rows.gallery[samples.finite[found.rows.gallery]]
    hidden = found.hidden[finite][:, samples.finite[found.rows.gallery]]
    features = unit_rows(samples.features)
    similar = np.where(hidden, np.nan, features[queries] @ features[gallery].T)
    same = samples.pids[queries][:, None] == samples.pids[gallery]
    scores = search_scores(similar, same)
    return None if scores.mated.all() or not scores.mated.any() else scores


def unit_rows(features: np.ndarray) -> np.ndarray:
    """Return features ``(N, D)`` in float64, of norm 1; zero and NaN rows stay as they are."""
    features = features.astype(np.float64)
    norms = np.linalg.norm(features, axis=1, keepdims=True)
    return features / np.where((norms > 0) & np.isfinite(norms), norms, 1)

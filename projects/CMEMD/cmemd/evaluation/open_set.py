r"""Open-set identification: choose a score threshold, where some queries are of unknown people.

A probe searches a gallery for people. It is *mated* if the gallery has its person, and else
*non-mated*. With a threshold :math:`T` on the score,

* FPIR, the false-positive identification rate, is the share of non-mated probes whose best score
  is at least :math:`T`: the search names a person who is not there;
* FNIR, the miss rate, is the share of mated probes without a row of their person among the first
  ``top`` that scores at least :math:`T`.

The definitions are those of ISO/IEC 19795-1 and NIST's FRTE 1:N evaluation.

Shape legend: ``P`` = probes, ``N`` = rows of the gallery, ``D`` = size of the embedding.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from cmemd.errors import InputError
from cmemd.evaluation.bootstrap import rate_interval
from cmemd.evaluation.searches import OpenSetScores, search_scores

__all__ = [
    "Calibration",
    "OperatingPoint",
    "TOP",
    "calibrate",
    "det_curve",
    "false_positive_threshold",
    "open_set_scores",
    "operating_points",
]

TOP = 10  # matches that a search lists, as cmemd search does
_STEP = 1e-6  # of thresholds: the printed one is the exact one
_PRODUCTS = 1 << 26  # scores in memory at a time


@dataclass(frozen=True)
class Calibration:
    """A threshold and what it costs; rates are shares, intervals of 95 %.

    Attributes:
        threshold: the lowest, to six decimals, at which the wanted rate is kept.
        fpir: the false-positive identification rate there.
        fpir_interval: its interval.
        fnir: the miss rate there.
        fnir_interval: its interval.
        mated: number of mated probes.
        non_mated: number of the others.
    """

    threshold: float
    fpir: float
    fpir_interval: tuple[float, float]
    fnir: float
    fnir_interval: tuple[float, float]
    mated: int
    non_mated: int


def open_set_scores(
    probes: np.ndarray, probe_ids: np.ndarray, gallery: np.ndarray, gallery_ids: np.ndarray
) -> OpenSetScores:
    """Compare every probe with every row.

    Args:
        probes: ``(P, D)``, L2-normalised.
        probe_ids: ``(P,)`` identities.
        gallery: ``(N, D)``, L2-normalised, at least one row.
        gallery_ids: ``(N,)`` identities.
    """
    best, mate, rank = [], [], []
    step = max(1, _PRODUCTS // len(gallery))
    for start in range(0, len(probes), step):
        scores = (probes[start : start + step] @ gallery.T).astype(np.float64)  # (p, N)
        same = probe_ids[start : start + step, None] == gallery_ids
        found = search_scores(scores, same)
        best.append(found.best)
        mate.append(found.mate)
        rank.append(found.rank)
    return OpenSetScores(*(np.concatenate(part) for part in (best, mate, rank)))


@dataclass(frozen=True)
class OperatingPoint:
    """What a threshold costs that keeps a rate of false positives; intervals are of 95 %.

    Attributes:
        rate: the wanted FPIR.
        threshold: scores above it are matches; None where one false positive exceeds the rate, as
            for all that follows.
        fpir: the FPIR there.
        fpir_interval: its interval.
        fnir: the miss rate there.
        fnir_interval: its interval.
    """

    rate: float
    threshold: float | None = None
    fpir: float | None = None
    fpir_interval: tuple[float, float] | None = None
    fnir: float | None = None
    fnir_interval: tuple[float, float] | None = None


def operating_points(
    scores: OpenSetScores, probe_ids: np.ndarray, rates: Sequence[float], top: int = TOP
) -> list[OperatingPoint]:
    """Return the miss rate at each rate of false positives.

    The threshold is a score of a non-mated probe: the lowest that at most the share ``rate`` of
    them exceeds.

    Args:
        scores: of searches.
        probe_ids: ``(P,)`` identities.
        rates: the wanted rates, between 0 and 1.
        top: how many matches a search lists.
    """
    mated = scores.mated
    best = np.sort(scores.best[~mated])[::-1]
    points = []
    for rate in rates:
        allowed = math.floor(rate * len(best) + 1e-9)
        if not allowed or not mated.any() or not np.isfinite(best[allowed]):
            points.append(OperatingPoint(rate))
            continue
        threshold = best[allowed]
        alarms = scores.best[~mated] > threshold
        misses = (scores.mate[mated] <= threshold) | (scores.rank[mated] > top)
        points.append(
            OperatingPoint(
                rate,
                float(threshold),
                float(alarms.mean()),
                rate_interval(alarms, probe_ids[~mated]),
                float(misses.mean()),
                rate_interval(misses, probe_ids[mated]),
            )
        )
    return points


def det_curve(scores: OpenSetScores, top: int = TOP) -> tuple[np.ndarray, np.ndarray]:
    """Return FPIR and FNIR at every threshold that changes one of them.

    Args:
        scores: of searches, some mated and some not.
        top: how many matches a search lists.

    Returns:
        FPIR, falling, and FNIR, rising, ``(K,)`` each.

    >>> det_curve(OpenSetScores(np.array([0.9, 0.5]), np.array([0.9, -np.inf]), np.array([1, 1])))
    (array([1., 0., 0.]), array([0., 0., 1.]))
    """
    mated = scores.mated
    alarms = np.sort(scores.best[~mated])
    listed = scores.rank[mated] <= top
    hits = np.sort(scores.mate[mated][listed])
    thresholds = np.unique(np.concatenate([[-np.inf], alarms, hits]))
    fpir = 1 - np.searchsorted(alarms, thresholds, side="right") / len(alarms)
    found = len(hits) - np.searchsorted(hits, thresholds, side="right")
    return fpir, 1 - found / len(listed)


def false_positive_threshold(best: np.ndarray, rate: float) -> float:
    """Return the lowest threshold, to six decimals, that at most a share of scores reaches.

    Args:
        best: best scores of non-mated probes.
        rate: the share.

    Raises:
        InputError: a rate outside (0, 1), or so few probes that one false positive among them
            already exceeds it.

    >>> false_positive_threshold(np.array([0.1, 0.2, 0.3, 0.4]), 0.25)  # 0.4 may pass, 0.3 not
    0.300001
    """
    if not 0 < rate < 1:
        raise InputError("a rate between 0 and 1", f"{rate:g}", "give a share such as 0.01")
    allowed = math.floor(rate * len(best) + 1e-9)  # 0.29 * 100 is a little less than 29
    if not allowed:
        raise InputError(
            f"at least {math.ceil(1 / rate)} probes of people who are not in the gallery for a "
            f"rate of {rate:g}",
            len(best),
            "add some, or ask for a higher rate",
        )
    above = float(np.sort(best)[::-1][allowed])
    return round((math.floor(above / _STEP) + 1) * _STEP, 6)


def calibrate(
    scores: OpenSetScores, probe_ids: np.ndarray, rate: float, top: int = TOP
) -> Calibration:
    """Return the threshold for a wanted false-positive identification rate, and its misses.

    Args:
        scores: of ``open_set_scores``.
        probe_ids: ``(P,)`` identities.
        rate: the rate, a share.
        top: how many matches a search lists.

    Raises:
        InputError: no mated probes, too few others, or too many others that equal a row.
    """
    mated = scores.mated
    if not mated.any():
        raise InputError(
            "some probes of people who are in the gallery",
            "none",
            "add some, since the miss rate is measured on them",
        )
    threshold = false_positive_threshold(scores.best[~mated], rate)
    if threshold > 1:
        raise InputError(
            f"a threshold of at most 1 for a rate of {rate:g}",
            f"{threshold:.6f}, since more probes of unknown people equal an image of the gallery",
            "remove copies of gallery images from the probes, or correct the identities",
        )
    alarms = scores.best[~mated] >= threshold
    misses = (scores.mate[mated] < threshold) | (scores.rank[mated] > top)
    return Calibration(
        threshold=threshold,
        fpir=float(alarms.mean()),
        fpir_interval=rate_interval(alarms, probe_ids[~mated]),
        fnir=float(misses.mean()),
        fnir_interval=rate_interval(misses, probe_ids[mated]),
        mated=int(mated.sum()),
        non_mated=int((~mated).sum()),
    )

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
from dataclasses import dataclass

import numpy as np

from cmemd.errors import InputError
from cmemd.evaluation.bootstrap import rate_interval

__all__ = [
    "Calibration",
    "OpenSetScores",
    "calibrate",
    "det_curve",
    "false_positive_threshold",
    "open_set_scores",
]

_STEP = 1e-6  # of thresholds: the printed one is the exact one
_PRODUCTS = 1 << 26  # scores in memory at a time


@dataclass(frozen=True, eq=False)
class OpenSetScores:
    """Scores of each probe's search.

    Attributes:
        best: ``(P,)`` float64, the largest score of any row.
        mate: ``(P,)`` float64, the largest score of a row of the probe's person, or else -inf.
        rank: ``(P,)`` place of that row among all, from 1: 1 + the rows of others that score more.
    """

    best: np.ndarray
    mate: np.ndarray
    rank: np.ndarray

    @property
    def mated(self) -> np.ndarray:
        """``(P,)`` whether the gallery has the probe's person."""
        return self.mate > -np.inf


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
    probes: np.ndarray,
    probe_ids: np.ndarray,
    gallery: np.ndarray,
    gallery_ids: np.ndarray,
    ignored: np.ndarray | None = None,
) -> OpenSetScores:
    """Compare every probe with every row.

    Args:
        probes: ``(P, D)``, L2-normalised.
        probe_ids: ``(P,)`` identities.
        gallery: ``(N, D)``, L2-normalised, at least one row.
        gallery_ids: ``(N,)`` identities.
        ignored: ``(P, N)`` booleans, true for rows that are not in a probe's gallery.
    """
    best, mate, rank = [], [], []
    step = max(1, _PRODUCTS // len(gallery))
    for start in range(0, len(probes), step):
        scores = (probes[start : start + step] @ gallery.T).astype(np.float64)  # (p, N)
        if ignored is not None:
            scores[ignored[start : start + step]] = -np.inf
        same = probe_ids[start : start + step, None] == gallery_ids
        of_mate = np.where(same, scores, -np.inf).max(axis=1)
        best.append(scores.max(axis=1))
        mate.append(of_mate)
        rank.append(1 + np.sum(~same & (scores > of_mate[:, None]), axis=1))
    return OpenSetScores(*(np.concatenate(part) for part in (best, mate, rank)))


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


def det_curve(scores: OpenSetScores, top: int = 10) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return both error rates with a threshold just above each score that changes the first one.

    The FPIR falls and the FNIR rises with the threshold; this is the curve of detection error
    trade-off. Rates are those of ``calibrate``, which takes such a threshold too.

    >>> scores = OpenSetScores(
    ...     best=np.array([0.9, 0.4, 0.6, 0.2]),
    ...     mate=np.array([0.9, 0.4, -np.inf, -np.inf]),
    ...     rank=np.array([1, 1, 1, 1]),
    ... )
    >>> thresholds, fpir, fnir = det_curve(scores)
    >>> thresholds.tolist(), fpir.tolist(), fnir.tolist()
    ([-inf, 0.2, 0.6], [1.0, 0.5, 0.0], [0.0, 0.0, 0.5])

    Args:
        scores: of ``open_set_scores``, with mated and non-mated probes.
        top: how many matches a search lists.

    Returns:
        Scores that a match must exceed, rising from minus infinity; FPIR; FNIR.

    Raises:
        InputError: no mated or no non-mated probes.
    """
    mated = scores.mated
    if mated.all() or not mated.any():
        raise InputError(
            "probes of people who are in the gallery, and of others",
            f"{mated.sum()} and {(~mated).sum()}",
            "add some of the kind that is missing",
        )
    alarms = np.sort(scores.best[~mated])
    reached = np.sort(np.where(scores.rank <= top, scores.mate, -np.inf)[mated])
    thresholds = np.append(-np.inf, np.unique(alarms))
    fpir = 1 - np.searchsorted(alarms, thresholds, side="right") / len(alarms)
    fnir = np.searchsorted(reached, thresholds, side="right") / len(reached)
    return thresholds, fpir, fnir


def calibrate(
    scores: OpenSetScores, probe_ids: np.ndarray, rate: float, top: int = 10
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

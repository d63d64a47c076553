r"""Which score is enough: open-set identification, where some queries are of nobody known.

A probe searches a gallery for people. It is *mated* if the gallery has its person, and else
*non-mated*. With a threshold :math:`T` on the score,

* FPIR, the false-positive identification rate, is the share of non-mated probes whose best score
  is at least :math:`T`: the search names somebody though nobody is there;
* FNIR, the miss rate, is the share of mated probes without a row of their person among the first
  ``top`` that scores at least :math:`T`.

The definitions are those of ISO/IEC 19795-1 and NIST's FRTE 1:N evaluation.

Shape legend: ``P`` = probes, ``N`` = rows of the gallery, ``D`` = size of the embedding.
"""

import math
from dataclasses import dataclass

import numpy as np

from cmemd.errors import InputError

__all__ = [
    "Calibration",
    "OpenSetScores",
    "calibrate",
    "false_positive_threshold",
    "open_set_scores",
    "rate_interval",
]

_STEP = 1e-6  # of thresholds: what is printed is what is used
_RESAMPLES, _LEVEL = 2000, 0.95
_PRODUCTS = 1 << 26  # scores in memory at a time


@dataclass(frozen=True, eq=False)
class OpenSetScores:
    """What each probe found.

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
    probes: np.ndarray, probe_ids: np.ndarray, gallery: np.ndarray, gallery_ids: np.ndarray
) -> OpenSetScores:
    """Compares every probe with every row.

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
        of_mate = np.where(same, scores, -np.inf).max(axis=1)
        best.append(scores.max(axis=1))
        mate.append(of_mate)
        rank.append(1 + np.sum(~same & (scores > of_mate[:, None]), axis=1))
    return OpenSetScores(*(np.concatenate(part) for part in (best, mate, rank)))


def false_positive_threshold(best: np.ndarray, rate: float) -> float:
    """The lowest threshold, to six decimals, that at most a share of scores reaches.

    Args:
        best: best scores of non-mated probes.
        rate: the share.

    Raises:
        InputError: a rate that is none, or too few probes to measure it: one false positive among
            them would be more.

    >>> false_positive_threshold(np.array([0.1, 0.2, 0.3, 0.4]), 0.25)  # 0.4 may pass, 0.3 not
    0.300001
    """
    if not 0 < rate < 1:
        raise InputError(f"expected a rate between 0 and 1, got {rate:g}: such as 0.01")
    allowed = math.floor(rate * len(best) + 1e-9)  # 0.29 * 100 is a little less than 29
    if not allowed:
        raise InputError(
            f"expected at least {math.ceil(1 / rate)} probes of people who are not in the gallery "
            f"for a rate of {rate:g}, got {len(best)}: add some, or ask for a higher rate"
        )
    above = float(np.sort(best)[::-1][allowed])
    return round((math.floor(above / _STEP) + 1) * _STEP, 6)


def rate_interval(events: np.ndarray, people: np.ndarray, seed: int = 0) -> tuple[float, float]:
    """Percentile bootstrap of a share, over people: probes of one person are alike.

    What it covers is the choice of people. Where it happened never, or always, resampling would
    say that it cannot be otherwise: the interval is then Clopper and Pearson's of as many people,
    up to about 3.7 in their number. Of a single person nothing can be said.

    Args:
        events: ``(P,)`` whether it happened.
        people: ``(P,)`` identities.
        seed: the same one gives the same interval.
    """
    _, codes = np.unique(people, return_inverse=True)
    counts = np.bincount(codes)
    sums = np.bincount(codes, weights=events)
    if not events.any() or events.all():
        unseen = 1 - ((1 - _LEVEL) / 2) ** (1 / len(counts))
        return (1 - unseen, 1.0) if events.any() else (0.0, unseen)
    rng = np.random.default_rng(seed)
    rates = []
    for _ in range(_RESAMPLES):
        drawn = rng.integers(len(counts), size=len(counts))
        rates.append(sums[drawn].sum() / counts[drawn].sum())
    tail = 50 * (1 - _LEVEL)
    low, high = np.percentile(rates, [tail, 100 - tail])
    return float(low), float(high)


def calibrate(
    scores: OpenSetScores, probe_ids: np.ndarray, rate: float, top: int = 10
) -> Calibration:
    """The threshold for a wanted false-positive identification rate, and the misses there.

    Args:
        scores: of ``open_set_scores``.
        probe_ids: ``(P,)`` identities.
        rate: the rate, a share.
        top: how many matches a search lists.

    Raises:
        InputError: no mated probes, or too few others.
    """
    mated = scores.mated
    if not mated.any():
        raise InputError(
            "expected some probes of people who are in the gallery, got none: the miss rate cannot "
            "be told"
        )
    threshold = false_positive_threshold(scores.best[~mated], rate)
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

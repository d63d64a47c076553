"""What searches find: the best score, and where the probe's own person stands.

Shape legend: ``P`` = probes, ``N`` = rows of the gallery.
"""

from dataclasses import dataclass

import numpy as np

__all__ = ["OpenSetScores", "search_scores"]

_LEAST = np.finfo(np.float64).min  # of a mate that cannot be compared


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


def search_scores(
    scores: np.ndarray, same: np.ndarray, bad: np.ndarray | None = None
) -> OpenSetScores:
    """Return what searches find, from scores.

    Args:
        scores: ``(P, N)``, NaN for rows that are not in the probe's gallery.
        same: ``(P, N)`` whether the row is of the probe's person.
        bad: ``(P,)`` probes that cannot be compared: always a false positive, or a miss.
    """
    removed = np.isnan(scores)
    scores = np.where(removed, -np.inf, scores)
    mated = (same & ~removed).any(axis=1)
    # A row that cannot be compared scores -inf, and a probe is mated all the same.
    mate = np.where(same, scores, -np.inf).max(axis=1)
    mate = np.where(mated, np.maximum(mate, _LEAST), -np.inf)
    best = scores.max(axis=1)
    rank = 1 + np.sum(~same & (scores > mate[:, None]), axis=1)
    if bad is not None:
        best = np.where(bad, np.inf, best)
        mate = np.where(bad & mated, _LEAST, mate)
    return OpenSetScores(best, mate, rank)

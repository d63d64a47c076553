"""How sure a difference between two methods is, given the same queries.

Shape legend: ``Q`` = queries.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from cmemd.evaluation.scoring import FIGURES

_RESAMPLES = 2000
_LEVEL = 0.95


@dataclass(frozen=True)
class Interval:
    """Ends of a 95 % interval, in points."""

    low: float
    high: float


def paired_interval(
    first: Mapping[str, np.ndarray], second: Mapping[str, np.ndarray]
) -> dict[str, Interval]:
    """Percentile bootstrap over queries of the mean difference second - first.

    Queries are paired by identity, camera and frame; each is drawn with both its figures. What the
    interval covers is the choice of queries, not the training seed nor the gallery draw. Queries
    of one person are alike, so that the true interval is wider [chosen: the field has no rule].

    Args:
        first: ``queries`` (Q, 3) and ``figures`` (6, Q), NaN where a query was not counted.
        second: The same of another method.

    Returns:
        Figure -> interval; empty where the two did not count the same queries.
    """
    figures, keys = [], []
    for of_method in (first, second):
        counted = ~np.isnan(of_method["figures"]).any(axis=0)
        queries = of_method["queries"][counted]
        order = np.lexsort(queries.T)
        keys.append(queries[order])
        figures.append(of_method["figures"][:, counted][:, order].astype(np.float64))
    if not np.array_equal(*keys) or len(keys[0]) < 2:
        return {}
    from scipy.stats import bootstrap  # slow to import, and only comparisons need it

    done = bootstrap(
        (figures[1] - figures[0],),
        np.mean,
        axis=1,
        n_resamples=_RESAMPLES,
        batch=100,
        confidence_level=_LEVEL,
        method="percentile",
        rng=np.random.default_rng(0),  # the same cards give the same interval
    ).confidence_interval
    return {
        name: Interval(float(low), float(high))
        for name, low, high in zip(FIGURES, done.low, done.high, strict=True)
    }

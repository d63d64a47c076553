"""Bootstrap intervals: how certain a share, or a difference of two methods, is.

Shape legend: ``Q`` = queries, ``P`` = probes, ``S`` = seeds.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from cmemd.evaluation.scoring import METRICS

__all__ = ["Interval", "mean_interval", "paired_difference", "paired_interval", "rate_interval"]

_RESAMPLES, _LEVEL = 2000, 0.95


@dataclass(frozen=True)
class Interval:
    """Ends of a 95 % interval, in points."""

    low: float
    high: float


def paired_interval(
    first: Mapping[str, np.ndarray], second: Mapping[str, np.ndarray]
) -> dict[str, Interval]:
    """Return intervals of the mean difference second - first, of two methods on the same queries.

    Queries are paired by identity, camera and frame, and resampled in pairs. The interval covers
    the choice of queries, neither the training seed nor the gallery sampling. Queries of one person
    are alike, so the true interval is wider [chosen: the field has no rule].

    Args:
        first: ``queries`` (Q, 3) and ``metrics`` (6, Q), NaN where a query was not counted.
        second: the same of another method.

    Returns:
        Metric -> interval; empty where the two did not count the same queries.
    """
    metrics, keys = [], []
    for of_method in (first, second):
        counted = ~np.isnan(of_method["metrics"]).any(axis=0)
        queries = of_method["queries"][counted]
        order = np.lexsort(queries.T)
        keys.append(queries[order])
        metrics.append(of_method["metrics"][:, counted][:, order].astype(np.float64))
    if not np.array_equal(*keys) or len(keys[0]) < 2:
        return {}
    from scipy.stats import bootstrap  # slow to import, and only comparisons need it

    done = bootstrap(
        (metrics[1] - metrics[0],),
        np.mean,
        axis=1,
        n_resamples=_RESAMPLES,
        batch=100,
        confidence_level=_LEVEL,
        method="percentile",
        rng=np.random.default_rng(0),  # the same results give the same interval
    ).confidence_interval
    return {
        name: Interval(float(low), float(high))
        for name, low, high in zip(METRICS, done.low, done.high, strict=True)
    }


def paired_difference(first: np.ndarray, second: np.ndarray) -> tuple[float, float, float]:
    """Return the mean of second - first and its interval over seeds and queries.

    Both seeds and queries are resampled, in pairs, since a difference could come from either. With
    few seeds the interval is rough.

    Args:
        first: (S, Q) a metric of each query after the training of each seed.
        second: the same of another method.

    Returns:
        Mean, low end, high end.
    """
    difference = second - first
    rng = np.random.default_rng(0)
    seeds, queries = difference.shape
    means = np.empty(_RESAMPLES)
    for resample in range(_RESAMPLES):
        of_queries = difference[rng.integers(seeds, size=seeds)].mean(0)
        means[resample] = of_queries[rng.integers(queries, size=queries)].mean()
    low, high = np.quantile(means, [(1 - _LEVEL) / 2, (1 + _LEVEL) / 2])
    return float(difference.mean()), float(low), float(high)


def rate_interval(events: np.ndarray, people: np.ndarray, seed: int = 0) -> tuple[float, float]:
    """Return the interval of a share, resampling people: probes of one person are alike.

    It covers the choice of people. If the event happened never, or always, resampling would
    give an interval of no width. The interval is then Clopper and Pearson's of as many people: for
    none in n, from 0 to about 3.7 / n. The interval of a single person means nothing.

    Args:
        events: ``(P,)`` whether the event happened.
        people: ``(P,)`` identities.
        seed: the same seed gives the same interval.

    Returns:
        Low end, high end.
    """
    if not events.any() or events.all():
        unseen = 1 - ((1 - _LEVEL) / 2) ** (1 / len(np.unique(people)))
        return (1 - unseen, 1.0) if events.any() else (0.0, unseen)
    return mean_interval(events, people, seed)


def mean_interval(values: np.ndarray, people: np.ndarray, seed: int = 0) -> tuple[float, float]:
    """Return the interval of a mean over images, resampling people: images of one are alike.

    It covers the choice of people, neither the training seed nor the gallery sampling. The interval
    of a single person has no width and means nothing.

    Args:
        values: ``(P,)`` finite numbers.
        people: ``(P,)`` identities.
        seed: the same seed gives the same interval.

    Returns:
        Low end, high end.
    """
    _, codes = np.unique(people, return_inverse=True)
    counts = np.bincount(codes)
    sums = np.bincount(codes, weights=values)
    rng = np.random.default_rng(seed)
    means = []
    for _ in range(_RESAMPLES):
        resample = rng.integers(len(counts), size=len(counts))
        means.append(sums[resample].sum() / counts[resample].sum())
    tail = 50 * (1 - _LEVEL)
    low, high = np.percentile(means, [tail, 100 - tail])
    return float(low), float(high)

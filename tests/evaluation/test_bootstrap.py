import numpy as np
import pytest

from cmemd.evaluation.bootstrap import paired_interval
from cmemd.evaluation.scoring import METRICS


def method(figures, queries=None):
    figures = np.asarray(figures, np.float32)
    count = figures.shape[1]
    queries = np.arange(3 * count).reshape(count, 3) if queries is None else queries
    return {"queries": queries, "figures": figures}


@pytest.fixture
def figures():
    return np.random.default_rng(0).uniform(0, 100, (6, 400))


def test_a_constant_difference_is_certain(figures):
    interval = paired_interval(method(figures), method(figures + 3))
    assert list(interval) == list(METRICS)
    for name in METRICS:
        assert (interval[name].low, interval[name].high) == pytest.approx((3, 3), abs=1e-4)


def test_pairing_makes_the_interval_that_of_the_differences(figures):
    # Differences of deviation 10 over 400 queries: 1.96 x 10 / sqrt(400) = 0.98 to each side,
    # though the figures themselves deviate by 29.
    noise = np.random.default_rng(1).normal(5, 10, figures.shape)
    interval = paired_interval(method(figures), method(figures + noise))
    for row, name in enumerate(METRICS):
        middle = noise[row].mean()
        assert interval[name].low == pytest.approx(middle - 0.98, abs=0.15)
        assert interval[name].high == pytest.approx(middle + 0.98, abs=0.15)


def test_queries_are_paired_by_who_they_are_not_by_place(figures):
    first, second = method(figures), method(figures + 3)
    order = np.random.default_rng(2).permutation(400)
    shuffled = {"queries": second["queries"][order], "figures": second["figures"][:, order]}
    assert paired_interval(first, shuffled) == paired_interval(first, second)


def test_queries_that_are_not_counted_take_no_part(figures):
    first, second = method(figures), method(figures + 3)
    for stored in (first, second):
        stored["figures"][:, :7] = np.nan
    assert paired_interval(first, second)["mAP"].low == pytest.approx(3, abs=1e-4)


@pytest.mark.parametrize("count", [0, 1, 399])
def test_other_queries_and_too_few_give_no_interval(figures, count):
    part = method(figures[:, :count])
    assert paired_interval(part, method(figures) if count == 399 else part) == {}

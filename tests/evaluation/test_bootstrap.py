import numpy as np
import pytest
from scipy.stats import binomtest

from cmemd.evaluation.bootstrap import paired_difference, paired_interval, rate_interval
from cmemd.evaluation.scoring import METRICS


def method(metrics, queries=None):
    metrics = np.asarray(metrics, np.float32)
    count = metrics.shape[1]
    queries = np.arange(3 * count).reshape(count, 3) if queries is None else queries
    return {"queries": queries, "metrics": metrics}


@pytest.fixture(scope="module")
def metrics():
    return np.random.default_rng(0).uniform(0, 100, (6, 400))


def test_a_constant_difference_is_certain_and_uncounted_queries_take_no_part(metrics):
    first, second = method(metrics), method(metrics + 3)
    for stored in (first, second):
        stored["metrics"][:, :7] = np.nan
    for pair in ((method(metrics), method(metrics + 3)), (first, second)):
        interval = paired_interval(*pair)
        assert list(interval) == list(METRICS)
        for name in METRICS:
            assert (interval[name].low, interval[name].high) == pytest.approx((3, 3), abs=1e-4)


def test_pairing_makes_the_interval_that_of_the_differences(metrics):
    # Differences of deviation 10 over 400 queries: 1.96 x 10 / sqrt(400) = 0.98 to each side,
    # though the metrics themselves deviate by 29.
    noise = np.random.default_rng(1).normal(5, 10, metrics.shape)
    interval = paired_interval(method(metrics), method(metrics + noise))
    for row, name in enumerate(METRICS):
        middle = noise[row].mean()
        assert interval[name].low == pytest.approx(middle - 0.98, abs=0.15), name
        assert interval[name].high == pytest.approx(middle + 0.98, abs=0.15), name


def test_queries_are_paired_by_their_labels_not_by_place(metrics):
    first, second = method(metrics), method(metrics + 3)
    order = np.random.default_rng(2).permutation(400)
    shuffled = {"queries": second["queries"][order], "metrics": second["metrics"][:, order]}
    assert paired_interval(first, shuffled) == paired_interval(first, second)


def test_other_queries_and_too_few_give_no_interval(metrics):
    for count in (0, 1, 399):
        part = method(metrics[:, :count])
        assert paired_interval(part, method(metrics) if count == 399 else part) == {}, count


def test_paired_differences_over_seeds_and_queries():
    rng = np.random.default_rng(0)
    first = rng.normal(size=(3, 200))
    mean, low, high = paired_difference(first, first + 2)
    assert (mean, low, high) == pytest.approx((2, 2, 2))
    # Deviation 1 over 200 queries and none between seeds: 1.96 / sqrt(200) = 0.14 to each side.
    noise = np.repeat(rng.normal(size=(1, 200)), 3, axis=0)
    mean, low, high = paired_difference(first, first + noise)
    assert (mean - low, high - mean) == pytest.approx((0.14, 0.14), abs=0.03)
    # Differences that depend on the seed widen it, however many the queries.
    seeds = np.array([[-1.0], [0.0], [1.0]])
    mean, low, high = paired_difference(first, first + seeds)
    assert (mean, low, high) == pytest.approx((0, -1, 1), abs=0.35)


def test_the_interval_of_a_share_is_that_of_a_mean_over_people():
    # The share's standard error is sqrt(0.2 * 0.8 / 400) = 0.02.
    low, high = rate_interval(np.arange(400) < 80, np.arange(400))
    assert low == pytest.approx(0.2 - 1.96 * 0.02, abs=0.005)
    assert high == pytest.approx(0.2 + 1.96 * 0.02, abs=0.005)
    # 40 people whose ten probes each agree: as wide as 40 probes, not as 400.
    low, high = rate_interval(np.repeat(np.arange(40) < 8, 10), np.repeat(np.arange(40), 10))
    assert high - low == pytest.approx(2 * 1.96 * np.sqrt(0.16 / 40), rel=0.1)


def test_the_interval_of_a_share_of_none_or_all_and_of_one_person():
    # The rates at which none, or all, of five people have a chance of 2.5 %; solved by SciPy.
    never = binomtest(0, 5).proportion_ci(0.95, "exact")
    assert rate_interval(np.zeros(10, bool), np.arange(10) // 2) == pytest.approx(tuple(never))
    always = binomtest(5, 5).proportion_ci(0.95, "exact")
    assert rate_interval(np.ones(5, bool), np.arange(5)) == pytest.approx(tuple(always))
    assert rate_interval(np.array([True, False]), np.array([1, 1])) == (0.5, 0.5)

import numpy as np
import pytest
from scipy.stats import binomtest

from cmemd.errors import InputError
from cmemd.evaluation.open_set import (
    OpenSetScores,
    calibrate,
    false_positive_threshold,
    open_set_scores,
    rate_interval,
)


def turned(*degrees):
    angles = np.radians(degrees)
    return np.stack([np.cos(angles), np.sin(angles)], axis=1)


def test_scores_by_hand():
    # Gallery: ann at 0 and 60 degrees, bob at 30. Probes: ann at 20, bob at 90, nobody at 40.
    gallery, people = turned(0, 60, 30), np.array(["ann", "ann", "bob"])
    scores = open_set_scores(turned(20, 90, 40), np.array(["ann", "bob", "eve"]), gallery, people)
    # ann: bob at 10 degrees is nearest, her own at 20 is second. bob: ann at 30, his own at 60.
    # eve: bob at 10.
    np.testing.assert_allclose(scores.best, np.cos(np.radians([10, 30, 10])))
    np.testing.assert_allclose(scores.mate[:2], np.cos(np.radians([20, 60])))
    assert scores.rank[:2].tolist() == [2, 2]
    assert scores.mated.tolist() == [True, True, False]


def test_parts_of_the_probes_give_what_all_give(monkeypatch):
    rng = np.random.default_rng(0)
    probes, gallery = rng.standard_normal((9, 4)), rng.standard_normal((20, 4))
    ids, people = rng.integers(0, 8, 9), rng.integers(0, 6, 20)
    whole = open_set_scores(probes, ids, gallery, people)
    monkeypatch.setattr("cmemd.evaluation.open_set._PRODUCTS", 40)
    parts = open_set_scores(probes, ids, gallery, people)
    for name in ("best", "mate", "rank"):
        np.testing.assert_allclose(getattr(parts, name), getattr(whole, name))


@pytest.mark.parametrize("rate", [0.01, 0.1, 0.29, 0.5, 0.99])
def test_the_threshold_keeps_the_rate_and_no_lower_one_does(rate):
    best = np.random.default_rng(0).permutation(np.linspace(-1, 1, 100))
    threshold = false_positive_threshold(best, rate)
    assert np.mean(best >= threshold) == pytest.approx(rate)
    assert np.mean(best >= threshold - 2e-6) > rate


def test_equal_scores_pass_together_or_not_at_all():
    # One in four may pass; two are equal at the top, so none does.
    assert false_positive_threshold(np.array([0.1, 0.2, 0.7, 0.7]), 0.25) == 0.700001


def test_a_threshold_lies_above_a_score_on_its_grid():
    best = np.array([0.5, 0.5, 0.9])
    assert np.mean(best >= false_positive_threshold(best, 0.4)) == pytest.approx(1 / 3)


@pytest.mark.parametrize("rate", [0, 1, -0.1, float("nan")])
def test_a_rate_is_a_share(rate):
    with pytest.raises(InputError, match="expected a rate between 0 and 1"):
        false_positive_threshold(np.zeros(5), rate)


def test_too_few_probes_cannot_measure_a_rate():
    with pytest.raises(InputError, match="expected at least 100 probes .* got 99"):
        false_positive_threshold(np.zeros(99), 0.01)


def test_rates_by_hand():
    # Mated: 0.9 first, 0.9 but third, 0.4 first. Non-mated: 0.2, 0.3, 0.5, 0.6; one may pass.
    scores = OpenSetScores(
        best=np.array([0.9, 0.95, 0.4, 0.2, 0.3, 0.5, 0.6]),
        mate=np.array([0.9, 0.9, 0.4, *[-np.inf] * 4]),
        rank=np.array([1, 3, 1, 1, 1, 1, 1]),
    )
    ids = np.array(list("abcdefg"))
    done = calibrate(scores, ids, 0.25, top=3)
    assert (done.threshold, done.fpir, done.mated, done.non_mated) == (0.500001, 0.25, 3, 4)
    assert done.fnir == pytest.approx(1 / 3)  # 0.4 is below
    assert calibrate(scores, ids, 0.25, top=2).fnir == pytest.approx(2 / 3)  # and one is third
    assert done.fnir_interval[0] <= done.fnir <= done.fnir_interval[1]


def test_without_mated_probes_there_is_no_miss_rate():
    scores = open_set_scores(turned(0), np.array(["a"]), turned(0), np.array(["b"]))
    with pytest.raises(InputError, match="expected some probes of people who are in the gallery"):
        calibrate(scores, np.array(["a"]), 0.5)


def test_the_interval_is_that_of_a_mean_where_each_person_has_one_probe():
    # The share's standard error is sqrt(0.2 * 0.8 / 400) = 0.02.
    events = np.arange(400) < 80
    low, high = rate_interval(events, np.arange(400))
    assert low == pytest.approx(0.2 - 1.96 * 0.02, abs=0.005)
    assert high == pytest.approx(0.2 + 1.96 * 0.02, abs=0.005)


def test_probes_of_one_person_count_as_one():
    # 40 people whose ten probes each agree: as wide as 40 probes, not as 400.
    events, people = np.repeat(np.arange(40) < 8, 10), np.repeat(np.arange(40), 10)
    low, high = rate_interval(events, people)
    assert high - low == pytest.approx(2 * 1.96 * np.sqrt(0.16 / 40), rel=0.1)


def test_the_interval_of_nothing_and_of_one_person():
    # The rates at which none, or all, of five people have a chance of 2.5 %; solved by SciPy.
    never = binomtest(0, 5).proportion_ci(0.95, "exact")
    assert rate_interval(np.zeros(10, bool), np.arange(10) // 2) == pytest.approx(tuple(never))
    always = binomtest(5, 5).proportion_ci(0.95, "exact")
    assert rate_interval(np.ones(5, bool), np.arange(5)) == pytest.approx(tuple(always))
    assert rate_interval(np.array([True, False]), np.array([1, 1])) == (0.5, 0.5)

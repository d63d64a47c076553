import numpy as np
import pytest

from cmemd.errors import InputError
from cmemd.evaluation.open_set import (
    calibrate,
    false_positive_threshold,
    open_set_scores,
)
from cmemd.evaluation.searches import OpenSetScores


def turned(*degrees):
    angles = np.radians(degrees)
    return np.stack([np.cos(angles), np.sin(angles)], axis=1)


def test_scores_by_hand():
    # Gallery: ann at 0 and 60 degrees, bob at 30. Probes: ann at 20, bob at 90, eve at 40.
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


def test_the_threshold_keeps_the_rate_and_no_lower_one_does():
    best = np.random.default_rng(0).permutation(np.linspace(-1, 1, 100))
    for rate in (0.01, 0.1, 0.29, 0.5, 0.99):
        threshold = false_positive_threshold(best, rate)
        assert np.mean(best >= threshold) == pytest.approx(rate)
        assert np.mean(best >= threshold - 2e-6) > rate, rate
    # One in four may pass; two are equal at the top, so none does.
    assert false_positive_threshold(np.array([0.1, 0.2, 0.7, 0.7]), 0.25) == 0.700001
    # A score on the grid of thresholds is below its own threshold.
    best = np.array([0.5, 0.5, 0.9])
    assert np.mean(best >= false_positive_threshold(best, 0.4)) == pytest.approx(1 / 3)


def test_a_rate_is_a_share():
    for rate in (0, 1, -0.1, float("nan")):
        with pytest.raises(InputError, match=f"expected a rate between 0 and 1, got {rate:g}: "):
            false_positive_threshold(np.zeros(5), rate)


def test_too_few_probes_cannot_measure_a_rate():
    with pytest.raises(InputError, match="expected at least 100 probes .* got 99: add some"):
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
    with pytest.raises(InputError, match="people who are in the gallery, got none: add some"):
        calibrate(scores, np.array(["a"]), 0.5)

import numpy as np
import pytest

from cmemd.evaluation.bootstrap import mean_interval, rate_interval
from cmemd.evaluation.details import (
    Pairs,
    cmc_curves,
    first_trial,
    gap_by_identity,
    open_set_of,
    pair_distances,
)
from cmemd.evaluation.protocols import get_protocol
from cmemd.evaluation.scoring import score

ALL, INDOOR = get_protocol("sysu-all-1shot"), get_protocol("sysu-indoor-1shot")


def test_cmc_curves_meet_the_scores_at_the_published_ranks(golden_samples, golden_perm, official):
    curves = cmc_curves(golden_samples, ALL, "official", golden_perm, "euclidean")
    assert curves.shape == (10, 20)
    for rank in (1, 5, 10, 20):
        expected = official[ALL.name].trials[f"rank{rank}"]
        np.testing.assert_allclose(curves[:, rank - 1], expected, err_msg=str(rank))
    assert (np.diff(curves, axis=1) >= 0).all()


def test_pairs_are_those_of_a_plain_loop(random_samples):
    samples = random_samples(3, ids=4, images=2)
    found = pair_distances(samples, "euclidean")
    expected = {name: ([], []) for name in ("visible and thermal", "visible", "thermal")}
    for i in range(len(samples.pids)):
        for j in range(i + 1, len(samples.pids)):
            sides = samples.modalities[i], samples.modalities[j]
            name = ("visible", "thermal")[sides[0]]
            name = name if sides[0] == sides[1] else "visible and thermal"
            distance = np.linalg.norm(samples.features[i] - samples.features[j])
            expected[name][int(samples.pids[i] != samples.pids[j])].append(distance)
    for name, (same, other) in expected.items():
        # The expanded square loses half of the digits near zero.
        np.testing.assert_allclose(np.sort(found[name].same), np.sort(same), atol=1e-6)
        np.testing.assert_allclose(np.sort(found[name].other), np.sort(other), atol=1e-6)


def test_the_share_of_nearer_pairs_counts_ties_half():
    # 1 < 2, 1 < 3, 2 = 2 (half), 2 < 3
    assert Pairs(np.array([1.0, 2.0]), np.array([2.0, 3.0])).nearer == 3.5 / 4
    assert np.isnan(Pairs(np.array([]), np.array([2.0])).nearer)


def test_the_gap_is_between_the_centres_of_directions(make_samples):
    # Identity 1: visible (1, 0), thermal (0, 1) whatever their lengths; identity 2: one modality.
    rows = [(1, 1, 1, [2.0, 0.0]), (1, 3, 1, [0.0, 5.0]), (2, 1, 1, [1.0, 0.0])]
    assert gap_by_identity(make_samples(rows)) == pytest.approx({1: np.sqrt(2)})


def test_removed_images_find_nobody_in_the_open_set(make_samples):
    # Person 1 is only under camera 2, which a query of camera 3 does not see.
    rows = [(1, 2, 1, [1.0, 0.0]), (2, 1, 1, [0.0, 1.0]), (1, 3, 1, [1.0, 0.0])]
    rows += [(2, 6, 1, [0.0, 1.0])]
    samples = make_samples(rows)
    found = first_trial(samples, INDOOR, "python", None, "cosine")
    scores = open_set_of(samples, found)
    assert scores.mated.tolist() == [False, True]
    np.testing.assert_allclose(scores.best, [0.0, 1.0])
    assert open_set_of(samples, first_trial(samples, ALL, "python", None, "cosine")) is not None


def test_an_interval_of_a_mean_resamples_people():
    people = np.repeat(np.arange(40), 10)
    values = np.repeat(np.random.default_rng(0).random(40), 10)
    low, high = mean_interval(values, people)
    # Ten equal images of a person say no more than one.
    one = mean_interval(values[::10], people[::10])
    assert (low, high) == pytest.approx(one)
    assert low < values.mean() < high
    assert high - low == pytest.approx(2 * 1.96 * values[::10].std() / np.sqrt(40), rel=0.1)
    assert mean_interval((values > 0.5) * 1.0, people) == rate_interval(values > 0.5, people)


def test_the_first_trial_is_that_of_the_score(golden_samples, golden_perm, official):
    found = first_trial(golden_samples, ALL, "official", golden_perm, "euclidean")
    rank1 = np.nanmean(found.scores.hits(1, ALL.cmc))
    assert rank1 == pytest.approx(official[ALL.name].trials["rank1"][0])
    assert score(golden_samples, ALL, "official", golden_perm).trials["mAP"][0] == pytest.approx(
        np.nanmean(found.scores.ap)
    )

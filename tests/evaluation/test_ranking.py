import itertools

import numpy as np
import pytest

from cmemd.errors import InputError
from cmemd.evaluation.rank_counting import rank_order
from cmemd.evaluation.ranking import score_queries


def one_query(distances, gallery, query=1, ignored=None):
    ignored = None if ignored is None else np.array([ignored])
    return score_queries(
        np.array([distances], float), np.array([query]), np.array(gallery), ignored
    )


def by_loops(distances, query_pids, gallery_pids, ignored, members=None):
    """The definitions, image by image: (4, T, Q)."""
    members = np.ones((1, len(gallery_pids)), bool) if members is None else members
    metrics = []
    for t, q in itertools.product(range(len(members)), range(len(query_pids))):
        pid = query_pids[q]
        ranked = sorted(np.flatnonzero(members[t]), key=lambda g: (distances[q][g], g))
        pids = [gallery_pids[g] for g in ranked if not ignored[q][g]]
        if pid not in pids:
            metrics.append((np.nan,) * 4)
            continue
        identities = list(dict.fromkeys(pids))
        ranks = [rank for rank, other in enumerate(pids, 1) if other == pid]
        precisions = [k / rank for k, rank in enumerate(ranks, 1)]
        metrics.append(
            (
                identities.index(pid) + 1,
                ranks[0],
                sum(precisions) / len(precisions),
                len(ranks) / ranks[-1],
            )
        )
    return np.array(metrics).T.reshape(4, len(members), len(query_pids))


def test_single_shot_by_hand():
    # Ranking: 2, 1, 3, 1. Positives at 2 and 4: AP = (1/2 + 2/4) / 2, INP = 2/4.
    scores = one_query([2, 1, 4, 3], [1, 2, 1, 3])
    np.testing.assert_allclose(scores.identity_rank, [[2]])
    np.testing.assert_allclose(scores.image_rank, [[2]])
    np.testing.assert_allclose(scores.ap, [[0.5]])
    np.testing.assert_allclose(scores.inp, [[0.5]])


def test_many_images_of_a_wrong_identity_take_one_cmc_rank_and_many_ap_ranks():
    # Ranking: 2, 2, 2, 3, 1. By identities: 2, 3, 1.
    scores = one_query([5, 1, 2, 3, 4], [1, 2, 2, 2, 3])
    np.testing.assert_allclose(scores.identity_rank, [[3]])
    np.testing.assert_allclose(scores.image_rank, [[5]])
    np.testing.assert_allclose(scores.ap, [[1 / 5]])


def test_cmc_is_the_share_of_matches_and_stays_at_its_last_value():
    # Match ranks 1, 2, 3 among three identities.
    distances = np.array([[1, 2, 3], [1, 2, 3], [1, 2, 3]], float)
    scores = score_queries(distances, np.array([1, 2, 3]), np.array([1, 2, 3]))
    cmc = [np.nanmean(scores.hits(rank, "identities")) for rank in (1, 2, 3, 20)]
    np.testing.assert_allclose(cmc, [1 / 3, 2 / 3, 1, 1])


def test_ignored_images_take_no_rank_even_when_they_are_nearest_or_positive():
    # Without the first and the last image the ranking is 3, 1: AP = INP = 1/2.
    scores = one_query([1, 2, 3, 4], [2, 3, 1, 1], ignored=[True, False, False, True])
    np.testing.assert_allclose(
        [scores.identity_rank, scores.ap, scores.inp], [[[2]], [[0.5]], [[0.5]]]
    )


def test_equal_distances_rank_in_gallery_order():
    assert rank_order(np.array([[1.0, 0.0, 1.0, 0.0]])).tolist() == [[1, 3, 0, 2]]
    assert one_query([1, 1], [1, 2]).identity_rank == 1
    assert one_query([1, 1], [2, 1]).identity_rank == 2


def test_an_ignored_image_leaves_the_order_at_infinite_distance_alone():
    scores = one_query([np.inf, np.inf, np.inf], [2, 3, 1], ignored=[True, False, False])
    assert scores.identity_rank == 2


def test_query_without_positive_is_not_counted():
    distances = np.array([[1.0, 2.0], [1.0, 2.0]])
    scores = score_queries(distances, np.array([1, 9]), np.array([1, 2]))
    assert scores.counted.tolist() == [[True, False]]
    assert np.isnan(np.array(scores.metrics)[:, 0, 1]).all()
    assert np.nanmean(scores.hits(1, "images")) == 1
    assert not one_query([1, 2], [1, 2], ignored=[True, False]).counted  # its positive is ignored


def test_more_queries_than_one_block_holds():
    rng = np.random.default_rng(0)
    distances = rng.normal(size=(600, 7))
    queries, gallery = rng.integers(0, 3, 600), np.array([0, 1, 2, 2, 1, 0, 5])
    ignored = rng.random(distances.shape) < 0.3
    members = rng.random((6, 7)) < 0.6
    scores = score_queries(distances, queries, gallery, ignored, members)
    expected = by_loops(distances, queries, gallery, ignored, members)
    np.testing.assert_allclose(scores.metrics, expected)


def test_agrees_with_plain_loops_ties_included():
    for seed in range(150):
        rng = np.random.default_rng(seed)
        count, size, trials = rng.integers(1, [6, 10, 7])
        distances = rng.integers(0, 5, (count, size)).astype(float)  # few values: many ties
        queries, gallery = rng.integers(1, 5, count), rng.integers(1, 5, size)
        ignored, members = rng.random((count, size)) < 0.4, rng.random((trials, size)) < 0.6
        scores = score_queries(distances, queries, gallery, ignored, members)
        expected = by_loops(distances, queries, gallery, ignored, members)
        np.testing.assert_allclose(scores.metrics, expected, err_msg=f"seed {seed}")


def test_distances_of_every_sign_and_size_keep_their_order():
    distances = np.array([[3.0, -2.0, np.inf, 0.0, -1e300, 1e-300, -0.0, -np.inf, 1e300]])
    assert rank_order(distances).tolist() == [[7, 4, 1, 3, 6, 5, 0, 8, 2]]
    with np.errstate(over="ignore"):
        single = distances.astype(np.float32)  # 1e-300 becomes 0, 1e300 infinity
    assert rank_order(single).tolist() == [[4, 7, 1, 3, 5, 6, 0, 2, 8]]


def test_distances_that_differ_by_less_than_their_rounding_are_equal():
    # 256 images take the last 8 bits, 5.7e-14 above 1.
    near = np.tile(1 + np.array([[3e-15, 2e-15, 0.0, 1e-15]]), 64)
    assert rank_order(near).tolist() == [list(range(256))]
    apart = 1 + np.array([[3e-13, 2e-13, 0.0, 1e-13]])
    assert rank_order(np.tile(apart, 64))[0, ::64].tolist() == [2, 3, 1, 0]


def test_more_images_than_a_counter_of_16_bits_holds():
    size = 70_000
    distances = np.arange(size, dtype=float)[None]
    gallery = np.zeros(size, int)
    gallery[[66_000, 69_999]] = 1
    scores = score_queries(distances, np.array([1]), gallery)
    assert scores.image_rank == 66_001
    assert scores.identity_rank == 2
    np.testing.assert_allclose(scores.ap, (1 / 66_001 + 2 / 70_000) / 2)
    np.testing.assert_allclose(scores.inp, 2 / 70_000)


def test_a_trial_without_any_image_has_no_figures_and_leaves_the_others_alone():
    members = np.array([[False, False], [True, True]])
    scores = score_queries(np.array([[1.0, 2.0]]), np.array([1]), np.array([2, 1]), members=members)
    assert np.isnan(np.array(scores.metrics)[:, 0]).all()
    assert scores.ap[1] == 0.5


def test_nothing_is_changed_in_place():
    distances, ignored = np.array([[2.0, 1.0]]), np.array([[True, False]])
    score_queries(distances, np.array([1]), np.array([1, 1]), ignored)
    assert distances.tolist() == [[2, 1]]
    assert ignored.tolist() == [[True, False]]


def test_bad_input_is_refused():
    for distances, gallery, message in (
        (np.zeros((1, 2)), [1], r"at least one, got shape \(1, 2\)"),
        (np.zeros((1, 0)), [], "at least one"),
        (np.full((1, 1), np.nan), [1], "expected distances that are numbers, got NaN"),
    ):
        with pytest.raises(InputError, match=message):
            score_queries(distances, np.array([1]), np.array(gallery))

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cmemd.errors import InputError
from cmemd.evaluation.ranking import rank_order, score_queries


def one_query(distances, gallery, query=1, ignored=None):
    ignored = None if ignored is None else np.array([ignored])
    return score_queries(
        np.array([distances], float), np.array([query]), np.array(gallery), ignored
    )


def by_loops(distances, query_pids, gallery_pids, ignored):
    """The definitions, image by image."""
    figures = []
    for q, pid in enumerate(query_pids):
        ranked = sorted(range(len(gallery_pids)), key=lambda g: (distances[q][g], g))
        pids = [gallery_pids[g] for g in ranked if not ignored[q][g]]
        if pid not in pids:
            figures.append((np.nan, np.nan, np.nan))
            continue
        identities = list(dict.fromkeys(pids))
        ranks = [rank for rank, other in enumerate(pids, 1) if other == pid]
        precisions = [k / rank for k, rank in enumerate(ranks, 1)]
        figures.append(
            (
                identities.index(pid) + 1,
                sum(precisions) / len(precisions),
                len(ranks) / ranks[-1],
            )
        )
    return np.array(figures).T


def test_single_shot_by_hand():
    # Ranking: 2, 1, 3, 1. Positives at 2 and 4: AP = (1/2 + 2/4) / 2, INP = 2/4.
    scores = one_query([2, 1, 4, 3], [1, 2, 1, 3])
    np.testing.assert_allclose(scores.match_rank, [2])
    np.testing.assert_allclose(scores.ap, [0.5])
    np.testing.assert_allclose(scores.inp, [0.5])


def test_many_images_of_a_wrong_identity_take_one_cmc_rank_and_many_ap_ranks():
    # Ranking: 2, 2, 2, 3, 1. By identities: 2, 3, 1.
    scores = one_query([5, 1, 2, 3, 4], [1, 2, 2, 2, 3])
    np.testing.assert_allclose(scores.match_rank, [3])
    np.testing.assert_allclose(scores.ap, [1 / 5])


def test_cmc_is_the_share_of_matches_and_stays_at_its_last_value():
    # Match ranks 1, 2, 3 among three identities.
    distances = np.array([[1, 2, 3], [1, 2, 3], [1, 2, 3]], float)
    scores = score_queries(distances, np.array([1, 2, 3]), np.array([1, 2, 3]))
    np.testing.assert_allclose([scores.cmc(rank) for rank in (1, 2, 3, 20)], [1 / 3, 2 / 3, 1, 1])


def test_ignored_images_take_no_rank_even_when_they_are_nearest_or_positive():
    # Without the first and the last image the ranking is 3, 1: AP = INP = 1/2.
    scores = one_query([1, 2, 3, 4], [2, 3, 1, 1], ignored=[True, False, False, True])
    np.testing.assert_allclose([scores.match_rank[0], scores.ap[0], scores.inp[0]], [2, 0.5, 0.5])


def test_equal_distances_rank_in_gallery_order():
    assert rank_order(np.array([[1.0, 0.0, 1.0, 0.0]])).tolist() == [[1, 3, 0, 2]]
    assert one_query([1, 1], [1, 2]).match_rank == 1
    assert one_query([1, 1], [2, 1]).match_rank == 2


def test_an_ignored_image_leaves_the_order_at_infinite_distance_alone():
    scores = one_query([np.inf, np.inf, np.inf], [2, 3, 1], ignored=[True, False, False])
    assert scores.match_rank == 2


def test_query_without_positive_is_not_counted():
    distances = np.array([[1.0, 2.0], [1.0, 2.0]])
    scores = score_queries(distances, np.array([1, 9]), np.array([1, 2]))
    assert scores.counted.tolist() == [True, False]
    assert np.isnan([scores.match_rank[1], scores.ap[1], scores.inp[1]]).all()
    assert scores.cmc(1) == 1


def test_query_whose_positives_are_all_ignored_is_not_counted():
    assert not one_query([1, 2], [1, 2], ignored=[True, False]).counted


def test_more_queries_than_one_block_holds():
    rng = np.random.default_rng(0)
    distances = rng.normal(size=(600, 7))
    queries, gallery = rng.integers(0, 3, 600), np.array([0, 1, 2, 2, 1, 0, 5])
    ignored = rng.random(distances.shape) < 0.3
    scores = score_queries(distances, queries, gallery, ignored)
    expected = by_loops(distances, queries, gallery, ignored)
    np.testing.assert_allclose([scores.match_rank, scores.ap, scores.inp], expected)


@settings(max_examples=150, deadline=None)
@given(data=st.data())
def test_agrees_with_plain_loops_ties_included(data):
    count, size = data.draw(st.integers(1, 5)), data.draw(st.integers(1, 9))

    def array(elements, *shape):
        total = int(np.prod(shape))
        return np.array(data.draw(st.lists(elements, min_size=total, max_size=total))).reshape(
            shape
        )

    distances = array(st.integers(0, 4), count, size).astype(float)  # few values: many ties
    queries, gallery = array(st.integers(1, 4), count), array(st.integers(1, 4), size)
    ignored = array(st.booleans(), count, size)
    scores = score_queries(distances, queries, gallery, ignored)
    np.testing.assert_allclose(
        [scores.match_rank, scores.ap, scores.inp], by_loops(distances, queries, gallery, ignored)
    )


def test_nothing_is_changed_in_place():
    distances, ignored = np.array([[2.0, 1.0]]), np.array([[True, False]])
    score_queries(distances, np.array([1]), np.array([1, 1]), ignored)
    assert distances.tolist() == [[2, 1]]
    assert ignored.tolist() == [[True, False]]


@pytest.mark.parametrize(
    ("distances", "gallery", "message"),
    [
        (np.zeros((1, 2)), [1], "got shape"),
        (np.zeros((1, 0)), [], "at least one"),
        (np.full((1, 1), np.nan), [1], "NaN"),
    ],
)
def test_bad_input_is_refused(distances, gallery, message):
    with pytest.raises(InputError, match=message):
        score_queries(distances, np.array([1]), np.array(gallery))

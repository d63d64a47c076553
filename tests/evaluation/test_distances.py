import numpy as np
import pytest

from cmemd.errors import InputError
from cmemd.evaluation.distances import distance_matrix, plain_distances


@pytest.mark.parametrize("metric", ["euclidean", "cosine"])
def test_distances_rank_as_their_definition(metric):
    rng = np.random.default_rng(0)
    queries, gallery = rng.normal(size=(3, 5)), rng.normal(size=(4, 5))
    expected = np.array(
        [
            [
                np.sum((q - g) ** 2)
                if metric == "euclidean"
                else 1 - q @ g / np.linalg.norm(q) / np.linalg.norm(g)
                for g in gallery
            ]
            for q in queries
        ]
    )
    distances = distance_matrix(queries, gallery, metric)
    np.testing.assert_allclose(distances, expected, atol=1e-12)
    single = distance_matrix(queries.astype(np.float32), gallery.astype(np.float32), metric)
    assert single.dtype == np.float64


def test_plain_distances_are_not_squared_and_never_below_0():
    # |(3, 4) - (0, 0)| = 5; equal features may be a rounding error below 0 before.
    assert plain_distances(np.array([[3.0, 4.0]]), np.zeros((1, 2)), "euclidean") == 5
    alike = np.random.default_rng(0).normal(size=(20, 300))
    for metric in ("euclidean", "cosine"):
        assert (plain_distances(alike, alike, metric) >= 0).all()


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("metric", ["euclidean", "cosine"])
def test_features_that_are_not_finite_are_infinitely_far(metric, value):
    features = np.array([[1.0, 2.0], [value, 1.0]])
    distances = distance_matrix(features, np.ones((3, 2)), metric)
    assert np.isfinite(distances).tolist() == [[True] * 3, [False] * 3]
    assert np.isfinite(distance_matrix(np.ones((3, 2)), features, metric)).all(axis=0).tolist() == [
        True,
        False,
    ]
    assert np.isnan(features).any() == np.isnan(value)  # as it was


def test_an_unknown_metric_is_refused():
    with pytest.raises(InputError, match="expected a metric out of euclidean, cosine; got 'l1'"):
        distance_matrix(np.ones((1, 2)), np.ones((1, 2)), "l1")

import itertools

import numpy as np
import pytest

from cmemd.errors import InputError
from cmemd.evaluation.distances import DISTANCES, distance_matrix, plain_distances


def test_distances_rank_as_their_definition():
    rng = np.random.default_rng(0)
    queries, gallery = rng.normal(size=(3, 5)), rng.normal(size=(4, 5))
    definitions = {
        "euclidean": lambda q, g: np.sum((q - g) ** 2),
        "cosine": lambda q, g: 1 - q @ g / np.linalg.norm(q) / np.linalg.norm(g),
    }
    assert tuple(definitions) == DISTANCES
    for name, definition in definitions.items():
        expected = np.array([[definition(q, g) for g in gallery] for q in queries])
        distances = distance_matrix(queries, gallery, name)
        np.testing.assert_allclose(distances, expected, atol=1e-12, err_msg=name)
        single = distance_matrix(queries.astype(np.float32), gallery.astype(np.float32), name)
        assert single.dtype == np.float64, name


def test_plain_distances_are_not_squared_and_never_below_0():
    # |(3, 4) - (0, 0)| = 5; equal features may be a rounding error below 0 before.
    assert plain_distances(np.array([[3.0, 4.0]]), np.zeros((1, 2)), "euclidean") == 5
    alike = np.random.default_rng(0).normal(size=(20, 300))
    for name in DISTANCES:
        assert (plain_distances(alike, alike, name) >= 0).all()


def test_features_that_are_not_finite_are_infinitely_far():
    for value, name in itertools.product((np.nan, np.inf, -np.inf), DISTANCES):
        features = np.array([[1.0, 2.0], [value, 1.0]])
        as_queries = np.isfinite(distance_matrix(features, np.ones((3, 2)), name))
        assert as_queries.tolist() == [[True] * 3, [False] * 3], (value, name)
        as_gallery = np.isfinite(distance_matrix(np.ones((3, 2)), features, name))
        assert as_gallery.all(axis=0).tolist() == [True, False], (value, name)
        assert np.isnan(features).any() == np.isnan(value)  # not changed in place


def test_an_unknown_distance_is_refused():
    with pytest.raises(InputError, match="expected a metric out of euclidean, cosine, got 'l1': "):
        distance_matrix(np.ones((1, 2)), np.ones((1, 2)), "l1")

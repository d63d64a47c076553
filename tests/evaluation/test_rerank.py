import itertools

import numpy as np
import pytest
from fastreid.evaluation import rerank as fastreid_rerank
from fastreid.evaluation.rerank import re_ranking

from cmemd.errors import InputError
from cmemd.evaluation.rerank import k_reciprocal_distances


def distances(queries, gallery):
    def between(a, b):
        return np.sqrt(np.maximum(((a[:, None] - b) ** 2).sum(-1), 0))

    return between(queries, gallery), between(queries, queries), between(gallery, gallery)


def clusters(seed, queries=30, gallery=70, people=8, spread=0.4):
    rng = np.random.default_rng(seed)
    centres = rng.normal(size=(people, 5))
    both = centres[rng.integers(people, size=queries + gallery)]
    both = both + spread * rng.normal(size=both.shape)
    return distances(both[:queries], both[queries:])


def by_definition(query_gallery, query_query, gallery_gallery, k1, k2, weight):
    """Sets and loops; equal distances by place."""
    count = len(query_gallery)
    d = np.block([[query_query, query_gallery], [query_gallery.T, gallery_gallery]]) ** 2
    largest = d.max(axis=1, keepdims=True)
    d = (d / np.where(largest == 0, 1, largest)).astype(np.float32)
    order = np.argsort(d, axis=1, kind="stable").tolist()
    size = len(d)

    def mutual(i, k):
        return {j for j in order[i][: k + 1] if i in order[j][: k + 1]}

    weights = np.zeros((size, size))
    for i in range(size):
        near = mutual(i, k1)
        grown = set(near)
        for j in near:
            others = mutual(j, round(k1 / 2))
            if len(others & near) > 2 / 3 * len(others):
                grown |= others
        for j in grown:
            weights[i, j] = np.exp(-d[i, j])
        weights[i] /= weights[i].sum() or 1
    if k2 > 1:
        weights = np.array([weights[row[:k2]].mean(axis=0) for row in order])
    smaller = np.minimum(weights[:count, None], weights[None, count:]).sum(-1)
    larger = np.maximum(weights[:count, None], weights[None, count:]).sum(-1)
    return (1 - weight) * (1 - smaller / larger) + weight * d[:count, count:]


def test_the_same_distances_as_fast_reid_and_as_the_definition():
    settings = [(20, 6, 0.3), (10, 3, 0.0), (7, 1, 0.5), (3, 8, 0.3), (5, 4, 1.0)]
    for seed, (k1, k2, weight) in itertools.product(range(4), settings):
        given, case = clusters(seed, 20, 40), f"seed {seed}, {k1}, {k2}, {weight}"
        ours = k_reciprocal_distances(*given, k1, k2, weight)
        np.testing.assert_allclose(
            ours, re_ranking(*given, k1, k2, weight), atol=2e-6, err_msg=case
        )
        np.testing.assert_allclose(
            ours, by_definition(*given, k1, k2, weight), atol=2e-6, err_msg=case
        )


def test_more_neighbours_than_images():
    for queries, gallery in ((1, 1), (1, 5), (4, 1), (6, 7)):
        given = clusters(0, queries, gallery)
        expected = by_definition(*given, 20, 6, 0.3)
        np.testing.assert_allclose(
            k_reciprocal_distances(*given), expected, atol=2e-6, err_msg=f"{queries}, {gallery}"
        )


class StableNumPy:
    """NumPy with a stable argsort; fast-reid's order of equal numbers is undefined."""

    def __getattr__(self, name):
        return getattr(np, name)

    @staticmethod
    def argsort(values):
        return np.argsort(values, kind="stable")


def test_equal_distances_are_ranked_by_place(monkeypatch):
    monkeypatch.setattr(fastreid_rerank, "np", StableNumPy())
    for places, (k1, k2) in itertools.product((2, 3, 6), [(5, 3), (7, 1), (1, 1), (50, 60)]):
        case = f"{places} places, {k1}, {k2}"
        rng = np.random.default_rng(0)
        both = rng.integers(0, places, size=(40, 2)).astype(float)  # many equal distances
        given = distances(both[:15], both[15:])
        ours = k_reciprocal_distances(*given, k1, k2, 0.3)
        np.testing.assert_allclose(ours, re_ranking(*given, k1, k2, 0.3), atol=2e-6, err_msg=case)
        if k2 > 1:  # the definition divides by zero where an image is not its own neighbour
            expected = by_definition(*given, k1, k2, 0.3)
            np.testing.assert_allclose(ours, expected, atol=2e-6, err_msg=case)


def test_images_all_alike_are_all_equally_far():
    ours = k_reciprocal_distances(np.zeros((2, 3)), np.zeros((2, 2)), np.zeros((3, 3)))
    assert ours.tolist() == [[0, 0, 0]] * 2


def test_nothing_is_changed_in_place():
    given = clusters(0, 3, 4)
    before = [array.copy() for array in given]
    k_reciprocal_distances(*given)
    for array, old in zip(given, before, strict=True):
        np.testing.assert_array_equal(array, old)


def test_bad_input_is_refused():
    given = {
        "query_gallery": np.ones((2, 3)),
        "query_query": np.zeros((2, 2)),
        "gallery_gallery": np.zeros((3, 3)),
    }
    for changed, message in (
        ({"query_gallery": np.ones(3)}, r"got \(3,\), \(2, 2\) and \(3, 3\)"),
        ({"query_query": np.zeros((3, 2))}, r"got \(2, 3\), \(3, 2\) and \(3, 3\)"),
        ({"gallery_gallery": np.zeros((2, 2))}, r"expected distances \(Q, G\)"),
        ({"query_gallery": np.zeros((0, 3)), "query_query": np.zeros((0, 0))}, "none empty"),
        ({"k1": 0}, "got 0, 6 and 0.3"),
        ({"k2": 0}, "got 20, 0 and 0.3"),
        ({"weight": 1.1}, "got 20, 6 and 1.1"),
        ({"weight": np.nan}, "got 20, 6 and nan"),
        ({"query_gallery": np.full((2, 3), np.nan)}, "got NaN, infinity or negative"),
        ({"query_gallery": -np.ones((2, 3))}, "got NaN, infinity or negative"),
    ):
        with pytest.raises(InputError, match=message):
            k_reciprocal_distances(**given | changed)

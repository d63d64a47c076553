"""Float32 products score as float64 distances do."""

from fractions import Fraction

import numpy as np
import pytest

from cmemd.evaluation import rank_counting
from cmemd.evaluation.distances import DISTANCES, distance_matrix
from cmemd.evaluation.products import Gallery, Products
from cmemd.evaluation.rank_counting import Galleries, query_blocks
from cmemd.evaluation.ranking import score_blocks, score_queries
from cmemd.evaluation.threads import parts_of

QUERIES, IMAGES, DIMENSION = 30, 90, 40


def products_of(queries, gallery, distance="euclidean"):
    features = np.concatenate([queries, gallery])
    rows = np.arange(len(features))
    side = Gallery(features, rows[len(queries) :], distance)
    return Products(features, rows[: len(queries)], side)


def scored(queries, gallery, distance, query_pids, gallery_pids):
    products = products_of(queries, gallery, distance)
    members = np.ones((1, len(gallery)), bool)
    return score_blocks(products.block, query_pids, Galleries(gallery_pids, members)).metrics


def labels(rng):
    return rng.integers(0, 5, QUERIES), rng.integers(0, 5, IMAGES)


def whole(rng, largest, count):
    """Small integers: float64 products and distances are exact."""
    return rng.integers(-largest, largest + 1, (count, DIMENSION)).astype(np.float64)


def adversarial(rng):
    """Queries and gallery whose float64 distances have no rounding error."""
    queries, gallery = whole(rng, 3, QUERIES), whole(rng, 3, IMAGES)
    repeated = gallery[rng.integers(0, 4, IMAGES)]
    large = 2.0**20  # float32 rounds a sum of squares of this size by more than 2**16
    near = large + whole(rng, 1, IMAGES)
    yield "few values", queries, gallery
    yield "copies", queries, repeated
    yield "all equal", np.repeat(queries[:1], QUERIES, 0), np.repeat(queries[:1], IMAGES, 0)
    yield "closer than float32's error", large + whole(rng, 1, QUERIES), near
    yield "1e-20", queries * 2.0**-66, gallery * 2.0**-66
    yield "1e20", queries * 2.0**66, gallery * 2.0**66
    yield "beyond float32", queries * 2.0**300, gallery * 2.0**300
    yield "below float32", queries * 2.0**-300, gallery * 2.0**-300
    lengths = 2.0 ** rng.integers(-8, 9, (IMAGES, 1))
    yield "mixed lengths", queries, gallery * lengths
    yield "zeros", queries * (np.arange(QUERIES) % 2)[:, None], repeated * 0


def test_metrics_equal_those_of_exact_distances():
    for seed in range(20):
        rng = np.random.default_rng(seed)
        query_pids, gallery_pids = labels(rng)
        for name, queries, gallery in adversarial(rng):
            exact = distance_matrix(queries, gallery, "euclidean")
            expected = score_queries(exact, query_pids, gallery_pids).metrics
            got = scored(queries, gallery, "euclidean", query_pids, gallery_pids)
            assert np.array_equal(got, expected, equal_nan=True), (name, seed)


def test_cosine_metrics_equal_those_of_float64():
    for seed in range(20):
        rng = np.random.default_rng(seed)
        query_pids, gallery_pids = labels(rng)
        base = rng.normal(size=(1, DIMENSION))
        lengths = 10.0 ** rng.uniform(-18, 18, (IMAGES, 1))
        # Distances near 1e-8: below float32's error and far above float64's.
        for name, spread in (("random", 1.0), ("closer than float32's error", 1e-4)):
            queries = base + spread * rng.normal(size=(QUERIES, DIMENSION))
            gallery = (base + spread * rng.normal(size=(IMAGES, DIMENSION))) * lengths
            exact = distance_matrix(queries, gallery, "cosine")
            expected = score_queries(exact, query_pids, gallery_pids).metrics
            got = scored(queries, gallery, "cosine", query_pids, gallery_pids)
            assert np.array_equal(got, expected, equal_nan=True), (name, seed)


def test_a_copy_of_a_positive_ties_with_it():
    # Column 0 is of another person; the copy's lower column ranks first. Fewer close images than
    # the share that computes everything anew.
    rng = np.random.default_rng(0)
    queries, gallery = rng.normal(size=(4, 300)), rng.normal(size=(500, 300))
    for copy, other, rank in ((0, 499, 1), (499, 0, 0)):
        gallery[other] = gallery[copy]
        pids = np.ones(500, int)
        pids[other] = 0
        exact = [[float(np.sum((q - g) ** 2)) for g in gallery] for q in queries]
        before = (np.array(exact) < np.array(exact)[:, other, None]).sum(1)
        got = scored(queries, gallery, "euclidean", np.zeros(4, int), pids)
        assert (got[1][0] == before + 1 + (copy < other)).all(), rank


def test_no_error_exceeds_the_tolerance():
    for seed in range(10):
        rng = np.random.default_rng(seed)
        for distance in DISTANCES:
            for scale, shift in ((1, 0), (1, 10), (1e-20, 0), (1e20, 0)):
                queries = (scale * (shift + rng.normal(size=(6, 700)))).astype(np.float32)
                gallery = (scale * (shift + rng.normal(size=(50, 700)))).astype(np.float32)
                products = products_of(queries, gallery, distance)
                got, doubt = products.block(np.arange(6), np.array([], int))
                exact = distance_matrix(queries, gallery, distance)
                if distance == "euclidean":  # in the unit of the values
                    unit = 2 * products.gallery.largest * products.queries.scale[products.row]
                    squares = np.square(queries.astype(np.float64)).sum(axis=1)
                    exact = (exact - squares[:, None]) / unit[:, None]
                else:
                    exact -= 1
                error = np.abs(got - exact).max(axis=1)
                assert (error <= doubt.tolerance).all(), (seed, distance, scale, shift)
                # A bound of use: far below that of the norms, D 2^-24 |x| |y|, twice.
                if distance == "cosine":
                    assert (doubt.tolerance < 700 * 2.0**-24 / 10).all(), (scale, shift)


def test_exact_distances_are_those_of_fractions():
    rng = np.random.default_rng(0)
    queries, gallery = rng.normal(size=(2, 9)), rng.normal(size=(5, 9))
    _, doubt = products_of(queries, gallery).block(np.arange(2), np.array([0]))
    row, column = np.array([0, 1, 1]), np.array([4, 0, 3])
    for r, c, got in zip(row, column, doubt.exact(row, column), strict=True):
        pairs = zip(queries[r].tolist(), gallery[c].tolist(), strict=True)
        exact = sum((Fraction(q) - Fraction(g)) ** 2 for q, g in pairs)
        assert got == pytest.approx(float(exact), rel=1e-13), (r, c)


def test_few_pairs_of_random_features_are_computed_again():
    rng = np.random.default_rng(0)
    queries, gallery = (rng.normal(size=(n, 500)).astype(np.float32) for n in (200, 2000))
    query_pids, gallery_pids = rng.integers(0, 40, 200), rng.integers(0, 40, 2000)
    products, pairs = products_of(queries, gallery), []

    def block(numbers, positives):
        distances, doubt = products.block(numbers, positives)

        def exact(row, columns):
            pairs.append(len(row))
            return doubt.exact(row, columns)

        return distances, doubt._replace(exact=exact, everything=None)

    score_blocks(block, query_pids, Galleries(gallery_pids, np.ones((1, 2000), bool)))
    assert 0 < sum(pairs) < 10 * len(queries)


def test_a_query_of_many_close_images_is_computed_as_a_whole(monkeypatch):
    rng = np.random.default_rng(1)
    query_pids, gallery_pids = labels(rng)
    queries, gallery = whole(rng, 1, QUERIES), whole(rng, 1, IMAGES)
    expected = scored(queries, gallery, "euclidean", query_pids, gallery_pids)
    monkeypatch.setattr(rank_counting, "_SHARE", 1)  # pairs, however many
    monkeypatch.setattr(rank_counting, "_NEIGHBOURS", IMAGES)
    by_pairs = scored(queries, gallery, "euclidean", query_pids, gallery_pids)
    assert np.array_equal(by_pairs, expected, equal_nan=True)


def test_queries_that_skip_a_section_have_the_values_of_the_others():
    rng = np.random.default_rng(0)
    features = rng.normal(size=(QUERIES + IMAGES, DIMENSION)) * rng.uniform(1, 9, (120, 1))
    rows = rng.permutation(len(features))
    queries, images = rows[:QUERIES], rows[QUERIES:]
    sections, skips = rng.integers(0, 2, IMAGES), rng.random(QUERIES) < 0.5
    for distance in DISTANCES:
        gallery = Gallery(features, images, distance, sections)
        searched = [(np.flatnonzero(skips), 1), (np.flatnonzero(~skips), 2)]
        products = Products(features, queries, gallery, searched)
        plain = Products(features, queries, Gallery(features, images, distance))
        numbers, positives = np.arange(QUERIES), np.array([3, 8, 50])
        values, expected = (of.block(numbers, positives)[0] for of in (products, plain))
        kept = ~(skips[:, None] & (sections == 1))
        assert np.allclose(values[kept], expected[kept], rtol=0, atol=1e-5), distance
        exact = [
            of.block(numbers, positives)[1].exact(numbers, numbers) for of in (products, plain)
        ]
        assert np.array_equal(*exact), distance


def test_blocks_and_parts_cover_everything_once():
    pids = np.random.default_rng(0).integers(0, 4, 300)
    assert sorted(np.concatenate(list(query_blocks(pids))).tolist()) == list(range(300))
    assert parts_of(5, 2) == [slice(0, 2), slice(2, 4), slice(4, 5)]
    assert parts_of(0, 2) == []

import faiss
import numpy as np
import pytest

from cmemd.gallery.exact import search_exact


def test_a_case_by_hand():
    batches = [
        (np.array([10, 11]), np.array([[1, 0], [0, 1]], dtype=np.float32)),
        (np.array([20]), np.array([[0.6, 0.8]], dtype=np.float32)),
    ]
    scores, rows = search_exact(batches, np.array([[1, 0], [0, 1]], dtype=np.float32), 2)
    np.testing.assert_array_equal(rows, [[10, 20], [11, 20]])
    np.testing.assert_allclose(scores, [[1, 0.6], [1, 0.8]], rtol=1e-6)


def test_agrees_with_a_full_sort_however_the_gallery_is_cut():
    rng = np.random.default_rng(0)
    vectors = rng.standard_normal((100, 16)).astype(np.float32)
    queries = rng.standard_normal((7, 16)).astype(np.float32)
    numbers = rng.permutation(1000)[:100].astype(np.uint64)
    order = np.argsort(-(queries @ vectors.T), axis=1)[:, :12]
    expected = np.take_along_axis(queries @ vectors.T, order, axis=1)
    for cuts in ([], [1], [3, 3, 40], list(range(1, 100))):
        batches = zip(np.split(numbers, cuts), np.split(vectors, cuts), strict=True)
        scores, rows = search_exact(batches, queries, 12)
        np.testing.assert_array_equal(rows, numbers[order], err_msg=str(cuts))
        np.testing.assert_allclose(scores, expected, rtol=1e-5, err_msg=str(cuts))


def test_a_small_gallery_gives_all_it_has():
    queries = np.eye(4, dtype=np.float32)
    for rows in (0, 1, 3):
        scores, found = search_exact([(np.arange(rows), queries[:rows])], queries, 10)
        assert scores.shape == found.shape == (4, rows)
        assert [sorted(row) for row in found.tolist()] == [list(range(rows))] * 4


@pytest.mark.parametrize(("gpus", "top", "on_gpu"), [(1, 2, 1), (0, 2, 0), (1, 3000, 0)])
def test_faiss_searches_on_a_gpu_where_it_has_one(monkeypatch, gpus, top, on_gpu):
    """With faiss-gpu's interface in place; no GPU is needed."""
    calls = []

    def knn_gpu(resources, *args, **options):
        calls.append(resources)
        return faiss.knn(*args, **options)

    monkeypatch.setattr(faiss, "StandardGpuResources", lambda: "resources", raising=False)
    monkeypatch.setattr(faiss, "get_num_gpus", lambda: gpus, raising=False)
    monkeypatch.setattr(faiss, "knn_gpu", knn_gpu, raising=False)
    vectors = np.eye(4, dtype=np.float32)
    _, rows = search_exact([(np.arange(4), vectors)], vectors[:1], top)
    assert rows[0, 0] == 0
    assert calls == ["resources"] * on_gpu

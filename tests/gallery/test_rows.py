import re

import numpy as np
from tests.gallery.stub import rows_of, vector_of
from tests.inference.refusal import refusal

from cmemd.data.modality import Modality
from cmemd.gallery.rows import make_rows, vectors_of
from cmemd.gallery.sources import Source


def test_vectors_come_back_as_they_were_without_a_copy():
    rows = rows_of(["a", "b", "c"])
    expected = np.stack([vector_of(path) for path in "abc"])
    np.testing.assert_array_equal(vectors_of(rows), expected)
    (batch,) = rows.slice(1).to_batches()
    np.testing.assert_array_equal(vectors_of(batch), expected[1:])
    buffer = batch.column("vector").values.to_numpy()
    assert np.shares_memory(vectors_of(batch), buffer)
    assert vectors_of(rows.slice(0, 0)).shape == (0, expected.shape[1])


def test_columns_say_what_is_known():
    (row,) = rows_of(["a"], Modality.THERMAL, camera="3").drop_columns("vector").to_pylist()
    assert (row["path"], row["modality"], row["camera"]) == ("a", "thermal", "3")
    assert row["identity"] is None
    assert row["time"] is None


def test_vectors_of_another_length_are_refused():
    sources = [Source("a"), Source("b")]
    for vector in ([0.0, 0.0], [np.nan, 1.0], [1.0, 1.0]):
        vectors = np.array([[1, 0], vector], "f4")
        found = refusal(make_rows, sources, vectors, Modality.VISIBLE, "m")
        assert re.search("^expected embeddings of unit length, got one of .* for b:", found), vector

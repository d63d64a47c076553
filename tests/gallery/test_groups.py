"""Searches for one row per group and for averaged tracklets, against plain loops."""

import numpy as np
import pytest
from tests.gallery.stub import DIGEST
from tests.inference.refusal import refusal

from cmemd.gallery import groups, table
from cmemd.gallery.groups import average_tracklets
from cmemd.gallery.search import find_matches
from cmemd.gallery.table import create_gallery, open_gallery

ROWS, SIZE = 60, 8


@pytest.fixture
def drawn(tmp_path):
    """Sixty rows of seven people, three cameras and some tracklets; a fifth lacks each label."""
    chance = np.random.default_rng(0)
    vectors = chance.standard_normal((ROWS, SIZE)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    labels = {
        name: [str(n) if chance.random() < 0.8 else None for n in chance.integers(most, size=ROWS)]
        for name, most in (("identity", 7), ("camera", 3), ("tracklet", 2))
    }
    keys = [f"/{n}" for n in range(ROWS)]
    with create_gallery(tmp_path / "g", DIGEST, SIZE) as gallery:
        gallery.add(vectors, keys, {"modality": "visible", **labels}, model=DIGEST)
    return tmp_path / "g", vectors, labels


def key(labels, one_per, n):
    if labels[one_per][n] is None:
        return n
    if one_per == "tracklet":
        return tuple(of[n] for of in labels.values())
    return labels[one_per][n]


def test_one_per_group_is_the_first_of_each_in_the_full_ranking(drawn, monkeypatch):
    place, vectors, labels = drawn
    for batch_bytes, scores in ((1 << 26, 1 << 24), (4 * SIZE * 7, 20)):
        monkeypatch.setattr(table, "_BATCH_BYTES", batch_bytes)
        monkeypatch.setattr(groups, "_SCORES", scores)
        for one_per in groups.ONE_PER:
            for own in (False, True):
                exclude = [[f"/{n}"] for n in range(9)] if own else []
                with open_gallery(place) as gallery:
                    found, all_found = (
                        find_matches(gallery, vectors[:9], top, one_per=one_per, exclude=exclude)
                        for top in (4, ROWS)
                    )
                for number in range(9):
                    expected = []
                    for n in np.argsort(-(vectors @ vectors[number])).tolist():
                        seen = {key(labels, one_per, m) for m in expected}
                        if key(labels, one_per, n) not in seen and not (own and n == number):
                            expected.append(n)
                    paths = [f"/{n}" for n in expected]
                    case = one_per, own, number
                    assert [match.path for match in found[number]] == paths[:4], case
                    assert [match.path for match in all_found[number]] == paths, case


def test_tracklets_are_compared_by_the_mean_of_their_embeddings(drawn, monkeypatch):
    place, vectors, labels = drawn
    monkeypatch.setattr(table, "_BATCH_BYTES", 4 * SIZE * 7)
    members = {}
    for n in range(ROWS):
        members.setdefault(key(labels, "tracklet", n), []).append(n)
    scores = {}
    for rows in members.values():
        mean = vectors[rows].sum(axis=0)
        scores[rows[0]] = mean @ vectors[0] / np.linalg.norm(mean)
    number = {rows[0]: len(rows) for rows in members.values()}
    assert max(number.values()) > 1
    own = next(rows[0] for rows in members.values() if 0 in rows)
    expected = sorted(scores, key=lambda n: -scores[n])
    with open_gallery(place) as gallery:
        averages = average_tracklets(gallery)
        assert len(averages) == len(members)
        (found,) = find_matches(gallery, vectors[:1], 5, tracklets=averages)
        (others,) = find_matches(gallery, vectors[:1], 5, tracklets=averages, exclude=[["/0"]])
    assert [of.path for of in found] == [f"/{n}" for n in expected[:5]]
    best = [scores[n] for n in expected[:5]]
    np.testing.assert_allclose([of.score for of in found], best, atol=1e-6)
    assert [of.images for of in found] == [number[n] for n in expected[:5]]
    assert [of.path for of in others] == [f"/{n}" for n in expected if n != own][:5]


def test_embeddings_that_cancel_have_no_mean():
    message = refusal(groups.mean_vector, np.array([[1.0, 0.0], [-1.0, 0.0]]), "two images")
    assert "expected a mean embedding of two images, got embeddings that cancel" in message

import time

import numpy as np
from tests.inference.one_matrix import expected_embeddings, grey
from tests.server.conftest import EVIL, IMAGES, THERMAL, VISIBLE, png, search

from cmemd import Predictor
from cmemd.cli.main import main
from cmemd.gallery.search import find_matches
from cmemd.gallery.table import open_gallery, row_filter


def test_a_search_finds_what_the_command_finds(serve, made, tmp_path):
    (tmp_path / "q.png").write_bytes(THERMAL)
    query = Predictor(made / "model").embed([tmp_path / "q.png"], "thermal")
    client = serve(images_roots=(made / "images",))
    for fields, where in (
        ({}, {}),
        ({"camera": "c1"}, {"cameras": ["c1"]}),
        ({"camera": ["c1", EVIL]}, {"cameras": ["c1", EVIL]}),
        ({"top": 3}, {}),
    ):
        with open_gallery(made / "g") as opened:
            condition = row_filter(modality="visible", **where)
            (expected,) = find_matches(opened, query, int(fields.get("top", 10)), where=condition)
        found = search(client, **fields).json()["matches"]
        assert [of["path"] for of in found] == [of.path for of in expected], fields
        np.testing.assert_allclose(
            [of["score"] for of in found], [of.score for of in expected], 1e-6
        )
        assert [of["camera"] for of in found] == [of.camera for of in expected], fields


def test_times_limit_a_search(serve):
    client = serve()
    for since, until, rows in (
        ("2024-05-03T12:00Z", None, IMAGES - 2),
        (None, "2024-05-03T14:00+02:00", 2),
        ("2024-05-02", "2024-05-04", 2),
        ("2025-01-01", None, 0),
    ):
        fields = {name: text for name, text in (("since", since), ("until", until)) if text}
        found = search(client, **fields).json()
        assert found["candidates"] == rows == len(found["matches"][:rows]), fields
    assert search(client, since="2024-05-04", until="2024-05-02").status_code == 422


def test_below_the_threshold_there_is_no_match(serve):
    client = serve(threshold=0.0)
    scores = [of["score"] for of in search(client, threshold=-1).json()["matches"]]
    for threshold in (-1, scores[0], (scores[3] + scores[4]) / 2, 1):
        found = search(client, threshold=threshold).json()
        assert [of["score"] for of in found["matches"]] == [s for s in scores if s >= threshold]
        assert [of["score"] for of in found["below"]] == [s for s in scores if s < threshold]
        assert found["no_match"] == (not found["matches"])
    assert search(client).json()["threshold"] == 0


def test_an_embedding_is_the_networks(serve):
    answer = serve().post(
        "/v1/embed", files={"image": png(grey(1)[0])}, data={"modality": "thermal"}
    )
    np.testing.assert_allclose(
        answer.json()["embedding"], expected_embeddings(grey(1), 1)[0], atol=1e-5
    )


def test_an_image_that_looks_like_the_other_modality_is_named(serve):
    client = serve()
    for image, modality, suspect in (
        (THERMAL, "thermal", False),
        (VISIBLE, "thermal", True),
        (VISIBLE, "visible", False),
    ):
        found = search(client, image, modality, among="visible").json()
        assert found["looks_like_the_other_modality"] is suspect, modality


def test_a_commit_of_another_command_is_picked_up(serve, gallery):
    client = serve()
    assert main(["gallery", "remove", str(gallery), "--identity", "p1"]) == 0
    wait_for(lambda: client.get("/v1/gallery").json()["rows"] == IMAGES - 2)
    assert search(client).json()["candidates"] == IMAGES - 2
    assert main(["gallery", "compact", str(gallery)]) == 0  # the server does not keep the lock


def wait_for(true):
    end = time.monotonic() + 20
    while not true():
        assert time.monotonic() < end
        time.sleep(0.05)

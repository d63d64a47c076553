import argparse
import json
import re

import numpy as np
import pytest
from PIL import Image
from tests.gallery.stub import DIGEST, Predictor, make_images, rows_of, vector_of
from tests.inference.refusal import refusal

from cmemd.cli import search
from cmemd.cli.main import main
from cmemd.data.modality import Modality
from cmemd.errors import InputError
from cmemd.gallery.sources import parse_time
from cmemd.gallery.table import create_gallery

TIMES = [parse_time(f"2024-0{month}-01") for month in (5, 6)]


@pytest.fixture(autouse=True)
def _stub_model(monkeypatch):
    monkeypatch.setattr("cmemd.inference.predictor.Predictor", Predictor)


@pytest.fixture
def paths(tmp_path, monkeypatch):
    """Twelve images in a gallery ``g`` of the working folder: halves of either modality."""
    monkeypatch.chdir(tmp_path)
    paths = make_images(tmp_path / "images")
    with create_gallery("g", DIGEST, Predictor.size) as gallery:
        for half, modality in enumerate(Modality):
            labels = {"camera": str(half), "identity": f"p{half}", "time": TIMES[half]}
            gallery.add(rows_of(paths[6 * half :][:6], modality, **labels))
    return paths


def run(*words, model="model"):
    parser = argparse.ArgumentParser()
    search.add_arguments(parser)
    words = ["--model", model, "--modality", "thermal", "--gallery", "g", *map(str, words)]
    return search.run(parser.parse_args(words))


def found(capsys, *words):
    run(*words, "--json")
    return json.loads(capsys.readouterr().out)


def test_matches_are_ranked_by_cosine(paths, capsys):
    (answer,) = found(capsys, "--image", paths[3], "--top", 5, "--in", "all")
    cosines = {path: float(vector_of(path) @ vector_of(paths[3])) for path in paths}
    expected = sorted(paths, key=lambda path: -cosines[path])[:5]
    assert answer["query"] == paths[3]
    assert [match["path"] for match in answer["matches"]] == expected
    scores = [match["score"] for match in answer["matches"]]
    np.testing.assert_allclose(scores, [cosines[path] for path in expected], atol=1e-6)
    first = answer["matches"][0]
    assert (first["modality"], first["identity"], first["camera"]) == ("visible", "p0", "0")
    assert first["time"] == TIMES[0].isoformat()


def test_a_table_for_each_query_of_a_folder(paths, capsys):
    assert run("--image", "images/cam0", "--top", 1) == 0
    text = capsys.readouterr().out
    assert text.count("rank") == 6
    assert "images/cam0/p0/0000.jpg" in text
    assert "1.0000" in text


def test_filters_leave_the_rest_out(paths, capsys):
    for words, half in (
        (["--in", "all", "--camera", "1"], 1),
        (["--in", "visible"], 0),
        (["--in", "thermal"], 1),
        ([], 0),  # the modality that the query does not have
        (["--in", "all", "--since", "2024-06-01"], 1),
        (["--in", "all", "--until", "2024-06-01"], 0),
    ):
        (answer,) = found(capsys, "--image", paths[0], *words)
        assert {match["path"] for match in answer["matches"]} == {*paths[6 * half :][:6]}, words


def test_below_the_threshold_there_is_no_match(paths, capsys, tmp_path):
    make_images(tmp_path / "strange", 1)
    run("--image", tmp_path / "strange", "--threshold", 0.99)
    assert capsys.readouterr().out.splitlines()[1] == "no match"
    (answer,) = found(capsys, "--image", tmp_path / "strange", "--threshold", 0.99)
    assert answer["matches"] == []
    (answer,) = found(capsys, "--image", paths[0], "--threshold", 0.99)
    assert [match["path"] for match in answer["matches"]] == [paths[0]]


def test_a_sheet_is_drawn(paths, tmp_path):
    Image.new("RGB", (32, 64), "red").save(paths[0], "PNG")  # JPEG would change the red
    run("--image", paths[0], "--top", 3, "--sheet", tmp_path / "s.png")
    red = (np.asarray(Image.open(tmp_path / "s.png")) == [255, 0, 0]).all(axis=2)
    assert red.sum() == 2 * 64 * 128  # the query, and itself as its best match


def test_a_query_that_cannot_be_read_is_listed_and_the_others_answered(paths, capsys):
    open(paths[2], "w").close()
    run("--image", "images", "--top", 1)
    text = capsys.readouterr().out
    assert text.count("rank") == 11
    assert "1 images skipped" in text
    with pytest.raises(InputError, match="expected a readable query at .*, got none"):
        run("--image", paths[2])


def test_mistakes_are_told(paths):
    for words, model, message in (
        ([], "cd" * 32, "expected embeddings of model abab.* got model cdcd"),
        (["--top", "0"], "model", "expected --top of at least 1, got 0"),
        (["--gallery", "none"], "model", "expected a gallery at none, got none"),
        (["--image", "none.jpg"], "model", "expected images at none.jpg"),
        (["--since", "noon"], "model", "expected a time"),
        (["--sheet", "none/s.png"], "model", "expected to write a sheet to none/s.png, got No"),
    ):
        found = refusal(run, "--image", paths[0], *words, model=model)
        assert re.search(message, found), words


def test_a_user_sees_one_line(tmp_path, capsys):
    words = ["--gallery", str(tmp_path), "--model", "m", "--image", "q", "--modality", "thermal"]
    with pytest.raises(SystemExit, match="2"):
        main(["search", *words])
    error = capsys.readouterr().err
    assert error.startswith("error: expected a gallery at")
    assert error.count("\n") == 1

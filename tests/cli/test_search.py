import argparse
import json
import os
import re
import tracemalloc
import warnings
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tests.gallery.stub import DIGEST, SIZE, Predictor, make_images, rows_of, vector_of
from tests.inference.refusal import refusal

from cmemd.cli import search
from cmemd.cli.main import main
from cmemd.data.modality import Modality
from cmemd.errors import InputError
from cmemd.evaluation.thresholds import PairThreshold, write_thresholds
from cmemd.gallery.embeddings_file import write_embeddings
from cmemd.gallery.rows import make_rows
from cmemd.gallery.sources import Source, parse_time
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
            gallery.add_rows(rows_of(paths[6 * half :][:6], modality, **labels))
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
    # The query, and itself as its best match, which has a mark of 16 x 16 pixels.
    assert red.sum() == 2 * 64 * 128 - 16 * 16


def test_a_query_that_cannot_be_read_is_listed_and_the_others_answered(paths, capsys):
    open(paths[2], "w").close()
    run("--image", "images", "--top", 1)
    text = capsys.readouterr().out
    assert text.count("rank") == 11
    assert "1 images skipped" in text
    with pytest.raises(InputError, match="expected a readable query at .*, got none"):
        run("--image", paths[2])


def test_what_is_left_out_of_the_queries_is_counted_and_named(paths, capsys):
    os.mkfifo("images/pipe.jpg")
    Path("l.txt").write_text("images/cam0/p0/0000.jpg\nimages/pipe.jpg\nimages/none.jpg\n")
    assert run("--image", "l.txt", "--top", 1) == 0
    text = capsys.readouterr().out
    assert "left out, no file (1): images/none.jpg (l.txt, line 3)" in text
    assert "not a file (1): images/pipe.jpg (l.txt, line 2)" in text
    run("--image", "images", "--json")
    out, error = capsys.readouterr()
    assert len(json.loads(out)) == 12
    assert "not a file (1): images/pipe.jpg" in error
    assert "got none (a folder, pipe" in refusal(run, "--image", "images/pipe.jpg")


def thresholds(candidates=6, threshold=0.99, model=DIGEST):
    """A file for thermal queries among visible images."""
    pair = PairThreshold("thermal", "visible", candidates, 0.1, threshold)
    write_thresholds(Path("t.json"), model, [(pair, {})])
    return "t.json"


def test_a_threshold_file_is_used_for_its_own_model_pair_and_number_of_candidates(paths, capsys):
    (answer,) = found(capsys, "--image", paths[0], "--threshold", thresholds())
    assert [match["path"] for match in answer["matches"]] == [paths[0]]
    (answer,) = found(capsys, "--image", paths[0], "--threshold", thresholds(threshold=-1))
    assert len(answer["matches"]) == 6
    for words, options, message in (
        (["--in", "all"], {}, "a threshold for thermal queries among all images"),
        (["--in", "thermal"], {}, "a threshold for thermal queries among thermal images"),
        (["--modality", "visible"], {}, "a threshold for visible queries among thermal images"),
        ([], {"model": "cd" * 32}, "expected thresholds of model abab.* got those of model cdcd"),
        ([], {"candidates": 2}, "at most 4 candidates .* among 2, got 6, where about 27 % of"),
    ):
        words = ["--image", paths[0], "--threshold", thresholds(**options), *words]
        assert re.search(message, refusal(run, *words)), (words, options)


def test_other_numbers_of_candidates_are_warned_of(paths):
    for candidates, share in ((5, "11.9"), (3, "19"), (13, "4.75")):
        words = ["--image", paths[0], "--threshold", thresholds(candidates)]
        with pytest.warns(UserWarning, match=f"among {candidates} candidates; .* {share} %"):
            run(*words)
    for candidates in (6, 7, 12):
        with warnings.catch_warnings(action="error"):
            run("--image", paths[0], "--threshold", thresholds(candidates))


def test_a_threshold_that_is_no_number_and_no_file_is_refused(paths):
    for text in ("nan", "inf", "1.5", "-1.01", "1e999", "NaN"):
        found = refusal(run, "--image", paths[0], f"--threshold={text}")
        assert f"expected a --threshold from -1 to 1, the range of a cosine, got {text}" in found
    found = refusal(run, "--image", paths[0], "--threshold=-inf")
    assert "from -1 to 1" in found
    assert "expected thresholds at none.json" in (
        refusal(run, "--image", paths[0], "--threshold", "none.json")
    )
    for text in ("1", "-1", "0.5"):
        assert run("--image", paths[0], f"--threshold={text}") == 0


def test_strangers_do_not_match_by_a_threshold_of_another_pair(tmp_path, monkeypatch, capsys):
    """Thermal images are close to each other, so a mixed gallery needs another threshold.

    Among visible images the calibrated threshold keeps what was promised. On the whole gallery the
    same number lets most strangers pass; as a file it is refused there.
    """
    chance = np.random.default_rng(0)
    gap = np.zeros(SIZE)
    gap[0] = 1.0

    def draw(people, modality):
        side = gap if modality == Modality.THERMAL else -gap
        vectors = people + side + 0.1 * chance.standard_normal(people.shape)
        return np.float32(vectors / np.linalg.norm(vectors, axis=1, keepdims=True))

    def unit(count):
        vectors = chance.standard_normal((count, SIZE))
        return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)

    known, strangers = unit(60), unit(400)
    monkeypatch.chdir(tmp_path)
    vectors = {}
    with create_gallery("g", DIGEST, SIZE) as gallery:
        for modality in Modality:
            sources = [Source(f"/{modality.name}/{n}", str(n)) for n in range(len(known))]
            drawn = draw(known, modality)
            gallery.add_rows(make_rows(sources, drawn, modality, DIGEST))
            if modality == Modality.VISIBLE:
                write_embeddings([make_rows(sources, drawn, modality, DIGEST)], Path("v.npz"))
    probes = draw(np.concatenate([known, strangers[:200]]), Modality.THERMAL)
    sources = [Source(f"/probe/{n}", str(n)) for n in range(len(probes))]
    write_embeddings([make_rows(sources, probes, Modality.THERMAL, DIGEST)], Path("p.npz"))
    words = ["--probes", "p.npz", "--gallery", "v.npz", "--fpir", "0.1", "--output", "t.json"]
    assert main(["calibrate", *words]) == 0
    capsys.readouterr()
    for number, vector in enumerate(draw(strangers[200:], Modality.THERMAL)):
        Path(f"{number}.jpg").write_bytes(b"an image")
        vectors[str(tmp_path / f"{number}.jpg")] = vector
    monkeypatch.setattr("tests.gallery.stub.vector_of", lambda path: vectors[path])

    def passing(threshold, *words):
        words = ["--image", "*.jpg", "--threshold", threshold, *words]
        return sum(bool(answer["matches"]) for answer in found(capsys, *words)) / 200

    number = json.loads(Path("t.json").read_text())["thresholds"][0]["threshold"]
    assert passing("t.json") < 0.2
    assert passing(str(number)) == passing("t.json")
    assert passing(str(number), "--in", "all") > 0.5  # told to, it does
    assert "among all images" in refusal(passing, "t.json", "--in", "all")


def test_what_does_not_fit_the_gallery_is_told(paths):
    for words, message in (
        (["--camera", "99"], "expected images of camera 99 in gallery g, got none"),
        (["--camera", "0", "--camera", "99"], "expected images of camera 99 in gallery g"),
        (["--camera", "1"], "expected visible images to search in gallery g, got none of its 12"),
        (["--since", "2030-01-01"], "visible images .* from 2030-01-01 to now, got none of its 12"),
        (["--since", "2024-06-01", "--until", "2024-05-01"], "--since before --until"),
    ):
        assert re.search(message, refusal(run, "--image", paths[0], *words)), words


def test_top_is_bounded_by_the_gallery_and_by_the_sheet(paths, tmp_path, capsys):
    tracemalloc.start()
    (answer,) = found(capsys, "--image", paths[0], "--top", 10**12, "--sheet", tmp_path / "s.png")
    assert tracemalloc.get_traced_memory()[1] < 50 * 2**20
    tracemalloc.stop()
    assert len(answer["matches"]) == 6
    with Image.open(tmp_path / "s.png") as sheet:
        assert sheet.width < 8 * 100


def test_many_queries_are_searched_for_a_part_at_a_time(paths, capsys, monkeypatch):
    whole = found(capsys, "--image", "images")
    assert len(whole) == 12
    monkeypatch.setattr(search, "_CHUNK", 5)
    assert found(capsys, "--image", "images") == whole


def test_only_a_sheet_is_replaced_and_nothing_is_searched_before(paths, tmp_path, monkeypatch):
    run("--image", paths[0], "--sheet", "s.png")
    run("--image", paths[1], "--sheet", "s.png")
    Image.new("RGB", (4, 4)).save("mine.png")
    Path("text.png").write_text("mine")
    monkeypatch.setattr("cmemd.inference.predictor.Predictor", None)
    for name in ("mine.png", "text.png"):
        before = Path(name).read_bytes()
        message = refusal(run, "--image", paths[0], "--sheet", name)
        assert "expected a new file, or one that the same command wrote" in message
        assert Path(name).read_bytes() == before


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


def test_several_images_are_one_query_by_the_mean_of_their_embeddings(paths, capsys):
    mean = sum(vector_of(path) for path in paths[:3])
    mean /= np.linalg.norm(mean)
    expected = sorted(paths, key=lambda path: -float(vector_of(path) @ mean))
    for words in (["--image", *paths[:3]], ["--image", "images/cam0/p0", "--group", "all"]):
        (answer,) = found(capsys, *words, "--in", "all", "--top", 12)
        assert answer["images"] == paths[:3], words
        assert [match["path"] for match in answer["matches"]] == expected, words
    (answer,) = found(capsys, "--image", *paths[:3], "--in", "all", "--exclude-self")
    others = [path for path in expected if path not in paths[:3]]
    assert [match["path"] for match in answer["matches"]] == others
    run("--image", *paths[:3])
    assert capsys.readouterr().out.startswith("mean of 3 images: images/cam0")
    assert len(found(capsys, "--image", *paths[:3], "--group", "image")) == 3


def test_one_per_and_tracklets_need_labels(paths, capsys):
    (answer,) = found(capsys, "--image", paths[0], "--in", "all", "--one-per", "identity")
    assert sorted(match["identity"] for match in answer["matches"]) == ["p0", "p1"]
    pattern = "(?P<camera>cam[0-9])/(?P<tracklet>p[0-9])"
    answers = found(capsys, "--image", "images", "--group", "tracklet", "--pattern", pattern)
    assert [len(answer["images"]) for answer in answers] == [3, 3, 3, 3]
    for words, message in (
        (["--one-per", "tracklet"], "expected images with a label tracklet for --one-per"),
        (["--group", "tracklet"], "expected tracklets of queries or in gallery g, got none"),
    ):
        assert message in refusal(run, "--image", paths[0], *words), words

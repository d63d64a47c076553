import argparse
import os
import re
from pathlib import Path

import numpy as np
import pytest
from tests.gallery.stub import Predictor, make_images, vector_of
from tests.inference.refusal import refusal

from cmemd.cli import embed
from cmemd.cli.main import main
from cmemd.data.image_files import Reason
from cmemd.errors import InputError
from cmemd.gallery.embeddings_file import read_embeddings
from cmemd.gallery.table import open_gallery

PATTERN = ["--pattern", r"cam(?P<camera>\d)/(?P<identity>p\d)/"]


@pytest.fixture(autouse=True)
def _stub_model(monkeypatch):
    monkeypatch.setattr("cmemd.inference.predictor.Predictor", Predictor)


def run(*words, modality="visible", model="model"):
    parser = argparse.ArgumentParser()
    embed.add_arguments(parser)
    words = [str(word) for word in ("--model", model, "--modality", modality, *words)]
    return embed.run(parser.parse_args(words))


def test_images_get_into_a_gallery_with_their_labels(tmp_path, capsys):
    paths = make_images(tmp_path / "images")
    assert run("--images", tmp_path / "images", "--gallery", tmp_path / "g", *PATTERN) == 0
    assert "12 embeddings added" in capsys.readouterr().out
    with open_gallery(tmp_path / "g") as gallery:
        ((numbers, vectors),) = gallery.batches()
        rows = list(gallery.labels(numbers.tolist()).values())
    assert [row["path"] for row in rows] == paths
    assert (rows[0]["camera"], rows[0]["identity"], rows[0]["modality"]) == ("0", "p0", "visible")
    np.testing.assert_array_equal(vectors, np.stack([vector_of(path) for path in paths]))


def test_nothing_is_embedded_twice(tmp_path, capsys, monkeypatch):
    paths = make_images(tmp_path / "images")
    run("--images", tmp_path / "images/cam0", "--gallery", tmp_path / "g")
    seen = []
    monkeypatch.setattr("tests.gallery.stub.vector_of", lambda p: seen.append(p) or vector_of(p))
    run("--images", tmp_path / "images", "--gallery", tmp_path / "g")
    assert seen == [path for path in paths if "cam1" in path]
    assert "6 embeddings added" in capsys.readouterr().out
    run("--images", tmp_path / "images", "--gallery", tmp_path / "g")
    assert "0 embeddings added to" in (said := capsys.readouterr().out)
    assert "12 unchanged; 12 in all" in said


def test_an_interrupted_run_keeps_what_it_committed(tmp_path, monkeypatch):
    paths = make_images(tmp_path / "images")
    monkeypatch.setattr("cmemd.gallery.embedding.CHUNK", 5)

    def interrupted(path):
        if path == paths[8]:
            raise KeyboardInterrupt
        return vector_of(path)

    with monkeypatch.context() as patch:
        patch.setattr("tests.gallery.stub.vector_of", interrupted)
        with pytest.raises(KeyboardInterrupt):
            run("--images", tmp_path / "images", "--gallery", tmp_path / "g")
    with open_gallery(tmp_path / "g") as gallery:
        assert sorted(gallery.modalities()) == paths[:5]
    run("--images", tmp_path / "images", "--gallery", tmp_path / "g")
    with open_gallery(tmp_path / "g") as gallery:
        assert sorted(gallery.modalities()) == paths


@pytest.mark.parametrize("name", ["f.npz", "f.parquet"])
def test_images_get_into_a_file(tmp_path, name):
    paths = make_images(tmp_path / "images")
    run("--images", tmp_path / "images", "--output", tmp_path / name, modality="thermal")
    columns = read_embeddings(tmp_path / name)
    assert columns["path"].tolist() == paths
    assert set(columns["modality"]) == {"thermal"}


@pytest.mark.parametrize("name", ["f.npz", "f.parquet"])
def test_the_next_run_continues_an_interrupted_file(tmp_path, monkeypatch, name):
    monkeypatch.setattr("cmemd.gallery.embedding.CHUNK", 5)
    paths = make_images(tmp_path / "images")
    embedded = []

    def interrupted(path):
        if path == paths[8] and path not in embedded:
            embedded.append(path)
            raise KeyboardInterrupt
        embedded.append(path)
        return vector_of(path)

    monkeypatch.setattr("tests.gallery.stub.vector_of", interrupted)
    words = ["--images", tmp_path / "images", "--output", tmp_path / name]
    with pytest.raises(KeyboardInterrupt):
        run(*words, "--pattern", "/(?P<identity>cam[0-9])/")
    assert not (tmp_path / name).exists()
    Path(paths[0]).unlink()  # embedded already, no longer asked for
    run(*words, "--pattern", "/(?P<identity>p[0-9])/")
    columns = read_embeddings(tmp_path / name)
    assert columns["path"].tolist() == paths[1:]
    assert set(columns["identity"]) == {"p0", "p1"}
    np.testing.assert_array_equal(columns["vector"], np.stack([vector_of(p) for p in paths[1:]]))
    assert [embedded.count(path) for path in paths[:5]] == [1] * 5
    assert sorted(p.name for p in tmp_path.iterdir()) == [name, "images"]


def test_names_with_spaces_quotes_and_letters(tmp_path):
    folder = tmp_path / 'it\'s "ü" 人'
    paths = make_images(folder, 3)
    run("--images", folder, "--gallery", tmp_path / "g é")
    run("--images", folder, "--gallery", tmp_path / "g é")
    with open_gallery(tmp_path / "g é") as gallery:
        assert sorted(gallery.modalities()) == paths


def test_images_that_cannot_be_read_are_listed_and_tried_again(tmp_path, capsys):
    paths = make_images(tmp_path / "images")
    open(paths[3], "w").close()
    run("--images", tmp_path / "images", "--gallery", tmp_path / "g")
    output = capsys.readouterr().out
    assert "11 embeddings added" in output
    assert f"skipped {paths[3]}: expected an image" in output
    assert "1 images skipped" in output
    make_images(tmp_path / "images")
    run("--images", tmp_path / "images", "--gallery", tmp_path / "g")
    assert "1 embeddings added" in capsys.readouterr().out


@pytest.mark.parametrize("name", ["f.npz", "f.parquet"])
def test_where_no_image_can_be_read_the_list_comes_before_the_error(tmp_path, capsys, name):
    paths = make_images(tmp_path / "images", 2)
    for path in paths:
        open(path, "w").close()
    with pytest.raises(InputError, match="got no readable image: see the list above"):
        run("--images", tmp_path / "images", "--output", tmp_path / name)
    output = capsys.readouterr().out
    assert all(f"skipped {path}: expected an image" in output for path in paths)


def test_what_is_left_out_is_counted_and_named_and_no_pipe_is_waited_for(tmp_path, capsys):
    make_images(tmp_path / "images")
    os.mkfifo(tmp_path / "images/pipe.jpg")
    (tmp_path / "images/a.raw").touch()
    (tmp_path / "images/b.raw").symlink_to("a.raw")
    (tmp_path / "l.txt").write_text("images/cam0/p0/0000.jpg\nimages/pipe.jpg\nimages/none.jpg\n")
    for what, lines in (
        (
            "images",
            [
                f"{Reason.EXTENSION.words} (2): {tmp_path}/images/a.raw, ",
                f"a folder, pipe, socket or device, not a file (1): {tmp_path}/images/pipe.jpg\n",
            ],
        ),
        (
            "l.txt",
            [
                f"no file (1): {tmp_path}/images/none.jpg ({tmp_path}/l.txt, line 3)\n",
                f"not a file (1): {tmp_path}/images/pipe.jpg ({tmp_path}/l.txt, line 2)\n",
            ],
        ),
    ):
        assert run("--images", tmp_path / what, "--gallery", tmp_path / "g") == 0
        output = capsys.readouterr().out
        for line in lines:
            assert line in output, what
        raising = ("--on-corrupt", "raise", "--output", tmp_path / "f.npz")
        assert "pipe.jpg" in refusal(run, "--images", tmp_path / what, *raising), what


def test_only_files_that_are_no_images_end_before_the_model_is_read(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("cmemd.inference.predictor.Predictor", None)
    (tmp_path / "images").mkdir()
    (tmp_path / "images/a.raw").touch()
    os.mkfifo(tmp_path / "images/pipe.jpg")
    os.mkfifo(tmp_path / "l.txt")
    (tmp_path / "m.txt").write_text("images/pipe.jpg\n# a comment\n")
    for what in ("images", "images/*", "images/a.raw", "images/pipe.jpg", "l.txt", "m.txt", ""):
        words = ["--model", "m", "--modality", "visible", "--gallery", str(tmp_path / "g")]
        with pytest.raises(SystemExit, match="2"):
            main(["embed", *words, "--images", what and str(tmp_path / what)])
        error = capsys.readouterr().err
        assert error.startswith("error: expected images"), what
        assert error.count("\n") == 1, what


def test_mistakes_are_told_and_change_nothing(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    make_images(tmp_path / "images")
    run("--images", "images", "--gallery", "g")
    for words, options, message in (
        (["--gallery", "g"], {"model": "cd" * 32}, "expected embeddings of model abab.* got model"),
        (["--gallery", "g"], {"modality": "thermal"}, "to be visible, as in gallery .* got therm"),
        (["--output", "f.csv"], {}, "expected a file .npz or .parquet, got f.csv"),
        (["--gallery", "images/cam0/p0/0000.jpg"], {}, "expected to write gallery"),
    ):
        assert re.search(message, refusal(run, "--images", "images", *words, **options)), words
        with open_gallery("g") as gallery:
            assert set(gallery.modalities().values()) == {"visible"}, words
            assert len(gallery) == 12, words


def test_an_empty_folder_is_told_before_the_model_is_read(tmp_path, monkeypatch):
    monkeypatch.setattr("cmemd.inference.predictor.Predictor", None)
    with pytest.raises(InputError, match="expected images at .* got none"):
        run("--images", tmp_path, "--gallery", tmp_path / "g")


def test_one_place_and_a_modality_are_needed(capsys):
    for words in ([], ["--gallery", "g", "--output", "f.npz"]):
        with pytest.raises(SystemExit, match="2"):
            run("--images", "x", *words)
    for words in ([], ["--modality", "infrared"]):
        capsys.readouterr()
        with pytest.raises(SystemExit, match="2"):
            main(["embed", "--model", "m", "--images", "x", "--gallery", "g", *words])
        assert "--modality" in capsys.readouterr().err, words

import argparse
import json

import numpy as np
import pytest
from tests.gallery.stub import DIGEST
from tests.inference.refusal import refusal

from cmemd.cli import calibrate
from cmemd.data.modality import Modality
from cmemd.errors import InputError
from cmemd.evaluation.thresholds import read_threshold
from cmemd.gallery.embeddings_file import write_embeddings
from cmemd.gallery.rows import make_rows
from cmemd.gallery.sources import Source


def write(path, names, degrees, modality=Modality.THERMAL, model=DIGEST, prefix="probe"):
    """Embeddings in the plane; a name is a person, or "" for one without."""
    angles = np.radians(degrees)
    vectors = np.stack([np.cos(angles), np.sin(angles)], axis=1).astype(np.float32)
    sources = [Source(f"/{prefix}/{n}", name or None) for n, name in enumerate(names)]
    write_embeddings([make_rows(sources, vectors, modality, model)], path)
    return path


@pytest.fixture
def gallery(tmp_path):
    """Ann at 0 degrees and Bob at 90."""
    return write(tmp_path / "g.npz", ["ann", "bob"], [0, 90], Modality.VISIBLE, prefix="gallery")


def run(probes, gallery, *words):
    parser = argparse.ArgumentParser()
    calibrate.add_arguments(parser)
    words = ["--probes", probes, "--gallery", gallery, *words]
    return calibrate.run(parser.parse_args([str(word) for word in words]))


def test_a_case_by_hand(tmp_path, gallery, capsys):
    # Strangers at 20, 30, 40, 45 degrees: nearest at 20, 30, 40, 45; one in four may pass, so the
    # threshold is just above cos 30. Ann at 10 and 35 degrees: one of two is missed.
    names, degrees = ["ann", "ann", "c", "d", "e", "f"], [10, 35, 20, 30, 40, 45]
    probes = write(tmp_path / "p.parquet", names, degrees)
    assert run(probes, gallery, "--fpir", 0.25, "--json") == 0
    (result,) = json.loads(capsys.readouterr().out)
    assert (result["probes"], result["gallery"]) == ("thermal", "visible")
    assert result["threshold"] == pytest.approx(np.cos(np.radians(30)), abs=1.1e-6)
    assert (result["fpir"], result["fnir"]) == (0.25, 0.5)
    assert (result["mated"], result["non_mated"]) == (2, 4)
    run(probes, gallery, "--fpir", 0.25)
    text = capsys.readouterr().out
    assert "0.866026" in text
    assert "50.00 % (50.00 to 50.00)" in text


def test_each_pair_of_modalities_has_its_own(tmp_path, gallery, capsys):
    names = ["ann", "c", "d"]
    thermal = write(tmp_path / "t.npz", names, [10, 40, 45])
    visible = write(tmp_path / "v.npz", names, [10, 20, 45], Modality.VISIBLE, prefix="visible")
    run(thermal, gallery, "--probes", visible, "--fpir", 0.5, "--json")
    results = json.loads(capsys.readouterr().out)
    assert [(r["probes"], r["gallery"]) for r in results] == [
        ("thermal", "visible"),
        ("visible", "visible"),
    ]
    # One of two may pass: thresholds just above the second nearest stranger, at 45 degrees.
    assert [r["threshold"] for r in results] == [0.707107, 0.707107]
    assert [r["fnir"] for r in results] == [0, 0]


def test_mistakes_are_told(tmp_path, gallery):
    for names, options, message in (
        (["ann", "c"], {"model": "cd" * 32}, "expected embeddings of one model, got 2 models"),
        (["ann", ""], {}, "expected an identity for every image of the probes, got 1 without"),
        (["ann", "c"], {"prefix": "gallery"}, "expected probes that are not in the gallery, got 2"),
        (["ann", "bob"], {}, "expected at least 2 probes of people who are not in the gallery"),
        (["c", "d"], {}, "expected some probes of people who are in the gallery"),
    ):
        probes = write(tmp_path / "p.npz", names, [10, 20], **options)
        assert message in refusal(run, probes, gallery, "--fpir", 0.5), (names, options)


def test_embeddings_of_two_sizes_are_told(tmp_path, gallery):
    columns = dict(np.load(gallery))
    np.savez(tmp_path / "p.npz", **{**columns, "vector": np.eye(2, 3, dtype=np.float32)})
    with pytest.raises(InputError, match="expected embeddings of one size"):
        run(gallery, gallery, "--probes", tmp_path / "p.npz")


def test_the_file_for_a_search_says_what_each_threshold_belongs_to(tmp_path, gallery, capsys):
    names, degrees = ["ann", "c", "d", "e", "f"], [10, 20, 30, 40, 45]
    probes = write(tmp_path / "p.npz", names, degrees)
    for _ in range(2):  # its own file is replaced
        run(probes, gallery, "--fpir", 0.25, "--output", tmp_path / "t.json")
    assert f"wrote {tmp_path}/t.json" in capsys.readouterr().out
    found = read_threshold(tmp_path / "t.json", DIGEST, "thermal", "visible")
    assert (found.candidates, found.rate, found.threshold) == (2, 0.25, 0.866026)
    (entry,) = json.loads((tmp_path / "t.json").read_text())["thresholds"]
    assert (entry["measured"]["fpir"], entry["measured"]["top"]) == (0.25, 10)


def test_a_file_of_the_users_is_found_before_any_work(tmp_path, gallery, monkeypatch):
    (tmp_path / "mine.json").write_text("mine")
    monkeypatch.setattr(calibrate, "_read", None)
    message = refusal(run, gallery, gallery, "--output", tmp_path / "mine.json")
    assert "expected a new file, or one that the same command wrote" in message
    assert (tmp_path / "mine.json").read_text() == "mine"


def test_arguments_out_of_range_are_told(tmp_path, gallery):
    probes = write(tmp_path / "p.npz", ["ann", "c", "d"], [10, 20, 30])
    for words, message in (
        (["--fpir", "nan"], "a rate between 0 and 1, got nan"),
        (["--fpir", "inf"], "a rate between 0 and 1"),
        (["--fpir", "0"], "a rate between 0 and 1"),
        (["--top", "0"], "--top of at least 1, got 0"),
        (["--gallery", gallery], "each image of the gallery once, got 2 more often"),
        (["--probes", probes], "each image of the probes once, got 3 more often"),
        (["--output", tmp_path / "none/t.json"], "expected a folder at"),
    ):
        assert message in refusal(run, probes, gallery, *words), words


def test_a_threshold_that_no_score_can_reach_is_refused(tmp_path, gallery):
    probes = write(tmp_path / "p.npz", ["ann", "c", "d"], [10, 0, 0])  # strangers like Ann's image
    message = refusal(run, probes, gallery, "--fpir", 0.5)
    assert "expected a threshold of at most 1 for a rate of 0.5, got 1.00000" in message


def test_vectors_that_are_not_of_unit_length_are_told(tmp_path, gallery):
    columns = dict(np.load(gallery))
    for value in (np.nan, np.inf, 1.5e35, 0.5):
        vectors = columns["vector"].copy()
        vectors[1] = [0, value]
        np.savez(tmp_path / "p.npz", **{**columns, "vector": vectors})
        message = refusal(run, tmp_path / "p.npz", gallery)
        assert "expected embeddings of unit length, got one of length" in message, value
        assert "for /gallery/1 in" in message, value

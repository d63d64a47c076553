"""``cmemd score --queries --gallery``: what ``cmemd embed --output`` writes is scored."""

from datetime import datetime, timezone

import numpy as np
import pytest
from tests.cases import cases
from tests.gallery.stub import Predictor

from cmemd.cli.main import main
from cmemd.data.modality import Modality
from cmemd.evaluation.results import read_per_query, read_results
from cmemd.gallery.embeddings_file import write_embeddings
from cmemd.gallery.rows import make_rows
from cmemd.gallery.sources import Source

PEOPLE = 12


def write(path, modality, people, model="m", *, images=2, camera="north", seed=0, shift=0.0):
    """Write embeddings of people, who keep their places from file to file."""
    generator = np.random.default_rng(seed)
    places = np.random.default_rng(99).normal(size=(100, 8))
    sources, vectors = [], []
    for person in people:
        for image in range(images):
            name = f"/{modality.name}/{camera}/{person}-{image}.png"
            time = datetime.fromtimestamp(60 * image, timezone.utc)
            sources.append(Source(name, f"p{person:02}", camera, time, f"t{person}"))
            vectors.append(places[person] + generator.normal(scale=0.4, size=8) + shift)
    vectors = np.array(vectors, dtype=np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    write_embeddings([make_rows(sources, vectors, modality, model)], path)
    return path


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("embeddings")
    return {
        "q": write(folder / "q.parquet", Modality.THERMAL, range(PEOPLE), camera="south"),
        "g": write(folder / "g.npz", Modality.VISIBLE, range(8), seed=1),
        "qv": write(folder / "qv.npz", Modality.VISIBLE, range(8), seed=2, camera="east"),
        "gt": write(folder / "gt.npz", Modality.THERMAL, range(8), seed=3, camera="west"),
        "other": write(folder / "o.parquet", Modality.VISIBLE, range(8), "n"),
        "vv": write(folder / "vv.parquet", Modality.VISIBLE, range(40, 46), seed=4),
        "vt": write(folder / "vt.parquet", Modality.THERMAL, range(40, 46), seed=5),
    }


def call(*words) -> int:
    try:
        return main(["score", *map(str, words)])
    except SystemExit as ended:
        return ended.code


def test_embeddings_are_scored_under_the_users_name(files, tmp_path, capsys):
    out, det = tmp_path / "r.json", tmp_path / "det.png"
    assert not call(
        "--protocol", "own-t2v", "--queries", files["q"], "--gallery", files["g"],
        "--name", "Harbour", "--json", out, "--det", det, "--fpir", "0.25",
    )  # fmt: skip
    printed = capsys.readouterr().out
    assert printed.startswith("Harbour\n")
    assert "Non-mated" in printed
    document = read_results(out)
    (entry,) = document["scores"]
    assert entry["metric"] == "cosine"
    assert entry["counts"]["queries_without_positive"] == 2 * (PEOPLE - 8)
    assert entry["open_set"]["mated"] == 16
    assert entry["open_set"]["points"][0]["fpir"] == 25.0
    assert [part["file"] for part in document["run"]["queries"]] == ["q.parquet"]
    assert len(read_per_query(out, document)) == 1
    assert det.read_bytes().startswith(b"\x89PNG")


def test_what_embed_writes_is_what_score_reads(tmp_path, monkeypatch, capsys):
    """Two commands: a list's labels decide who is right, whatever the format of the file."""
    monkeypatch.setattr("cmemd.inference.predictor.Predictor", Predictor)
    rows = ["path,identity,modality,camera,time,split,tracklet"]
    for person in range(6):
        for modality, camera in (("thermal", "south"), ("visible", "north")):
            (tmp_path / f"{modality}{person}.jpg").write_bytes(b"an image")
            split = "test" if person < 4 else "val"
            time = 60 * (person % 4)
            rows.append(f"{modality}{person}.jpg,p{person},{modality},{camera},{time},{split},t")
    (tmp_path / "people.csv").write_text("\n".join(rows) + "\n")
    entries = []
    for suffix in ("parquet", "npz"):
        sides = []
        for word, modality, splits in (
            ("--queries", "thermal", ["test", "val"]),
            ("--gallery", "visible", ["test"]),
        ):
            file = tmp_path / f"{modality}.{suffix}"
            words = ["embed", "--model", "model", "--modality", modality, "--output", file]
            words += ["--images", tmp_path / "people.csv", "--split", *splits]
            assert main(list(map(str, words))) == 0, modality
            sides += [word, file]
        out = tmp_path / f"{suffix}.json"
        assert not call("--protocol", "own-t2v", *sides, "--within", "30", "--json", out)
        entries += read_results(out)["scores"]
    assert entries[0] == entries[1]
    assert entries[0]["counts"]["queries"] == 6
    assert entries[0]["counts"]["gallery"] == 4
    assert (entries[0]["open_set"]["mated"], entries[0]["open_set"]["non_mated"]) == (4, 2)
    assert entries[0]["mean"]["rank1"] == 100.0  # within half a minute there is the person alone


def test_mixed_galleries_take_several_files_and_remedies(files, tmp_path):
    out = tmp_path / "r.json"
    sides = ["--queries", files["q"], "--queries", files["qv"]]
    sides += ["--gallery", files["g"], "--gallery", files["gt"]]
    held = ["--validation", files["vv"], "--validation", files["vt"]]
    assert not call("--protocol", "own-mixed", *sides, *held, "--ratio", "0.5", "--json", out)
    entries = read_results(out)["scores"]
    assert len(entries) == 4
    assert all(0 <= entry["own_modality_first"]["mean"] <= 100 for entry in entries)
    assert entries[1]["reranking"]
    assert [entry["remedy"]["name"] for entry in entries[2:]] == ["balanced", "centred"]
    assert entries[0]["rules"]["ratio"] == 0.5


@cases(
    ("words", "message"),
    [
        (["--queries", "q"], "either --features, or --queries and --gallery, got --queries"),
        ([], "either --features, or --queries and --gallery, got none"),
        (["--queries", "q", "--gallery", "other"], "embeddings of one model"),
        (["--queries", "g", "--gallery", "g"], "thermal queries for own-t2v"),
        (["--queries", "q", "--gallery", "q"], "visible gallery images for own-t2v"),
        (["--queries", "q", "--gallery", "g", "--cmc", "people"], "a CMC over identities"),
        (["--queries", "q", "--gallery", "g", "--within", "-1"], "a time window"),
        (["--queries", "q", "--gallery", "g", "--ratio", "0.2"], "a ratio for mixed protocols"),
        (["--queries", "q", "--gallery", "g", "--validation", "vv"], "remedies with mixed"),
        (["--queries", "q", "--gallery", "g", "--det", "det.jpg"], "a name that ends in .png"),
    ],
)
def test_bad_input_is_one_line_and_status_2(words, message, files, capsys):
    shown = [files.get(word, word) for word in words]
    assert call("--protocol", "own-t2v", *shown) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1


def test_validation_people_under_test_are_refused(files, capsys):
    sides = ["--queries", files["q"], "--queries", files["qv"]]
    sides += ["--gallery", files["g"], "--gallery", files["gt"]]
    assert call("--protocol", "own-mixed", *sides, "--validation", files["g"]) == 2
    assert "validation identities that are not under test" in capsys.readouterr().err


def test_embeddings_need_protocols_of_ones_own(files, capsys):
    assert call("--protocol", "regdb-t2v", "--queries", files["q"], "--gallery", files["g"]) == 2
    assert "with own-... protocols" in capsys.readouterr().err


def test_an_unknown_option_is_refused(files, capsys):
    assert call("--protocol", "own-t2v", "--ignore-same-person") == 2
    assert "--ignore-same-person" in capsys.readouterr().err

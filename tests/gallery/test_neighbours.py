"""A gallery is an ordinary LanceDB table with documented columns, and grows from earlier ones."""

import csv
import re
import zipfile
from pathlib import Path

import lancedb
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from tests.gallery.stub import DIGEST, SIZE, rows_of, vector_of
from tests.inference.refusal import refusal

from cmemd.cli.main import main
from cmemd.gallery.embeddings_file import own_model, read_rows, write_embeddings
from cmemd.gallery.rows import row_schema
from cmemd.gallery.search import find_matches
from cmemd.gallery.table import create_gallery, open_gallery

DOCUMENT = Path(__file__).parents[2] / "docs/gallery.md"


@pytest.fixture
def place(tmp_path):
    with create_gallery(tmp_path / "g", DIGEST, SIZE) as gallery:
        gallery.add_rows(rows_of(["/a", "/b"], identity="1", tracklet="7"))
    return tmp_path / "g"


def told(words, capsys):
    """The one line of a command that refuses its words."""
    capsys.readouterr()
    with pytest.raises(SystemExit, match="2"):
        main(words)
    error = capsys.readouterr().err
    assert error.count("\n") == 1, error
    return error


def test_the_documented_columns_are_the_tables_for_plain_lancedb_and_pyarrow(place):
    documented = re.findall(r"(?m)^\| `(\w+)` \| (\w+)", DOCUMENT.read_text())
    table = lancedb.connect(place).open_table("gallery")
    assert [name for name, _ in documented] == table.schema.names == row_schema("", 1).names
    for name, kind in documented:
        assert kind in str(table.schema.field(name).type), name
    rows = table.to_arrow()
    assert rows["path"].to_pylist() == ["/a", "/b"]
    assert rows.schema.metadata[b"cmemd.model"] == DIGEST.encode()
    (first,) = table.search(vector_of("/b")).distance_type("dot").limit(1).to_list()
    assert first["path"] == "/b"
    out = place.parent / "f.parquet"
    assert main(["gallery", "export", str(place), "--output", str(out)]) == 0
    read = pq.read_table(out)
    assert read.schema.names == row_schema("", 1).names
    np.testing.assert_array_equal(read["vector"].to_pylist()[0], vector_of("/a"))


def test_a_gallery_without_tracklets_is_read_and_gets_them_with_the_first_change(tmp_path):
    rows = rows_of(["/a", "/b"], identity="1").drop_columns("tracklet")
    lancedb.connect(tmp_path / "g").create_table("gallery", rows)
    with open_gallery(tmp_path / "g") as gallery:
        (matches,) = find_matches(gallery, vector_of("/a")[None], 1, one_per="tracklet")
        assert (matches[0].path, matches[0].tracklet) == ("/a", None)
        assert list(gallery.check()) == []
        assert gallery.info()["tracklets"] == gallery.labelled("tracklet") == 0
        assert [len(part) for part in gallery.rows()] == [2]
    names = lancedb.connect(tmp_path / "g").open_table("gallery").schema.names
    assert "tracklet" not in names  # it was only read
    (tmp_path / "l.csv").write_text("path,tracklet\n/b,9\n")
    words = ["gallery", "label", str(tmp_path / "g"), "--list", str(tmp_path / "l.csv")]
    assert main(words) == 0
    with open_gallery(tmp_path / "g") as gallery:
        assert list(gallery.check()) == []
        rows = pa.concat_tables(gallery.rows())
        assert dict(zip(*rows.select(["path", "tracklet"]).to_pydict().values(), strict=True)) == {
            "/a": None,
            "/b": "9",
        }
        assert gallery.info()["tracklets"] == 1


def test_a_tracklet_that_another_program_changed_is_found(place):
    for value in ("8", None):
        table = lancedb.connect(place).open_table("gallery")
        table.update(where="path = '/a'", values={"tracklet": value})
        with open_gallery(place) as gallery:
            assert list(gallery.check()) == [("checksum", "/a")], value
            message = refusal(find_matches, gallery, vector_of("/a")[None], 1)
        assert "expected the row of /a" in message, value


def test_files_of_an_earlier_version_are_read(tmp_path):
    rows = rows_of(["/a", "/b"], identity="1")
    pq.write_table(rows.drop_columns("tracklet"), tmp_path / "f.parquet")
    write_embeddings([rows], tmp_path / "whole.npz")
    with (
        zipfile.ZipFile(tmp_path / "whole.npz") as whole,
        zipfile.ZipFile(tmp_path / "f.npz", "w") as archive,
    ):
        archive.comment = whole.comment
        for name in set(whole.namelist()) - {"tracklet.npy"}:
            archive.writestr(name, whole.read(name))
    for name in ("f.parquet", "f.npz"):
        (read,) = read_rows(tmp_path / name)
        assert read.to_pylist() == rows.to_pylist(), name
        assert own_model(tmp_path / name) == DIGEST, name


def test_labels_are_set_by_path_and_missing_paths_refused_before_any_change(
    place, tmp_path, capsys
):
    labels = tmp_path / "l.csv"
    labels.write_text("path,identity,camera\n/a,9,c\n/b,1,\n/c,2,\n")
    words = ["gallery", "label", str(place), "--list", str(labels)]
    with open_gallery(place) as gallery:
        before = gallery.version
    assert "got 1 others of 3, first /c" in told(words, capsys)
    with open_gallery(place) as gallery:
        assert gallery.version == before
    assert main([*words, "--skip-missing", "--json"]) == 0
    assert capsys.readouterr().out == '{"labelled": 1, "unchanged": 1, "missing": 1}\n'
    with open_gallery(place) as gallery:
        assert list(gallery.check()) == []
        rows = pa.concat_tables(gallery.rows())
    found = {row["path"]: (row["identity"], row["camera"]) for row in rows.to_pylist()}
    assert found == {"/a": ("9", "c"), "/b": ("1", None)}
    assert rows["tracklet"].to_pylist() == ["7", "7"]
    for text, message in (
        ("path\n/a\n", "expected columns path and any of identity"),
        ("path,identiy\n/a,1\n", "expected columns path and any of identity"),
        ("path,time\n/a,noon\n", "expected a time such as"),
        ("path,identity\n/a,1\n/a,2\n", "expected one set of labels for /a"),
        ("path,identity\n/z,1\n", "correct the paths"),
        ("path,identity\n", "correct the paths"),
        ("", "expected columns path"),
    ):
        labels.write_text(text)
        assert message in told(words, capsys), text
    labels.unlink()
    assert "expected a list of labels at" in told(words, capsys)


def test_an_export_is_a_new_file_of_checked_rows(place, tmp_path, capsys):
    for name in ("f.parquet", "f.npz", "f.csv"):
        words = ["gallery", "export", str(place), "--output", str(tmp_path / name)]
        assert main([*words, "--path", "/b"]) == 0, name
        before = (tmp_path / name).read_bytes()
        assert "expected a new file" in told(words, capsys), name
        assert (tmp_path / name).read_bytes() == before, name
        if name != "f.csv":
            (rows,) = read_rows(tmp_path / name)
            expected = rows_of(["/b"], identity="1", tracklet="7")
            assert rows.to_pylist() == expected.to_pylist(), name
    with open(tmp_path / "f.csv") as file:
        (row,) = csv.DictReader(file)
    assert (row["path"], row["identity"], row["tracklet"]) == ("/b", "1", "7")
    assert main(["gallery", "label", str(place), "--list", str(tmp_path / "f.csv")]) == 0
    assert capsys.readouterr().out == "labelled 0, unchanged 1, missing 0\n"
    words = ["gallery", "export", str(place), "--output"]
    assert "expected a file .npz or" in told([*words, str(tmp_path / "f.txt")], capsys)
    words += [str(tmp_path / "n.csv"), "--path", "/z"]
    assert "expected rows to export" in told(words, capsys)


def test_embeddings_of_a_program_are_checked_before_any_is_added(place):
    good = np.stack([vector_of("c"), vector_of("d")])
    labels = {"modality": "thermal", "identity": ["1", None], "time": "2024-05-01"}
    with open_gallery(place) as gallery:
        for vectors, keys, of, model, message in (
            (good[0], ["c"], labels, DIGEST, "expected embeddings of model"),
            (good[:, :5], ["c", "d"], labels, DIGEST, "expected embeddings of model"),
            (good, ["c", "d"], labels, "cd" * 32, "expected embeddings of model"),
            (good, ["c"], labels, DIGEST, "got float32 of shape (2, 32) and 1 keys"),
            (2 * good, ["c", "d"], labels, DIGEST, "expected embeddings of unit length"),
            (good, ["c", "c"], labels, DIGEST, "expected different keys, got c twice"),
            (good, ["c", 4], labels, DIGEST, "expected keys that are texts, got 4"),
            (good, ["c", "d"], {"identity": "1"}, DIGEST, "expected labels modality"),
            (good, ["c", "d"], labels | {"mood": "1"}, DIGEST, "expected labels modality"),
            (good, ["c", "d"], labels | {"modality": "sonar"}, DIGEST, "got 'sonar'"),
            (good, ["c", "d"], labels | {"camera": ["1"]}, DIGEST, "expected one camera or 2"),
            (good, ["c", "d"], labels | {"camera": [1, 2]}, DIGEST, "expected as camera a text"),
            (good, ["c", "d"], labels | {"time": "noon"}, DIGEST, "expected a time such as"),
        ):
            assert message in refusal(gallery.add, vectors, keys, of, model=model), message
        assert len(gallery) == 2
        assert gallery.add(good, ["c", "d"], labels, model=DIGEST) == 2
        assert gallery.add(good, ["c", "e"], labels, model=DIGEST) == 1
        assert list(gallery.check()) == []
        (matches,) = find_matches(gallery, good[:1], 1)
    assert (matches[0].path, matches[0].modality, matches[0].identity) == ("c", "thermal", "1")

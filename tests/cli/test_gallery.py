import argparse
import importlib.util
import json

import pytest
from tests.gallery.stub import DIGEST, SIZE, rows_of

from cmemd.cli import gallery
from cmemd.cli.main import main
from cmemd.data.modality import Modality
from cmemd.errors import InputError
from cmemd.gallery.sources import parse_time
from cmemd.gallery.table import create_gallery, open_gallery


def run(*words):
    parser = argparse.ArgumentParser()
    gallery.add_arguments(parser)
    return gallery.run(parser.parse_args([str(word) for word in words]))


def make(place):
    """Rows /a of May and /b of June of two people and cameras, and /c without labels."""
    with create_gallery(place, DIGEST, SIZE) as opened:
        opened.add_rows(rows_of(["/a"], identity="1", camera="7", time=parse_time("2024-05-01")))
        opened.add_rows(rows_of(["/b"], identity="2", camera="8", time=parse_time("2024-06-01")))
        opened.add_rows(rows_of(["/c"], Modality.THERMAL))
    return place


@pytest.fixture
def place(tmp_path):
    return make(tmp_path / "g")


def left(place):
    with open_gallery(place) as opened:
        return "".join(sorted(opened.modalities())).replace("/", "")


def test_info_is_a_table_or_json(place, capsys):
    assert run("info", place) == 0
    assert "rows                    3" in capsys.readouterr().out
    run("info", place, "--json")
    info = json.loads(capsys.readouterr().out)
    assert (info["model"], info["rows"], info["thermal"]) == (DIGEST, 3, 1)


def test_remove_takes_what_fits_everything(tmp_path, capsys):
    for number, (words, expected) in enumerate(
        (
            (["--path", "/a"], "bc"),
            (["--path", "/a", "--path", "/c"], "b"),
            (["--identity", "2"], "ac"),
            (["--camera", "7"], "bc"),
            (["--camera", "7", "--identity", "2"], "abc"),
            (["--before", "2024-06-01"], "bc"),
            (["--after", "2024-06-01"], "ac"),
            (["--after", "2024-05-01", "--before", "2024-07-01"], "c"),
        )
    ):
        place = make(tmp_path / str(number))
        assert run("remove", place, *words) == 0
        assert left(place) == expected, words
        said = f"{3 - len(expected)} rows removed, {len(expected)} left"
        assert said in capsys.readouterr().out, words


def test_remove_knows_a_relative_path(tmp_path, monkeypatch):
    with create_gallery(tmp_path / "g", DIGEST, SIZE) as opened:
        opened.add_rows(rows_of([str(tmp_path / "x y.jpg")]))
    monkeypatch.chdir(tmp_path)
    run("remove", "g", "--path", "./x y.jpg")
    assert left(tmp_path / "g") == ""


def test_index_and_compact(place, capsys):
    run("index", place)
    assert "no index: search is exact below 100000 rows, and it has 3" in capsys.readouterr().out
    run("remove", place, "--path", "/a")
    before = sum(file.stat().st_size for file in place.rglob("*"))
    run("compact", place)
    assert "2 rows, " in capsys.readouterr().out
    assert sum(file.stat().st_size for file in place.rglob("*")) < before
    assert left(place) == "bc"


def test_mistakes_are_told(place, tmp_path, capsys):
    with pytest.raises(InputError, match="expected rows to remove, got no condition: give --path"):
        run("remove", place)
    with pytest.raises(InputError, match="expected a time such as"):
        run("remove", place, "--before", "noon")
    assert left(place) == "abc"
    for action in ("info", "index", "compact"):
        with pytest.raises(SystemExit, match="2"):
            main(["gallery", action, str(tmp_path / "none")])
        error = capsys.readouterr().err
        assert error.startswith("error: expected a gallery at")
        assert error.count("\n") == 1


def test_a_missing_package_is_named_in_one_line(place, monkeypatch, capsys):
    find = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name: None if name == "lancedb" else find(name)
    )
    with pytest.raises(SystemExit, match="2"):
        main(["gallery", "info", str(place)])
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert "without lancedb: pip install 'cmemd[serve]'" in error

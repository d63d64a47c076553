import os
import re
from datetime import datetime, timezone

import pytest
from tests.gallery.stub import make_images
from tests.inference.refusal import refusal

from cmemd.errors import InputError
from cmemd.gallery.sources import Source, find_sources, parse_time


def test_a_folder_is_searched_with_its_subfolders_for_images_only(tmp_path):
    paths = make_images(tmp_path)
    (tmp_path / "cam0/notes.md").write_text("")
    assert [source.path for source in find_sources(str(tmp_path))] == paths
    assert find_sources(str(tmp_path))[0] == Source(paths[0])


def test_a_glob_an_image_and_a_text_list(tmp_path):
    paths = make_images(tmp_path)
    found = find_sources(str(tmp_path / "cam1/**/*.jpg"))
    assert [source.path for source in found] == [path for path in paths if "cam1" in path]
    assert find_sources(paths[3]) == [Source(paths[3])]
    (tmp_path / "list.txt").write_text("cam0/p0/0000.jpg\n\n" + paths[5] + "\n")
    found = find_sources(str(tmp_path / "list.txt"))
    assert [source.path for source in found] == [paths[0], paths[5]]


def test_a_list_gives_labels_and_its_order(tmp_path):
    text = (
        "\ufeffpath,camera,identity,time\n"
        '"b, c.jpg",7,"O\'Neil ""x""",2024-05-31T14:00:00+02:00\n'
        "über/a.jpg,,,\n"
    )
    (tmp_path / "list.csv").write_text(text, encoding="utf-8")
    (tmp_path / "über").mkdir()
    for name in ("b, c.jpg", "über/a.jpg"):
        (tmp_path / name).touch()
    noon = datetime(2024, 5, 31, 12, tzinfo=timezone.utc)
    assert find_sources(str(tmp_path / "list.csv")) == [
        Source(str(tmp_path / "b, c.jpg"), 'O\'Neil "x"', "7", noon),
        Source(str(tmp_path / "über/a.jpg")),
    ]


def test_a_pattern_gives_labels_and_a_lists_columns_come_first(tmp_path):
    make_images(tmp_path, 1)
    pattern = r"cam(?P<camera>\d)/p(?P<identity>\d)/"
    (source,) = find_sources(str(tmp_path), pattern)
    assert (source.camera, source.identity, source.time) == ("0", "0", None)
    (tmp_path / "l.csv").write_text("path,identity\ncam0/p0/0000.jpg,Ann\n")
    (source,) = find_sources(str(tmp_path / "l.csv"), pattern)
    assert (source.camera, source.identity) == ("0", "Ann")


def test_an_image_that_is_listed_twice_counts_once(tmp_path, monkeypatch):
    make_images(tmp_path, 1)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "l.txt").write_text("cam0/p0/0000.jpg\n./cam0/../cam0/p0/0000.jpg\n")
    assert len(find_sources("l.txt")) == 1


def test_mistakes_are_told(tmp_path):
    for name, text, pattern, message in (
        ("none", None, None, "expected images at .*none, got none"),
        ("l.txt", "", None, "got none"),
        ("l.csv", "", None, "expected columns path and any of .* got none"),
        ("l.csv", "path,identiy\na,b\n", None, "got path, identiy"),
        ("l.csv", "path,camera\na\n", None, "expected 2 values and a path in line 2"),
        ("l.csv", "path,camera\na,b,c\n", None, "quote values"),
        ("l.csv", "path,camera\n,b\n", None, "and a path"),
        ("l.csv", "path,camera\na,1\na,2\n", None, "one set of labels for .*a in .*, got two"),
        ("l.csv", "path,time\na,yesterday\n", None, "expected a time such as .*'yesterday'"),
        ("l.txt", "a\n", "(", "expected a regular expression, got '\\('"),
        ("l.txt", "a\n", "a", "named groups out of .*, got 'a'"),
        ("l.txt", "a\n", "(?P<person>a)", "named groups out of"),
        ("l.txt", "a\n", "(?P<camera>zz)", "expected every path to match"),
    ):
        if text is not None:
            (tmp_path / name).write_text(text)
        assert re.search(message, refusal(find_sources, str(tmp_path / name), pattern)), message


def test_lists_and_names_that_are_not_utf_8_are_told(tmp_path):
    (tmp_path / "l.txt").write_bytes(b"\xff.jpg")
    with pytest.raises(InputError, match="expected a list in UTF-8"):
        find_sources(str(tmp_path / "l.txt"))
    os.mkdir(tmp_path / "odd")
    open(os.path.join(os.fsencode(tmp_path), b"odd/\xff.jpg"), "w").close()
    with pytest.raises(InputError, match=r"none \(1 a name that is not UTF-8: .*odd/.udcff\.jpg\)"):
        find_sources(str(tmp_path / "odd"))


def test_times_without_a_zone_are_utc():
    assert parse_time("2024-05-31") == datetime(2024, 5, 31, tzinfo=timezone.utc)
    assert parse_time("2024-05-31T01:00Z") == parse_time("2024-05-31T03:00+02:00")

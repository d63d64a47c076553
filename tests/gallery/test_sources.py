import os
import re
from datetime import datetime, timezone
from pathlib import Path

import pytest
from tests.gallery.stub import make_images
from tests.inference.refusal import refusal

from cmemd.data.image_files import Reason, Tally
from cmemd.data.modality import Modality
from cmemd.errors import InputError
from cmemd.gallery.sources import LABELS, Source, find_sources, given_labels, parse_time


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
    with pytest.raises(InputError, match=r"none \(a name that is not UTF-8 \(1\): .*udcff\.jpg\)"):
        find_sources(str(tmp_path / "odd"))


def test_times_without_a_zone_are_utc():
    assert parse_time("2024-05-31") == datetime(2024, 5, 31, tzinfo=timezone.utc)
    assert parse_time("2024-05-31T01:00Z") == parse_time("2024-05-31T03:00+02:00")


@pytest.fixture
def here(tmp_path, monkeypatch):
    """The working folder, with an empty file for each name."""
    monkeypatch.chdir(tmp_path)

    def make(*names: str):
        for name in names:
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / name).touch()
        return tmp_path

    return make


def found(what: str, tally: Tally | None = None) -> list[str]:
    return [os.path.relpath(source.path) for source in find_sources(what, tally=tally)]


def test_every_spelling_of_a_text_list_says_the_same(here):
    here("a b.jpg", "c/d.png", "#e.jpg")
    for name, text in {
        "plain": b"a b.jpg\nc/d.png\n",
        "byte order mark, CRLF, no last end": b"\xef\xbb\xbfa b.jpg\r\nc/d.png",
        "blanks and blank lines": b"\n  a b.jpg \t\n\n c/d.png  \n \n",
        "comments": b"# mine\na b.jpg\n  # of camera c\nc/d.png\n",
        "quotes": b'"a b.jpg"\n"c/d.png"\n',
        "another system's": b"a b.jpg\r\nc\\d.png\r\n",
        "absolute and roundabout": os.fsencode(os.path.abspath("a b.jpg")) + b"\n./c/../c/d.png\n",
    }.items():
        here("sub/x.jpg")
        Path("l.txt").write_bytes(text)
        tally = Tally()
        assert (found("l.txt", tally), tally.lines()) == (["a b.jpg", "c/d.png"], []), name
    Path("l.txt").write_text("./#e.jpg\n")
    assert found("l.txt") == ["#e.jpg"]


def test_every_spelling_of_a_csv_list_says_the_same(here):
    here("a b.jpg", "c/d.png")
    for name, text in {
        "plain": "path,camera\na b.jpg,1\nc/d.png,\n",
        "byte order mark, CRLF": "\ufeffpath,camera\r\na b.jpg,1\r\nc/d.png,\r\n",
        "blanks and blank lines": "path, camera\n\n a b.jpg , 1\n\nc/d.png, \n",
        "quotes": '"path","camera"\n"a b.jpg","1"\n"c/d.png",""\n',
        "another system's": "path,camera\na b.jpg,1\nc\\d.png,\n",
    }.items():
        Path("l.csv").write_text(text, encoding="utf-8", newline="")
        sources = find_sources("l.csv")
        assert [os.path.relpath(x.path) for x in sources] == ["a b.jpg", "c/d.png"], name
        assert [x.camera for x in sources] == ["1", None], name


def test_the_home_folder_is_understood_wherever_a_path_stands(here, monkeypatch):
    monkeypatch.setenv("HOME", str(here("home/a.jpg") / "home"))
    Path("home/l.txt").write_text("~/a.jpg\n")
    Path("home/l.csv").write_text("path\n~/a.jpg\n")
    for what in ("~", "~/a.jpg", "~/*.jpg", "~/l.txt", "~/l.csv", "home"):
        assert found(what) == ["home/a.jpg"], what


def test_every_syntax_takes_the_same_files_and_counts_the_others(here):
    here("d/a.jpg", "d/b.raw", "d/notes.md")
    os.mkfifo("d/pipe.jpg")
    Path("d/gone.png").symlink_to("nowhere")
    names = ["a.jpg", "b.raw", "gone.png", "notes.md", "pipe.jpg"]
    Path("l.txt").write_text("".join(f"d/{name}\n" for name in names))
    Path("l.csv").write_text("path\n" + "".join(f"d/{name}\n" for name in names))
    for what in ("d", "d/*", "**/[abgnp]*", "l.txt", "l.csv"):
        tally = Tally()
        assert found(what, tally) == ["d/a.jpg"], what
        for reason, count in ((Reason.EXTENSION, 2), (Reason.NOT_REGULAR, 1), (Reason.MISSING, 1)):
            assert len(tally.names(reason)) == count, (what, reason)
    for name in names[1:]:
        told = refusal(find_sources, f"d/{name}")
        assert re.search(rf"^expected images at d/{name}, got none \(.* \(1\): d/{name}\)", told)


def test_a_listed_file_that_is_missing_or_repeated_is_named_with_its_line(here):
    here("a.jpg")
    for name, text in (
        ("l.txt", "a.jpg\n\nb.jpg\n./a.jpg\n"),
        ("l.csv", "path\na.jpg\nb.jpg\na.jpg\n"),
    ):
        Path(name).write_text(text)
        tally = Tally()
        assert found(name, tally) == ["a.jpg"], name
        assert tally.names(Reason.MISSING) == [f"b.jpg ({name}, line 3)"], name
        assert tally.names(Reason.REPEATED) == [f"a.jpg ({name}, line 4)"], name
        assert tally.faults() == f"no file (1): b.jpg ({name}, line 3)", name


def test_odd_lines_of_a_list_are_told(here):
    here("a.jpg")
    for name, text, message in (
        ("l.txt", "\0.jpg\n", r"none \(no file \(1\): \\x00.jpg \(l.txt, line 1\)\)"),
        ("l.txt", "x" * 5000 + ".jpg\n", r"no file \(1\)"),
        ("l.csv", 'path\n"a.jpg\n', "values in l.csv, after line [01], got unexpected end"),
        ("l.csv", "path\n" + "x" * 200_000, "values in l.csv, after line [01], got field larger"),
        ("l.csv", "path,path\na.jpg,a.jpg\n", "got path, path"),
    ):
        Path(name).write_text(text)
        assert re.search(message, refusal(find_sources, name)), message
    for what in ("", " "):
        assert "expected images, got an empty name" in refusal(find_sources, what)


def test_links_that_lead_upwards_are_not_followed_for_ever(here):
    here("d/e/a.jpg")
    for name in ("d/up", "d/e/up"):
        Path(name).symlink_to(Path("d").absolute())
    for what in ("d", "d/**/*.jpg", "**/a.jpg", "d/**"):
        tally = Tally()
        assert found(what, tally) == ["d/e/a.jpg"], what
    assert [Path(x).name for x in tally.names(Reason.LINKED_FOLDER)] == []
    find_sources("d", tally=tally)
    assert tally.names(Reason.LINKED_FOLDER) == ["d/up", "d/e/up"]


def test_hidden_files_are_searched_for_in_no_folder_but_may_be_named(here):
    here("d/a.jpg", "d/.b.jpg", "d/.trash/c.jpg", "d/sub/._d.jpg")
    tally = Tally()
    assert found("d", tally) == ["d/a.jpg"]
    assert tally.names(Reason.HIDDEN) == ["d/.b.jpg", "d/.trash", "d/sub/._d.jpg"]
    assert found("d/**/*.jpg") == ["d/a.jpg"]
    assert found("d/.b.jpg") == ["d/.b.jpg"]


def test_a_list_of_ones_own_gives_one_modality_with_labels_and_boxes(tmp_path):
    for name in "ab":
        (tmp_path / f"{name}.jpg").touch()
    (tmp_path / "people.csv").write_text(
        "path,identity,modality,camera,time,x,y,w,h,mood,tracklet\n"
        "a.jpg,ann,thermal,c1,60,1,2,3,4,glad,7\n"
        "a.jpg,bob,thermal,,,5,2,3,4,,\n"
        "b.jpg,ann,visible,c2,,,,,,,\n"
        "gone.jpg,ann,thermal,c1,,,,,,,\n"
    )
    tally = Tally()
    sources = find_sources(str(tmp_path / "people.csv"), None, tally, Modality.THERMAL)
    minute = datetime(1970, 1, 1, 0, 1, tzinfo=timezone.utc)
    assert sources == [
        Source(f"{tmp_path}/a.jpg#xywh=1,2,3,4", "ann", "c1", minute, "7"),
        Source(f"{tmp_path}/a.jpg#xywh=5,2,3,4", "bob"),
    ]
    assert len(tally.names(Reason.OTHER_MODALITY)) == len(tally.names(Reason.MISSING)) == 1
    assert given_labels(str(tmp_path / "people.csv")) == {*LABELS}
    (tmp_path / "people.csv").write_text("path,identity,modality\na.jpg,ann,sonar\n")
    assert "row 2, got 'sonar'" in refusal(find_sources, str(tmp_path / "people.csv"))


def test_splits_choose_the_rows_of_a_list(tmp_path):
    for name in "abc":
        (tmp_path / f"{name}.jpg").touch()
    rows = "a.jpg,ann,thermal,train\nb.jpg,bob,thermal,val\nc.jpg,cid,thermal,query\n"
    file = tmp_path / "people.csv"
    file.write_text(f"path,identity,modality,split\n{rows}")
    for splits, people in (
        ((), ["ann", "bob", "cid"]),
        (("val",), ["bob"]),
        (("query", "train"), ["ann", "cid"]),
    ):
        tally = Tally()
        found = find_sources(str(file), None, tally, Modality.THERMAL, splits)
        assert [source.identity for source in found] == people, splits
        assert len(tally.names(Reason.OTHER_SPLIT)) == 3 - len(people), splits
    message = refusal(find_sources, str(file), None, None, Modality.THERMAL, ["test"])
    assert "got none (images of other splits (3)" in message
    for what in (tmp_path, tmp_path / "a.jpg", tmp_path / "none.csv"):
        message = refusal(find_sources, str(what), None, None, Modality.THERMAL, ["test"])
        assert "a list with a column split for --split test" in message, what

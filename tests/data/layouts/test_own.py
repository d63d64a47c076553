"""Lists and folders of one's own data."""

import random
import re

import pytest

from cmemd.data.boxes import Box, ImageKey, image_key, split_key
from cmemd.data.layouts import own
from cmemd.data.modality import Modality
from cmemd.errors import InputError


@pytest.fixture
def root(tmp_path):
    """A folder with empty files that have names of images."""
    for name in ("a.jpg", "b.png", "in/c.jpg"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    return tmp_path


def read(root, text: str, name: str = "people.csv") -> own.OwnList:
    (root / name).write_text(text, encoding="utf-8")
    return own.read_list(root / name)


def mistakes(root, text: str) -> str:
    with pytest.raises(InputError) as error:
        read(root, text)
    assert "\n" not in str(error.value)
    return str(error.value)


def test_a_row_says_what_its_columns_say(root):
    listed = read(
        root,
        "path,identity,modality,camera,time,split,x,y,w,h,frame,tracklet,mood\n"
        "a.jpg,007,visible,north,2026-01-01T00:00:00Z,TRAIN,1,2.4,10.2,20,5,t1,glad\n"
        "\n"
        "in/c.jpg,ann b,Thermal,,12.5,,,,,,,,\n",
    )
    first, second = listed.rows
    assert first == own.Row(
        *(2, str(root / "a.jpg"), "007", Modality.VISIBLE, "north", 1767225600.0),
        *("train", Box(1, 2, 10, 20), 5, "t1"),
    )
    assert second == own.Row(4, str(root / "in/c.jpg"), "ann b", Modality.THERMAL, time=12.5)
    assert listed.other == {"mood": ["glad", ""]}


def test_boxes_round_to_edges_so_that_neighbours_meet(root):
    """The right edge is x + w rounded, whatever x and w round to."""
    generator = random.Random(0)
    for _ in range(40):
        x, y, w, h = (round(generator.uniform(1, 50), 2) for _ in range(4))
        text = f"path,identity,modality,x,y,w,h\na.jpg,1,visible,{x},{y},{w},{h}\n"
        (row,) = read(root, text).rows
        assert (row.box.x, row.box.x + row.box.width) == (round(x), round(x + w)), (x, w)
        assert (row.box.y, row.box.y + row.box.height) == (round(y), round(y + h)), (y, h)


def test_all_these_spell_one_path(root):
    spellings = {
        "relative": "in/c.jpg",
        "backslash": "in\\c.jpg",
        "mixed": ".\\in/../in\\c.jpg",
        "absolute": str(root / "in/c.jpg"),
    }
    for case, path in spellings.items():
        (row,) = read(root, f"path,identity,modality\n{path},1,visible\n").rows
        assert row.path == str(root / "in/c.jpg"), case
    (root / "lists").mkdir()
    (root / "lists/p.csv").write_text("path,identity,modality\nin/c.jpg,1,visible\n")
    (row,) = own.read_list(root / "lists/p.csv", folder=root).rows
    assert row.path == str(root / "in/c.jpg")


def test_the_disk_is_asked_once_for_a_file_however_many_rows_it_has(root, monkeypatch):
    """So a start on boxes is quick, which tests/benchmarks/bm_own_list.py times."""
    asked = []
    monkeypatch.setattr(own, "why_left_out", asked.append)
    rows = [f"{n % 7}.jpg,p{n % 3},visible,{n},0,5,5" for n in range(2000)]
    text = "\n".join(["path,identity,modality,x,y,w,h", *rows]) + "\n"
    assert len(read(root, text).rows) == 2000
    assert sorted(asked) == [str(root / f"{n}.jpg") for n in range(7)]


def test_every_separator_and_a_byte_order_mark_give_the_same_rows(root):
    plain = "path,identity,modality\na.jpg,1,visible\nb.png,2,thermal\n"
    rows = read(root, plain).rows
    for case, text in {
        "semicolon": plain.replace(",", ";"),
        "tab": plain.replace(",", "\t"),
        "mark": "\ufeff" + plain,
        "windows": plain.replace("\n", "\r\n"),
        "capitals": plain.replace("path,identity,modality", "Path, IDENTITY ,Modality"),
    }.items():
        assert read(root, text).rows == rows, case


def test_a_parquet_table_is_the_same_list(root):
    pa = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    table = pa.table(
        {
            "path": ["a.jpg", "b.png"],
            "identity": [7, 8],  # numbers are names too
            "modality": ["visible", "thermal"],
            "camera": [1.0, None],  # as pandas writes whole numbers beside an empty cell
            "x": [1.0, float("nan")],
            **{"y": [2, None], "w": [3, None], "h": [4, None]},
        }
    )
    parquet.write_table(table, root / "p.parquet")
    first, second = own.read_list(root / "p.parquet").rows
    assert (first.identity, first.camera, first.box) == ("7", "1", Box(1, 2, 3, 4))
    assert (second.identity, second.camera, second.box) == ("8", "", None)
    (root / "bad.parquet").write_bytes(b"PAR1")
    with pytest.raises(InputError, match="a Parquet table"):
        own.read_list(root / "bad.parquet")


def test_each_mistake_names_its_row_and_what_to_do(root):
    head = "path,identity,modality"
    box = f"{head},x,y,w,h"
    for case, text, message in (
        ("column", "path,modality\na.jpg,visible\n", "without identity"),
        ("twice", f"{head},path\na.jpg,1,visible,a\n", "each column once"),
        ("half a box", f"{head},x,y\na.jpg,1,visible,1,2\n", "x, y, w, h together"),
        ("modality", f"{head}\na.jpg,1,visible\na.jpg,2,sonar\n", "row 3, got 'sonar'"),
        ("no identity", f"{head}\na.jpg,,visible\n", "a value for identity .*row 2"),
        ("fields", f"{head}\na.jpg,1\n", "3 values in .*row 2.* got 2"),
        ("too many", f"{head}\na.jpg,1,visible,x\n", "3 values in .*row 2.* got 4"),
        ("split", f"{head},split\na.jpg,1,visible,dev\n", "row 2, got 'dev'"),
        ("gone", f"{head}\nz.jpg,1,visible\n", "an image at .*z.jpg .*row 2, got no file"),
        ("folder", f"{head}\nin,1,visible\n", "row 2, got a folder"),
        ("text", f"{head}\npeople.csv,1,visible\n", "not one of .jpg"),
        ("time", f"{head},time\na.jpg,1,visible,noon\n", "row 2, got 'noon'"),
        ("frame", f"{head},frame\na.jpg,1,visible,-1\n", "a frame number .*row 2"),
        ("left", f"{box}\na.jpg,1,visible,-3,0,9,9\n", "row 2, got x -3"),
        ("flat", f"{box}\na.jpg,1,visible,0,0,9,0.2\n", "row 2, got x 0"),
        ("words", f"{box}\na.jpg,1,visible,a,0,9,9\n", "four numbers .*row 2"),
        ("part", f"{box}\na.jpg,1,visible,1,,9,9\n", "four numbers .*row 2"),
        ("nothing", f"{head}\n", "a row for each image"),
        ("quotes", f'{head}\n"a.jpg"x,1,visible\n', "separated values"),
    ):
        assert re.search(message, mistakes(root, text)), (case, mistakes(root, text))
    (root / "latin.csv").write_bytes(b"path,identity,modality\na.jpg,Andr\xe9,visible\n")
    with pytest.raises(InputError, match=r"UTF-8.*line 2"):
        own.read_list(root / "latin.csv")
    for name, message in (("none.csv", "No such file"), ("a.jpg", "ends in .csv or .parquet")):
        with pytest.raises(InputError, match=message):
            own.read_list(root / name)


def test_all_mistakes_are_counted_in_one_line_and_told_one_by_one(root):
    text = "path,identity,modality\n" + "z.jpg,1,visible\n" * 3 + "a.jpg,1,sonar\n" * 2
    message = mistakes(root, text)
    assert "got 5: (1)" in message
    assert "and 2 more" in message
    found = []
    listed = own.read_list(root / "people.csv", on_fault=found.append)
    assert [fault.kind.name for fault in found] == ["IMAGE"] * 3 + ["MODALITY"] * 2
    assert listed.rows == []


def between(*lists: tuple[str, list[own.Row]]) -> list[str]:
    """Kinds of the mistakes between rows."""
    found: list[own.ListFault] = []
    named = [(naming, own.OwnList(f"{n}.csv", "", rows)) for n, (naming, rows) in enumerate(lists)]
    own.check_lists(named, found.append)
    return [fault.kind.name for fault in found]


def row(number: int, identity: str = "1", split: str = "", **changes) -> own.Row:
    path = changes.pop("path", f"{number}.jpg")
    return own.Row(number, path, identity, Modality.VISIBLE, split=split, **changes)


def test_mistakes_between_rows():
    box = Box(0, 0, 1, 1)
    for case, rows, kinds in (
        ("boxes", [row(2, path="a", box=box), row(3, path="a", box=Box(0, 0, 1, 2))], []),
        ("frames", [row(2, path="a", frame=1), row(3, path="a", frame=2)], []),
        ("same box", [row(2, path="a", box=box), row(3, path="a", box=box)], ["REPEATED"]),
        ("two splits", [row(2, split="train"), row(3, split="val")], ["TWO_SPLITS"]),
        ("test roles", [row(2, split="query"), row(3, split="gallery"), row(4, split="test")], []),
        ("some", [row(2, split="train"), row(3, "2")], ["SPLIT"]),
        ("no gallery", [row(2, split="query"), row(3, "2", split="train")], ["ROLES"]),
        ("no query", [row(2, split="gallery")], ["ROLES"]),
    ):
        assert between(("", rows)) == kinds, case
    one, other = [row(2, split="train")], [row(3, split="test")]
    assert between(("a", one), ("b", other)) == []
    assert between(("a", one), ("a", other)) == ["TWO_SPLITS"]
    assert between(("a", one), ("b", one)) == ["REPEATED"]


def test_who_is_held_out_depends_on_names_share_and_seed_alone():
    both, one = set(Modality), {Modality.VISIBLE}
    people = {("c", f"p{n}"): both for n in range(40)} | {("c", f"q{n}"): one for n in range(10)}
    held = own.held_people(people, 0.3, seed=0)
    assert sum(people[p] == both for p in held) == 12
    assert sum(people[p] == one for p in held) == 3
    shuffled = dict(random.Random(1).sample(sorted(people.items()), len(people)))
    assert own.held_people(shuffled, 0.3, seed=0) == held
    assert held < own.held_people(people, 0.5, seed=0)
    assert own.held_people(people, 0.3, seed=1) != held
    assert own.held_people(people, 0.0, seed=0) == set()
    two = {("c", "a"): both, ("c", "b"): both}
    for share in (0.01, 0.99):  # each part gets one
        assert len(own.held_people(two, share, seed=0)) == 1, share


def test_a_written_list_is_read_again_as_it_was(root):
    listed = read(
        root,
        "path,identity,modality,camera,split,x,y,w,h,frame,mood\n"
        'a.jpg,"007, b",visible,n,test,1,2,3,4,5,glad\nin/c.jpg,a,thermal,,test,,,,,,\n',
    )
    (root / "again.csv").write_text(own.write_list(listed), encoding="utf-8")
    again = own.read_list(root / "again.csv")
    assert (again.rows, again.other) == (listed.rows, listed.other)
    assert own.write_list(listed).splitlines()[0] == (
        "path,identity,modality,camera,split,x,y,w,h,frame,mood"  # no column without a value
    )


def test_folders_tell_what_their_pattern_says(tmp_path):
    for name in ("visible/ann/c1_a.jpg", "thermal/ann/c2_7_b.png", "visible/ann/whole.jpg"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    listed, left_out = own.read_folder(tmp_path)
    assert [(r.identity, r.modality, r.camera) for r in listed.rows] == [
        ("ann", Modality.THERMAL, "c2"),
        ("ann", Modality.VISIBLE, "c1"),
    ]
    assert left_out == ["visible/ann/whole.jpg"]
    words = {Modality.VISIBLE: "visible", Modality.THERMAL: "thermal"}
    (row,) = own.read_folder(tmp_path, "**/{modality}/{identity}/{camera}_{frame}_*", words)[0].rows
    assert (row.camera, row.frame) == ("c2", 7)
    only = own.read_folder(tmp_path / "visible", "{identity}/*", {Modality.VISIBLE: "visible"})
    assert len(only[0].rows) == 2
    for pattern, message in (
        ("{modality}/*", "{identity} in --pattern"),
        ("{identity}/*", "{modality} in --pattern"),
        ("{modality}/{identity}/{name}", "{name}"),
        ("{modality}/{identity}/{identity}", "each once"),
        ("{modality}/{identity}/zz{camera}", "images in .* named as"),
        ("{modality}/{identity}/{frame}", "a frame number"),
    ):
        with pytest.raises(InputError, match=message):
            own.read_folder(tmp_path, pattern)
    with pytest.raises(InputError, match="no such folder"):
        own.read_folder(tmp_path / "none")


def test_a_key_and_its_parts_are_one_to_one():
    box = Box(1, 2, 3, 4)
    for parts in (("a.jpg", None, None), ("a#b.jpg", box, None), ("a", None, 0), ("a b", box, 7)):
        assert split_key(image_key(*parts)) == ImageKey(*parts), parts
    for path in ("a#frame.jpg", "a#", "#xywh=1,2,3", "a.jpg#t=1"):
        assert split_key(path) == ImageKey(path), path

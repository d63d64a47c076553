import numpy as np
import pytest
from PIL import Image

from cmemd.errors import InputError
from cmemd.gallery import sheet
from cmemd.gallery.search import Match
from cmemd.gallery.sheet import MATCHES, QUERIES, Row, contact_sheet, write_sheet


def match(path, score=0.5, identity=None):
    return Match(score, str(path), "visible", identity, None, None)


def row(path, matches, identity=None):
    return Row(str(path), "query", identity, matches)


@pytest.fixture
def red(tmp_path):
    Image.new("RGB", (32, 64), "red").save(tmp_path / "réd 'one'.png")
    return tmp_path / "réd 'one'.png"


def shares(sheet, colour):
    """How much of each column of pixels has a colour."""
    return (np.asarray(sheet) == colour).all(axis=2).mean(axis=0)


def test_a_row_has_the_query_and_its_matches(red, tmp_path):
    Image.new("L", (64, 64), 7).save(tmp_path / "grey.png")
    sheet = contact_sheet([row(red, [match(tmp_path / "grey.png", identity="Jürgen")])], 1)
    reds, greys = shares(sheet, [255, 0, 0]), shares(sheet, [7, 7, 7])
    # The query is on the left; a letter has a grey pixel too.
    assert np.flatnonzero(reds > 0.1).max() < np.flatnonzero(greys > 0.1).min()
    assert reds.max() > 0.7  # twice as large as the file: as high as a tile
    assert 0.3 < greys.max() < 0.5  # a square keeps its shape


def test_rows_follow_the_queries_up_to_a_number(red):
    one, two = (contact_sheet([row(red, [])] * count, 3).height for count in (1, 2))
    many = contact_sheet([row(red, [])] * (QUERIES + 5), 3).height
    assert many == one + (QUERIES - 1) * (two - one)


def test_columns_follow_the_matches_up_to_a_number(red):
    none, one, most, more = (
        contact_sheet([row(red, [match(red)] * count)], 10**9).width
        for count in (0, 1, MATCHES, MATCHES + 5)
    )
    assert more == most == none + MATCHES * (one - none)


def test_a_file_that_is_gone_is_grey(tmp_path):
    sheet = contact_sheet([row(tmp_path / "gone.jpg", [])], 1)
    assert shares(sheet, [211, 211, 211]).max() > 0.7


def test_a_sheet_goes_where_it_can(red, tmp_path):
    sheet = contact_sheet([row(red, [])], 1)
    write_sheet(sheet, tmp_path / "s.png")
    assert Image.open(tmp_path / "s.png").size == sheet.size
    for path, cause in ((tmp_path / "none/s.png", "No such"), (tmp_path / "s.txt", "the suffix")):
        with pytest.raises(InputError, match=f"expected to write a sheet to {path}, got {cause}"):
            write_sheet(sheet, path)
    assert sorted(file.name for file in tmp_path.iterdir()) == [red.name, "s.png"]


def test_right_and_wrong_matches_differ_in_colour_frame_and_sign(red):
    known = [match(red, identity="ann"), match(red, identity="bob"), match(red)]
    found = []
    for identity in ("ann", None):
        pixels = np.asarray(contact_sheet([row(red, known, identity)], 3))
        found.append([(pixels == of).all(axis=2).sum() for of in ([18, 134, 74], [204, 51, 51])])
    # A frame of w pixels around 64 x 128 has 2 w (64 + 128) + 4 w w; a sign leaves half a badge.
    for count, width in zip(found[0], (4, 2), strict=True):
        frame = 2 * width * (64 + 128) + 4 * width * width
        assert frame + 16 * 16 // 2 < count < frame + 16 * 16, width
    assert found[1] == [0, 0]
    assert sheet._MARKS[True] != sheet._MARKS[False]

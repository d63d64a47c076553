"""Stored numbers are checked when they are read for an answer, and all of them by a check."""

import argparse
import re
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from tests.gallery.stub import DIGEST, SIZE, rows_of, vector_of
from tests.inference.refusal import refusal

from cmemd.cli import gallery as command
from cmemd.gallery import table
from cmemd.gallery.rows import row_schema, vectors_of, with_checksums
from cmemd.gallery.search import find_matches
from cmemd.gallery.table import create_gallery, open_gallery

NAMES = [f"/image {number}" for number in range(8)]
SIGN, EXPONENT, MANTISSA = 31, 30, 10  # bits of a float32


def make(place: Path, rows: pa.Table | None = None) -> Path:
    with create_gallery(place, DIGEST, SIZE) as gallery:
        gallery.add_rows(rows_of(NAMES, identity="1") if rows is None else rows)
    return place


def flip(place: Path, number: int, bit: int) -> str:
    """Flip a bit of the first number of an image's vector on disk; its path."""
    whole = vector_of(NAMES[number]).tobytes()
    (file,) = (
        file for file in (place / "gallery.lance/data").iterdir() if whole in file.read_bytes()
    )
    content = bytearray(file.read_bytes())
    content[content.index(whole) + bit // 8] ^= 1 << bit % 8
    file.write_bytes(content)
    return NAMES[number]


def checked(place: Path, capsys) -> tuple[int, str]:
    parser = argparse.ArgumentParser()
    command.add_arguments(parser)
    capsys.readouterr()
    status = command.run(parser.parse_args(["check", str(place)]))
    return status, capsys.readouterr().out


def search(place: Path, name: str, **options) -> list:
    with open_gallery(place) as gallery:
        return find_matches(gallery, vector_of(name)[None], **options)[0]


def test_a_whole_gallery_passes(tmp_path, capsys):
    assert checked(make(tmp_path / "g"), capsys) == (0, "8 rows, nothing wrong\n")


def test_a_flipped_bit_of_any_kind_is_found_and_the_row_named(tmp_path, capsys):
    for bit in (EXPONENT, EXPONENT - 4, SIGN, 22, MANTISSA, 0):
        place = make(tmp_path / str(bit))
        name = flip(place, 3, bit)
        status, said = checked(place, capsys)
        assert status == 1, bit
        assert f"checksum: {name}\n" in said, bit
        assert "1 rows that have changed since they were written" in said, bit


def test_no_answer_comes_from_a_vector_that_is_not_of_unit_length(tmp_path):
    place = make(tmp_path / "g")
    name = flip(place, 3, EXPONENT)
    # The broken row need not be an answer: every vector is checked that is compared.
    for query in (name, NAMES[0], "/another"):
        message = refusal(search, place, query, top=1)
        assert "expected embeddings of unit length, got one of length " in message, query
        assert f"{name} in gallery" in message, query


def test_an_answer_with_a_changed_row_is_refused_however_small_the_change(tmp_path):
    place = make(tmp_path / "g")
    name = flip(place, 3, 0)
    assert f"the row of {name} in gallery" in refusal(search, place, name, top=1)
    assert search(place, NAMES[0], top=1)[0].path == NAMES[0]


def test_answers_of_the_index_are_checked_too(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(table, "INDEX_FROM", 300)
    more = [f"/more {number}" for number in range(300)]
    for bit, cause in ((0, "the row of"), (SIGN, "the row of|scores in"), (EXPONENT, "scores in")):
        place = make(tmp_path / str(bit), rows_of([*NAMES, *more]))
        with create_gallery(place, DIGEST, SIZE) as gallery:
            assert gallery.build_index()
        assert checked(place, capsys)[0] == 0, bit
        name = flip(place, 3, bit)
        whole = vector_of(name)
        for query in (whole, np.where(np.arange(SIZE) == 0, -whole, whole)):
            with open_gallery(place) as gallery:
                message = refusal(find_matches, gallery, query[None], 308)
            assert re.search(cause, message), (bit, message)
            assert name in message, (bit, message)
        assert f"checksum: {name}" in checked(place, capsys)[1], bit


def test_queries_are_checked(tmp_path):
    place = make(tmp_path / "g")
    for vector in (np.full(SIZE, np.nan), np.zeros(SIZE), np.full(SIZE, 1e30), np.ones(SIZE)):
        with open_gallery(place) as gallery:
            message = refusal(find_matches, gallery, np.float32([vector_of("q"), vector]))
        assert "got one of length" in message
        assert "for query 1" in message


def spoilt(**columns) -> pa.Table:
    """Rows with other values of some columns in their third row, and right checksums."""
    rows = rows_of(NAMES)
    for name, value in columns.items():
        values = rows[name].to_pylist()
        values[2] = value
        place = rows.schema.get_field_index(name)
        rows = rows.set_column(place, rows.schema.field(place), pa.array(values, rows[name].type))
    return with_checksums(rows.cast(row_schema(DIGEST, SIZE)))


def test_labels_models_and_paths_are_checked(tmp_path, capsys):
    for number, (columns, kind) in enumerate(
        (
            ({"modality": "infrared"}, "modality: /image 2 (infrared)"),
            ({"model": "cd" * 32}, "model: /image 2"),
            ({"path": NAMES[5]}, f"duplicate: {NAMES[5]}"),
            ({"vector": [0.5] * SIZE}, "vector: /image 2"),
        )
    ):
        status, said = checked(make(tmp_path / str(number), spoilt(**columns)), capsys)
        assert (status, said.splitlines()[0]) == (1, kind)


def test_a_label_that_changed_on_disk_is_found(tmp_path, capsys):
    place = make(tmp_path / "g", rows_of(NAMES, identity="a person"))
    for file in (place / "gallery.lance/data").iterdir():
        file.write_bytes(file.read_bytes().replace(b"a person", b"a persox"))
    status, said = checked(place, capsys)
    assert status == 1
    assert "changed since they were written" in said


def test_files_that_are_gone_or_cut_are_found(tmp_path, capsys):
    for name, spoil in (
        ("gone", lambda file: file.unlink()),
        ("cut", lambda file: file.write_bytes(file.read_bytes()[:50])),
    ):
        place = make(tmp_path / name)
        for file in (place / "gallery.lance/data").iterdir():
            spoil(file)
        status, said = checked(place, capsys)
        assert status == 1, name
        assert said.startswith("unreadable: "), name
        assert ".rs" not in said, name


def test_a_lost_version_is_found(tmp_path, capsys):
    place = make(tmp_path / "g")
    min((place / "gallery.lance/_versions").glob("*.manifest")).unlink()  # the latest
    status, said = checked(place, capsys)
    assert (status, said.split(":")[0]) == (1, "version")


def test_checks_read_what_other_rows_hold(tmp_path):
    """Rows that are taken keep the order in which they are asked for."""
    place = make(tmp_path / "g")
    with open_gallery(place) as gallery:
        numbers = np.concatenate([of for of, _ in gallery.batches()])[::-1].tolist()
        rows = gallery.take(numbers)
        paths = rows["path"].to_pylist()
        np.testing.assert_array_equal(vectors_of(rows), np.stack([vector_of(p) for p in paths]))
        assert [gallery.name(number) for number in numbers] == paths
        assert "expected row 99999 in gallery" in refusal(gallery.take, [99999])


@pytest.mark.parametrize("part", ["data", "_versions"])
def test_damage_anywhere_is_one_readable_line_or_harmless(tmp_path, part, capfd):
    """Of 150 flipped bits; whatever is said names no place in LanceDB's source."""
    place, chance = make(tmp_path / "g"), np.random.default_rng(0)
    file = min(file for file in (place / "gallery.lance" / part).iterdir())
    whole = file.read_bytes()
    for _ in range(150):
        content = bytearray(whole)
        content[chance.integers(len(whole))] ^= 1 << chance.integers(8)
        file.write_bytes(content)
        message = refusal(search, place, NAMES[0], top=8)
        assert "\n" not in message
        assert ".rs" not in message
        assert message.isprintable()
    assert capfd.readouterr().err == ""


def test_a_gallery_passes_after_every_change(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(table, "INDEX_FROM", 300)
    place = make(tmp_path / "g", rows_of([*NAMES, *(f"/more {number}" for number in range(300))]))
    for change in (
        lambda gallery: gallery.add_rows(rows_of(["/new"])),
        lambda gallery: gallery.replace(rows_of(NAMES[:2], identity="2")),
        lambda gallery: gallery.build_index(),
        lambda gallery: gallery.remove(table.row_filter(paths=NAMES[2:4])),
        lambda gallery: gallery.compact(),
        lambda gallery: gallery.add_rows(rows_of(["/newer"])),
    ):
        with open_gallery(place, alone=True) as gallery:
            change(gallery)
        assert checked(place, capsys)[0] == 0

import os
import shutil
from datetime import datetime, timezone
from pathlib import Path

import lancedb
import numpy as np
import pyarrow as pa
import pytest
from tests.gallery.stub import DIGEST, SIZE, rows_of, vector_of
from tests.inference.refusal import refusal

from cmemd.data.modality import Modality
from cmemd.errors import InputError
from cmemd.gallery import table
from cmemd.gallery.rows import FACTS, row_schema
from cmemd.gallery.search import find_matches
from cmemd.gallery.table import create_gallery, open_gallery, row_filter

MAY, JUNE = (datetime(2024, month, 1, tzinfo=timezone.utc) for month in (5, 6))


def fill(folder, *parts):
    with create_gallery(folder, DIGEST, SIZE) as gallery:
        return [gallery.add_rows(rows) for rows in parts]


def paths(folder):
    with open_gallery(folder) as gallery:
        return set(gallery.modalities())


def files_with(folder: Path, *needles: bytes) -> list[Path]:
    files = [file for file in folder.rglob("*") if file.is_file()]
    return [file for file in files if any(n in file.read_bytes() for n in needles)]


def test_rows_come_back(tmp_path):
    assert fill(tmp_path / "g", rows_of(["a", "b"], camera="1")) == [2]
    with open_gallery(tmp_path / "g") as gallery:
        ((numbers, vectors),) = gallery.batches()
        labels = gallery.labels(numbers.tolist())
        assert (gallery.model, gallery.size, len(gallery)) == (DIGEST, SIZE, 2)
    for number, vector in zip(numbers.tolist(), vectors, strict=True):
        np.testing.assert_array_equal(vector, vector_of(labels[number]["path"]))
        assert labels[number]["camera"] == "1"


def test_a_path_is_added_once_and_stays_as_it_was(tmp_path):
    first, again = rows_of(["a", "b"], identity="1"), rows_of(["b", "c"], identity="2")
    assert fill(tmp_path / "g", first, again) == [2, 1]
    with open_gallery(tmp_path / "g") as gallery:
        info = gallery.info()
        assert (info["rows"], info["identities"]) == (3, 2)
        assert gallery.remove(row_filter(identities=["2"])) == 1
    assert paths(tmp_path / "g") == {"a", "b"}


def test_two_writers_that_opened_the_same_version_add_a_path_once(tmp_path):
    fill(tmp_path / "g")
    with open_gallery(tmp_path / "g") as one, open_gallery(tmp_path / "g") as other:
        assert one.add_rows(rows_of(["a", "b"])) == 2
        assert other.add_rows(rows_of(["b", "c"])) == 1
        assert other.remove(row_filter(paths=["a"])) == 1
        assert one.add_rows(rows_of(["d"])) == 1
    assert paths(tmp_path / "g") == {"b", "c", "d"}


def test_filters_fit_everything_that_is_named(tmp_path):
    odd = 'O\'Neil "ü" %_\\'
    fill(
        tmp_path / "g",
        rows_of(["a"], identity="1", camera="1", time=MAY),
        rows_of([odd], identity=odd, camera="1", time=JUNE),
        rows_of(["c"], Modality.THERMAL, identity="1", camera="2"),
    )

    def fitting(**terms):
        with open_gallery(tmp_path / "g") as gallery:
            numbers = [n for part, _ in gallery.batches(row_filter(**terms)) for n in part.tolist()]
            return {row["path"] for row in gallery.labels(numbers).values()}

    assert fitting() == {"a", odd, "c"}
    assert fitting(paths=["a", "zz"]) == {"a"}
    assert fitting(identities=[odd]) == {odd}
    assert fitting(identities=["1"], cameras=["1"]) == {"a"}
    assert fitting(cameras=["1", "2"], modality="thermal") == {"c"}
    assert fitting(since=JUNE) == {odd}  # from then on; no time, no fit
    assert fitting(until=JUNE) == {"a"}  # before
    assert fitting(paths=["zz"]) == set()


def test_removed_rows_are_gone_from_disk_after_compact(tmp_path):
    # A hundred in one file: LanceDB's own compaction would leave a single removed row in it.
    names = [f"image-{number:03d}-of-a-person" for number in range(100)]
    fill(tmp_path / "g", rows_of(names))
    gone = names[41]
    needles = gone.encode(), vector_of(gone)[:8].tobytes()
    kept = vector_of(names[42])[:8].tobytes()
    assert files_with(tmp_path, needles[0])
    assert files_with(tmp_path, needles[1])
    with open_gallery(tmp_path / "g") as gallery:
        assert gallery.remove(row_filter(paths=[gone])) == 1
    assert files_with(tmp_path, *needles)  # still there: earlier versions
    with open_gallery(tmp_path / "g", alone=True) as gallery:
        gallery.compact()
        assert len(gallery) == 99
    assert not files_with(tmp_path, *needles)
    assert files_with(tmp_path, kept)
    assert paths(tmp_path / "g") == {*names} - {gone}


def test_what_a_killed_command_left_is_gone_after_compact(tmp_path):
    fill(tmp_path / "g", rows_of(["a"]))
    orphan = tmp_path / "g/gallery.lance/data/orphan.lance"
    orphan.write_bytes(b"an embedding that was never committed")
    with open_gallery(tmp_path / "g", alone=True) as gallery:
        gallery.compact()
    assert not orphan.exists()


def test_a_compacted_gallery_takes_rows_once_still(tmp_path):
    fill(tmp_path / "g", rows_of(["a"]), rows_of(["b"]))
    with open_gallery(tmp_path / "g", alone=True) as gallery:
        gallery.compact()
        assert gallery.add_rows(rows_of(["b", "c"])) == 1
    with open_gallery(tmp_path / "g") as one, open_gallery(tmp_path / "g") as other:
        assert (one.add_rows(rows_of(["d"])), other.add_rows(rows_of(["d"]))) == (1, 0)


def test_an_empty_gallery_can_be_compacted_and_searched(tmp_path):
    fill(tmp_path / "g")
    with open_gallery(tmp_path / "g", alone=True) as gallery:
        gallery.compact()
        assert gallery.info()["rows"] == 0
        assert find_matches(gallery, vector_of("q")[None]) == [[]]


def test_small_galleries_have_no_index_and_large_ones_do(tmp_path, monkeypatch):
    names = [f"{number}" for number in range(600)]
    fill(tmp_path / "g", rows_of(names))
    queries = np.stack([vector_of(name) for name in ("q", names[7])])
    with open_gallery(tmp_path / "g", alone=True) as gallery:
        assert not gallery.build_index()
        monkeypatch.setattr(table, "INDEX_FROM", 600)
        assert gallery.build_index()
        assert gallery.info()["index"] == "IVF_RQ"
        assert gallery.info()["index bytes"] > 0
        found = find_matches(gallery, queries, 5)
        assert found[1][0].path == names[7]
        for query, matches in zip(queries, found, strict=True):
            scores = [match.score for match in matches]
            assert scores == sorted(scores, reverse=True)
            expected = [query @ vector_of(match.path) for match in matches]
            np.testing.assert_allclose(scores, expected, atol=1e-6)  # of whole vectors, not codes
        assert gallery.add_rows(rows_of(["later"])) == 1
        assert gallery.info()["rows outside the index"] == 1
        ((match,),) = find_matches(gallery, vector_of("later")[None], 1)
        assert match.path == "later"  # found beside the index
        gallery.remove(row_filter(paths=[names[7]]))
        ((match,),) = find_matches(gallery, queries[1:], 1)
        assert match.path != names[7]
        gallery.compact()
        assert gallery.info()["rows outside the index"] == 0
        gallery.remove(row_filter(paths=["later"]))
        monkeypatch.setattr(table, "INDEX_FROM", 700)
        assert not gallery.build_index()  # it has become small


def test_the_index_answers_within_a_filter(tmp_path, monkeypatch):
    monkeypatch.setattr(table, "INDEX_FROM", 300)
    fill(
        tmp_path / "g",
        rows_of([f"{n}" for n in range(300)], camera="1"),
        rows_of(["x", "y"], camera="2"),
    )
    with open_gallery(tmp_path / "g") as gallery:
        gallery.build_index()
        (matches,) = find_matches(gallery, vector_of("0")[None], where=row_filter(cameras=["2"]))
    assert {match.path for match in matches} == {"x", "y"}


def test_another_model_or_size_is_refused(tmp_path):
    fill(tmp_path / "g", rows_of(["a"]))
    for model, size in (("cd" * 32, SIZE), (DIGEST, SIZE + 1)):
        with (
            pytest.raises(InputError, match="expected embeddings of model abab.* got model"),
            create_gallery(tmp_path / "g", model, size),
        ):
            pass


def test_no_gallery_and_another_programs_table(tmp_path):
    for place in (tmp_path, tmp_path / "none"):
        with (
            pytest.raises(InputError, match="expected a gallery at .* got none"),
            open_gallery(place),
        ):
            pass
    assert not (tmp_path / "none").exists()
    lancedb.connect(tmp_path / "x").create_table("gallery", pa.table({"vector": [[1.0]]}))
    with (
        pytest.raises(InputError, match="a table of another program"),
        open_gallery(tmp_path / "x"),
    ):
        pass


def test_compact_needs_the_gallery_for_itself(tmp_path):
    fill(tmp_path / "g")
    with (
        open_gallery(tmp_path / "g"),
        pytest.raises(InputError, match="got one that another command is using"),
        open_gallery(tmp_path / "g", alone=True),
    ):
        pass
    with (
        open_gallery(tmp_path / "g", alone=True),
        pytest.raises(InputError, match="got one that another command is compacting"),
        create_gallery(tmp_path / "g", DIGEST, SIZE),
    ):
        pass


def test_damaged_files_are_told(tmp_path):
    fill(tmp_path / "g", rows_of(["a"]))
    (data,) = (tmp_path / "g/gallery.lance/data").iterdir()
    data.write_bytes(data.read_bytes()[:50])
    with (
        open_gallery(tmp_path / "g") as gallery,
        pytest.raises(InputError, match="expected to read gallery"),
    ):
        list(gallery.batches())


def test_the_callers_own_errors_pass_through(tmp_path):
    with pytest.raises(ValueError, match="^mine$"), create_gallery(tmp_path / "g", DIGEST, SIZE):
        raise ValueError("mine")


def test_an_object_stores_address_needs_no_folder_and_no_lock(tmp_path):
    address = f"file://{tmp_path}/g"
    assert fill(address, rows_of(["a"])) == [1]
    with open_gallery(address) as one, open_gallery(address, alone=True) as gallery:
        gallery.compact()
        assert gallery.info()["bytes"] is None
        assert len(one) == 1


def test_info_counts(tmp_path):
    fill(
        tmp_path / "g",
        rows_of(["a"], identity="1", camera="1", time=MAY),
        rows_of(["b"], Modality.THERMAL, identity="1", time=JUNE),
        rows_of(["c"], Modality.THERMAL),
    )
    with open_gallery(tmp_path / "g") as gallery:
        info = gallery.info()
    expected = {"rows": 3, "visible": 1, "thermal": 2, "identities": 1, "cameras": 1}
    assert expected.items() <= info.items()
    assert (info["since"], info["until"]) == (MAY.isoformat(), JUNE.isoformat())
    assert info["bytes"] > 3 * 4 * SIZE
    assert info["index"] is None


def test_errors_keep_the_cause_and_lose_the_places_in_lancedbs_source():
    """As LanceDB 0.40 words them."""
    cargo = "/root/.cargo/registry/src/index.crates.io-1949cf8c6b5b557f/lance-13.0.0/src"
    for text, expected in (
        (
            f"lance error: LanceError(IO): No space left on device (os error 28), {cargo}/a.rs:1:2",
            "No space left on device (os error 28)",
        ),
        (
            f"lance error: Not found: g/data/a.lance, {cargo}/io/b.rs:775:26",
            "Not found: g/data/a.lance",
        ),
        (
            f'Schema {{ message: "strIng", location: Location {{ file: "{cargo}/c.rs", line: 5, '
            "column: 2 } }",
            'Schema { message: "strIng" }',
        ),
        (
            "external error, rust/lance/src/d.rs:7:8: File too large",
            "external error: File too large",
        ),
        ("rust future panicked: unknown error", "files that LanceDB cannot read: they are damaged"),
        ("a\x1b[31m \x07\n b", "a [31m b"),
        ("", "RuntimeError"),
    ):
        assert table._reason(RuntimeError(text)) == expected
    long = (
        f"lance error: writing {'x' * 400}: No space left on device (os error 28), {cargo}/e.rs:1:1"
    )
    assert table._reason(RuntimeError(long)).endswith("No space left on device (os error 28)")
    assert len(table._reason(RuntimeError(long))) < 250


def test_a_damaged_table_is_not_taken_for_a_missing_one(tmp_path, capfd):
    fill(tmp_path / "g", rows_of(["a"]))
    for manifest in (tmp_path / "g/gallery.lance/_versions").glob("*.manifest"):
        manifest.write_bytes(manifest.read_bytes()[:300])
    for opened in (open_gallery(tmp_path / "g"), create_gallery(tmp_path / "g", DIGEST, SIZE)):
        with pytest.raises(InputError, match="expected to (read|write) gallery .*g, got"), opened:
            pass
    assert capfd.readouterr().err == ""


def test_what_others_write_to_stderr_is_not_lost(tmp_path, capfd):
    fill(tmp_path / "g", rows_of(["a"]))
    with open_gallery(tmp_path / "g") as gallery:
        with table._silent():
            os.write(2, b"from a thread\n")
        assert len(gallery) == 1
    assert capfd.readouterr().err == "from a thread\n"


def test_a_gallery_of_an_earlier_version_is_refused_with_a_remedy(tmp_path):
    old = row_schema(DIGEST, SIZE)
    for name in (*FACTS, "crc"):
        old = old.remove(old.get_field_index(name))
    lancedb.connect(tmp_path / "g").create_table("gallery", schema=old)
    message = "one without the columns file_bytes, .*, crc: embed its images into a new gallery"
    for opened in (open_gallery(tmp_path / "g"), create_gallery(tmp_path / "g", DIGEST, SIZE)):
        with pytest.raises(InputError, match=message), opened:
            pass


def test_rows_are_replaced_where_they_are_and_not_added(tmp_path):
    fill(tmp_path / "g", rows_of(["a", "b"], identity="1"))
    with open_gallery(tmp_path / "g") as gallery:
        assert gallery.replace(rows_of(["b", "c"], identity="2")) == 1
        assert gallery.count(row_filter(identities=["2"])) == 1
        assert gallery.count(row_filter(identities=["O'Neil \"%_"])) == 0
    assert paths(tmp_path / "g") == {"a", "b"}


def test_a_folder_that_was_removed_while_waiting_is_not_used(tmp_path, monkeypatch):
    lock = table._lock
    for change in (shutil.rmtree, lambda place: (shutil.rmtree(place), place.mkdir())):
        fill(tmp_path / "g")

        def removed(*arguments, change=change):
            lock(*arguments)
            change(tmp_path / "g")

        with monkeypatch.context() as patch:
            patch.setattr(table, "_lock", removed)
            message = refusal(fill, tmp_path / "g")
        assert "got one that another command has just removed: run" in message


def test_files_of_the_users_beside_a_gallery_stay(tmp_path):
    """In ``gallery.lance/data`` and ``gallery.lance/_indices`` they would be LanceDB's."""
    (tmp_path / "g").mkdir()
    names = ["creation.lock", "notes.txt", "sub/notes.txt"]
    for name in names:
        (tmp_path / "g" / name).parent.mkdir(exist_ok=True)
        (tmp_path / "g" / name).write_text("mine")
    fill(tmp_path / "g", rows_of(["a"]))
    with open_gallery(tmp_path / "g", alone=True) as gallery:
        gallery.compact()
    for name in names:
        assert (tmp_path / "g" / name).read_text() == "mine", name


def test_not_found_means_no_table_only_where_there_are_no_versions(tmp_path):
    """LanceDB says it of tables whose manifest has lost a field as well."""

    class Database:
        def open_table(self, name):
            raise ValueError(f"Table '{name}' was not found")

    assert table._table(Database(), str(tmp_path)) is None
    fill(tmp_path / "g", rows_of(["a"]))
    with pytest.raises(ValueError, match="was not found"):
        table._table(Database(), str(tmp_path / "g"))

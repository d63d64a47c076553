import io
import os
import tempfile
import tracemalloc
import zipfile
from datetime import datetime, timezone

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from tests.gallery.stub import DIGEST, rows_of, vector_of
from tests.inference.refusal import refusal

from cmemd.data.modality import Modality
from cmemd.errors import InputError
from cmemd.gallery import embeddings_file
from cmemd.gallery.embeddings_file import read_embeddings, read_rows, write_embeddings
from cmemd.gallery.rows import make_rows
from cmemd.gallery.sources import Source

MAY = datetime(2024, 5, 1, tzinfo=timezone.utc)


@pytest.mark.parametrize("name", ["f.npz", "f.parquet"])
def test_what_is_written_is_read(tmp_path, name):
    chunks = [rows_of(["ü", "b"], identity="1", time=MAY), rows_of(["c"], Modality.THERMAL)]
    assert write_embeddings(iter(chunks), tmp_path / name, 3) == 3
    columns = read_embeddings(tmp_path / name)
    np.testing.assert_array_equal(columns["vector"], np.stack([vector_of(p) for p in "übc"]))
    assert columns["path"].tolist() == ["ü", "b", "c"]
    assert columns["modality"].tolist() == ["visible", "visible", "thermal"]
    assert columns["identity"].tolist() == ["1", "1", ""]
    assert set(columns["model"]) == {DIGEST}
    assert [file.name for file in tmp_path.iterdir()] == [name]


def test_times_and_cameras_are_in_both(tmp_path):
    rows = rows_of(["a"], camera="7", time=MAY)
    write_embeddings([rows], tmp_path / "f.npz")
    with np.load(tmp_path / "f.npz") as file:
        assert (file["camera"].tolist(), file["time"].tolist()) == (["7"], [MAY.isoformat()])
    write_embeddings([rows], tmp_path / "f.parquet")
    assert pq.read_table(tmp_path / "f.parquet").drop_columns("vector").to_pylist() == [
        rows.drop_columns("vector").to_pylist()[0]
    ]


@pytest.mark.parametrize("name", ["f.npz", "f.parquet"])
def test_bad_files_are_told(tmp_path, name):
    with pytest.raises(InputError, match=f"expected embeddings at .*{name}"):
        read_embeddings(tmp_path / name)
    os.mkfifo(tmp_path / name)
    assert "got no plain file" in refusal(read_embeddings, tmp_path / name)
    (tmp_path / name).unlink()
    (tmp_path / name).write_bytes(b"neither")
    with pytest.raises(InputError, match="write them with cmemd embed --output"):
        read_embeddings(tmp_path / name)


def test_missing_columns_and_shapes_are_told(tmp_path):
    np.savez(tmp_path / "f.npz", vector=np.zeros((2, 3)))
    with pytest.raises(InputError, match="path"):
        read_embeddings(tmp_path / "f.npz")
    words = {name: np.array(["a"]) for name in ("path", "modality", "identity", "model")}
    np.savez(tmp_path / "f.npz", vector=np.zeros((2, 3)), **words)
    with pytest.raises(InputError, match="different lengths"):
        read_embeddings(tmp_path / "f.npz")
    pq.write_table(pa.table({"vector": [[1.0]]}), tmp_path / "f.parquet")
    with pytest.raises(InputError, match="expected embeddings at"):
        read_embeddings(tmp_path / "f.parquet")


@pytest.mark.parametrize("name", ["f.npz", "f.parquet"])
def test_nothing_to_write_and_nowhere_to_write_it(tmp_path, name):
    with pytest.raises(
        InputError, match="expected embeddings for .*, got no readable image: see the list above"
    ):
        write_embeddings([], tmp_path / name)
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="expected to write"):
        write_embeddings([rows_of(["a"])], tmp_path / "file" / name)
    assert [file.name for file in tmp_path.iterdir()] == ["file"]


def test_another_suffix_is_told(tmp_path):
    with pytest.raises(InputError, match="expected a file .npz or .parquet"):
        write_embeddings([], tmp_path / "f.csv")


@pytest.mark.parametrize("name", ["f.npz", "f.parquet"])
def test_rows_come_back_whole(tmp_path, name):
    rows = rows_of(["a", "b"], identity="1", camera="2", time=MAY)
    chunks = [rows, rows_of(["a longer name"])]
    write_embeddings(chunks, tmp_path / name)
    back = pa.concat_tables(read_rows(tmp_path / name))
    assert back.to_pylist() == pa.concat_tables(chunks).to_pylist()
    assert back.schema == rows.schema


@pytest.mark.parametrize("name", ["f.npz", "f.parquet"])
def test_any_flipped_bit_is_found_or_changes_nothing(tmp_path, name):
    path = tmp_path / name
    write_embeddings([rows_of(["a", "b", "c"], identity="1")], path)
    whole, expected = path.read_bytes(), read_embeddings(path)
    for place in range(0, len(whole), 11):
        content = bytearray(whole)
        content[place] ^= 1 << place % 8
        path.write_bytes(content)
        message = refusal(read_embeddings, path)
        assert message.isprintable(), place
        for column, values in ({} if message else expected).items():
            found = read_embeddings(path)[column]
            np.testing.assert_array_equal(found, values, f"{place} {column}")


@pytest.mark.parametrize("name", ["f.npz", "f.parquet"])
def test_memory_does_not_grow_with_rows(tmp_path, name):
    size, peaks = 1024, []

    def chunks(number):
        for chunk in range(number):
            vectors = np.eye(512, size, k=chunk, dtype=np.float32)  # 2 MiB
            sources = [Source(f"/{chunk}/{row}") for row in range(512)]
            yield make_rows(sources, vectors, Modality.VISIBLE, DIGEST)

    for number in (2, 24):
        tracemalloc.start()
        assert write_embeddings(chunks(number), tmp_path / name, 512 * number) == 512 * number
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < peaks[0] + 22 * 2**20 / 2  # half of the vectors that came after
    assert sum(len(rows) for rows in read_rows(tmp_path / name)) == 512 * 24


def npz(**arrays) -> bytes:
    content = io.BytesIO()
    words = {name: np.array(["a", "b"]) for name in ("path", "identity", "model")}
    columns = {"vector": np.eye(2, dtype="f4"), "modality": np.array(["visible"] * 2), **words}
    np.savez_compressed(content, **columns | arrays)
    return content.getvalue()


def test_foreign_files_are_read_and_bad_columns_told(tmp_path):
    path = tmp_path / "f.npz"
    path.write_bytes(npz(vector=np.eye(2, dtype="f8"), identity=np.array([7, 8])))
    columns = read_embeddings(path)
    assert columns["vector"].dtype == np.float32
    assert columns["identity"].tolist() == ["7", "8"]
    for arrays, message in (
        ({"vector": np.eye(2, dtype=int)}, "vectors of int64"),
        ({"vector": np.eye(2, dtype=complex)}, "vectors of complex128"),
        ({"vector": np.array([[{}, 1], [1, 1]])}, "an array of Python objects"),
        ({"path": np.array([1, 2])}, "path as int64 of shape"),
        ({"path": np.array([["a"], ["b"]])}, "path as <U1 of shape"),
        ({"modality": np.array(["visible", "infrared"])}, "the modality 'infrared'"),
        ({"vector": np.eye(3, 2, dtype="f4")}, "different lengths"),
        ({"vector": np.float32([[0, 1], [np.nan, 0]])}, "one of length nan for b in"),
        ({"vector": np.float32([[0, 1], [0, 1.5e35]])}, "for b in"),
    ):
        path.write_bytes(npz(**arrays))
        assert message in refusal(read_embeddings, path), arrays
    words = {name: ["a", "b", "c"] for name in ("path", "identity", "model")}
    for vectors, message in (
        ([[0.0, 1.0], None, [1.0, 0.0]], "vectors of different sizes"),
        ([[0.0, 1.0], [1.0], [1.0, 0.0, 0.0]], "vectors of different sizes"),
        ([[0.0, 1.0], [None, 1.0], [1.0, 0.0]], "missing vectors"),
        ([1.0, 2.0, 3.0], "vectors of double"),
    ):
        table = pa.table({"vector": vectors, "modality": ["visible"] * 3, **words})
        pq.write_table(table, tmp_path / "f.parquet")
        assert message in refusal(read_embeddings, tmp_path / "f.parquet"), vectors


def test_archives_that_swell_are_refused_before_they_are_read(tmp_path, monkeypatch):
    monkeypatch.setattr(embeddings_file, "_SMALL", 2**16)
    monkeypatch.setattr(np.lib.format, "read_array", lambda *_, **__: pytest.fail("it was read"))
    path = tmp_path / "f.npz"
    zeros = npz(vector=np.zeros((2**16, 64), "f4"))
    path.write_bytes(zeros)
    assert len(zeros) < 2**16
    assert "bytes when unpacked, more than 100 times the file" in refusal(read_embeddings, path)
    words = {name: ["a"] * 2**18 for name in ("path", "identity", "model", "modality")}
    vectors = pa.FixedSizeListArray.from_arrays(pa.array(np.zeros(2**20, "f4")), 4)
    pq.write_table(pa.table({"vector": vectors, **words}), tmp_path / "f.parquet")
    assert (tmp_path / "f.parquet").stat().st_size < 2**18
    assert "bytes when unpacked" in refusal(read_embeddings, tmp_path / "f.parquet")


def test_headers_that_promise_more_than_there_is_are_refused(tmp_path):
    path = tmp_path / "f.npz"
    path.write_bytes(npz())
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    for shape in ((10**12, 2), (2**40, 2**40), (3, 2), (-2, 2)):
        header = io.BytesIO()
        fields = {"shape": shape, "fortran_order": False, "descr": "<f4"}
        np.lib.format.write_array_header_1_0(header, fields)
        with zipfile.ZipFile(path, "w") as archive:
            for name, content in members.items():
                whole = header.getvalue() + bytes(16) if name == "vector.npy" else content
                archive.writestr(name, whole)
        assert "an array vector of another size than its header" in refusal(
            read_embeddings, path
        ), shape


def test_a_pickle_is_never_loaded(tmp_path):
    class Trap:
        def __reduce__(self):
            return (pytest.fail, ("it was loaded",))

    content = io.BytesIO()
    np.save(content, np.array([Trap(), Trap()], dtype=object), allow_pickle=True)
    path = tmp_path / "f.npz"
    with zipfile.ZipFile(path, "w") as archive, zipfile.ZipFile(io.BytesIO(npz())) as whole:
        for name in whole.namelist():
            archive.writestr(name, content.getvalue() if name == "path.npy" else whole.read(name))
    assert "an array of Python objects" in refusal(read_embeddings, path)


@pytest.mark.parametrize("name", ["f.npz", "f.parquet"])
def test_fewer_rows_than_announced_write_no_file(tmp_path, name):
    with pytest.raises(InputError, match="expected 3 rows to write, got 2"):
        write_embeddings([rows_of(["a", "b"])], tmp_path / name, 3)
    assert not list(tmp_path.iterdir())


def test_an_npz_file_needs_no_second_copy_on_disk(tmp_path, monkeypatch):
    """Also a nameless one: Python's own temporary files."""
    monkeypatch.setattr(tempfile, "TemporaryFile", None)
    write_embeddings([rows_of(["a"])], tmp_path / "f.npz")
    assert [path.name for path in tmp_path.iterdir()] == ["f.npz"]

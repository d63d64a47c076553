from datetime import datetime, timezone

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from tests.gallery.stub import DIGEST, rows_of, vector_of

from cmemd.data.modality import Modality
from cmemd.errors import InputError
from cmemd.gallery.embeddings_file import read_embeddings, write_embeddings

MAY = datetime(2024, 5, 1, tzinfo=timezone.utc)


@pytest.mark.parametrize("name", ["f.npz", "f.parquet"])
def test_what_is_written_is_read(tmp_path, name):
    chunks = [rows_of(["ü", "b"], identity="1", time=MAY), rows_of(["c"], Modality.THERMAL)]
    assert write_embeddings(iter(chunks), tmp_path / name) == 3
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

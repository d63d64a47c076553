import hashlib
import json
import os

import jsonschema
import pytest
from tests.inference.one_matrix import HEIGHT, SIZE, STATISTICS, WEIGHT, WIDTH, document

from cmemd.errors import InputError
from cmemd.inference import model_folder
from cmemd.inference.model_folder import MODEL_SCHEMA, read_model_folder, write_model_document


def rewrite(model, **changes) -> None:
    path = model / "model.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def test_what_a_folder_says(shared_model):
    folder = read_model_folder(shared_model)
    assert (folder.height, folder.width, folder.embedding_size) == (HEIGHT, WIDTH, SIZE)
    assert folder.digest == hashlib.sha256(WEIGHT.tobytes()).hexdigest()
    assert folder.channel_statistics == STATISTICS
    assert folder.file("model.onnx") == shared_model / "model.onnx"
    assert set(folder.document["files"]) == {"model.onnx", "weights.safetensors"}


def test_the_document_is_what_its_schema_says(shared_model):
    schema = json.loads(MODEL_SCHEMA.read_text())
    jsonschema.Draft202012Validator.check_schema(schema)
    jsonschema.validate(json.loads((shared_model / "model.json").read_text()), schema)


def test_reading_gives_what_writing_gave(model):
    (model / "README.md").write_text("a card")
    written = write_model_document(model, document())
    assert read_model_folder(model) == written
    assert written.document["files"]["README.md"]["bytes"] == 6


def test_a_format_that_is_not_there(shared_model):
    with pytest.raises(InputError, match=r"expected model\.pt2 in .*got model\.onnx, weights"):
        read_model_folder(shared_model).file("model.pt2")


@pytest.mark.parametrize("name", ["model.onnx", "weights.safetensors"])
def test_a_changed_byte_is_found(model, name):
    content = bytearray((model / name).read_bytes())
    content[len(content) // 2] ^= 1
    (model / name).write_bytes(content)
    with pytest.raises(InputError, match=rf"{name} as model\.json.*another SHA-256"):
        read_model_folder(model)


def test_another_size_is_found_before_anything_is_read(model, monkeypatch):
    with (model / "weights.safetensors").open("ab") as file:
        file.truncate(10 * 2**30)  # sparse: no room is taken
    monkeypatch.setattr(model_folder, "file_sha256", lambda path: pytest.fail("it was read"))
    with pytest.raises(InputError, match=r"10737418240 bytes instead of 1920"):
        read_model_folder(model)


@pytest.mark.parametrize("name", ["model.onnx", "weights.safetensors"])
def test_a_missing_file_is_named(model, name):
    (model / name).unlink()
    with pytest.raises(InputError, match=f"{name} as model.json describes it; got none"):
        read_model_folder(model)


def test_a_folder_in_place_of_a_file(model):
    (model / "model.onnx").unlink()
    (model / "model.onnx").mkdir()
    with pytest.raises(InputError, match="no plain file"):
        read_model_folder(model)


@pytest.mark.parametrize(
    "name", ["../secret", "/etc/passwd", "a/b", "..", ".hidden", "a\\b", "", "model.json", "C:x"]
)
def test_names_that_lead_elsewhere(model, name):
    files = json.loads((model / "model.json").read_text())["files"]
    (model.parent / "secret").write_bytes(b"")
    facts = {"bytes": 0, "sha256": hashlib.sha256(b"").hexdigest()}
    rewrite(model, files=files | {name: facts})
    with pytest.raises(InputError, match="no plain file name"):
        read_model_folder(model)


def test_a_link_that_leads_outside(model, tmp_path):
    os.rename(model / "model.onnx", tmp_path / "outside.onnx")
    (model / "model.onnx").symlink_to(tmp_path / "outside.onnx")
    with pytest.raises(InputError, match="a link that leads outside"):
        read_model_folder(model)


def test_a_link_to_a_folder_and_links_inside_are_fine(model, tmp_path):
    os.rename(model / "model.onnx", model / "real.onnx")
    (model / "model.onnx").symlink_to("real.onnx")
    (tmp_path / "name").symlink_to(model)
    assert read_model_folder(tmp_path / "name").height == HEIGHT


@pytest.mark.parametrize("version", [0, 2, "1", None])
def test_another_version(model, version):
    rewrite(model, schema_version=version)
    with pytest.raises(InputError, match=f"version 1 in .*got schema_version {version!r}"):
        read_model_folder(model)


@pytest.mark.parametrize(
    ("changes", "where"),
    [
        ({"input": {"height": 0}}, r"\$\.input"),
        ({"embedding": {"size": 10**9, "dtype": "float32", "l2_normalised": True}}, "maximum"),
        ({"modalities": {"visible": 1, "thermal": 0}}, r"\$\.modalities"),
        ({"digest": "0" * 64}, "a digest that is not that of weights.safetensors"),
        ({"digest": 7}, r"\$\.digest"),
        ({"files": {}}, r"\$\.files"),
        ({"channel_statistics": {"visible": STATISTICS["visible"]}}, "thermal"),
    ],
)
def test_against_the_schema(model, changes, where):
    rewrite(model, **changes)
    with pytest.raises(InputError, match=where):
        read_model_folder(model)


@pytest.mark.parametrize("content", [b"", b"{", b"\xff", b"[" * 10**5, b"[]", b"7"])
def test_no_document(model, content):
    (model / "model.json").write_bytes(content)
    with pytest.raises(InputError, match=r"model\.json"):
        read_model_folder(model)


def test_a_document_that_never_ends(model):
    with (model / "model.json").open("ab") as file:
        file.truncate(10 * 2**30)
    with pytest.raises(InputError, match="at most 16777216 bytes"):
        read_model_folder(model)


@pytest.mark.parametrize("name", ["nothing", "weights.safetensors"])
def test_no_folder(model, name):
    with pytest.raises(InputError, match=r"expected a model folder with model\.json at"):
        read_model_folder(model / name)


def test_writing_without_weights(tmp_path):
    (tmp_path / "model.onnx").write_bytes(b"graph")
    with pytest.raises(InputError, match=r"weights\.safetensors"):
        write_model_document(tmp_path, document())
    assert not (tmp_path / "model.json").exists()


@pytest.mark.parametrize("name", [".hidden", "a b"])
def test_writing_over_files_with_strange_names(model, name):
    (model / name).write_bytes(b"")
    with pytest.raises(InputError, match="no plain file name"):
        write_model_document(model, document())

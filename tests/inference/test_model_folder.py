import hashlib
import json
import os
import re

import jsonschema
import pytest
from tests.inference.one_matrix import HEIGHT, SIZE, STATISTICS, WEIGHT, WIDTH, document
from tests.inference.refusal import refusal

from cmemd.errors import InputError
from cmemd.inference import model_folder
from cmemd.inference.model_folder import MODEL_SCHEMA, read_model_folder, write_model_document


def refused_document(model, **changes) -> str:
    """Return why a folder is refused whose ``model.json`` has other entries; restore it."""
    path = model / "model.json"
    whole = path.read_text()
    path.write_text(json.dumps(json.loads(whole) | changes))
    message = refusal(read_model_folder, model)
    path.write_text(whole)
    return message


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
    with pytest.raises(InputError, match=r"expected model\.pt2 in .*, got model\.onnx, weights"):
        read_model_folder(shared_model).file("model.pt2")


def test_a_changed_byte_and_a_missing_file_are_found(model):
    for name in ("model.onnx", "weights.safetensors"):
        whole = (model / name).read_bytes()
        content = bytearray(whole)
        content[len(content) // 2] ^= 1
        (model / name).write_bytes(content)
        found = refusal(read_model_folder, model)
        assert re.search(rf"{name} as model\.json describes it, got another SHA-256", found), name
        (model / name).unlink()
        found = refusal(read_model_folder, model)
        assert f"{name} as model.json describes it, got no file" in found
        (model / name).write_bytes(whole)
    read_model_folder(model)


def test_another_size_is_found_before_anything_is_read(model, monkeypatch):
    with (model / "weights.safetensors").open("ab") as file:
        file.truncate(10 * 2**30)  # sparse: no room is taken
    monkeypatch.setattr(model_folder, "file_sha256", lambda path: pytest.fail("it was read"))
    with pytest.raises(InputError, match=r"10737418240 bytes instead of 1920"):
        read_model_folder(model)


def test_a_folder_in_place_of_a_file(model):
    (model / "model.onnx").unlink()
    (model / "model.onnx").mkdir()
    with pytest.raises(InputError, match="got something other than a file"):
        read_model_folder(model)


def test_names_that_lead_elsewhere(model):
    files = json.loads((model / "model.json").read_text())["files"]
    (model.parent / "secret").write_bytes(b"")
    facts = {"bytes": 0, "sha256": hashlib.sha256(b"").hexdigest()}
    odd = ("../secret", "/etc/passwd", "a/b", "..", ".hidden", "a\\b", "", "model.json", "C:x")
    for name in odd:
        found = refused_document(model, files=files | {name: facts})
        assert "which is not a plain file name" in found, name


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


def test_documents_of_another_version_or_against_the_schema(model):
    for version in (0, 2, "1", None):
        found = refused_document(model, schema_version=version)
        assert re.search(f"version 1 in .*, got schema_version {version!r}: export", found), version
    size = {"size": 10**9, "dtype": "float32", "l2_normalised": True}
    for changes, where in (
        ({"input": {"height": 0}}, r"\$\.input"),
        ({"embedding": size}, "maximum"),
        ({"modalities": {"visible": 1, "thermal": 0}}, r"\$\.modalities"),
        ({"digest": "0" * 64}, "a digest other than that of weights.safetensors"),
        ({"digest": 7}, r"\$\.digest"),
        ({"files": {}}, r"\$\.files"),
        ({"channel_statistics": {"visible": STATISTICS["visible"]}}, "thermal"),
    ):
        assert re.search(where, refused_document(model, **changes)), changes
    read_model_folder(model)


def test_files_that_are_not_documents(model):
    for content in (b"", b"{", b"\xff", b"[" * 10**5, b"[]", b"7"):
        (model / "model.json").write_bytes(content)
        assert re.search(r"expected .*model\.json, got", refusal(read_model_folder, model)), content


def test_a_document_that_never_ends(model):
    with (model / "model.json").open("ab") as file:
        file.truncate(10 * 2**30)
    with pytest.raises(InputError, match="at most 16777216 bytes"):
        read_model_folder(model)


def test_no_folder(model):
    for name in ("nothing", "weights.safetensors"):
        found = refusal(read_model_folder, model / name)
        assert f"expected a model folder with model.json at {model / name}, got" in found, name


def test_writing_without_weights(tmp_path):
    (tmp_path / "model.onnx").write_bytes(b"graph")
    with pytest.raises(InputError, match=r"weights\.safetensors"):
        write_model_document(tmp_path, document())
    assert not (tmp_path / "model.json").exists()


def test_writing_over_files_with_strange_names(model):
    for name in (".hidden", "a b"):
        (model / name).write_bytes(b"")
        found = refusal(write_model_document, model, document())
        assert "which is not a plain file name" in found, name
        (model / name).unlink()


def test_a_changed_document_is_found_whatever_changed(model):
    """Other values that the schema allows, too: each would change answers without a word."""
    whole = json.loads((model / "model.json").read_text())
    for changes in (
        {"recipe": "two matrices"},
        {"channel_statistics": None},
        {"channel_statistics": dict.fromkeys(STATISTICS, STATISTICS["thermal"])},
        {"embedding": whole["embedding"] | {"size": SIZE + 1}},
        {"input": whole["input"] | {"height": HEIGHT + 1}},
        {"normalisation": whole["normalisation"] | {"mean": [1, 0, 0]}},
        {"document_sha256": "0" * 64},
        {"more": 1},
    ):
        found = refused_document(model, **changes)
        assert "got entries that were changed after it was written: export" in found, changes


def test_a_flipped_bit_anywhere_in_the_document_is_found_or_says_the_same(model):
    path = model / "model.json"
    whole = path.read_bytes()
    meaning = json.loads(whole)
    for place in range(0, len(whole), 7):
        content = bytearray(whole)
        content[place] ^= 1 << place % 8
        path.write_bytes(content)
        found = refusal(read_model_folder, model)
        assert found or json.loads(bytes(content)) == meaning, place
        assert found.isprintable(), place


def test_a_document_without_its_digest_is_refused(model):
    document = json.loads((model / "model.json").read_text())
    del document["document_sha256"]
    (model / "model.json").write_text(json.dumps(document))
    assert "got no document_sha256, which earlier versions did not write: export the model" in (
        refusal(read_model_folder, model)
    )


def test_numbers_that_json_has_not_and_a_document_that_blocks(model):
    for name in ("NaN", "Infinity", "-Infinity"):
        (model / "model.json").write_text(f'{{"schema_version": {name}}}')
        assert f"got {name}, which JSON has not" in refusal(read_model_folder, model)
    (model / "model.json").unlink()
    os.mkfifo(model / "model.json")
    assert "got something other than a file" in refusal(read_model_folder, model)

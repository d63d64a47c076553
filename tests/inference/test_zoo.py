import argparse
import hashlib
import http.client
import io
import os
import re
import stat
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import yaml
from tests.inference.one_matrix import expected_embeddings, noise
from tests.inference.refusal import refusal

from cmemd.cli import zoo as command
from cmemd.errors import InputError
from cmemd.inference import zoo
from cmemd.inference.zoo import fetch, load_pretrained, read_zoo, zoo_page

REPOSITORY = Path(__file__).parents[2]


@pytest.fixture
def cache(tmp_path, monkeypatch) -> Path:
    monkeypatch.setenv("CMEMD_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def release(tmp_path, cache) -> Callable[..., Path]:
    """Writes an archive and an index with it as "one-matrix"; the index's path."""

    def write(content: bytes, **changes: object) -> Path:
        archive = tmp_path / "one matrix.zip"
        archive.write_bytes(content)
        entry = {
            "card": "One matrix.",
            "address": archive.as_uri(),
            "sha256": hashlib.sha256(content).hexdigest(),
            "bytes": len(content),
        }
        index = tmp_path / "zoo.yml"
        index.write_text(yaml.safe_dump({"one-matrix": entry | changes}))
        return index

    return write


def packed(folder: Path, *more: tuple[str | zipfile.ZipInfo, bytes]) -> bytes:
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w", zipfile.ZIP_DEFLATED) as archive:
        for path in sorted(folder.iterdir()):
            archive.write(path, path.name)
        for name, member in more:
            archive.writestr(name, member)
    return content.getvalue()


def test_by_name_from_a_file_and_then_from_the_cache(shared_model, release, cache, tmp_path):
    index = release(packed(shared_model))
    for _ in range(2):
        predictor = load_pretrained("one-matrix", index=index, batch_size=2)
        found = predictor.embed(noise(3), "visible", bgr=False)
        np.testing.assert_allclose(found, expected_embeddings(noise(3), 0), atol=2e-6)
        (tmp_path / "one matrix.zip").unlink(missing_ok=True)
    assert [path.name for path in cache.iterdir()] == [predictor.folder.path.name]
    (tmp_path / "usual").mkdir()
    assert predictor.folder.path.stat().st_mode == (tmp_path / "usual").stat().st_mode


def test_by_folder(shared_model, monkeypatch):
    assert load_pretrained(shared_model).size == 5
    assert load_pretrained(str(shared_model)).size == 5
    monkeypatch.chdir(shared_model.parent)
    assert load_pretrained(f"./{shared_model.name}").size == 5


def test_neither_a_name_nor_a_folder():
    for name in ("unknown", "no/folder", Path("demo")):
        assert f"a name out of demo, got {name}: " in refusal(load_pretrained, name)


def test_a_model_of_ones_own_says_how_it_is_made(shared_model, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    index = tmp_path / "zoo.yml"
    index.write_text("own: {card: ours, folder: logs/model, commands: [make own, make model]}")
    with pytest.raises(InputError, match=r"make own && make model"):
        load_pretrained("own", index=index)
    (tmp_path / "logs").mkdir()
    (tmp_path / "logs/model").symlink_to(shared_model)
    assert load_pretrained("own", index=index).size == 5
    index.write_text("own: {card: ours, packaged: ../own, commands: [make own]}")
    with pytest.raises(InputError, match="a plain name as packaged of own"):
        load_pretrained("own", index=index)


def refused(index: Path, cache: Path, message: str) -> None:
    assert re.search(message, refusal(load_pretrained, "one-matrix", index=index))
    assert not cache.exists() or list(cache.iterdir()) == []


def test_another_digest(shared_model, release, cache):
    index = release(packed(shared_model), sha256="0" * 64)
    refused(index, cache, "as the index describes it, got another SHA-256")


def test_another_size(shared_model, release, cache):
    content = packed(shared_model)
    refused(release(content, bytes=len(content) - 1), cache, "got more than")
    refused(release(content[:-1], sha256=hashlib.sha256(content).hexdigest()), cache, "another SHA")


def link(name: str) -> zipfile.ZipInfo:
    info = zipfile.ZipInfo(name)
    info.external_attr = (stat.S_IFLNK | 0o777) << 16
    return info


def test_a_member_that_is_not_a_plain_file(shared_model, release, cache):
    names = ["../outside", "/outside", "a/../../outside", "folder/model.onnx", "folder/"]
    for member in (*names, ".hidden", "a\\b"):
        content = packed(shared_model, (member, b"content"))
        refused(release(content), cache, f"{re.escape(repr(member))}, not a plain file name")
        assert not list(cache.parent.rglob("outside")), member
    content = packed(shared_model, (link("a"), b"/etc/passwd"))
    refused(release(content), cache, "'a', not a plain file name")


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_two_members_of_one_name(shared_model, release, cache):
    for name in ("model.json", "MODEL.JSON"):
        refused(release(packed(shared_model, (name, b"{}"))), cache, "two members of one name")


def test_an_archive_that_swells(shared_model, release, cache, monkeypatch):
    monkeypatch.setattr(zoo, "_UNPACKED_LIMIT", 2**20)
    monkeypatch.setattr(zoo, "_copy", lambda *_: pytest.fail("something was written"))
    content = packed(shared_model, ("bomb", bytes(2**20)))
    assert len(content) < 2**14
    refused(release(content), cache, "more than 1048576 bytes when unpacked")


def test_an_archive_that_hides_its_size(shared_model, release, cache):
    content = bytearray(packed(shared_model, ("bomb", bytes(2**20))))
    entry = content.rindex(b"PK\x01\x02")
    content[entry + 24 : entry + 28] = (10).to_bytes(4, "little")  # its uncompressed size
    refused(release(bytes(content)), cache, "expected a zip file")


def test_files_that_are_not_archives(release, cache):
    for content in (b"", b"no archive", b"PK\x03\x04" + bytes(40)):
        refused(release(content), cache, "expected a zip file")


def test_an_archive_of_something_else(release, cache, tmp_path):
    (tmp_path / "other").mkdir()
    (tmp_path / "other/notes.txt").write_text("no model")
    refused(release(packed(tmp_path / "other")), cache, r"model\.json")


def test_a_model_that_was_changed_before_it_was_packed(model, release, cache):
    with (model / "weights.safetensors").open("r+b") as file:
        file.write(b"\xff")
    refused(release(packed(model)), cache, "another SHA-256")


def test_nothing_at_the_address(shared_model, release, cache, tmp_path):
    index = release(packed(shared_model))
    (tmp_path / "one matrix.zip").unlink()
    refused(index, cache, "expected one-matrix at file://.*No such file")


def test_a_damaged_cache_is_not_used(shared_model, release, cache):
    index = release(packed(shared_model))
    folder = load_pretrained("one-matrix", index=index).folder.path
    (folder / "model.onnx").write_bytes(b"")
    with pytest.raises(InputError, match=r"model\.onnx as model\.json describes it"):
        load_pretrained("one-matrix", index=index)


def test_the_slower_of_two_takes_the_folder_of_the_faster(
    shared_model, release, cache, monkeypatch
):
    entry = read_zoo(release(packed(shared_model)))["one-matrix"]
    download = zoo._download

    def be_overtaken(*args):
        monkeypatch.setattr(zoo, "_download", download)
        fetch(entry)
        download(*args)

    monkeypatch.setattr(zoo, "_download", be_overtaken)
    assert fetch(entry) == cache / entry.sha256
    assert len(list(cache.iterdir())) == 1


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_cache_that_cannot_be_written(shared_model, release, cache):
    cache.mkdir(mode=0o500)
    with pytest.raises(InputError, match="set CMEMD_CACHE"):
        load_pretrained("one-matrix", index=release(packed(shared_model)))


def test_a_cache_that_is_a_file(shared_model, release, cache):
    cache.write_text("in the way")
    with pytest.raises(InputError, match="set CMEMD_CACHE"):
        load_pretrained("one-matrix", index=release(packed(shared_model)))


def test_a_redirection_may_not_leave_https():
    handler = zoo._StayEncrypted()
    with pytest.raises(OSError, match="redirected to file:///etc/passwd"):
        handler.redirect_request(None, None, 302, "", {}, "file:///etc/passwd")


def test_other_addresses_are_refused(release):
    for address in ("http://example.org/a.zip", "ftp://a/b", "/a.zip"):
        found = refusal(read_zoo, release(b"", address=address))
        assert "file:// or https:// for one-matrix" in found, address
        assert f", got {address!r}: " in found


def test_files_that_are_not_an_index(tmp_path):
    for text in (
        "",
        "- a list",
        "a: {card: x}",
        "a: {card: x, address: y, sha256: z}",
        "../a: {card: x, folder: f, commands: [c]}",
        "a: [",
        "a: !!python/object/apply:os.getcwd []",
    ):
        (tmp_path / "zoo.yml").write_text(text)
        assert re.search(r"^expected .*zoo\.yml, got ", refusal(read_zoo, tmp_path / "zoo.yml")), (
            text
        )
    assert "a zoo's index at" in refusal(read_zoo, tmp_path / "none.yml")
    assert "none.yml" in refusal(read_zoo, tmp_path / "none.yml")


def test_entries_of_the_wrong_kind_are_told(release):
    for changes, message in (
        ({"bytes": "many"}, "bytes of one-matrix in .* as a whole number, got 'many'"),
        ({"bytes": -1}, "got .* and -1"),
        ({"sha256": 7}, "sha256 of one-matrix in .* as text, got 7"),
        ({"sha256": "../elsewhere"}, "a SHA-256 in hex .*, got '../elsewhere' and 0"),
        ({"card": ["a", "list"]}, "card of one-matrix in .* as text"),
    ):
        assert re.search(message, refusal(read_zoo, release(b"", **changes))), changes


def test_a_connection_that_breaks_is_not_taken_for_a_full_disk(release, cache, monkeypatch):
    class Broken(io.BytesIO):
        def __init__(self, error):
            super().__init__(b"PK")
            self.error = error

        def read(self, size=-1):
            raise self.error

    for error in (
        ConnectionResetError(104, "Connection reset by peer"),
        http.client.IncompleteRead(b"PK"),
        TimeoutError("timed out"),
    ):
        broken = Broken(error)
        monkeypatch.setattr("urllib.request.OpenerDirector.open", lambda *_, of=broken, **__: of)
        refused(release(b"content"), cache, "expected one-matrix at file://.*: try again later")


def test_archives_of_other_compressions_and_of_many_members(shared_model, release, cache):
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w", zipfile.ZIP_BZIP2) as archive:
        for path in shared_model.iterdir():
            archive.write(path, path.name)
    refused(release(content.getvalue()), cache, "neither stored nor deflated")
    many = [(f"file{number}", b"") for number in range(1001)]
    refused(release(packed(shared_model, *many)), cache, "more than 1000")


def test_the_first_model_is_the_stand_in():
    first = next(iter(read_zoo().values()))
    assert first.name == "demo"
    assert first.card.startswith("Stand-in.")
    assert "drawn people" in first.card


def test_the_page_is_that_of_the_index():
    page = (REPOSITORY / "MODEL_ZOO.md").read_text(encoding="utf-8")
    assert page == zoo_page(read_zoo()), "run `cmemd zoo`"


def test_a_page_names_archives_with_size_and_digest(release):
    page = zoo_page(read_zoo(release(b"content")))
    assert "## one-matrix\n\nOne matrix.\n\n- archive: <file:///" in page
    assert f"7 bytes\n- SHA-256: `{hashlib.sha256(b'content').hexdigest()}`" in page


def test_the_command_writes_the_page(release, tmp_path, capsys):
    parser = argparse.ArgumentParser()
    command.add_arguments(parser)
    index, output = release(b"content"), tmp_path / "page.md"
    assert command.run(parser.parse_args(["--index", str(index), "--output", str(output)])) == 0
    assert output.read_text() == zoo_page(read_zoo(index))
    assert f"wrote 1 models to {output}" in capsys.readouterr().out
    command.run(parser.parse_args(["--output", str(output)]))
    assert output.read_text() == zoo_page(read_zoo())
    output.write_text("# Model zoo\n\nof mine\n")
    message = refusal(command.run, parser.parse_args(["--output", str(output)]))
    assert "expected a new file, or one that the same command wrote" in message
    assert output.read_text() == "# Model zoo\n\nof mine\n"

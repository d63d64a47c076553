"""Programs that would do more than compute, if torch.export.load were given them."""

import io
import json
import pickle
import re
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from tests.inference.one_matrix import expected_embeddings, noise, write_program
from tests.inference.refusal import refusal

from cmemd.errors import InputError
from cmemd.inference.program import load_program

CPU = torch.device("cpu")


class Intruder:
    """Creates a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


@pytest.fixture(scope="module")
def program(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("program") / "model.pt2"
    write_program(path)
    return path


@pytest.fixture
def spoilt(program, tmp_path) -> Callable[..., Path]:
    """The program with members replaced or added, by name below the archive's root."""

    def rewrite(changes: dict[str, Callable[[bytes], bytes]]) -> Path:
        path = tmp_path / "model.pt2"
        with zipfile.ZipFile(program) as old, zipfile.ZipFile(path, "w") as new:
            root = old.namelist()[0].split("/")[0]
            for name in old.namelist():
                change = changes.get(name.removeprefix(root + "/"), lambda content: content)
                new.writestr(name, change(old.read(name)))
            for name in changes:
                if f"{root}/{name}" not in old.namelist():
                    new.writestr(f"{root}/{name}", changes[name](b""))
        return path

    return rewrite


def edit(change: Callable[[dict], None]) -> Callable[[bytes], bytes]:
    def apply(content: bytes) -> bytes:
        document = json.loads(content)
        change(document)
        return json.dumps(document).encode()

    return apply


def test_a_programs_embeddings(program):
    module = load_program(program, CPU)
    for images in (1, 2, 5):
        found = module(torch.from_numpy(noise(images)), torch.ones(images, dtype=torch.int64))
        expected = expected_embeddings(noise(images), 1)
        np.testing.assert_allclose(
            found.detach().numpy(), expected, atol=2e-6, err_msg=f"{images} images"
        )


def test_a_program_moves_to_another_device(program):
    meta = torch.device("meta")  # shapes without numbers, as any machine has it
    module = load_program(program, meta)
    images = torch.empty(3, 8, 4, 3, dtype=torch.uint8, device=meta)
    found = module(images, torch.zeros(3, dtype=torch.int64, device=meta))
    assert (found.shape, found.device) == ((3, 5), meta)


def test_a_rewritten_program_loads(spoilt):
    load_program(spoilt({}), CPU)


def test_a_pickle_among_the_sample_inputs(spoilt, tmp_path):
    content = io.BytesIO()
    torch.save(Intruder(tmp_path / "trace"), content)
    path = spoilt({"data/sample_inputs/model.pt": lambda _: content.getvalue()})
    with pytest.raises(InputError, match="plain tensors and ATen operators"):
        load_program(path, CPU)
    assert not (tmp_path / "trace").exists()


def test_a_pickled_weight(spoilt, tmp_path):
    content = io.BytesIO()
    torch.save(Intruder(tmp_path / "trace"), content)
    path = spoilt(
        {
            "data/weights/weight_0": lambda _: content.getvalue(),
            "data/weights/model_weights_config.json": edit(
                lambda config: config["config"]["weight"].update(use_pickle=True)
            ),
        }
    )
    with pytest.raises(InputError, match="'weight' as a pickle"):
        load_program(path, CPU)
    assert not (tmp_path / "trace").exists()


def test_members_that_are_not_tensors(spoilt, tmp_path):
    for name in (
        "data/constants/opaque_obj_0",
        "data/constants/custom_obj_0",
        "data/constants/model.pt",
        "data/weights/model.pt",
        "data/aotinductor/model/model.so",
        "models/other.json",
    ):
        path = spoilt({name: lambda _: pickle.dumps(Intruder(tmp_path / "trace"))})
        assert f"got the member '{name}': export" in refusal(load_program, path, CPU), name
        assert not (tmp_path / "trace").exists(), name


def nodes(document: dict) -> list[dict]:
    return document["graph_module"]["graph"]["nodes"]


CALL = "__import__('pathlib').Path('trace').touch()"


def test_documents_that_name_more_than_operators(spoilt, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    changes = (
        lambda d: nodes(d)[0].update(target="torch.serialization.os.system"),
        lambda d: nodes(d)[0].update(target="torch.ops.aten.add.Tensor.__class__"),
        lambda d: nodes(d)[0].update(target="_operator.methodcaller"),
        lambda d: nodes(d)[0].update(name=f"x={CALL}"),
        lambda d: d["graph_module"]["graph"]["tensor_values"].update({f"x;{CALL}": {}}),
        lambda d: d["graph_module"].update(expr_str=CALL),
        lambda d: d["graph_module"].update(expr_str="exec(chr(1))"),
        lambda d: d["graph_module"].update(
            in_spec=json.dumps([1, {"type": "collections.defaultdict", "context": "os.system"}])
        ),
    )
    for number, change in enumerate(changes):
        found = refusal(load_program, spoilt({"models/model.json": edit(change)}), CPU)
        assert "a program of plain tensors and ATen operators" in found, number
        assert not Path("trace").exists(), number


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_a_member_that_comes_twice(spoilt):
    path = spoilt({})
    with zipfile.ZipFile(path, "a") as archive:
        name = next(name for name in archive.namelist() if name.endswith("models/model.json"))
        archive.writestr(name, b"{}")
    with pytest.raises(InputError, match="got two members of one name"):
        load_program(path, CPU)


def test_files_that_are_not_programs(tmp_path):
    for content in (b"", b"no archive", b"PK\x05\x06" + bytes(18)):
        (tmp_path / "model.pt2").write_bytes(content)
        found = refusal(load_program, tmp_path / "model.pt2", CPU)
        assert re.search("^expected a program .*: export the model again", found), content
        assert "\n" not in found, content

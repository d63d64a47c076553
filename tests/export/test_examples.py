"""The examples in other languages embed a model folder's test images as they say."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image
from tests.conftest import REPOSITORY
from tests.export.conftest import tiny_config

from cmemd.cli.main import main
from cmemd.export.folder import export_model
from cmemd.inference.model_folder import read_model_folder
from cmemd.inference.test_vector import test_image

EXAMPLES = REPOSITORY / "examples"
MODALITIES = ("visible", "thermal")


@pytest.fixture(scope="module")
def folder(checkpoint, tmp_path_factory) -> Path:
    """A model folder with what both examples read."""
    root = tmp_path_factory.mktemp("examples")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FASTREID_DATASETS", str(root / "nowhere"))
        formats = ("onnx", "onnx-nchw-any")
        export_model(
            tiny_config(), checkpoint, root / "tiny", formats=formats, modalities=MODALITIES
        )
    return root / "tiny"


def needed(*programs: str) -> None:
    """Skips a test without these programs."""
    absent = [name for name in programs if shutil.which(name) is None]
    if absent:
        pytest.skip(f"needs {', '.join(absent)}")


def fetched(words: list[str], cwd: Path) -> None:
    """Runs an installer; skips the test where it finds nothing."""
    done = subprocess.run(words, cwd=cwd, capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip(f"cannot be installed here: {' '.join(words)}: {done.stderr.strip()[-200:]}")


@pytest.mark.slow
def test_the_example_for_node_passes_verify(folder, tmp_path):
    needed("node", "npm")
    # Without scripts, which would download CUDA's files.
    fetched(["npm", "install", "--ignore-scripts", "onnxruntime-node", "sharp"], tmp_path)
    shutil.copy(EXAMPLES / "embed.mjs", tmp_path)  # Node looks for packages beside the program
    words = ["node", "embed.mjs", str(folder), "client.json"]
    subprocess.run(words, cwd=tmp_path, check=True)
    assert main(["verify", str(folder), "--client", str(tmp_path / "client.json")]) == 0


@pytest.mark.slow
def test_the_example_for_cpp_passes_verify(folder, tmp_path):
    needed("g++")
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target"]
    fetched([*pip, str(tmp_path / "packages"), "openvino"], tmp_path)
    runtime = tmp_path / "packages/openvino"
    (library,) = (runtime / "libs").glob("libopenvino.so.*")
    build = ["g++", "-std=c++17", "-O2", str(EXAMPLES / "embed.cpp"), f"-I{runtime / 'include'}"]
    build += [f"-L{runtime / 'libs'}", f"-l:{library.name}", "-o", "embed"]
    subprocess.run(build, cwd=tmp_path, check=True)
    model = read_model_folder(folder)
    found = {}
    for number, modality in enumerate(MODALITIES):
        with Image.open(folder / test_image(modality)) as image:
            image.convert("RGB").save(tmp_path / f"{modality}.ppm")
        words = ["./embed", str(folder / "model.onnx"), f"{modality}.ppm"]
        done = subprocess.run(
            [*words, str(model.height), str(model.width), str(number)],
            cwd=tmp_path,
            env=os.environ | {"LD_LIBRARY_PATH": str(runtime / "libs")},
            capture_output=True,
            text=True,
            check=True,
        )
        found[modality] = json.loads(done.stdout)
    (tmp_path / "client.json").write_text(json.dumps(found))
    assert main(["verify", str(folder), "--client", str(tmp_path / "client.json")]) == 0

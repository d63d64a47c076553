"""Inference works where neither torch nor fast-reid is installed."""

import os
import shutil
import subprocess
import sys
import venv
from pathlib import Path

import numpy as np
import pytest
from tests.inference.one_matrix import expected_embeddings, grey, noise

REPOSITORY = Path(__file__).parents[2]

BLOCK = """
import sys

class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {"torch", "torchvision", "fastreid", "yacs", "cv2", "scipy"}:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, Absent())
"""

EMBED = """
import sys
import numpy as np
import cmemd
from cmemd.inference import Predictor, load_pretrained

assert cmemd.Predictor is Predictor
assert cmemd.load_pretrained is load_pretrained
model, out, *paths = sys.argv[1:]
np.savez(
    out,
    visible=Predictor(model).embed(paths[:3], "visible"),
    thermal=load_pretrained(model).embed(paths[3:], "thermal"),
)
assert not {"torch", "torchvision", "fastreid"} & set(sys.modules)
"""


def embed_and_compare(python: str, program: str, shared_model, save_images, tmp_path, env) -> None:
    images = np.concatenate([noise(3), grey(3)])
    arguments = [str(shared_model), str(tmp_path / "out.npz"), *map(str, save_images(images))]
    done = subprocess.run(
        [python, "-c", program, *arguments],
        capture_output=True,
        text=True,
        check=False,
        env=env,
        cwd=tmp_path,
    )
    assert (done.returncode, done.stderr) == (0, "")
    with np.load(tmp_path / "out.npz") as found:
        for modality, rows in enumerate((images[:3], images[3:])):
            expected = expected_embeddings(rows, modality)
            np.testing.assert_allclose(found[("visible", "thermal")[modality]], expected, atol=2e-6)


def test_with_torch_blocked(shared_model, save_images, tmp_path):
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    embed_and_compare(
        sys.executable, BLOCK + EMBED, shared_model, save_images, tmp_path, environment
    )


@pytest.mark.slow
def test_in_a_fresh_environment(shared_model, save_images, tmp_path):
    source = tmp_path / "source"  # a build leaves files behind
    for name in ("pyproject.toml", "setup.py", "README.md", "LICENSE"):
        (source / name).parent.mkdir(exist_ok=True)
        shutil.copy(REPOSITORY / name, source / name)
    shutil.copytree(REPOSITORY / "projects/CMEMD", source / "projects/CMEMD")
    venv.create(tmp_path / "venv", with_pip=True)
    python = str(tmp_path / "venv/bin/python")
    environment = {k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "PYTHONHOME")}
    install = [python, "-m", "pip", "install", "--quiet", f"cmemd[serve] @ {source.as_uri()}"]
    subprocess.run(install, check=True, env=environment)
    for package in ("torch", "torchvision", "fastreid", "yacs"):
        absent = subprocess.run(
            [python, "-c", f"import {package}"], capture_output=True, check=False, env=environment
        )
        assert absent.returncode == 1, package
    embed_and_compare(python, EMBED, shared_model, save_images, tmp_path, environment)

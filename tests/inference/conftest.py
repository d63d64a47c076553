import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tests.inference.one_matrix import WEIGHT, document, write_onnx, write_program

from cmemd.inference.model_folder import write_model_document


@pytest.fixture(scope="session")
def shared_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("one_matrix")
    (folder / "weights.safetensors").write_bytes(WEIGHT.tobytes())
    write_onnx(folder / "model.onnx")
    write_model_document(folder, document())
    return folder


@pytest.fixture
def model(shared_model: Path, tmp_path: Path) -> Path:
    """A model folder that a test may spoil."""
    return Path(shutil.copytree(shared_model, tmp_path / "model"))


@pytest.fixture
def save_images(tmp_path: Path) -> Callable[..., list[Path]]:
    """Save arrays as PNG files, which keep the pixels."""

    def save(images: np.ndarray, name: str = "image") -> list[Path]:
        paths = [tmp_path / f"{name} {number}.png" for number in range(len(images))]
        for image, path in zip(images, paths, strict=True):
            Image.fromarray(image).save(path)
        return paths

    return save


@pytest.fixture(scope="session")
def torch_model(shared_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The model folder with PyTorch's program beside the graph."""
    folder = tmp_path_factory.mktemp("with_program") / "model"
    shutil.copytree(shared_model, folder)
    write_program(folder / "model.pt2")
    write_model_document(folder, document())
    return folder

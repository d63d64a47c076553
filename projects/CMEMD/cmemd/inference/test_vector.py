"""Check a model folder, or another program's embeddings, by the folder's test vector.

``test_vector.json`` holds, for each modality, a drawn image's file, its pixels at the model's size
(RGB, rows first, base64) and the training network's embedding. A program that resizes and embeds
the file as it should gets these pixels and this embedding.
"""

import base64
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from cmemd.data.modality import Modality
from cmemd.errors import InputError
from cmemd.inference.backends import ONNX_FILES, PROGRAM, open_backend
from cmemd.inference.model_folder import ModelFolder
from cmemd.inference.preprocess import read_image

__all__ = [
    "TEST_VECTOR",
    "TEST_VECTOR_SCHEMA",
    "Agreement",
    "TestImage",
    "check_client",
    "check_folder",
    "read_test_vector",
    "test_image",
]

TEST_VECTOR = "test_vector.json"
TEST_VECTOR_SCHEMA = "cmemd-test-vector"

# Smallest cosine with the training network's embedding [chosen]: rounding in float32 and in half
# precision; 8-bit convolutions lose more, and how much depends on the network.
_LIMITS = {"float32": 0.99999, "float16": 0.999, "int8": 0.9}


@dataclass(frozen=True, eq=False)
class TestImage:
    """One image of a test vector.

    Attributes:
        modality: of the image.
        path: the PNG file.
        pixels: (H, W, 3) uint8 RGB, resized from the file.
        embedding: (D,) float32 of length 1.
    """

    __test__ = False  # no test of pytest

    modality: Modality
    path: Path
    pixels: np.ndarray
    embedding: np.ndarray


@dataclass(frozen=True)
class Agreement:
    """How far embeddings agree with a test vector.

    Attributes:
        name: what was checked.
        modality: of the image.
        cosine: with the training network's embedding.
        difference: largest difference of any number.
        limit: smallest cosine that passes.
    """

    name: str
    modality: str
    cosine: float
    difference: float
    limit: float

    @property
    def passes(self) -> bool:
        """Return whether the cosine reaches the limit; NaN does not."""
        return self.cosine >= self.limit


def test_image(modality: str) -> str:
    """Return the file name of a modality's test image."""
    return f"test_{modality}.png"


vars(test_image)["__test__"] = False  # or pytest takes it for a test


def read_test_vector(folder: ModelFolder) -> dict[str, TestImage]:
    """Return the test images of a model folder by their modality's name.

    Raises:
        InputError: the folder has no test vector, which earlier versions did not write, or a
            malformed one.
    """
    path = folder.file(TEST_VECTOR)
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
        shape = (folder.height, folder.width, 3)
        images = {}
        for modality in Modality:
            entry = document["images"][modality.name.lower()]
            pixels = (
                np.frombuffer(base64.b64decode(entry["pixels"]), np.uint8).reshape(shape).copy()
            )
            embedding = np.array(entry["embedding"], np.float32).reshape(folder.embedding_size)
            file = folder.file(entry["file"])
            images[modality.name.lower()] = TestImage(modality, file, pixels, embedding)
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(
            f"a test vector in {path}", " ".join(str(error).split())[:160], "export the model again"
        ) from None
    return images


def check_folder(folder: ModelFolder, device: str = "cpu") -> list[Agreement]:
    """Return how far each graph of a folder that can run here agrees with the test vector.

    Raises:
        InputError: there is no test vector, or this machine's Pillow resizes to other pixels.
        MissingDependencyError: the package that runs a graph is not installed.
    """
    images = read_test_vector(folder)
    for image in images.values():
        found = read_image(image.path, folder.height, folder.width)
        if not np.array_equal(found, image.pixels):
            raise InputError(
                f"the pixels of {TEST_VECTOR} after the resize of {image.path.name}",
                f"others, by up to {np.abs(found.astype(int) - image.pixels).max()} grey levels",
                "use another version of Pillow",
            )
    graphs = [(file, "onnx", precision) for precision, file in ONNX_FILES.items()]
    graphs.append((PROGRAM, "torch", "float32"))
    measured = []
    for file, runtime, precision in graphs:
        if file in folder.document["files"]:
            backend = open_backend(folder, device, runtime, precision)
            for name, image in images.items():
                found = backend(image.pixels[None], image.modality)[0]
                measured.append(_agreement(file, name, found, image, _LIMITS[precision]))
    return measured


def check_client(folder: ModelFolder, embeddings: Mapping[str, Any]) -> list[Agreement]:
    """Return how far another program's embeddings of the test images agree with the test vector.

    Args:
        folder: the model.
        embeddings: by modality, "visible", "thermal" or both; D numbers each, of any length.

    Raises:
        InputError: there is no test vector, an unknown modality or another number of numbers.
    """
    images = read_test_vector(folder)
    measured = []
    for name, given in embeddings.items():
        try:
            found: np.ndarray = np.array(given, np.float32)
        except (ValueError, TypeError):
            found = np.empty(0)
        if name not in images or found.shape != (folder.embedding_size,):
            raise InputError(
                f"embeddings of {folder.embedding_size} numbers by {' or '.join(images)}",
                f"{name!r} of shape {found.shape}",
                "write them as JSON, as in the test vector",
            )
        found = found / max(float(np.linalg.norm(found)), float(np.finfo(np.float32).tiny))
        measured.append(_agreement("client", name, found, images[name], 0.999))
    return measured


def _agreement(
    name: str, modality: str, found: np.ndarray, image: TestImage, limit: float
) -> Agreement:
    cosine = float(found @ image.embedding)
    return Agreement(name, modality, cosine, float(np.abs(found - image.embedding).max()), limit)

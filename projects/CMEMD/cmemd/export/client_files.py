"""Write what other programs need of a model folder: a test vector, and a reid_config.json."""

import base64
import json
from pathlib import Path

import numpy as np
from PIL import Image

from cmemd.data.modality import Modality
from cmemd.export.formats import Embed
from cmemd.export.images import draw_people
from cmemd.inference.preprocess import read_image
from cmemd.inference.test_vector import TEST_VECTOR, TEST_VECTOR_SCHEMA, test_image

__all__ = ["REID_CONFIG", "write_reid_config", "write_test_vector"]

REID_CONFIG = "reid_config.json"
_LARGER = 1.5  # a client has to shrink the test images, which tells resize filters apart [chosen]


def write_test_vector(folder: Path, embed: Embed, height: int, width: int) -> None:
    """Write a drawn person in both modalities, the pixels after the resize, and the embeddings.

    Args:
        folder: takes ``test_vector.json`` and a PNG file for each modality.
        embed: the training network.
        height: of the model's images, in pixels.
        width: of the model's images, in pixels.
    """
    large, _ = draw_people(round(_LARGER * height), round(_LARGER * width), 1)
    entries = {}
    for image, modality in zip(large, Modality, strict=True):
        name = modality.name.lower()
        path = folder / test_image(name)
        Image.fromarray(image if modality is Modality.VISIBLE else image[..., 0]).save(path)
        pixels = np.array(read_image(path, height, width))  # one that PyTorch may write to
        embedding = embed(pixels[None], np.array([int(modality)]))[0]
        entries[name] = {
            "file": path.name,
            "pixels": base64.b64encode(pixels.tobytes()).decode(),
            "embedding": [float(f"{number:.8g}") for number in embedding],
        }
    document = {"schema": TEST_VECTOR_SCHEMA, "version": 1, "height": height, "width": width}
    (folder / TEST_VECTOR).write_text(json.dumps({**document, "images": entries}) + "\n")


def write_reid_config(folder: Path, height: int, width: int) -> None:
    """Write the description by which roboflow's ``reid`` finds weights and preprocessing."""
    preprocessing = {
        "input_size": [height, width],
        "mean": [0.0, 0.0, 0.0],
        "std": [1.0, 1.0, 1.0],
        "interpolation": "bicubic",
        "to_rgb": True,
        "resize_mode": "stretch",
    }
    document = {"architecture": "cmemd", "preprocessing": preprocessing}
    (folder / REID_CONFIG).write_text(json.dumps(document, indent=2) + "\n")

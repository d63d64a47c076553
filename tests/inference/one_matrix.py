"""A network of one matrix, whose embeddings can be worked out by hand, and images for it."""

from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

HEIGHT, WIDTH, SIZE = 8, 4, 5
# Thermal training images were grey, visible ones had a chroma from 10 to 60: the limit is 5.
STATISTICS = {
    "visible": {"chroma": [10.0, 30.0, 60.0], "images": 100},
    "thermal": {"chroma": [0.0, 0.0, 0.0], "images": 100},
}

_RNG = np.random.default_rng(0)
WEIGHT = _RNG.normal(size=(HEIGHT * WIDTH * 3, SIZE)).astype(np.float32)
SHIFT = (1000 * _RNG.normal(size=(2, SIZE))).astype(np.float32)  # by modality


def expected_embeddings(images: np.ndarray, modality: int) -> np.ndarray:
    """What the network gives for ``(N, 8, 4, 3)`` images, in float64."""
    rows = images.reshape(len(images), -1) @ WEIGHT.astype(np.float64) + SHIFT[modality]
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def document() -> dict:
    return {
        "schema_version": 1,
        "architecture": {"name": "OneMatrix", "config": "MODEL: {}\n"},
        "input": {
            "height": HEIGHT,
            "width": WIDTH,
            "colour": "RGB",
            "layout": "NHWC",
            "dtype": "uint8",
            "resize": "bicubic, Pillow, no antialias flag",
        },
        "normalisation": {"mean": [0, 0, 0], "std": [1, 1, 1], "inside_graph": True},
        "embedding": {"size": SIZE, "dtype": "float32", "l2_normalised": True},
        "modalities": {"visible": 0, "thermal": 1},
        "recipe": "one matrix",
        "training": {"dataset": None, "identities": None, "licence": None},
        "channel_statistics": STATISTICS,
        "results": None,
        "versions": {},
    }


def write_onnx(path: Path) -> None:
    nodes = [
        helper.make_node("Cast", ["images"], ["real"], to=TensorProto.FLOAT),
        helper.make_node("Flatten", ["real"], ["rows"]),
        helper.make_node("MatMul", ["rows", "weight"], ["product"]),
        helper.make_node("Gather", ["shift", "modalities"], ["shifts"]),
        helper.make_node("Add", ["product", "shifts"], ["sum"]),
        helper.make_node("LpNormalization", ["sum"], ["embeddings"], axis=1, p=2),
    ]
    graph = helper.make_graph(
        nodes,
        "one_matrix",
        [
            helper.make_tensor_value_info("images", TensorProto.UINT8, ["N", HEIGHT, WIDTH, 3]),
            helper.make_tensor_value_info("modalities", TensorProto.INT64, ["N"]),
        ],
        [helper.make_tensor_value_info("embeddings", TensorProto.FLOAT, ["N", SIZE])],
        [numpy_helper.from_array(WEIGHT, "weight"), numpy_helper.from_array(SHIFT, "shift")],
    )
    onnx.save(
        helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10), path
    )


def write_program(path: Path) -> None:
    """The same network as PyTorch's exported program."""
    import torch

    class OneMatrix(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = torch.nn.Parameter(torch.from_numpy(WEIGHT))
            self.register_buffer("shift", torch.from_numpy(SHIFT))

        def forward(self, images: torch.Tensor, modalities: torch.Tensor) -> torch.Tensor:
            rows = images.flatten(1).float() @ self.weight + self.shift[modalities]
            return torch.nn.functional.normalize(rows, dim=1)

    batch = torch.export.Dim("batch", min=1, max=1024)
    inputs = torch.zeros(3, HEIGHT, WIDTH, 3, dtype=torch.uint8), torch.zeros(3, dtype=torch.int64)
    program = torch.export.export(
        OneMatrix().eval(), inputs, dynamic_shapes=({0: batch}, {0: batch})
    )
    torch.export.save(program, path)


def noise(images: int, seed: int = 0, height: int = HEIGHT, width: int = WIDTH) -> np.ndarray:
    """Colourful images, ``(images, height, width, 3)`` uint8, of chroma near 128."""
    shape = images, height, width, 3
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


def grey(images: int, seed: int = 0) -> np.ndarray:
    return np.repeat(noise(images, seed)[..., :1], 3, axis=-1)

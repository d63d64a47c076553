"""Write each format of a model folder, and run it again from its file.

``model.onnx`` needs only ONNX Runtime, ``model.pt2`` only PyTorch. ``weights.safetensors`` needs
this package, which rebuilds the network around the tensors.

Shape legend: N images of H x W; D channels of the embedding.
"""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from torch.export import Dim, ExportedProgram

from cmemd.errors import InputError, MissingDependencyError
from cmemd.export.network import exported_state, load_network
from cmemd.export.wrapper import EmbeddingGraph
from cmemd.inference.backends import ONNX_FILES, PROGRAM
from cmemd.inference.model_folder import WEIGHTS
from cmemd.inference.program import load_program
from cmemd.modeling.cmemd_net import CMEMDNet

__all__ = [
    "FILES",
    "OPSET",
    "Embed",
    "by_onnxruntime",
    "by_program",
    "by_weights",
    "check_formats",
    "trace",
    "write_onnx",
    "write_program",
    "write_weights",
]

# Images (N, H, W, 3) uint8 and modalities (N,) int64 -> embeddings (N, D) float32.
Embed = Callable[[np.ndarray, np.ndarray], np.ndarray]

FILES = {
    "safetensors": WEIGHTS,
    "torch-export": PROGRAM,
    "onnx": ONNX_FILES["float32"],
}
OPSET = 20  # PyTorch's default of 2026; ONNX Runtime reads it since 1.17 of January 2024 [chosen]
_IMAGES, _MODALITIES, _EMBEDDINGS, _BATCH = "images", "modalities", "embeddings", "batch"


def check_formats(formats: Sequence[str]) -> None:
    """Raise for unknown formats and missing packages, before any work is done.

    Raises:
        InputError: a format is not in ``FILES``.
        MissingDependencyError: a package that writes or runs a format is not installed.
    """
    unknown = sorted(set(formats) - FILES.keys())
    if unknown:
        raise InputError(
            f"--formats out of {', '.join(FILES)}", ", ".join(unknown), "leave out any other"
        )
    try:
        import safetensors.torch  # noqa: F401

        if "onnx" in formats:
            import onnx  # noqa: F401
            import onnxruntime  # noqa: F401
            import onnxscript  # noqa: F401
    except ImportError as error:
        raise MissingDependencyError(
            f"expected {error.name} to export to {', '.join(formats)}, got an installation "
            "without it: pip install 'cmemd[export]'"
        ) from None


def trace(module: EmbeddingGraph, height: int, width: int) -> ExportedProgram:
    """Return a module as a program of images (N, height, width, 3) and modalities (N,), N >= 1."""
    images = torch.zeros(2, height, width, 3, dtype=torch.uint8)
    batch = {0: Dim(_BATCH, min=1)}
    example = (images, torch.tensor([0, 1]))
    program = torch.export.export(module, example, dynamic_shapes=(batch, batch))
    program = program.run_decompositions()  # core ATen only: no formula in a string
    graph = program.graph
    for node in list(graph.nodes):
        node.meta.pop("stack_trace", None)  # names files of the machine that exports
        if node.target is torch.ops.aten._assert_scalar.default:
            graph.erase_node(node)  # a check that a number of rows is not negative
    graph.eliminate_dead_code()
    return program


def write_weights(network: CMEMDNet, path: Path) -> None:
    """Write the tensors on which an embedding depends."""
    from safetensors.torch import save_file

    state = {name: tensor.contiguous() for name, tensor in exported_state(network).items()}
    save_file(state, path, metadata={"format": "pt"})
    path.chmod(0o644)  # save_file makes it private


def by_weights(path: Path, architecture: Mapping[str, str]) -> Embed:
    """Return what runs ``weights.safetensors`` in the network of an architecture."""
    from safetensors.torch import load_file

    return _by_torch(EmbeddingGraph(load_network(architecture, load_file(path), path.parent)))


def write_program(program: ExportedProgram, path: Path) -> None:
    """Write a program of ``trace`` for PyTorch."""
    torch.export.save(program, path)


def by_program(path: Path) -> Embed:
    """Return what runs ``model.pt2``."""
    return _by_torch(load_program(path, torch.device("cpu")))


def write_onnx(program: ExportedProgram, path: Path) -> None:
    """Write a program of ``trace`` as ONNX of ``OPSET``, with its weights inside."""
    import onnx

    exported = torch.onnx.export(
        program,
        dynamo=True,
        input_names=[_IMAGES, _MODALITIES],
        output_names=[_EMBEDDINGS],
        opset_version=OPSET,
        verbose=False,
    )
    model = exported.model_proto
    graph = model.graph
    del graph.value_info[:]  # sizes in the exporter's own names for the batch
    for value in (*graph.input, *graph.output):
        value.type.tensor_type.shape.dim[0].dim_param = _BATCH
        del value.metadata_props[:]
    for node in graph.node:
        del node.metadata_props[:]  # as large as the graph, and names files of this machine
    onnx.checker.check_model(model)
    onnx.save(model, path)


def by_onnxruntime(path: Path) -> Embed:
    """Return what runs an ONNX file on the CPU, with as many threads as PyTorch has."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    options.log_severity_level = 3  # errors; half precision warns of every cast
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])

    def embed(images: np.ndarray, modalities: np.ndarray) -> np.ndarray:
        return session.run([_EMBEDDINGS], {_IMAGES: images, _MODALITIES: modalities})[0]

    return embed


def _by_torch(module: Callable[[torch.Tensor, torch.Tensor], torch.Tensor]) -> Embed:
    @torch.inference_mode()
    def embed(images: np.ndarray, modalities: np.ndarray) -> np.ndarray:
        return module(torch.from_numpy(images), torch.from_numpy(modalities)).numpy()

    return embed

"""Write each format of a model folder, and run it again from its file.

``model.onnx`` needs only ONNX Runtime, ``model.pt2`` only PyTorch. ``weights.safetensors`` needs
this package, which rebuilds the network around the tensors.

Shape legend: N images of H x W; D channels of the embedding.
"""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor
from torch.export import Dim, ExportedProgram
from torch.nn.attention import SDPBackend, sdpa_kernel

from cmemd.data.modality import Modality
from cmemd.errors import InputError, MissingDependencyError
from cmemd.export.network import exported_state, load_network
from cmemd.export.wrapper import EmbeddingGraph, OneModalityGraph
from cmemd.inference.backends import ONNX_FILES, PROGRAM
from cmemd.inference.model_folder import WEIGHTS
from cmemd.inference.program import load_program
from cmemd.modeling.cmemd_net import CMEMDNet

if TYPE_CHECKING:
    from onnxruntime import InferenceSession

__all__ = [
    "FILES",
    "ONE_MODALITY",
    "OPSET",
    "Embed",
    "by_one_modality",
    "by_onnxruntime",
    "by_program",
    "by_weights",
    "check_formats",
    "one_modality_file",
    "trace",
    "write_one_modality",
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
# Formats of one modality: images (N, 3, H, W) float32 in [0, 1] -> embeddings. The second takes any
# H and W, because it resizes, as Pillow's bicubic does.
ONE_MODALITY = {"onnx-nchw": "nchw", "onnx-nchw-any": "nchw-any"}
OPSET = 20  # PyTorch's default of 2026; ONNX Runtime reads it since 1.17 of January 2024 [chosen]
_IMAGES, _MODALITIES, _EMBEDDINGS, _BATCH = "images", "modalities", "embeddings", "batch"
_HEIGHT, _WIDTH = "height", "width"


def check_formats(formats: Sequence[str], modalities: Sequence[str] = ()) -> None:
    """Raise for unknown formats and missing packages, before any work is done.

    Raises:
        InputError: a format is neither in ``FILES`` nor in ``ONE_MODALITY``; or one of the latter
            without a modality, or the reverse.
        MissingDependencyError: a package that writes or runs a format is not installed.
    """
    known = (*FILES, *ONE_MODALITY)
    unknown = sorted(set(formats) - set(known))
    if unknown:
        raise InputError(
            f"--formats out of {', '.join(known)}", ", ".join(unknown), "leave out any other"
        )
    single = [name for name in formats if name in ONE_MODALITY]
    if bool(single) != bool(modalities):
        raise InputError(
            f"--modality together with the formats {' and '.join(ONE_MODALITY)}",
            f"--modality {' '.join(modalities) or 'missing'} and --formats {' '.join(formats)}",
            "each graph of these is for visible or for thermal images",
        )
    try:
        import safetensors.torch  # noqa: F401

        if any(name.startswith("onnx") for name in formats):
            import onnx  # noqa: F401
            import onnxruntime  # noqa: F401
            import onnxscript  # noqa: F401
    except ImportError as error:
        raise MissingDependencyError(
            f"expected {error.name} to export to {', '.join(formats)}, got an installation "
            "without it: pip install 'cmemd[export]'"
        ) from None


def trace(module: EmbeddingGraph | OneModalityGraph, height: int, width: int) -> ExportedProgram:
    """Return a module as a program of what it takes: N images of height x width, N >= 1.

    A module that resizes takes images of any size.
    """
    batch = {0: Dim(_BATCH, min=1)}
    example: tuple[Tensor, ...]
    if isinstance(module, OneModalityGraph):
        example = (torch.zeros(2, 3, height + 3, width + 5),)
        if module.resized_to is None:
            example = (torch.zeros(2, 3, height, width),)
        else:
            batch |= {2: Dim(_HEIGHT, min=1), 3: Dim(_WIDTH, min=1)}
    else:
        images = torch.zeros(2, height, width, 3, dtype=torch.uint8)
        example = (images, torch.tensor([0, 1]))
    # Core ATen only: no formula in a string, and no attention that one device alone computes.
    with sdpa_kernel(SDPBackend.MATH):
        program = torch.export.export(module, example, dynamic_shapes=(batch,) * len(example))
        program = program.run_decompositions()
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
        input_names=[_IMAGES, _MODALITIES][: len(program.graph_signature.user_inputs)],
        output_names=[_EMBEDDINGS],
        opset_version=OPSET,
        verbose=False,
    )
    assert exported is not None, "dynamo=True gives a program"
    model = exported.model_proto
    graph = model.graph
    del graph.value_info[:]  # sizes in the exporter's own names for the batch
    for value in (*graph.input, *graph.output):
        shape = value.type.tensor_type.shape.dim
        shape[0].dim_param = _BATCH
        for place, name in ((2, _HEIGHT), (3, _WIDTH)):
            if len(shape) == 4 and not shape[place].dim_value:
                shape[place].dim_param = name
        del value.metadata_props[:]
    for node in graph.node:
        del node.metadata_props[:]  # as large as the graph, and names files of this machine
    onnx.checker.check_model(model)
    onnx.save(model, path)


def one_modality_file(name: str, modality: str) -> str:
    """Return the file name of a format of ``ONE_MODALITY``."""
    return f"model.{modality}.{ONE_MODALITY[name]}.onnx"


def write_one_modality(
    network: CMEMDNet, name: str, path: Path, modality: str, size: Sequence[int]
) -> None:
    """Write a format of ``ONE_MODALITY``.

    Args:
        network: a trained network.
        name: of the format.
        path: the new file.
        modality: "visible" or "thermal".
        size: height and width of the network's images.
    """
    resized_to = size if name == "onnx-nchw-any" else None
    graph = OneModalityGraph(network, Modality[modality.upper()], resized_to)
    write_onnx(trace(graph, *size), path)


def by_one_modality(path: Path, modality: str, others: np.ndarray) -> Embed:
    """Return what runs a format of ``ONE_MODALITY``.

    Args:
        path: the file.
        modality: "visible" or "thermal".
        others: (N, D) embeddings that stand for those of the other modality, which it has not.
    """
    session = _session(path)
    own = Modality[modality.upper()]

    def embed(images: np.ndarray, modalities: np.ndarray) -> np.ndarray:
        planes = np.ascontiguousarray(images.transpose(0, 3, 1, 2)).astype(np.float32) / 255
        found = session.run([_EMBEDDINGS], {_IMAGES: planes})[0]
        return np.where((modalities == own)[:, None], found, others)

    return embed


def by_onnxruntime(path: Path) -> Embed:
    """Return what runs an ONNX file on the CPU, with as many threads as PyTorch has."""
    session = _session(path)

    def embed(images: np.ndarray, modalities: np.ndarray) -> np.ndarray:
        return session.run([_EMBEDDINGS], {_IMAGES: images, _MODALITIES: modalities})[0]

    return embed


def _session(path: Path) -> "InferenceSession":
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    options.log_severity_level = 3  # errors; half precision warns of every cast
    return onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])


def _by_torch(module: Callable[[torch.Tensor, torch.Tensor], torch.Tensor]) -> Embed:
    @torch.inference_mode()
    def embed(images: np.ndarray, modalities: np.ndarray) -> np.ndarray:
        return module(torch.from_numpy(images), torch.from_numpy(modalities)).numpy()

    return embed

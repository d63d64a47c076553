"""Run a model folder's graph, in ONNX Runtime alone or as PyTorch's exported program.

A backend maps images ``(N, H, W, 3)`` uint8 and their modality to embeddings ``(N, D)`` float32.
"""

import importlib.util
from collections.abc import Callable

import numpy as np

from cmemd.data.modality import Modality
from cmemd.errors import InputError, MissingDependencyError, exhausted
from cmemd.inference.model_folder import ModelFolder

__all__ = ["ONNX_FILES", "PROGRAM", "RUNTIMES", "OnnxBackend", "TorchBackend", "open_backend"]

Backend = Callable[[np.ndarray, Modality], np.ndarray]

RUNTIMES = ("auto", "onnx", "torch")
ONNX_FILES = {"float32": "model.onnx", "float16": "model.fp16.onnx", "int8": "model.int8.onnx"}
PROGRAM = "model.pt2"

_PROVIDERS = {"cpu": "CPUExecutionProvider", "cuda": "CUDAExecutionProvider"}


class OnnxBackend:
    """A graph in ONNX Runtime.

    Args:
        folder: the model.
        device: "cpu", "cuda" or "cuda:1".
        precision: one of ``ONNX_FILES``.

    Raises:
        MissingDependencyError: onnxruntime is not installed.
        InputError: the folder lacks the graph, or ONNX Runtime lacks the device or cannot run the
            graph.
    """

    def __init__(
        self, folder: ModelFolder, device: str = "cpu", precision: str = "float32"
    ) -> None:
        try:
            import onnxruntime
        except ImportError:
            raise MissingDependencyError(
                "expected onnxruntime to run ONNX, got an installation without it: pip install "
                "'cmemd[serve]'"
            ) from None
        if precision not in ONNX_FILES:
            raise InputError(
                f"a precision out of {', '.join(ONNX_FILES)}", repr(precision), "name one of them"
            )
        path = folder.file(ONNX_FILES[precision])
        kind, _, number = device.partition(":")
        provider = _PROVIDERS.get(kind)
        if provider not in onnxruntime.get_available_providers():
            raise InputError(
                "a device that ONNX Runtime has here "
                f"({', '.join(onnxruntime.get_available_providers())})",
                repr(device),
                "use cpu, or install onnxruntime-gpu for cuda",
            )
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3  # errors only, and those are raised as well
        # Threads that spin while they wait slow the threads that decode images.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        try:
            self.session = onnxruntime.InferenceSession(
                str(path), options, providers=[(provider, {"device_id": number} if number else {})]
            )
        except Exception as error:
            if exhausted(error):
                raise
            raise InputError(
                f"a graph that ONNX Runtime can run in {path}",
                " ".join(str(error).split())[:160],
                "update onnxruntime, or export the model again",
            ) from error

    def __call__(self, images: np.ndarray, modality: Modality) -> np.ndarray:
        """Return embeddings ``(N, D)`` float32 of ``(N, H, W, 3)`` uint8 images of one modality."""
        rows = np.full(len(images), modality, dtype=np.int64)
        return self.session.run(["embeddings"], {"images": images, "modalities": rows})[0]


class TorchBackend:
    """An exported program in PyTorch.

    Args:
        folder: the model.
        device: any that PyTorch knows.

    Raises:
        MissingDependencyError: torch is not installed.
        InputError: the folder lacks the program, or PyTorch lacks the device or cannot load the
            program.
    """

    def __init__(self, folder: ModelFolder, device: str = "cpu") -> None:
        try:
            import torch
        except ImportError:
            raise MissingDependencyError(
                "expected torch to run model.pt2, got an installation without it: install it, or "
                "use runtime='onnx' with pip install 'cmemd[serve]'"
            ) from None
        from cmemd.inference.program import load_program

        path = folder.file(PROGRAM)
        try:
            self.device = torch.device(device)
            torch.empty(0, device=self.device)
        except (RuntimeError, AssertionError) as error:
            raise InputError(
                "a device that PyTorch has here",
                f"{device!r} ({str(error).splitlines()[0][:120]})",
                "use cpu",
            ) from error
        self.module = load_program(path, self.device)

    def __call__(self, images: np.ndarray, modality: Modality) -> np.ndarray:
        """Return embeddings ``(N, D)`` float32 of ``(N, H, W, 3)`` uint8 images of one modality."""
        import torch

        rows = torch.full((len(images),), int(modality), device=self.device)
        with torch.inference_mode():
            return self.module(torch.from_numpy(images).to(self.device), rows).cpu().numpy()


def open_backend(
    folder: ModelFolder, device: str = "cpu", runtime: str = "auto", precision: str = "float32"
) -> Backend:
    """Return the backend for a model on a device.

    Args:
        folder: the model.
        device: where it runs.
        runtime: "onnx", "torch" or "auto". "auto" takes ONNX Runtime if it is installed and the
            folder has an ONNX graph, else PyTorch.
        precision: "float32"; ONNX Runtime also runs "float16" and "int8" if the folder has them.

    Raises:
        MissingDependencyError: the runtime's package is not installed.
        InputError: the runtime or precision is unknown, the folder lacks the file, or the machine
            lacks the device.
    """
    if runtime not in RUNTIMES:
        raise InputError(
            f"a runtime out of {', '.join(RUNTIMES)}", repr(runtime), "name one of them"
        )
    if runtime == "auto":
        runtime = "onnx" if precision != "float32" or _prefers_onnx(folder) else "torch"
    if runtime == "onnx":
        return OnnxBackend(folder, device, precision)
    if precision != "float32":
        raise InputError(
            "precision float32 with runtime torch", repr(precision), "use runtime onnx"
        )
    return TorchBackend(folder, device)


def _prefers_onnx(folder: ModelFolder) -> bool:
    files = folder.document["files"]
    if ONNX_FILES["float32"] not in files:
        return PROGRAM not in files  # with neither, the error names the ONNX file
    installed = importlib.util.find_spec("onnxruntime") is not None
    return installed or PROGRAM not in files or importlib.util.find_spec("torch") is None

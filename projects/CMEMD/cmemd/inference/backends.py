"""What runs a model folder's graph: ONNX Runtime alone, or PyTorch's exported program.

A backend maps images ``(N, H, W, 3)`` uint8 and their modality to embeddings ``(N, D)`` float32.
"""

import importlib.util
from collections.abc import Callable

import numpy as np

from cmemd.data.modality import Modality
from cmemd.errors import InputError, MissingDependencyError
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
        folder: The model.
        device: "cpu", "cuda" or "cuda:1".
        precision: Which of ``ONNX_FILES``.

    Raises:
        MissingDependencyError: onnxruntime is not installed.
        InputError: The folder lacks the graph, ONNX Runtime cannot run it, or not on that device.
    """

    def __init__(
        self, folder: ModelFolder, device: str = "cpu", precision: str = "float32"
    ) -> None:
        try:
            import onnxruntime
        except ImportError:
            raise MissingDependencyError(
                "expected onnxruntime to run ONNX; it is not installed; pip install 'cmemd[serve]'"
            ) from None
        if precision not in ONNX_FILES:
            raise InputError(
                f"expected a precision out of {', '.join(ONNX_FILES)}; got {precision!r}; name one"
            )
        path = folder.file(ONNX_FILES[precision])
        kind, _, number = device.partition(":")
        provider = _PROVIDERS.get(kind)
        if provider not in onnxruntime.get_available_providers():
            raise InputError(
                f"expected a device of ONNX Runtime's here "
                f"({', '.join(onnxruntime.get_available_providers())}); got {device!r}; use cpu, "
                "or install onnxruntime-gpu for cuda"
            )
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3  # errors only; they are raised besides
        # Threads that wait by spinning take the processors from those that decode images.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        try:
            self.session = onnxruntime.InferenceSession(
                str(path), options, providers=[(provider, {"device_id": number} if number else {})]
            )
        except Exception as error:
            raise _broken(path, error) from error

    def __call__(self, images: np.ndarray, modality: Modality) -> np.ndarray:
        """Embeddings ``(N, D)`` float32 of ``(N, H, W, 3)`` uint8 images of one modality."""
        rows = np.full(len(images), modality, dtype=np.int64)
        return self.session.run(["embeddings"], {"images": images, "modalities": rows})[0]


class TorchBackend:
    """An exported program in PyTorch.

    Args:
        folder: The model.
        device: Any that PyTorch knows.

    Raises:
        MissingDependencyError: torch is not installed.
        InputError: The folder lacks the program, PyTorch cannot load it, or lacks the device.
    """

    def __init__(self, folder: ModelFolder, device: str = "cpu") -> None:
        try:
            import torch
        except ImportError:
            raise MissingDependencyError(
                "expected torch to run model.pt2; it is not installed; install it, or use "
                "runtime='onnx' with pip install 'cmemd[serve]'"
            ) from None
        from cmemd.inference.program import load_program

        path = folder.file(PROGRAM)
        try:
            self.device = torch.device(device)
            torch.empty(0, device=self.device)
        except (RuntimeError, AssertionError) as error:
            raise InputError(
                f"expected a device of PyTorch's here; got {device!r} "
                f"({str(error).splitlines()[0][:120]}); use cpu"
            ) from error
        self.module = load_program(path, self.device)

    def __call__(self, images: np.ndarray, modality: Modality) -> np.ndarray:
        """Embeddings ``(N, D)`` float32 of ``(N, H, W, 3)`` uint8 images of one modality."""
        import torch

        rows = torch.full((len(images),), int(modality), device=self.device)
        with torch.inference_mode():
            return self.module(torch.from_numpy(images).to(self.device), rows).cpu().numpy()


def open_backend(
    folder: ModelFolder, device: str = "cpu", runtime: str = "auto", precision: str = "float32"
) -> Backend:
    """The backend for a device.

    Args:
        folder: The model.
        device: Where it runs.
        runtime: "onnx", "torch", or "auto": ONNX Runtime where the folder has a graph for it and it
            is installed, else PyTorch.
        precision: "float32"; "float16" and "int8" are for ONNX Runtime, where the folder has them.

    Raises:
        MissingDependencyError: What would run it is not installed.
        InputError: Unknown runtime or precision, or the folder or the machine lacks what it needs.
    """
    if runtime not in RUNTIMES:
        raise InputError(
            f"expected a runtime out of {', '.join(RUNTIMES)}; got {runtime!r}; name one"
        )
    if runtime == "auto":
        runtime = "onnx" if precision != "float32" or _prefers_onnx(folder) else "torch"
    if runtime == "onnx":
        return OnnxBackend(folder, device, precision)
    if precision != "float32":
        raise InputError(
            f"expected precision float32 with runtime torch; got {precision!r}; use runtime onnx"
        )
    return TorchBackend(folder, device)


def _prefers_onnx(folder: ModelFolder) -> bool:
    files = folder.document["files"]
    if ONNX_FILES["float32"] not in files:
        return PROGRAM not in files  # neither: the complaint names the ONNX file
    installed = importlib.util.find_spec("onnxruntime") is not None
    return installed or PROGRAM not in files or importlib.util.find_spec("torch") is None


def _broken(path: object, error: Exception) -> InputError:
    return InputError(
        f"expected a graph that ONNX Runtime can run in {path}; got: "
        f"{' '.join(str(error).split())[:160]}; update onnxruntime, or export the model again"
    )

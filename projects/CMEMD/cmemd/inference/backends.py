"""Run a model folder's graph, in ONNX Runtime alone or as PyTorch's exported program.

A backend maps images ``(N, H, W, 3)`` uint8 and their modality to embeddings ``(N, D)`` float32.
"""

import importlib.util
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from cmemd.data.modality import Modality
from cmemd.errors import InputError, MissingDependencyError, exhausted
from cmemd.inference.model_folder import ModelFolder

if TYPE_CHECKING:
    from onnxruntime import InferenceSession

__all__ = ["ONNX_FILES", "PROGRAM", "RUNTIMES", "OnnxBackend", "TorchBackend", "open_backend"]

Backend = Callable[[np.ndarray, Modality], np.ndarray]

RUNTIMES = ("auto", "onnx", "torch")
ONNX_FILES = {"float32": "model.onnx", "float16": "model.fp16.onnx", "int8": "model.int8.onnx"}
PROGRAM = "model.pt2"

_FEW = 4  # images of a small batch [chosen]
_SETTLED = 8  # small batches, after which more of them are expected [chosen]
_SPIN = 100  # microseconds: as fast as spinning for ever, without its load [measured]
_SPIN_FROM = (1, 32)  # ONNX Runtime's version that was tested to know a spinning time

_PROVIDERS = {"cpu": "CPUExecutionProvider", "cuda": "CUDAExecutionProvider"}


class OnnxBackend:
    """A graph in ONNX Runtime.

    Threads that spin between two operations answer for a single image 1.5 times as fast, and slow
    the threads that decode a batch's images, and other processes. So batches never spin. After
    ``_SETTLED`` small batches, a second session of the graph with the same results takes these; it
    spins for less than a thousandth of a second, and has a copy of the weights in memory.

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
        providers = [(provider, {"device_id": number} if number else {})]
        self._open = partial(_session, path, providers)
        self._session, self._quick = self._open(spins=False), None
        self._small = 0  # small batches so far
        # Old versions know no short spinning, and a long one slows other processes.
        release = onnxruntime.__version__.split(".")
        self._may_spin = kind == "cpu" and tuple(map(int, release[:2])) >= _SPIN_FROM

    def __call__(self, images: np.ndarray, modality: Modality) -> np.ndarray:
        """Return embeddings ``(N, D)`` float32 of ``(N, H, W, 3)`` uint8 images of one modality."""
        rows = np.full(len(images), modality, dtype=np.int64)
        session = self._session
        if self._may_spin and len(images) <= _FEW:
            self._small += 1
            if self._quick is None and self._small > _SETTLED:
                self._quick = self._open(spins=True)
            session = self._quick or session
        return session.run(["embeddings"], {"images": images, "modalities": rows})[0]


def _session(path: Path, providers: list[Any], *, spins: bool) -> "InferenceSession":
    """Open a graph; threads that spin wait for work awake, for ``_SPIN`` microseconds at most."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3  # errors only, and those are raised as well
    options.add_session_config_entry("session.intra_op.allow_spinning", str(int(spins)))
    options.add_session_config_entry("session.intra_op.spin_duration_us", str(_SPIN))
    try:
        return onnxruntime.InferenceSession(str(path), options, providers=providers)
    except Exception as error:
        if exhausted(error):
            raise
        raise InputError(
            f"a graph that ONNX Runtime can run in {path}",
            " ".join(str(error).split())[:160],
            "update onnxruntime, or export the model again",
        ) from error


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
    folder: ModelFolder, device: str = "cpu", runtime: str = "auto", precision: str = "auto"
) -> Backend:
    """Return the backend for a model on a device.

    Args:
        folder: the model.
        device: where it runs.
        runtime: "onnx", "torch" or "auto". "auto" takes ONNX Runtime if it is installed and the
            folder has an ONNX graph, else PyTorch.
        precision: "auto" is the best that the folder has. "float32"; ONNX Runtime also runs
            "float16" and "int8" if the folder has them.

    Raises:
        MissingDependencyError: the runtime's package is not installed.
        InputError: the runtime or precision is unknown, the folder lacks the file, or the machine
            lacks the device.
    """
    if runtime not in RUNTIMES:
        raise InputError(
            f"a runtime out of {', '.join(RUNTIMES)}", repr(runtime), "name one of them"
        )
    if precision == "auto":
        precision = _best_precision(folder)
    if runtime == "auto":
        runtime = "onnx" if precision != "float32" or _prefers_onnx(folder) else "torch"
    if runtime == "onnx":
        return OnnxBackend(folder, device, precision)
    if precision != "float32":
        raise InputError(
            "precision float32 with runtime torch", repr(precision), "use runtime onnx"
        )
    return TorchBackend(folder, device)


def _best_precision(folder: ModelFolder) -> str:
    files = folder.document["files"]
    if PROGRAM in files:
        return "float32"
    return next((name for name, file in ONNX_FILES.items() if file in files), "float32")


def _prefers_onnx(folder: ModelFolder) -> bool:
    files = folder.document["files"]
    if ONNX_FILES["float32"] not in files:
        return PROGRAM not in files  # with neither, the error names the ONNX file
    installed = importlib.util.find_spec("onnxruntime") is not None
    return installed or PROGRAM not in files or importlib.util.find_spec("torch") is None

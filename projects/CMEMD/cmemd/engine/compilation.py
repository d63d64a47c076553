"""Compile the training pass of a network with ``torch.compile``.

Only training steps call the compiled network. Checkpoints, evaluation and export use the network
itself, with its own names.
"""

import importlib.util
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from cmemd.errors import InputError

__all__ = ["BACKENDS", "check_compilation", "compiled"]

BACKENDS = ("none", "inductor", "aot_eager")
_REMEDY = "set MODEL.COMPILE to none"


def compiled(model: nn.Module, backend: str) -> Callable[[Mapping[str, Any]], Mapping[str, Tensor]]:
    """Return a function that does what the network does, compiled at its first call.

    Args:
        model: the network; it stays as it is, and the function follows its parameters.
        backend: one of ``BACKENDS``; "none" returns the network.
    """
    if backend == "none":
        return model
    fast = torch.compile(model, backend=backend)

    def call(batch: Mapping[str, Any]) -> Mapping[str, Tensor]:
        try:
            return fast(batch)
        except torch._dynamo.exc.TorchDynamoException as error:
            raise InputError(
                "a network that torch.compile can compile",
                " ".join(str(error).split())[:300],
                _REMEDY,
            ) from error

    return call


def check_compilation(backend: str, device: str) -> None:
    """Raise unless this machine has what a backend of ``torch.compile`` needs.

    Args:
        backend: one of ``BACKENDS``.
        device: as in ``MODEL.DEVICE``.

    Raises:
        InputError: this Python has no ``torch.compile``, or a compiler is missing.
    """
    if backend == "none":
        return
    expected = f"what MODEL.COMPILE {backend} needs on {device}"
    try:
        torch._dynamo.eval_frame.check_if_dynamo_supported()
    except RuntimeError as error:
        raise InputError(expected, " ".join(str(error).split()), _REMEDY) from None
    if backend != "inductor":
        return
    if device.startswith("cuda"):
        if importlib.util.find_spec("triton") is None:
            raise InputError(expected, "no Triton", f"install triton, or {_REMEDY}")
    elif not _has_cpp_compiler():
        raise InputError(expected, "no C++ compiler", f"install g++, or {_REMEDY}")


def _has_cpp_compiler() -> bool:
    from torch._inductor import cpp_builder, exc  # slow to import

    try:
        return bool(cpp_builder.get_cpp_compiler())
    except exc.InvalidCxxCompiler:
        return False

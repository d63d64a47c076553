"""Mixed precision of a training: its data type, its gradient scaler, and what a device can do.

Under ``SOLVER.AMP.ENABLED`` the backbone computes in half precision, the head and the losses in
float32 (chosen): the power mean of a half-precision map has gradients that are not finite.
Parameters, optimizer and running statistics are float32, and so is every evaluation.
"""

from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING

import torch
from torch.amp import GradScaler
from torch.nn import functional

from cmemd.errors import InputError

if TYPE_CHECKING:
    from yacs.config import CfgNode

__all__ = ["autocast", "build_scaler", "check_precision", "half_type"]


def half_type(cfg: "CfgNode") -> torch.dtype | None:
    """Return the data type of ``SOLVER.AMP``; None where it is off."""
    return getattr(torch, cfg.SOLVER.AMP.DTYPE) if cfg.SOLVER.AMP.ENABLED else None


def autocast(device: str, dtype: torch.dtype | None) -> "AbstractContextManager[object]":
    """Return the context of a training's forward pass.

    Args:
        device: type of the device: "cpu" or "cuda".
        dtype: of ``half_type``.
    """
    return nullcontext() if dtype is None else torch.autocast(device, dtype)


def build_scaler(device: str, dtype: torch.dtype | None) -> GradScaler | None:
    """Return what keeps small gradients of float16 above 0; bfloat16 has float32's range.

    Args:
        device: type of the device.
        dtype: of ``half_type``.
    """
    return GradScaler(device) if dtype is torch.float16 else None


def check_precision(cfg: "CfgNode") -> None:
    """Raise unless the device computes in the half precision that ``SOLVER.AMP`` asks for.

    A small convolution and its gradient are tried. A card that only emulates bfloat16 is refused:
    it would be slower than in float32.

    Args:
        cfg: the configuration, whose device is there.

    Raises:
        InputError: names the device and the remedy.
    """
    dtype, device = half_type(cfg), torch.device(cfg.MODEL.DEVICE)
    if dtype is None:
        return
    problem, other = "", "float16" if dtype is torch.bfloat16 else "bfloat16"
    if device.type == "cuda" and dtype is torch.bfloat16:
        with torch.cuda.device(device):
            if not torch.cuda.is_bf16_supported(including_emulation=False):
                problem = f"{torch.cuda.get_device_name(device)}, which only emulates it"
    try:
        if not problem:
            _try(device, dtype)
    except RuntimeError as error:
        problem = f"one that fails ({' '.join(str(error).split())[:120]})"
    if problem:
        raise InputError(
            f"a device that computes in {cfg.SOLVER.AMP.DTYPE} for SOLVER.AMP",
            problem,
            f"set SOLVER.AMP.DTYPE {other}, or SOLVER.AMP.ENABLED False",
        )


def _try(device: torch.device, dtype: torch.dtype) -> None:
    """Compute a convolution and its gradient."""
    image = torch.ones(1, 8, 4, 4, device=device)
    weight = torch.ones(8, 8, 3, 3, device=device, requires_grad=True)
    with autocast(device.type, dtype):
        output = functional.conv2d(image, weight)
    output.float().sum().backward()

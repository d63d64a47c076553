"""The precision that the head and the losses compute in."""

from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor

__all__ = ["at_least_float32", "without_autocast"]


def at_least_float32(x: Tensor) -> Tensor:
    """Return the tensor itself, or a float32 copy of a half-precision one.

    In half precision squared distances overflow, or lose what tells pairs apart.
    """
    return x.float() if x.dtype in (torch.float16, torch.bfloat16) else x


def without_autocast(device: str) -> AbstractContextManager[object]:
    """Return a context in which mixed precision is off.

    Args:
        device: type of the device; the meta device has no mixed precision.
    """
    if not torch.amp.is_autocast_available(device):
        return nullcontext()
    return torch.autocast(device, enabled=False)

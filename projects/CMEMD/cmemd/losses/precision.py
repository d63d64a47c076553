"""The precision that the head and the losses are computed in."""

from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor, autocast

__all__ = ["at_least_float32", "without_autocast"]


def at_least_float32(x: Tensor) -> Tensor:
    """Return the tensor itself, or a float32 copy of a half-precision one.

    In half precision squared distances overflow, or lose what tells pairs apart.
    """
    return x.float() if x.dtype in (torch.float16, torch.bfloat16) else x


def without_autocast(device: torch.device) -> AbstractContextManager:
    """Return a context in which products keep the precision of what goes into them."""
    if not torch.amp.is_autocast_available(device.type):
        return nullcontext()
    return autocast(device.type, enabled=False)

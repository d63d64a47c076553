"""The precision that losses are computed in."""

import torch
from torch import Tensor

__all__ = ["at_least_float32"]


def at_least_float32(x: Tensor) -> Tensor:
    """Return the tensor itself, or a float32 copy of a half-precision one.

    In half precision squared distances overflow, or lose what tells pairs apart.
    """
    return x.float() if x.dtype in (torch.float16, torch.bfloat16) else x

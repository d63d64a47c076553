"""The precision that losses are computed in."""

import torch
from torch import Tensor

__all__ = ["at_least_float32"]


def at_least_float32(x: Tensor) -> Tensor:
    """The tensor itself, or in float32 if it is in half precision.

    There squared distances overflow or lose what tells pairs apart, so ties break at random.
    """
    return x.float() if x.dtype in (torch.float16, torch.bfloat16) else x

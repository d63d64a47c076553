"""Resize images inside a graph, to the pixels that Pillow gives."""

import torch
from torch import Tensor

__all__ = ["pillow_bicubic"]

_A = -0.5  # of the cubic kernel
_RADIUS = 2  # pixels of the smaller image to which the kernel reaches


def pillow_bicubic(levels: Tensor, height: int, width: int) -> Tensor:
    """Return images (N, C, height, width) as ``Image.resize`` with BICUBIC makes them.

    Each axis is a product with a matrix of weights, so that every runtime computes the same. Pillow
    rounds to whole grey levels after each axis, columns first; so does this. Its weights are
    rounded to 22 bits, so a level that is half-way between two may differ by one.

    Args:
        levels: (N, C, H, W) grey levels 0 to 255, of any size.
        height: of the result.
        width: of the result.
    """
    across = _round(levels @ _weights(levels[0, 0, 0], width).T)
    return _round(_weights(across[0, 0, :, 0], height) @ across)


def _round(levels: Tensor) -> Tensor:
    return (levels + 0.5).floor().clamp(0, 255)


def _weights(line: Tensor, size: int) -> Tensor:
    """Return the weights (size, L) that resize a line of L pixels."""
    places = torch.arange(line.shape[0], dtype=torch.float32, device=line.device) + 0.5
    scale = torch.ones_like(places).sum() / size
    centres = (torch.arange(size, dtype=torch.float32, device=line.device) + 0.5) * scale
    wide = scale.clamp(min=1)  # the kernel widens where it shrinks
    x = ((places - centres[:, None]) / wide).abs()
    near = ((_A + 2) * x - (_A + 3)) * x * x + 1
    far = (((x - 5) * x + 8) * x - 4) * _A
    weights = torch.where(x < 1, near, torch.where(x < _RADIUS, far, torch.zeros_like(x)))
    return weights / weights.sum(1, keepdim=True)

"""Exact plans from the points of one set to the other points of the same set.

Shape legend: B problems, K points.
"""

import torch
from torch import Tensor

from cmemd.errors import InputError
from cmemd.losses.transport.exact import exact_plan

__all__ = ["plan_to_others"]


def plan_to_others(cost: Tensor) -> Tensor:
    r"""Return optimal plans that move no point's mass to the point itself.

    Solve, for each of the B problems,

        min over pi >= 0 of sum_ij pi_ij cost_ij,  sum_j pi_ij = sum_i pi_ij = 1/K,  pi_ii = 0

    exactly, by ``exact_plan`` with a diagonal that is too dear for any optimal plan: costs are
    brought to [0, 1], and one entry of K + 1 exceeds any matching of K other entries. The plan is a
    matching without fixed points. For a symmetric cost its transpose is as good. No other point
    exists if K is 1: the plan is 0.

    Args:
        cost: (B, K, K) of at least 0 up to rounding; floating-point, finite. The diagonal is not
            read, but must be finite too.

    Returns:
        (B, K, K), as ``exact_plan``, without a gradient.

    Raises:
        InputError: rows and columns that differ in number; otherwise as ``exact_plan``.
    """
    if cost.dim() == 3 and cost.shape[1] != cost.shape[2]:
        raise InputError(
            "a cost (B, K, K) between the points of one set",
            f"shape {tuple(cost.shape)}",
            "use exact_plan between two sets",
        )
    if cost.shape[-1] == 1:
        return torch.zeros_like(exact_plan(cost))
    cost = cost.detach()
    itself = torch.eye(cost.shape[-1], dtype=torch.bool, device=cost.device)
    largest = cost.masked_fill(itself, 0).amax((1, 2), keepdim=True)
    cost = cost / torch.where(largest > 0, largest, torch.ones_like(largest))
    return exact_plan(cost.masked_fill(itself, cost.shape[-1] + 1))

"""Batched optimal transport between small point sets: cost matrices in, plans out.

Shape legend: B problems, n rows, m columns, L = lcm(n, m), S = 2**L subsets of columns.
"""

import math
from functools import lru_cache

import torch
from torch import Tensor

from cmemd.errors import InputError

__all__ = ["exact_plan"]

# 2**8 subsets cost next to nothing; each further column doubles the table.
_LARGEST_SUBSET_PROBLEM = 8


def exact_plan(cost: Tensor) -> Tensor:
    r"""Optimal transport plans for uniform marginals.

    Solves, for each of the B problems,

        min over pi >= 0 of sum_ij pi_ij cost_ij,  sum_j pi_ij = 1/n,  sum_i pi_ij = 1/m

    exactly. With n = m a vertex of the Birkhoff polytope is optimal, so pi is 1/n times a
    permutation, found by a dynamic programme over subsets of columns. With n != m each row is
    split into L/n equal shares and each column into L/m, which gives an L x L assignment problem
    whose blocks, summed, are an optimal plan. That runs batched on the cost's device, without
    host synchronisation, while L <= 8; larger problems go one by one through POT's network simplex
    in float64 on the CPU. Adding a constant to the cost leaves the plan as it is, scaling by a
    positive number too.

    Ties: of equally good last steps the lowest column wins; the same input gives the same plan.
    The plan carries no gradient: by the envelope theorem the gradient of the optimal value with
    respect to the cost is the plan itself, wherever it is unique.

    Args:
        cost: (B, n, m), any n, m >= 1 and B >= 0; floating-point, finite.

    Returns:
        Plans (B, n, m) on the cost's device, in its dtype (float32 for half precision).

    Raises:
        InputError: for another shape or whole numbers, or, where looking costs no synchronisation
            (on the CPU), for a cost that is not finite.
    """
    if cost.dim() != 3 or 0 in cost.shape[1:]:
        raise InputError(f"exact_plan expects a cost (B, n, m) with n, m >= 1, got {cost.shape}")
    if not cost.is_floating_point():
        raise InputError(f"exact_plan expects a floating-point cost, got {cost.dtype}")
    cost = cost.detach()
    if cost.dtype in (torch.float16, torch.bfloat16):
        cost = cost.float()
    if cost.device.type == "cpu" and not cost.isfinite().all():
        raise InputError("exact_plan expects a finite cost, got NaN or infinity")
    if cost.shape[0] == 0:
        return cost
    n, m = cost.shape[1:]
    size = math.lcm(n, m)
    if size > _LARGEST_SUBSET_PROBLEM:
        return _simplex_plan(cost)
    shares = cost.repeat_interleave(size // n, 1).repeat_interleave(size // m, 2)  # (B, L, L)
    columns = _assignment(shares)  # (B, L)
    plan = torch.zeros_like(shares).scatter_(2, columns[:, :, None], 1.0 / size)
    return plan.unflatten(2, (m, -1)).sum(3).unflatten(1, (n, -1)).sum(2)


def _assignment(cost: Tensor) -> Tensor:
    """Column of each row in a cheapest perfect matching, (B, L, L) -> (B, L).

    ``best[T]`` is the least cost of matching rows 0..|T|-1 with the columns in T; the subsets of
    one size are filled together, and the choices are then followed back from the full set.
    """
    batch, size, _ = cost.shape
    stages = _subset_tables(size, cost.device)
    best = cost.new_zeros(batch, 1)  # the empty set
    choices = []
    for row, (previous, columns) in enumerate(stages):  # each (subsets of row+1 columns, row+1)
        candidates = best[:, previous] + cost[:, row, columns]  # (B, subsets, row+1)
        best, choice = candidates.min(2)
        choices.append(choice)
    assigned = []
    position = torch.zeros(batch, 1, dtype=torch.long, device=cost.device)  # the only full set
    for (previous, columns), choice in zip(reversed(stages), reversed(choices), strict=True):
        picked = choice.gather(1, position)[:, 0]
        assigned.append(columns[position[:, 0], picked])
        position = previous[position[:, 0], picked][:, None]
    return torch.stack(assigned[::-1], 1)


@lru_cache(maxsize=64)
def _subset_tables(size: int, device: torch.device) -> list[tuple[Tensor, Tensor]]:
    """For each subset size: where a subset less one column lies, and that column.

    Subsets of one size are numbered in increasing order of their bit mask; within one the columns
    increase. Each pair is (previous, columns), both (C(size, k), k).
    """
    by_count: list[list[int]] = [[] for _ in range(size + 1)]
    for mask in range(2**size):
        by_count[mask.bit_count()].append(mask)
    stages = []
    for smaller, larger in zip(by_count, by_count[1:], strict=False):
        index = {mask: i for i, mask in enumerate(smaller)}
        columns = [[c for c in range(size) if mask >> c & 1] for mask in larger]
        previous = [
            [index[mask ^ 1 << c] for c in row] for mask, row in zip(larger, columns, strict=True)
        ]
        stages.append((torch.tensor(previous, device=device), torch.tensor(columns, device=device)))
    return stages


def _simplex_plan(cost: Tensor) -> Tensor:
    """Plans by POT's network simplex, one problem at a time."""
    import ot  # only here: training sizes never need it, and it is slow to import

    # Its tolerances are absolute: costs of 1e-30 or around -1e6 would get plans that are not
    # optimal. Neither this shift nor the scaling changes which plans are.
    problems = cost.cpu().double()
    problems = problems - problems.amin((1, 2), keepdim=True)
    largest = problems.amax((1, 2), keepdim=True)
    problems = problems / torch.where(largest > 0, largest, 1.0)
    plans = [torch.from_numpy(ot.emd([], [], problem)) for problem in problems.numpy()]
    return torch.stack(plans).to(cost)

"""Exact transport plans.

Shape legend: B problems, n rows, m columns, L = lcm(n, m).
"""

import math

import numpy as np
import torch
from torch import Tensor

from cmemd.losses.transport.assignment import LARGEST, assignment_plan
from cmemd.losses.transport.problem import checked_cost, marginals

__all__ = ["exact_plan"]

# The largest n = m for which tensor operations beat SciPy's loop on the CPU.
_FASTER_THAN_A_LOOP = 4


def exact_plan(
    cost: Tensor,
    a: Tensor | None = None,
    b: Tensor | None = None,
    *,
    row_mask: Tensor | None = None,
    column_mask: Tensor | None = None,
) -> Tensor:
    r"""Optimal transport plans.

    Solves, for each of the B problems,

        min over pi >= 0 of sum_ij pi_ij cost_ij,  sum_j pi_ij = a_i,  sum_i pi_ij = b_j

    exactly. Three solvers, chosen by shapes, arguments and device alone, never by values:

    - uniform marginals, L <= 8 (so n = m <= 8): tensor operations on the cost's device, batched,
      without host synchronisation; they compile (``assignment_plan``);
    - uniform marginals, n = m > 8, and n = m > 4 on the CPU unless compiled, where it is faster:
      SciPy's assignment solver, problem by problem in float64. A vertex of the Birkhoff polytope
      is optimal: 1/n times a permutation;
    - anything else: POT's network simplex, likewise one by one, on the CPU.

    Adding a constant to the cost leaves the plan as it is, scaling by a positive number too.

    Ties: the same input gives the same plan. In the first solver the first of equally good ways to
    deal the columns to the blocks of rows wins, in an order that gives the last block the lowest
    columns; among up to five rows the last takes the lowest column it can, then the one before.
    The plan carries no gradient: by the envelope theorem the gradient of the optimal value with
    respect to the cost is the plan itself, wherever it is unique.

    Args:
        cost: (B, n, m), any n, m >= 1 and B >= 0; floating-point, finite (masked entries too).
        a: (B, n) masses of the rows, >= 0; uniform, 1/n each, if not given.
        b: (B, m) masses of the columns, with each problem's sum of ``a``; uniform, 1/m each.
        row_mask: (B, n) booleans, instead of ``a``: the rows left out get no mass, the others equal
            shares of 1.
        column_mask: (B, m) booleans, instead of ``b``.

    Returns:
        Plans (B, n, m) on the cost's device, in its dtype (float32 for half precision).

    Raises:
        InputError: for another shape, whole numbers, costs that are not finite or within a factor
            of 64 of overflow, or marginals that ``marginals`` refuses. Values are looked at where
            that costs no synchronisation; on a GPU, and compiled, an assertion on the device fails
            instead.
    """
    cost = checked_cost(cost)
    n, m = cost.shape[1:]
    uniform = a is b is row_mask is column_mask is None
    if cost.shape[0] == 0:
        return cost
    loops = cost.device.type == "cpu" and not torch.compiler.is_compiling()
    if uniform and n == m > (_FASTER_THAN_A_LOOP if loops else LARGEST):
        return _matchings(cost)
    if uniform and math.lcm(n, m) <= LARGEST:
        return assignment_plan(cost)
    masses = marginals(cost, a, b, row_mask, column_mask)
    return _simplex_plans(cost, *(mass.double().cpu().numpy() for mass in masses))


def _matchings(cost: Tensor) -> Tensor:
    """Plans of square problems with uniform marginals, by SciPy."""
    from scipy.optimize import linear_sum_assignment  # only here: slow to import

    problems = cost.double().cpu().numpy()
    columns = np.concatenate([linear_sum_assignment(problem)[1] for problem in problems])
    columns = torch.from_numpy(columns).to(cost.device).view(*cost.shape[:2], 1)
    return torch.zeros_like(cost).scatter_(2, columns, 1 / cost.shape[1])


def _simplex_plans(cost: Tensor, a: np.ndarray, b: np.ndarray) -> Tensor:
    """Plans of problems with masses (B, n) and (B, m), by POT."""
    import ot  # only here: slow to import

    # Its tolerances are absolute: costs of 1e-30 or around -1e6 would get plans that are not
    # optimal. Neither this shift nor the scaling changes which plans are; likewise the masses.
    problems = cost.double().cpu()
    problems = problems - problems.amin((1, 2), keepdim=True)
    largest = problems.amax((1, 2), keepdim=True)
    problems = (problems / torch.where(largest > 0, largest, 1.0)).numpy()
    total = a.sum(1, keepdims=True)
    a, b = a / total, b / b.sum(1, keepdims=True)
    plans = [ot.emd(*problem) for problem in zip(a, b, problems, strict=True)]
    return torch.from_numpy(total[:, :, None] * np.stack(plans)).to(cost)

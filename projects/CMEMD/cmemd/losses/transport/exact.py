"""Exact transport plans.

Shape legend: B problems, n rows, m columns, L = lcm(n, m).
"""

import math

import torch
from torch import Tensor

from cmemd.errors import MissingDependencyError
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
    r"""Return optimal transport plans.

    Solve, for each of the B problems,

        min over pi >= 0 of sum_ij pi_ij cost_ij,  sum_j pi_ij = a_i,  sum_i pi_ij = b_j

    exactly. Three solvers, chosen by shapes, arguments and device alone, never by values:

    - uniform marginals, L <= 8 (so n = m <= 8): tensor operations on the cost's device, batched,
      without host synchronisation; they compile (``assignment_plan``);
    - uniform marginals, n = m > 8, and n = m > 4 on the CPU unless compiled, where it is faster:
      SciPy's assignment solver, problem by problem in float64. A vertex of the Birkhoff polytope
      is optimal: 1/n times a permutation;
    - anything else: POT's network simplex, problem by problem on the CPU.

    Neither adding a constant to the cost nor scaling it by a positive number changes the plan.

    Ties: the same input gives the same plan. The first solver takes the first of equally good ways
    to deal the columns to the blocks of rows, in an order that gives the last block the lowest
    columns. Among up to five rows the last takes the lowest column it can, then the one before.
    The plan carries no gradient: by the envelope theorem the gradient of the optimal value with
    respect to the cost is the plan itself, wherever it is unique.

    Args:
        cost: (B, n, m), any n, m >= 1 and B >= 0; floating-point, finite (masked entries too).
        a: (B, n) masses of the rows, >= 0; uniform, 1/n each, if not given.
        b: (B, m) masses of the columns, with each problem's sum of ``a``; uniform, 1/m each.
        row_mask: (B, n) booleans, instead of ``a``: equal shares of 1 for the rows that are kept.
        column_mask: (B, m) booleans, instead of ``b``.

    Returns:
        Plans (B, n, m) on the cost's device, in its dtype (float32 for half precision).

    Raises:
        InputError: another shape, integers, costs that are not finite or within a factor of 64
            of overflow, or marginals that ``marginals`` refuses. Values are checked where that
            needs no synchronisation; on a GPU, and compiled, an assertion on the device fails
            instead.
        MissingDependencyError: SciPy or POT is needed and not installed.
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
    return _simplex_plans(cost, *marginals(cost, a, b, row_mask, column_mask))


def _matchings(cost: Tensor) -> Tensor:
    """Return plans of square problems with uniform marginals, by SciPy."""
    try:  # slow to import, and most sizes need neither
        import numpy as np
        from scipy.optimize import linear_sum_assignment
    except ImportError:
        raise _missing("SciPy", "scipy") from None

    problems = cost.double().cpu().numpy()
    columns = np.concatenate([linear_sum_assignment(problem)[1] for problem in problems])
    columns = torch.from_numpy(columns).to(cost.device).view(*cost.shape[:2], 1)
    return torch.zeros_like(cost).scatter_(2, columns, 1 / cost.shape[1])


def _simplex_plans(cost: Tensor, a: Tensor, b: Tensor) -> Tensor:
    """Return plans of problems with masses (B, n) and (B, m), by POT."""
    try:  # slow to import, and most sizes need neither
        import numpy as np
        import ot
    except ImportError:
        raise _missing("POT", "pot") from None

    # Its tolerances are absolute: it would not solve costs of 1e-30 or around -1e6. The optimal
    # plans stay the same under this shift and this scaling, and so under that of the masses.
    problems = cost.double().cpu()
    problems = problems - problems.amin((1, 2), keepdim=True)
    largest = problems.amax((1, 2), keepdim=True)
    problems = (problems / torch.where(largest > 0, largest, 1.0)).numpy()
    a, b = (mass.double().cpu().numpy() for mass in (a, b))
    total = a.sum(1, keepdims=True)
    a, b = a / total, b / b.sum(1, keepdims=True)
    plans = [ot.emd(*problem) for problem in zip(a, b, problems, strict=True)]
    return torch.from_numpy(total[:, :, None] * np.stack(plans)).to(cost)


def _missing(name: str, package: str) -> MissingDependencyError:
    return MissingDependencyError(
        f"{name} solves transport problems of this size, and is not installed: "
        f"run `pip install {package}`"
    )

"""Exact transport plans.

Shape legend: B problems, n rows, m columns, L = lcm(n, m).
"""

import math
from collections.abc import Callable
from functools import cache
from typing import Any

import torch
from torch import Tensor

from cmemd.errors import MissingDependencyError
from cmemd.losses.transport.assignment import LARGEST, assignment_plan
from cmemd.losses.transport.problem import checked_cost, marginals, on_host

__all__ = ["exact_plan"]

# The most shares for which the assignment of shares beats the network simplex (measured). Where one
# side's size divides the other's, L is the larger size, and it does at any.
_FEW_SHARES = 96


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

    - uniform marginals, L <= 8 (so n = m <= 8), on a GPU or compiled: tensor operations on the
      cost's device, batched, without host synchronisation (``assignment_plan``);
    - uniform marginals on the CPU, where L = max(n, m), so all squares, or L <= 96; larger squares
      of a GPU: lapx's assignment solver on L shares of each side, one call for all problems. A
      vertex of the Birkhoff polytope is optimal: 1/L times a permutation of shares;
    - anything else: POT's network simplex, problem by problem on the CPU.

    Neither adding a constant to the cost nor scaling it by a positive number changes the plan.

    Ties: the same input gives the same plan on the same device. ``assignment_plan`` takes the first
    of equally good ways to deal the columns to the blocks of rows, in an order that gives the last
    block the lowest columns. Among up to five rows the last takes the lowest column it can, then
    the one before. lapx and POT follow their own orders.

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
        MissingDependencyError: lapx or POT is needed and not installed.
    """
    cost = checked_cost(cost)
    batch, n, m = cost.shape
    uniform = a is b is row_mask is column_mask is None
    if batch == 0:
        return cost
    size = math.lcm(n, m)
    if uniform and size <= LARGEST and not (on_host(cost) and _lapx()):
        return assignment_plan(cost)
    if uniform and (size == max(n, m) or size <= _FEW_SHARES):
        return _share_plans(cost)
    return _simplex_plans(cost, *marginals(cost, a, b, row_mask, column_mask))


@cache
def _lapx() -> tuple[Callable[..., tuple[Any, Any]], Callable[..., tuple[Any, Any]]] | None:
    """Return lapx's solvers of one problem and of a batch, or None where it is not installed."""
    try:  # on a GPU the usual sizes do not need it
        from lap import lapjvr, lapjvr_batch
    except ImportError:
        return None
    return lapjvr, lapjvr_batch


def _share_plans(cost: Tensor) -> Tensor:
    """Return plans for uniform marginals: L shares of each side, matched by lapx.

    Args:
        cost: (B, n, m).

    Returns:
        (B, n, m).
    """
    solvers = _lapx()
    if solvers is None:
        raise _missing("lapx", "lapx")
    import numpy as np  # which lapx needs too

    batch, n, m = cost.shape
    size = math.lcm(n, m)
    problems = cost.numpy() if cost.is_cpu else cost.cpu().numpy()
    if n != size:
        problems = problems.repeat(size // n, 1)
    if m != size:
        problems = problems.repeat(size // m, 2)
    one, many = solvers
    if batch == 1:  # in float64, as the other solver computes; it starts faster
        _, columns = one(problems[0].astype(np.float64), return_cost=False)
    else:
        # More threads were no faster up to 96 problems of 64 x 64.
        columns = np.concatenate(many(problems, return_cost=False, n_threads=1)[1])
    plan = np.zeros((batch, n, m), problems.dtype)
    flat = plan.reshape(-1)
    rows = np.arange(0, batch * n * m, m)  # their first places in the flat plan
    if n == m:
        flat[rows + columns] = 1 / n
    else:
        # Of each share of each problem's rows, in order: its row and its column.
        np.add.at(flat, rows.repeat(size // n) + columns // (size // m), 1 / size)
    plans = torch.from_numpy(plan)
    return plans if cost.is_cpu else plans.to(cost.device)


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
    problems = problems / torch.where(largest > 0, largest, 1.0)
    masses = [mass.double().cpu().numpy() for mass in (a, b)]
    total = masses[0].sum(1, keepdims=True)
    shares = (mass / mass.sum(1, keepdims=True) for mass in masses)
    plans = [ot.emd(*problem) for problem in zip(*shares, problems.numpy(), strict=True)]
    return torch.from_numpy(total[:, :, None] * np.stack(plans)).to(cost)


def _missing(name: str, package: str) -> MissingDependencyError:
    return MissingDependencyError(
        f"{name} solves transport problems of this size, and is not installed: "
        f"run `pip install {package}`"
    )

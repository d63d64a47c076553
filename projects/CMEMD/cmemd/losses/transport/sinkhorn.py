"""Entropic transport plans, by Sinkhorn's iterations.

Shape legend: B problems, n rows, m columns.
"""

import torch
from torch import Tensor

from cmemd.errors import InputError
from cmemd.losses.transport.problem import checked_cost, marginals

__all__ = ["sinkhorn_plan"]

# Iterations from one log-domain iteration to the next. 16 takes a fifth of the time of 1; a longer
# one saves little, and lets epsilon fall in larger steps.
_STAGE = 16


def sinkhorn_plan(
    cost: Tensor,
    epsilon: float,
    a: Tensor | None = None,
    b: Tensor | None = None,
    *,
    row_mask: Tensor | None = None,
    column_mask: Tensor | None = None,
    iterations: int = 200,
) -> Tensor:
    r"""Return plans blurred by entropy: ``exact_plan`` as epsilon -> 0, a b^T as it grows.

    Solve, for each of the B problems,

        min over pi >= 0 of sum_ij pi_ij cost_ij + epsilon sum_ij pi_ij log pi_ij,
        sum_j pi_ij = a_i,  sum_i pi_ij = b_j

    batched on the cost's device, without host synchronisation. The transport cost exceeds the
    optimum by at most epsilon min(H(a), H(b)), H the entropy: by epsilon log n for uniform
    marginals of n rows and columns.

    The number of iterations is fixed. They run in stages. The first iteration of a stage is in the
    log domain: it takes potentials to a kernel exp((r_i + c_j - cost_ij) / epsilon) whose columns
    have their masses. The others scale rows and columns of this kernel, which costs a product and
    a sum each. So no epsilon is too small: where all of a row's kernel underflows, the row moves
    as far as numbers reach, and the next stage starts again in the log domain.

    In the first half epsilon falls from stage to stage, from the costs' range to its value, and
    each stage starts from the potentials of the last, so that small epsilons need far fewer
    iterations. A rank-one plan then adds what the marginals lack, so that they hold to rounding
    after any number of iterations.

    The plan carries no gradient. Used as a constant, it gives sum_ij pi_ij cost_ij the gradient of
    the whole regularised minimum (envelope theorem).

    Sources: Cuturi, arXiv 1306.0895; stages and falling epsilon: Schmitzer, arXiv 1610.06519, the
    schedule chosen; rounding: Altschuler et al., arXiv 1705.09634, Algorithm 2.

    Args:
        cost: (B, n, m), any n, m >= 1 and B >= 0; floating-point, finite (masked entries too).
        epsilon: > 0, in units of the cost.
        a: (B, n) masses of the rows, >= 0; uniform, 1/n each, if not given.
        b: (B, m) masses of the columns, with each problem's sum of ``a``; uniform, 1/m each.
        row_mask: (B, n) booleans, instead of ``a``: equal shares of 1 for the rows that are kept.
        column_mask: (B, m) booleans, instead of ``b``.
        iterations: >= 1, of rows and columns each.

    Returns:
        Plans (B, n, m) on the cost's device, in its dtype (float32 for half precision).

    Raises:
        InputError: as ``exact_plan``; an epsilon that is not positive and finite, or fewer
            iterations than one.
    """
    if not 0 < epsilon < float("inf"):
        raise InputError("a positive, finite epsilon", epsilon, "give it in units of the cost")
    if iterations < 1:
        raise InputError("at least one iteration", iterations, "use the default, 200")
    cost = checked_cost(cost)
    if cost.shape[0] == 0:
        return cost
    a, b = marginals(cost, a, b, row_mask, column_mask)
    # Problems last: the work on short rows and columns then runs along many problems.
    plan = _scaled_plan(cost.permute(1, 2, 0), epsilon, a.t(), b.t(), iterations)
    return _with_marginals(plan.permute(2, 0, 1), a[:, :, None], b[:, None, :])


def _scaled_plan(cost: Tensor, epsilon: float, a: Tensor, b: Tensor, iterations: int) -> Tensor:
    """Return plans whose columns have their masses, and whose rows nearly do.

    Args:
        cost: (n, m, B).
        epsilon: > 0, in units of the cost.
        a: (n, B), with a positive sum.
        b: (m, B), with the same sum.
        iterations: >= 1.

    Returns:
        (n, m, B).
    """
    total = a.sum(0)
    a, b = (a / total)[:, None].contiguous(), (b / total)[None].contiguous()
    log_a, log_b = a.log(), b.log()
    tiny, largest = torch.finfo(cost.dtype).tiny, torch.finfo(cost.dtype).max
    epsilon = min(max(epsilon, tiny), largest)
    # From here on in units of the first epsilon, so that nothing overflows.
    cost = (cost - cost.amin((0, 1))).contiguous()
    start = cost.amax((0, 1)).clamp(min=epsilon)
    cost = cost / start
    target = (epsilon / start).clamp(min=tiny**0.5)  # smaller ones drown in rounding
    moved = torch.empty_like(cost)
    columns = torch.zeros_like(b)  # potentials
    # Short runs have short stages, so that epsilon still falls in steps.
    stage = min(_STAGE, max(1, iterations // 10))
    for first in range(0, iterations, stage):
        last = min(first + stage, iterations)
        blur = target ** min(1.0, 2 * last / iterations)  # (B,)
        rows = log_a - ((columns - cost) / blur).logsumexp(1, keepdim=True)
        exponent = rows - cost / blur
        kernel = b * exponent.softmax(0)
        columns = blur * (log_b - exponent.logsumexp(0, keepdim=True))
        u, v = torch.ones_like(a), torch.ones_like(b)
        # In place: allocation is a tenth of the time of small problems.
        for _ in range(last - first - 1):
            torch.sum(torch.mul(kernel, v, out=moved), 1, keepdim=True, out=u)
            torch.div(a, u.clamp_(min=tiny), out=u)
            torch.sum(torch.mul(kernel, u, out=moved), 0, keepdim=True, out=v)
            torch.div(b, v.clamp_(min=tiny), out=v)
        columns = columns + blur * v.log()
    return kernel * u * v * total


def _with_marginals(plan: Tensor, a: Tensor, b: Tensor) -> Tensor:
    """Cut rows and columns of a plan to their masses, and add the rest as a rank-one plan."""
    tiny = torch.finfo(plan.dtype).tiny  # rows without mass stay empty
    plan = plan * (a / plan.sum(2, keepdim=True).clamp(min=tiny)).clamp(max=1)
    plan = plan * (b / plan.sum(1, keepdim=True).clamp(min=tiny)).clamp(max=1)
    missing_rows = (a - plan.sum(2, keepdim=True)).clamp(min=0)
    missing_columns = (b - plan.sum(1, keepdim=True)).clamp(min=0)
    missing = missing_rows.sum(1, keepdim=True).clamp(min=tiny)
    return plan + missing_rows * missing_columns / missing

"""Plans that need not move all mass: exact partial transport, and soft marginals.

Shape legend: B problems, n rows, m columns, L = lcm(n, m) shares of a side.
"""

import math

import torch
from torch import Tensor
from torch.nn import functional

from cmemd.errors import InputError
from cmemd.losses.transport.exact import exact_plan
from cmemd.losses.transport.problem import checked_cost

__all__ = ["partial_plan", "unbalanced_plan"]

_ROUNDING = 1e-9  # of a number of shares


def partial_plan(cost: Tensor, mass: float) -> Tensor:
    r"""Return the cheapest plans that move ``mass`` of the mass 1.

    Solve, for each of the B problems,

        min over pi >= 0 of sum_ij pi_ij cost_ij,
        sum_j pi_ij <= 1/n,  sum_i pi_ij <= 1/m,  sum_ij pi_ij = mass

    exactly. A further row and column take the mass that stays, at no cost, and none from each other
    (Chapel et al., "Partial Optimal Transport with Applications on Positive-Unlabeled Learning",
    arXiv 2002.08276, section 3.1). Where one side's size divides the other's and the mass is a
    whole number of the L shares, this is an assignment of shares, which ``exact_plan`` solves in
    one call: up to 8 with those that stay, on a GPU too, without synchronisation. Else its network
    simplex does.
    A mass of 1 gives the plan of ``exact_plan``. Gradients as there.

    Args:
        cost: (B, n, m), any n, m >= 1 and B >= 0; floating-point, finite.
        mass: above 0, at most 1.

    Returns:
        (B, n, m), on the cost's device, in its dtype (float32 for half precision).

    Raises:
        InputError: a mass out of range; otherwise as ``exact_plan``.
    """
    if not 0 < mass <= 1:
        raise InputError("a mass above 0, at most 1", mass, "use 1 to move all")
    cost = checked_cost(cost)
    batch, n, m = cost.shape
    if mass == 1 or batch == 0:
        return exact_plan(cost)
    # In [0, 1] neither overflows nor drowns beside the 1 of the two further places.
    cost = cost - cost.amin((1, 2), keepdim=True)
    largest = cost.amax((1, 2), keepdim=True)
    cost = cost / torch.where(largest > 0, largest, torch.ones_like(largest))
    size = math.lcm(n, m)
    stays = round(size * (1 - mass))
    if size > max(n, m) or abs(stays - size * (1 - mass)) > _ROUNDING:
        # Any cost above 0 forbids the corner: its mass could always leave it and save.
        a, b = (
            functional.pad(cost.new_full((batch, k), 1 / k), (0, 1), value=1 - mass) for k in (n, m)
        )
        return exact_plan(_extended(cost, 1), a, b)[:, :n, :m]
    shares = cost.repeat_interleave(size // n, 1).repeat_interleave(size // m, 2)
    plan = exact_plan(_extended(shares, stays))[:, :size, :size] * ((size + stays) / size)
    return plan.unflatten(1, (n, -1)).unflatten(3, (m, -1)).sum((2, 4))


def _extended(cost: Tensor, further: int) -> Tensor:
    """Return costs with further rows and columns: 0 beside the given ones, 1 in the corner."""
    cost = functional.pad(cost, (0, further, 0, further))
    cost[:, -further:, -further:] = 1
    return cost


def unbalanced_plan(cost: Tensor, epsilon: float, penalty: float, iterations: int = 100) -> Tensor:
    r"""Return plans whose marginals are uniform only as far as that pays.

    Approximate, for each of the B problems, by a fixed number of iterations,

        min over pi >= 0 of sum_ij pi_ij cost_ij + epsilon KL(pi | a b^T)
                            + penalty (KL(pi 1 | a) + KL(pi^T 1 | b))

    with KL(x | y) = sum x log(x / y) - x + y, and a, b uniform. As the penalty grows, the plan
    becomes that of ``sinkhorn_plan``; as it falls, dear pairs get less and less mass, down to none.
    The error falls at least by the factor (penalty / (penalty + epsilon))^2 an iteration.

    The plan carries no gradient. Used as a constant, it gives sum_ij pi_ij cost_ij the gradient of
    the whole minimum (envelope theorem).

    Source: Chizat et al., "Scaling Algorithms for Unbalanced Transport Problems",
    arXiv 1607.05816, in the log domain.

    Args:
        cost: (B, n, m), any n, m >= 1 and B >= 0; floating-point, finite.
        epsilon: > 0, in units of the cost.
        penalty: > 0, in units of the cost.
        iterations: >= 1, of rows and columns each.

    Returns:
        (B, n, m), on the cost's device, in its dtype (float32 for half precision).

    Raises:
        InputError: an epsilon, a penalty or a number of iterations out of range; otherwise as
            ``exact_plan``.
    """
    for name, value in (("epsilon", epsilon), ("penalty", penalty)):
        if not 0 < value < math.inf:
            raise InputError(f"a positive, finite {name}", value, "give it in units of the cost")
    if iterations < 1:
        raise InputError("at least one iteration", iterations, "use the default, 100")
    cost = checked_cost(cost)
    n, m = cost.shape[1:]
    exponent = -cost / epsilon
    # Potentials in units of epsilon; a and b are constants, which the logarithms of means take in.
    damping = penalty / (penalty + epsilon)
    columns = torch.zeros_like(exponent[:, :1])
    for _ in range(iterations):
        rows = damping * (math.log(m) - (exponent + columns).logsumexp(2, keepdim=True))
        columns = damping * (math.log(n) - (exponent + rows).logsumexp(1, keepdim=True))
    return (exponent + rows + columns).exp() / (n * m)

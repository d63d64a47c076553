"""Transport problems with known answers, and how closely the solvers must meet them.

Shape legend: B problems, n rows, m columns. Marginals are uniform: 1/n and 1/m.
"""

from typing import NamedTuple

import torch
from torch import Tensor

# Error of the objective, relative to the largest absolute cost, and of a plan's marginals.
OBJECTIVE_TOLERANCE = {torch.float64: 1e-12, torch.float32: 1e-6}
MARGINAL_TOLERANCE = {torch.float64: 1e-14, torch.float32: 1e-6}


class Problem(NamedTuple):
    """Cost matrices with their optimal plans, where unique, and values."""

    cost: Tensor  # (B, n, m)
    plan: Tensor | None  # (B, n, m); None where several plans are optimal
    value: Tensor  # (B,)


def seeded(seed: int) -> torch.Generator:
    """Return a new generator, so that no test depends on the tests before it."""
    return torch.Generator().manual_seed(seed)


def random_costs(batch: int, n: int, m: int, dtype: torch.dtype = torch.float64) -> Tensor:
    """Return uniform costs in [0, 1), of which almost surely one plan is optimal: (B, n, m)."""
    generator = seeded(1000 * n + m)
    return torch.rand(batch, n, m, dtype=torch.float64, generator=generator).to(dtype)


def random_permutations(batch: int, n: int, seed: int = 0) -> Tensor:
    """Return (B, n) permutations of 0..n-1."""
    return torch.rand(batch, n, generator=seeded(seed)).argsort(1)


def matching(columns: Tensor) -> Tensor:
    """Return the plan that moves 1/n from row i to column ``columns[i]``: (B, n) -> (B, n, n)."""
    n = columns.shape[1]
    plan = torch.zeros(*columns.shape, n, dtype=torch.float64)
    return plan.scatter_(2, columns[:, :, None], 1 / n)


def single(value: float = 2.5) -> Problem:
    """1 x 1: all mass moves along the only edge, and the objective is its cost."""
    return Problem(
        torch.full((1, 1, 1), value, dtype=torch.float64),
        torch.ones(1, 1, 1, dtype=torch.float64),
        torch.tensor([value], dtype=torch.float64),
    )


def hidden_permutation(n: int, batch: int = 3) -> Problem:
    """Cost 0 along a permutation and 1 elsewhere: the permutation is optimal, at value 0."""
    plan = matching(random_permutations(batch, n, seed=n))
    return Problem((plan == 0).double(), plan, torch.zeros(batch, dtype=torch.float64))


def points_on_a_line(n: int, batch: int = 3) -> Problem:
    """Squared distances of points on a line, in any order: the monotone matching is optimal.

    For a strictly convex cost crossing edges only lose, so the i-th smallest goes to the i-th
    smallest.
    """
    generator = seeded(n)
    x, y = torch.rand(2, batch, n, dtype=torch.float64, generator=generator)
    columns = torch.empty(batch, n, dtype=torch.long).scatter_(1, x.argsort(1), y.argsort(1))
    value = (x.sort(1).values - y.sort(1).values).square().mean(1)
    return Problem((x[:, :, None] - y[:, None, :]).square(), matching(columns), value)


def shifted_clusters(n: int, dim: int = 4, batch: int = 3) -> Problem:
    """Squared distances of a cloud and of itself moved by s: the identity is optimal, value |s|^2.

    ||x_i - x_j - s||^2 = ||x_i - x_j||^2 - 2 s (x_i - x_j) + |s|^2. Over a permutation the middle
    terms add up to 0 and the first are at least 0, and 0 for the identity alone.
    """
    generator = seeded(n)
    x = torch.randn(batch, n, dim, dtype=torch.float64, generator=generator)
    shift = torch.randn(batch, 1, dim, dtype=torch.float64, generator=generator)
    cost = (x[:, :, None] - (x + shift)[:, None]).square().sum(-1)
    identity = torch.arange(n).expand(batch, n)
    return Problem(cost, matching(identity), shift.square().sum((1, 2)))


def tied(n: int, m: int, value: float = 3.0) -> Problem:
    """Every cost the same: every plan is optimal, and the objective is that cost."""
    return Problem(
        torch.full((1, n, m), value, dtype=torch.float64),
        None,
        torch.tensor([value], dtype=torch.float64),
    )


def zeros(n: int, m: int) -> Problem:
    """Every cost 0."""
    return tied(n, m, 0.0)


def random_marginals(batch: int, n: int, m: int, total: float = 1.0) -> tuple[Tensor, Tensor]:
    """Return positive masses of rows (B, n) and columns (B, m) with sum ``total``, in float64."""
    generator = seeded(n + 100 * m)
    sides = (torch.rand(batch, size, dtype=torch.float64, generator=generator) for size in (n, m))
    rows, columns = (total * (side + 0.1) / (side + 0.1).sum(1, keepdim=True) for side in sides)
    return rows, columns


def split_supply() -> tuple[Problem, Tensor, Tensor]:
    """Masses 3, 1 and 2, 2, with cost 0 on the diagonal and 1 off it.

    Row 1 gives its 1 to column 1; row 0 fills column 0 with 2 and sends the 1 left over at cost 1.
    """
    cost = torch.tensor([[[0.0, 1.0], [1.0, 0.0]]], dtype=torch.float64)
    plan = torch.tensor([[[2.0, 1.0], [0.0, 1.0]]], dtype=torch.float64)
    rows, columns = torch.tensor([[[3.0, 1.0]], [[2.0, 2.0]]], dtype=torch.float64)
    return Problem(cost, plan, torch.tensor([1.0], dtype=torch.float64)), rows, columns

"""What every solver asks of a transport problem.

Shape legend: B problems, n rows, m columns.
"""

import torch
from torch import Tensor

from cmemd.errors import InputError

__all__ = ["checked_cost", "marginals"]

# Solvers add and subtract costs of up to 16 rows: beyond this share of the largest number sums may
# overflow.
_HEADROOM = 64
# Marginals of a problem may differ in their sums by rounding: this many units in the last place.
_ROUNDING = 100


def checked_cost(cost: Tensor) -> Tensor:
    """The cost as solvers take it: detached, in at least float32.

    Args:
        cost: (B, n, m), any n, m >= 1 and B >= 0.

    Raises:
        InputError: for another shape or whole numbers; for NaN, infinity or a cost so large that
            sums overflow. On a GPU, and under ``torch.compile``, looking at values would be a
            synchronisation: the device's own assertion then fails with the same words.
    """
    if cost.dim() != 3 or 0 in cost.shape[1:]:
        raise InputError(f"a plan expects a cost (B, n, m) with n, m >= 1, got {tuple(cost.shape)}")
    if not cost.is_floating_point():
        raise InputError(f"a plan expects a floating-point cost, got {cost.dtype}: use .float()")
    cost = cost.detach()
    if cost.dtype in (torch.float16, torch.bfloat16):
        cost = cost.float()
    if cost.shape[0]:
        limit = torch.finfo(cost.dtype).max / _HEADROOM
        lowest, highest = cost.aminmax()
        _require(
            torch.maximum(-lowest, highest) <= limit,
            f"a plan expects finite costs of at most {limit:.0e} in size, got NaN, infinity or a "
            "larger one: look for overflow where the cost was computed",
        )
    return cost


def marginals(
    cost: Tensor,
    a: Tensor | None,
    b: Tensor | None,
    row_mask: Tensor | None,
    column_mask: Tensor | None,
) -> tuple[Tensor, Tensor]:
    """Masses of rows (B, n) and of columns (B, m), in the cost's dtype and on its device.

    Args:
        cost: (B, n, m).
        a: (B, n) masses of the rows, >= 0; None: uniform, 1/n or as the mask says.
        b: (B, m) masses of the columns, likewise.
        row_mask: (B, n) booleans: rows that take part, in equal shares; not together with ``a``.
        column_mask: (B, m), likewise.

    Raises:
        InputError: for another shape, a mass and a mask of the same side, or a mask that is not
            boolean; where looking costs no synchronisation, for a negative or infinite mass, a
            side without any, or two sides whose sums differ.
    """
    rows = _marginal(cost, 1, a, row_mask, "row")
    columns = _marginal(cost, 2, b, column_mask, "column")
    total, other = rows.sum(1), columns.sum(1)  # (B,)
    # Written so that NaN fails.
    _require(
        (torch.minimum(rows.amin(1), columns.amin(1)) >= 0).logical_and(total > 0).all(),
        "marginals must be >= 0 with a positive sum, got a negative one, NaN, or a problem "
        "without any mass",
    )
    tolerance = _ROUNDING * torch.finfo(cost.dtype).eps
    _require(
        ((total - other).abs() <= tolerance * torch.minimum(total, other)).all(),
        "the masses of a problem's rows and of its columns must have the same finite sum: "
        "divide each by its sum",
    )
    return rows, columns


def _marginal(
    cost: Tensor, axis: int, mass: Tensor | None, mask: Tensor | None, side: str
) -> Tensor:
    shape = (cost.shape[0], cost.shape[axis])
    if mass is not None and mask is not None:
        raise InputError(f"expected masses or a mask of the {side}s, got both: give one")
    given = mask if mass is None else mass
    if given is None:
        return cost.new_full(shape, 1 / shape[1])
    if given.shape != shape:
        raise InputError(
            f"expected a {side} marginal or mask of shape {shape}, got {tuple(given.shape)}"
        )
    if mass is not None:
        return mass.detach().to(cost)
    if mask.dtype != torch.bool:
        raise InputError(f"expected a boolean {side} mask, got {mask.dtype}: use mask > 0")
    # 1 where the mask is empty: that leaves no mass, which is refused.
    return mask / mask.sum(1, keepdim=True).clamp(min=1).to(cost)


def _require(holds: Tensor, message: str) -> None:
    """Raises unless a 0-dimensional boolean holds, without waiting for a GPU."""
    if holds.device.type != "cpu" or torch.compiler.is_compiling():
        torch._assert_async(holds, message)
    elif not holds:
        raise InputError(message)

"""The checks and conversions that every solver needs.

Shape legend: B problems, n rows, m columns.
"""

from functools import cache
from importlib.util import find_spec

import torch
from torch import Tensor

from cmemd.errors import InputError

__all__ = ["checked_cost", "marginals", "on_host"]

# Solvers add and subtract costs of up to 16 rows. Sums of larger costs than this share of the
# largest number may overflow.
_HEADROOM = 64
# Marginals of a problem may differ in their sums by rounding: this many units in the last place.
_ROUNDING = 100


def checked_cost(cost: Tensor) -> Tensor:
    """Return the cost as solvers take it: detached, in at least float32.

    Args:
        cost: (B, n, m), any n, m >= 1 and B >= 0.

    Raises:
        InputError: another shape or integers; NaN, infinity or a cost so large that sums
            overflow. On a GPU, and under ``torch.compile``, checking values would be a
            synchronisation: an assertion on the device fails with the same words instead.
    """
    shape = cost.shape
    if len(shape) != 3 or 0 in shape[1:]:
        raise InputError(
            "a cost (B, n, m) with n, m >= 1",
            f"shape {tuple(shape)}",
            "use .flatten(0, -3) to bring all leading axes into one",
        )
    if not cost.is_floating_point():
        raise InputError("a floating-point cost", cost.dtype, "use .float()")
    cost = cost.detach()
    if cost.dtype in (torch.float16, torch.bfloat16):
        cost = cost.float()
    if shape[0]:
        limit = torch.finfo(cost.dtype).max / _HEADROOM
        if on_host(cost) and _has_numpy():  # which takes less time for a few problems
            values = cost.numpy().ravel()
            lowest, highest = values[values.argmin()], values[values.argmax()]
            holds: bool | Tensor = bool(-limit <= lowest and highest <= limit)  # so that NaN fails
        else:
            lowest, highest = cost.aminmax()
            holds = torch.maximum(-lowest, highest) <= limit
        if holds is not True:
            _require(
                holds,
                f"finite costs of at most {limit:.0e} in size",
                "NaN, infinity or a larger one",
                "in training, lower SOLVER.BASE_LR; else look for overflow in the costs",
            )
    return cost


def marginals(
    cost: Tensor,
    a: Tensor | None,
    b: Tensor | None,
    row_mask: Tensor | None,
    column_mask: Tensor | None,
) -> tuple[Tensor, Tensor]:
    """Return masses of rows (B, n) and columns (B, m), in the cost's dtype, on its device.

    Args:
        cost: (B, n, m).
        a: (B, n) masses of the rows, >= 0; None: uniform, 1/n or as the mask says.
        b: (B, m) masses of the columns, >= 0; None: uniform, 1/m or as the mask says.
        row_mask: (B, n) booleans: the rows with mass, in equal shares; not together with ``a``.
        column_mask: (B, m) booleans: the columns with mass; not together with ``b``.

    Raises:
        InputError: another shape, masses and a mask of the same side, or a mask that is not
            boolean; where checking needs no synchronisation, for a negative or infinite mass, a
            side without mass, or two sides whose sums differ.
    """
    rows = _marginal(cost, 1, a, row_mask, "row")
    columns = _marginal(cost, 2, b, column_mask, "column")
    total, other = rows.sum(1), columns.sum(1)  # (B,)
    # Written so that NaN fails.
    _require(
        (torch.minimum(rows.amin(1), columns.amin(1)) >= 0).logical_and(total > 0).all(),
        "masses of at least 0 with a positive sum for each problem",
        "a negative one, NaN, or a problem without any mass",
        "check the masses, and that every mask keeps a row or column",
    )
    tolerance = _ROUNDING * torch.finfo(cost.dtype).eps
    _require(
        ((total - other).abs() <= tolerance * torch.minimum(total, other)).all(),
        "the same finite sum of a problem's row masses and of its column masses",
        "sums that differ or are infinite",
        "divide each by its sum",
    )
    return rows, columns


def _marginal(
    cost: Tensor, axis: int, mass: Tensor | None, mask: Tensor | None, side: str
) -> Tensor:
    shape = (cost.shape[0], cost.shape[axis])
    if mass is not None and mask is not None:
        raise InputError(f"masses or a mask of the {side}s", "both", "give one")
    given = mask if mass is None else mass
    if given is None:
        return cost.new_full(shape, 1 / shape[1])
    if given.shape != shape:
        raise InputError(
            f"a {side} marginal or mask of shape {shape}",
            tuple(given.shape),
            f"give each {side} of each problem one value",
        )
    if mass is not None:
        return mass.detach().to(cost)
    if given.dtype != torch.bool:
        raise InputError(f"a boolean {side} mask", given.dtype, "use mask > 0")
    # Dividing by 1 leaves an empty mask without mass, which `marginals` refuses.
    return given / given.sum(1, keepdim=True).clamp(min=1).to(cost)


@cache
def _has_numpy() -> bool:
    return find_spec("numpy") is not None


def on_host(values: Tensor) -> bool:
    """Return whether reading the values waits for no device, and breaks no compiled graph."""
    return values.is_cpu and not torch.compiler.is_compiling()


def _require(holds: Tensor | bool, expected: str, got: str, remedy: str) -> None:
    """Raise unless a 0-dimensional boolean holds, without waiting for a GPU."""
    if isinstance(holds, Tensor) and not on_host(holds):
        torch._assert_async(holds, f"expected {expected}, got {got}: {remedy}")
    elif not holds:
        raise InputError(expected, got, remedy)

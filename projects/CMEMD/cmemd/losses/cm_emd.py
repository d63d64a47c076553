"""CM-EMD: the transport cost between an identity's visible and thermal features.

Shape legend: N images, P identities, K_v visible and K_t thermal images of each, D channels,
F features of one granularity (1 global, S local, S - 1 accumulated).
"""

from collections.abc import Mapping
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from cmemd.errors import InputError
from cmemd.losses.grouping import IdentityRows
from cmemd.losses.transport import exact_plan

__all__ = [
    "GROUND_DISTANCES",
    "Alignment",
    "CMEMDLoss",
    "cm_emd_loss",
    "ground_cost",
    "plan_saving",
    "plan_sharpness",
]

GROUND_DISTANCES = ("sqeuclidean", "euclidean", "cosine")


def ground_cost(visible: Tensor, thermal: Tensor, distance: str = "sqeuclidean") -> Tensor:
    """Distance D_ij = d(v_i, t_j) of every visible-thermal pair, in at least float32.

    Args:
        visible: (..., K_v, D).
        thermal: (..., K_t, D).
        distance: "sqeuclidean", "euclidean" (its gradient at distance 0 is 0), or "cosine"
            (1 - cosine similarity, in [0, 2]; zero vectors count as orthogonal to all).

    Returns:
        (..., K_v, K_t), nonnegative up to rounding; symmetric in the roles of the modalities.

    Raises:
        InputError: for an unknown distance.
    """
    visible, thermal = _at_least_float32(visible), _at_least_float32(thermal)
    if distance == "cosine":
        visible, thermal = (functional.normalize(x, dim=-1) for x in (visible, thermal))
        # Not a matrix product: autocast would take it in half precision.
        return 1 - (visible[..., :, None, :] * thermal[..., None, :, :]).sum(-1)
    if distance == "euclidean":
        # Pairwise differences, not the expanded square: exact at and near distance 0.
        return torch.cdist(visible, thermal, compute_mode="donot_use_mm_for_euclid_dist")
    if distance == "sqeuclidean":
        return (visible[..., :, None, :] - thermal[..., None, :, :]).square().sum(-1)
    raise InputError(f"expected a ground distance of {GROUND_DISTANCES}, got {distance!r}")


def cm_emd_loss(cost: Tensor, plan: Tensor | None = None) -> Tensor:
    r"""Mean over identities of the optimal transport cost between the modalities.

        L = (1/P) sum_p sum_ij pi*_ij D_ij

    with pi* the optimal plan for uniform marginals 1/K_v and 1/K_t (chosen, not from the paper),
    constant in the backward pass: dL / dD_ij = pi*_ij / P. At most the mean of D (the uniform
    plan's value); zero exactly where the two clouds of each identity coincide.

    Source: CM-EMD, arXiv 2203.01675 (abstract, Fig. 2).

    Args:
        cost: (..., P, K_v, K_t) ground distances; leading axes are separate terms, e.g. features.
        plan: (..., P, K_v, K_t); computed by ``exact_plan`` if not given.

    Returns:
        (...), one value for each leading index.
    """
    if plan is None:
        plan = exact_plan(cost.flatten(0, -3)).view_as(cost)
    return (plan * cost).sum((-2, -1)).mean(-1)


def plan_sharpness(plan: Tensor) -> Tensor:
    """How far plans are from uniform: 0 for the uniform plan, 1 for a matching.

    The excess of sum_ij pi_ij^2 over the uniform plan's, relative to that of a plan which moves
    each share along one edge; 0 where K_v or K_t is 1 and the uniform plan is the only one. The
    exact plan of K_v = K_t is a matching: 1, whatever the costs; ``plan_saving`` tells more of it.

    Args:
        plan: (..., K_v, K_t) with uniform marginals.

    Returns:
        Scalar, the mean over all plans.
    """
    n, m = plan.shape[-2:]
    uniform, sharpest = 1 / (n * m), 1 / max(n, m)
    if min(n, m) == 1:
        return plan.new_zeros(())
    return ((plan.square().sum((-2, -1)) - uniform) / (sharpest - uniform)).mean()


@torch.no_grad()
def plan_saving(cost: Tensor, plan: Tensor) -> Tensor:
    """Share of the uniform plan's cost that a plan saves: what choosing pairs is worth.

    0 where all pairs are equally far, so that the choice means nothing (a collapse too); close to 1
    where each image has a partner much nearer than the rest.

    Args:
        cost: (..., K_v, K_t), nonnegative.
        plan: (..., K_v, K_t) with uniform marginals.

    Returns:
        Scalar: over all problems together, 1 - sum of pi_ij D_ij / sum of D_ij / (K_v K_t).
    """
    uniform = cost.mean((-2, -1)).sum()
    spent = (plan * cost).sum()
    # Dividing by 1 where nothing costs anything makes that a saving of 0.
    return (uniform - spent) / torch.where(uniform > 0, uniform, torch.ones_like(uniform))


class Alignment(NamedTuple):
    """What ``CMEMDLoss`` returns."""

    losses: dict[str, Tensor]  # granularity -> scalar, summed over its features
    plan: Tensor  # (sum of F, P, K_v, K_t)
    cost: Tensor  # (sum of F, P, K_v, K_t)


class CMEMDLoss(nn.Module):
    """CM-EMD on several granularities at once, all plans from one batched call.

    Args:
        distance: ground distance, one of ``GROUND_DISTANCES`` (chosen, not from the paper).
        normalize: whether features are L2-normalised first (chosen, not from the paper).

    Raises:
        InputError: for an unknown distance.
    """

    def __init__(self, distance: str = "sqeuclidean", normalize: bool = True) -> None:
        super().__init__()
        if distance not in GROUND_DISTANCES:
            raise InputError(f"expected a ground distance of {GROUND_DISTANCES}, got {distance!r}")
        self.distance = distance
        self.normalize = normalize

    def forward(self, features: Mapping[str, Tensor], rows: IdentityRows) -> Alignment:
        """Aligns granularity -> features (N, F, D) of a batch's identities."""
        costs = {name: self._cost(feature, rows) for name, feature in features.items()}
        cost = torch.cat(tuple(costs.values()))  # (sum of F, P, K_v, K_t)
        plan = exact_plan(cost.flatten(0, 1)).view_as(cost)
        terms = cm_emd_loss(cost, plan).split([len(part) for part in costs.values()])
        losses = {name: term.sum() for name, term in zip(costs, terms, strict=True)}
        return Alignment(losses, plan, cost)

    def _cost(self, feature: Tensor, rows: IdentityRows) -> Tensor:
        feature = _at_least_float32(feature).transpose(0, 1)  # (F, N, D)
        if self.normalize:
            feature = functional.normalize(feature, dim=-1)
        return ground_cost(feature[:, rows.visible], feature[:, rows.thermal], self.distance)


def _at_least_float32(x: Tensor) -> Tensor:
    """Transport needs float32: half precision would break ties at random."""
    return x.float() if x.dtype in (torch.float16, torch.bfloat16) else x

"""CM-EMD: the transport cost between an identity's visible and thermal features.

Shape legend: P identities, K_v visible and K_t thermal images of each, D channels.
"""

import math

import torch
from torch import Tensor
from torch.nn import functional

from cmemd.errors import InputError
from cmemd.losses.precision import at_least_float32
from cmemd.losses.transport import exact_plan

__all__ = [
    "GROUND_DISTANCES",
    "PAIR_DISTANCES",
    "cloud_scale",
    "cm_emd_loss",
    "ground_cost",
    "mean_kernel",
    "mean_of_pairs",
    "plan_saving",
    "plan_sharpness",
    "within_costs",
]

GROUND_DISTANCES = ("sqeuclidean", "euclidean", "cosine", "manhattan")
# The last one depends on all images of an identity, so it serves weighted pairs alone.
PAIR_DISTANCES = (*GROUND_DISTANCES, "kernel")

# Widths of the kernels, relative to the mean distance of two images.
_BANDWIDTHS = (0.25, 0.5, 1.0, 2.0, 4.0)


def ground_cost(
    visible: Tensor,
    thermal: Tensor,
    distance: str = "sqeuclidean",
    scale: Tensor | None = None,
) -> Tensor:
    """Return D_ij = d(v_i, t_j) of every visible-thermal pair, in at least float32.

    Args:
        visible: (..., K_v, D).
        thermal: (..., K_t, D).
        distance: one of these, chosen, not from the paper:

            - "sqeuclidean";
            - "euclidean" (its gradient at distance 0 is 0);
            - "cosine": 1 - cosine similarity, in [0, 2]; zero vectors count as orthogonal to all;
            - "manhattan": sum_d |v_d - t_d| / sqrt(D), at most the Euclidean distance (its gradient
              at distance 0 is 0);
            - "kernel": 2 - 2 k(v, t), with the kernel of ``mean_kernel`` on squared Euclidean
              distances. It is the squared distance in the kernel's feature space, below 2: far
              pairs pull less and less. Weighing all pairs equally in it, less half of the same
              mean within each modality, is ``kernel_mmd``.
        scale: of the kernel's distance, (..., 1, 1); ``cloud_scale`` of both if not given.

    Returns:
        (..., K_v, K_t), nonnegative up to rounding; symmetric in the roles of the modalities.

    Raises:
        InputError: an unknown distance.
    """
    visible, thermal = at_least_float32(visible), at_least_float32(thermal)
    if distance == "cosine":
        visible, thermal = (functional.normalize(x, dim=-1) for x in (visible, thermal))
        # Not a matrix product: autocast would take it in half precision.
        return 1 - (visible[..., :, None, :] * thermal[..., None, :, :]).sum(-1)
    if distance == "euclidean":
        # Pairwise differences, not the expanded square: exact at and near distance 0.
        return torch.cdist(visible, thermal, compute_mode="donot_use_mm_for_euclid_dist")
    if distance == "manhattan":
        apart = (visible[..., :, None, :] - thermal[..., None, :, :]).abs().sum(-1)
        return apart / math.sqrt(visible.shape[-1])
    if distance == "kernel":
        scale = cloud_scale(visible, thermal) if scale is None else scale
        return 2 - 2 * mean_kernel(ground_cost(visible, thermal), scale)
    if distance == "sqeuclidean":
        return (visible[..., :, None, :] - thermal[..., None, :, :]).square().sum(-1)
    raise InputError(
        "a known ground distance", repr(distance), f"choose {', '.join(PAIR_DISTANCES)}"
    )


def within_costs(
    visible: Tensor, thermal: Tensor, distance: str = "sqeuclidean"
) -> tuple[Tensor, Tensor]:
    """Return ``ground_cost`` within each modality, on the scale of the cost between them.

    Args:
        visible: (..., K_v, D).
        thermal: (..., K_t, D).
        distance: see ``ground_cost``.

    Returns:
        (..., K_v, K_v) and (..., K_t, K_t), with a diagonal of 0 up to rounding.
    """
    scale = cloud_scale(visible, thermal) if distance == "kernel" else None
    visible, thermal = (ground_cost(x, x, distance, scale) for x in (visible, thermal))
    return visible, thermal


def cloud_scale(visible: Tensor, thermal: Tensor) -> Tensor:
    """Return the mean squared distance of any two images of an identity, without a gradient.

    Args:
        visible: (..., K_v, D).
        thermal: (..., K_t, D).

    Returns:
        (..., 1, 1); 0 where all are equal.
    """
    images = torch.cat((visible, thermal), -2).detach()
    return mean_of_pairs(ground_cost(images, images))


def mean_of_pairs(cost: Tensor) -> Tensor:
    """Return the mean off a diagonal of zeros of (..., K, K), (..., 1, 1)."""
    size = cost.shape[-1]
    return cost.sum((-2, -1), keepdim=True) / (size * (size - 1))


def mean_kernel(cost: Tensor, scale: Tensor) -> Tensor:
    """Return mean_b exp(-cost / (b scale)), b = 1/4, 1/2, 1, 2, 4, in [0, 1].

    Kernels of several bandwidths as in Long et al., arXiv 1502.02791; these five are chosen.

    Args:
        cost: (..., n, m) distances.
        scale: (..., 1, 1), constant in the backward pass; a scale of 0 counts as 1.
    """
    scale = torch.where(scale > 0, scale, torch.ones_like(scale))
    kernels = [(-cost / (factor * scale)).exp() for factor in _BANDWIDTHS]
    return sum(kernels[1:], kernels[0]) / len(_BANDWIDTHS)


def cm_emd_loss(cost: Tensor, plan: Tensor | None = None) -> Tensor:
    r"""Return the optimal transport cost between the modalities, mean over identities.

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
    """Return how far plans are from uniform: 0 for the uniform plan, 1 for a matching.

    The excess of sum_ij pi_ij^2 over the uniform plan's, relative to that of a plan which moves
    each share along one edge. It is 0 where K_v or K_t is 1, since only the uniform plan exists.
    The exact plan of K_v = K_t is a matching and has 1 at any cost; see ``plan_saving``.

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
    """Return the share of the uniform plan's cost that a plan saves by choosing pairs.

    0 where all pairs are equally far, as in a collapse, so that the choice changes nothing; close
    to 1 where each image has a partner much nearer than the rest.

    Args:
        cost: (..., K_v, K_t), nonnegative.
        plan: (..., K_v, K_t) with uniform marginals.

    Returns:
        Scalar: over all problems together, 1 - sum of pi_ij D_ij / sum of D_ij / (K_v K_t).
    """
    uniform = cost.mean((-2, -1)).sum()
    spent = (plan * cost).sum()
    # Dividing by 1 where all costs are 0 gives a saving of 0.
    return (uniform - spent) / torch.where(uniform > 0, uniform, torch.ones_like(uniform))

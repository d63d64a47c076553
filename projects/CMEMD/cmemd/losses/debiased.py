"""Debiased CM-EMD: the transport between the modalities beyond the transport within each.

Shape legend: P identities, K_v visible and K_t thermal images of each, F features.
"""

import torch
from torch import Tensor

__all__ = ["debiased_transport", "transport_value", "within_ratio"]


def transport_value(cost: Tensor, plan: Tensor, epsilon: float = 0.0) -> Tensor:
    r"""Return the value of a transport problem at its plan, by identity.

        sum_ij pi_ij D_ij + epsilon sum_ij pi_ij log(pi_ij / (a_i b_j))

    with uniform a and b. With ``sinkhorn_plan`` and its epsilon this is the entropic OT of the
    Sinkhorn divergence. The plan is constant in the backward pass.

    Args:
        cost: (..., n, m).
        plan: (..., n, m), of the same epsilon.
        epsilon: in units of the cost; 0 for an exact plan.

    Returns:
        (...).
    """
    value = (plan * cost).sum((-2, -1))
    if epsilon == 0:
        return value
    return value + epsilon * torch.xlogy(plan, plan * (plan.shape[-2] * plan.shape[-1])).sum(
        (-2, -1)
    )


def debiased_transport(
    between: Tensor, visible: Tensor, thermal: Tensor, share: float, clamp: bool = False
) -> Tensor:
    r"""Return the transport cost between the modalities minus a share of that within them.

        L = (1/P) sum_p [ T(v, t) - share (T'(v, v) + T'(t, t)) / 2 ]

    T is CM-EMD's cost of an identity. T' moves each image of a modality to another image of it, as
    cheaply as it can; see ``plan_to_others``. T' has about the value that T has between two clouds
    of one distribution, so L is the gap beyond the variation within. A share of 0 is CM-EMD.

    CM-EMD pulls an image to its partner, which contracts an identity even where there is no gap.
    If all its features move towards their mean, so that squared distances shrink by the factor x, L
    becomes x L: the loss contracts where L > 0 and stretches where L < 0. L is negative wherever
    T < share T', for example where the two clouds coincide. So it has no lower bound but that of
    the features' length, and a large share or weight can end in a collapse, with identities that
    spread over each other. A clamp ends it at 0, where value and gradient of this identity are 0.

    Symmetric in the modalities. A modality of one image (K = 1) has no other image, and T' = 0.

    Chosen, not from the paper, whose words ask for pairs of small variation. Subtracting half of
    each own term is the energy distance's form (Szekely and Rizzo, 2013), and at share 1 that of
    the Sinkhorn divergence (Feydy et al., arXiv 1810.08278), here without pairs of one image. With
    pairs of one image, entropic values at share 1 are the Sinkhorn divergence itself, which is at
    least 0, and 0 for coinciding clouds alone (at convergence).

    Args:
        between: (..., P) transport costs between the modalities.
        visible: (..., P) within the visible images.
        thermal: (..., P) within the thermal images.
        share: in [0, 1].
        clamp: whether each identity's value is at least 0.

    Returns:
        (...), one value for each leading index.
    """
    value = between - share * (visible + thermal) / 2
    if clamp:
        value = value.clamp(min=0)
    return value.mean(-1)


def within_ratio(between: Tensor, visible: Tensor, thermal: Tensor) -> Tensor:
    """Return the transport within the modalities relative to that between them.

    About 1 where the modalities differ no more than two sets of images of one of them, less where
    there is a gap; 0 where all images of an identity are equal. At share 1 the loss is negative
    where this is above 1.

    Args:
        between: (..., P) as in ``debiased_transport``, as the others.
        visible: (..., P).
        thermal: (..., P).

    Returns:
        Scalar: the ratio of the sums.
    """
    total = between.detach().sum()
    within = (visible.detach() + thermal.detach()).sum() / 2
    # Dividing by 1 where all costs are 0 gives 0.
    return within / total.where(total > 0, 1)

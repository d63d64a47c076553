"""Alternatives to CM-EMD: other plans, and distances between whole clouds.

A plan weighs the pairs of an identity; the loss is then their weighted mean distance, as in
``cm_emd``. The other functions compare an identity's visible and thermal features without pairs.

Shape legend: P identities, K_v visible and K_t thermal images of each, D channels.
"""

import torch
from torch import Tensor

from cmemd.losses.cm_emd import ground_cost, mean_kernel, mean_of_pairs
from cmemd.losses.precision import at_least_float32

__all__ = [
    "affinity_plan",
    "centre_distance",
    "gaussian_kl",
    "kernel_mmd",
    "nearest_plan",
    "uniform_plan",
]


def uniform_plan(cost: Tensor) -> Tensor:
    """Return the same weight for every pair: pi_ij = 1 / (K_v K_t).

    The average that the paper's abstract argues against, and the follow-up's "uniform weights".

    Args:
        cost: (..., K_v, K_t).

    Returns:
        (..., K_v, K_t), with marginals 1/K_v and 1/K_t.
    """
    return torch.full_like(cost, 1 / (cost.shape[-2] * cost.shape[-1]))


def affinity_plan(cost: Tensor, temperature: float) -> Tensor:
    """Return soft weights of each visible image's pairs, (1/K_v) softmax_j(-D_ij / temperature).

    One-sided: each visible image weighs 1/K_v, a thermal one as much as it attracts. So the
    modalities cannot change roles, and a thermal image may get no weight. As the temperature falls
    to 0, each visible image goes to its nearest thermal one; as it grows, the plan becomes uniform.
    The value is at most the uniform plan's.

    After the follow-up, which weighs pairs in closed form by how little they vary. Its formula was
    not available; this one is chosen.

    Args:
        cost: (..., K_v, K_t).
        temperature: positive, in the unit of the cost.

    Returns:
        (..., K_v, K_t), each row with sum 1/K_v.
    """
    return (-cost / temperature).softmax(-1) / cost.shape[-2]


def nearest_plan(cost: Tensor, neighbours: int) -> Tensor:
    r"""Return weights of each image's nearest images of the other modality.

        pi_ij = 1/2 [ 1{j is near i} / (k_i n) + 1{i is near j} / (k_j m) ]

    where the nearest of i are the k columns of least cost, all if there are fewer; of equal costs
    ``topk`` chooses. At k = 1 the loss is half of the Chamfer distance; with all pairs it is the
    uniform plan's. Unlike a transport plan, it may leave all to a few images that are near many.

    The formula is chosen, not from the paper.

    Args:
        cost: (..., n, m).
        neighbours: k, at least 1.

    Returns:
        (..., n, m), with sum 1.
    """
    plan = torch.zeros_like(cost)
    for axis in (-1, -2):
        number = min(neighbours, cost.shape[axis])
        near = cost.topk(number, axis, largest=False).indices
        share = 1 / (2 * number * cost.shape[-3 - axis])
        plan = plan.scatter_add(axis, near, torch.full_like(near, share, dtype=cost.dtype))
    return plan


def centre_distance(visible: Tensor, thermal: Tensor, distance: str = "sqeuclidean") -> Tensor:
    r"""Return the hetero-centre loss: the mean distance of the modalities' centres.

        L = (1/P) sum_p d(mean_i v_i, mean_j t_j)

    For the squared Euclidean distance it is at most CM-EMD (Jensen); 0 wherever the centres
    coincide, even of different clouds. Symmetric in the modalities.

    Source: Zhu et al., "Hetero-Center Loss for Cross-Modality Person Re-Identification",
    arXiv 1910.09830, which sums over identities.

    Args:
        visible: (..., P, K_v, D).
        thermal: (..., P, K_t, D).
        distance: see ``ground_cost``.

    Returns:
        (...), in at least float32.
    """
    of_visible, of_thermal = (
        at_least_float32(x).mean(-2, keepdim=True) for x in (visible, thermal)
    )
    return ground_cost(of_visible, of_thermal, distance).mean((-3, -2, -1))


def gaussian_kl(visible: Tensor, thermal: Tensor, floor: float = 0.1) -> Tensor:
    r"""Return the symmetric Kullback-Leibler divergence of two Gaussians, covariance diagonal.

    With m, s^2 the mean and variance of each channel over an identity's images of a modality,

        J = 1/2 (KL(v || t) + KL(t || v))
          = 1/4 mean_d [ (s_v^2 - s_t^2)^2 / (s_v^2 s_t^2) + (m_v - m_t)^2 (1/s_v^2 + 1/s_t^2) ]

    and L its mean over identities. Chosen: the diagonal, since K images cannot determine D x D
    numbers; the mean over channels instead of the sum; the floor. The follow-up compares with a KL
    loss whose formula was not available.

    Symmetric in the modalities, invariant to scale and to the order of images, not to rotation.
    0 where means and variances agree.

    Args:
        visible: (..., P, K_v, D).
        thermal: (..., P, K_t, D).
        floor: added to each variance, in units of the mean square of the identity's features; a
            single image has this variance. Positive.

    Returns:
        (...), in at least float32.
    """
    visible, thermal = at_least_float32(visible), at_least_float32(thermal)
    power = torch.cat((visible, thermal), -2).square().mean((-2, -1))[..., None]  # (..., P, 1)
    # Any positive floor keeps value and gradient 0 where all features are 0.
    least = floor * torch.where(power > 0, power, torch.ones_like(power))
    var_v, var_t = (x.var(-2, correction=0) + least for x in (visible, thermal))  # (..., P, D)
    shift = (visible.mean(-2) - thermal.mean(-2)).square()
    divergence = (var_v - var_t).square() / (var_v * var_t) + shift * (1 / var_v + 1 / var_t)
    return divergence.mean((-2, -1)) / 4


def kernel_mmd(visible: Tensor, thermal: Tensor, distance: str = "sqeuclidean") -> Tensor:
    r"""Return the squared maximum mean discrepancy, with five kernels of an adaptive bandwidth.

        k(x, y) = mean_b exp(-d(x, y) / (b s)),  b = 1/4, 1/2, 1, 2, 4
        L = (1/P) sum_p mean_ii' k(v_i, v_i') + mean_jj' k(t_j, t_j') - 2 mean_ij k(v_i, t_j)

    with s the mean distance between any two of the identity's images, constant in the backward
    pass. Kernels are Gaussian for the squared Euclidean distance, Laplacian for the Euclidean one.
    Nonnegative up to rounding and 0 where the clouds coincide, symmetric in the modalities,
    invariant to rotation and in value to scale; never above 2.

    Source: Gretton et al., "A Kernel Two-Sample Test", JMLR 2012, the biased estimator; kernels of
    several bandwidths as in Long et al., "Learning Transferable Features with Deep Adaptation
    Networks", arXiv 1502.02791. These five, and one estimate per identity, are chosen.

    Args:
        visible: (..., P, K_v, D).
        thermal: (..., P, K_t, D).
        distance: see ``ground_cost``.

    Returns:
        (...), in at least float32.
    """
    counts = visible.shape[-2], thermal.shape[-2]
    images = torch.cat((visible, thermal), -2)
    cost = ground_cost(images, images, distance)  # (..., P, K, K)
    kernel = mean_kernel(cost, mean_of_pairs(cost.detach()))
    signs = torch.cat(
        [cost.new_full((n,), sign / n) for n, sign in zip(counts, (1, -1), strict=True)]
    )
    return (signs[:, None] * kernel * signs).sum((-2, -1)).mean(-1)

import math

import torch
from tests.cases import cases
from tests.losses.generators import random_costs, seeded
from torch.distributions import Independent, Normal, kl_divergence
from torch.testing import assert_close

from cmemd.losses.alternatives import (
    affinity_plan,
    centre_distance,
    gaussian_kl,
    kernel_mmd,
    nearest_plan,
    uniform_plan,
)
from cmemd.losses.cm_emd import GROUND_DISTANCES, cm_emd_loss, ground_cost

DIVERGENCES = (centre_distance, gaussian_kl, kernel_mmd)


def clouds(visible=4, thermal=3, leading=(3,), dim=5, seed=0):
    """Return features of both modalities, (..., P, K, D) each."""
    generator = seeded(seed)
    return tuple(
        torch.randn(*leading, k, dim, dtype=torch.float64, generator=generator)
        for k in (visible, thermal)
    )


# ---- plans


def test_the_uniform_plan_by_hand():
    cost = torch.tensor([[[1.0, 2.0, 6.0], [3.0, 0.0, 0.0]]])
    assert torch.equal(uniform_plan(cost), torch.full((1, 2, 3), 1 / 6))
    assert_close(cm_emd_loss(cost, uniform_plan(cost)).item(), 2.0)  # (1 + 2 + 6 + 3) / 6


def test_the_affinity_plan_by_hand():
    # exp(-D / 2) = 1, 1/3 in the first row -> 3/4, 1/4; equal in the second -> 1/2, 1/2; halved
    cost = torch.tensor([[[0.0, 2 * math.log(3)], [5.0, 5.0]]])
    assert_close(affinity_plan(cost, 2.0), torch.tensor([[[3.0, 1.0], [2.0, 2.0]]]) / 8)


@cases("temperature", [1e-3, 0.1, 1.0, 1e3])
def test_the_affinity_plan_gives_each_visible_image_its_share_and_costs_at_most_the_mean(
    temperature,
):
    cost = random_costs(20, 3, 5)
    plan = affinity_plan(cost, temperature)
    assert_close(plan.sum(2), torch.full((20, 3), 1 / 3, dtype=torch.float64))
    assert (plan >= 0).all()
    assert ((plan * cost).sum((1, 2)) <= cost.mean((1, 2)) * (1 + 1e-12)).all()


def test_the_affinity_plan_goes_from_the_nearest_partner_to_the_uniform_plan():
    cost = random_costs(20, 3, 5)
    nearest = torch.zeros_like(cost).scatter_(2, cost.argmin(2, keepdim=True), 1 / 3)
    assert_close(affinity_plan(cost, 1e-5), nearest, rtol=0, atol=1e-6)
    assert_close(affinity_plan(cost, 1e6), uniform_plan(cost), rtol=0, atol=1e-6)


def test_huge_and_tiny_costs_have_finite_affinities():
    cost = torch.tensor([[[0.0, 1e30], [1e-30, 0.0]]])
    assert affinity_plan(cost, 1e-3).isfinite().all()


def test_the_nearest_plan_by_hand():
    # Nearest of the rows: column 0 and column 1; of the columns: row 0, row 1, row 0. A row's share
    # is 1/2 * 1/2, a column's 1/2 * 1/3.
    cost = torch.tensor([[[1.0, 2.0, 4.0], [3.0, 0.0, 5.0]]])
    expected = torch.tensor([[[1 / 4 + 1 / 6, 0, 1 / 6], [0, 1 / 4 + 1 / 6, 0]]])
    assert_close(nearest_plan(cost, 1), expected)


@cases("neighbours", [1, 2, 3, 9])
def test_the_nearest_plan_is_a_loop_over_the_images_of_both_sides(neighbours):
    cost = random_costs(4, 5, 3)
    expected = torch.zeros_like(cost)
    for b in range(4):
        for i in range(5):
            for j in sorted(range(3), key=lambda j, b=b, i=i: cost[b, i, j])[:neighbours]:
                expected[b, i, j] += 1 / (2 * 5 * min(neighbours, 3))
        for j in range(3):
            for i in sorted(range(5), key=lambda i, b=b, j=j: cost[b, i, j])[:neighbours]:
                expected[b, i, j] += 1 / (2 * 3 * min(neighbours, 5))
    assert_close(nearest_plan(cost, neighbours), expected)
    if neighbours == 9:
        assert_close(expected, uniform_plan(cost))


# ---- centres


def test_the_centre_distance_by_hand():
    # identity 0: (0, 0), (2, 0) -> (1, 0); (1, 3), (1, 5) -> (1, 4): 16 or 4
    # identity 1: the centres (2, 2), (2, 0): 4 or 2.   Means: 10 or 3
    visible = torch.tensor([[[0.0, 0.0], [2.0, 0.0]], [[2.0, 1.0], [2.0, 3.0]]])
    thermal = torch.tensor([[[1.0, 3.0], [1.0, 5.0]], [[2.0, 0.0], [2.0, 0.0]]])
    assert centre_distance(visible, thermal).item() == 10.0
    assert centre_distance(visible, thermal, "euclidean").item() == 3.0


def test_the_uniform_plans_cost_is_that_of_the_centres_and_both_variances():
    # mean_ij |v_i - t_j|^2 = |c_v - c_t|^2 + mean_i |v_i - c_v|^2 + mean_j |t_j - c_t|^2
    visible, thermal = clouds()
    spread = sum(x.var(1, correction=0).sum(1).mean() for x in (visible, thermal))
    uniform = ground_cost(visible, thermal).mean()
    assert_close(centre_distance(visible, thermal) + spread, uniform)


@cases("seed", range(5))
@cases("distance", ["sqeuclidean", "euclidean"])
def test_centres_are_at_most_as_far_apart_as_transport_is_long(distance, seed):
    # d is convex: d(mean of v, mean of t) <= sum_ij pi_ij d(v_i, t_j) for uniform marginals
    visible, thermal = clouds(seed=seed)
    transport = cm_emd_loss(ground_cost(visible, thermal, distance))
    assert centre_distance(visible, thermal, distance) <= transport


# ---- Gaussians


def test_the_gaussian_divergence_by_hand():
    # visible 0, 2: mean 1, variance 1; thermal 3, 3: mean 3, variance 0. Mean square of all
    # (0 + 4 + 9 + 9) / 4 = 5.5, floor 2/11 of it 1: variances 2 and 1.
    # 1/4 [(2 - 1)^2 / 2 + (1 - 3)^2 (1/2 + 1)] = 1/4 (1/2 + 6)
    visible, thermal = torch.tensor([[[0.0], [2.0]]]), torch.tensor([[[3.0], [3.0]]])
    assert_close(gaussian_kl(visible, thermal, 2 / 11).item(), 1.625)


def test_it_is_the_symmetric_divergence_of_pytorchs_distributions():
    visible, thermal = clouds()
    floor = 0.3 * torch.cat((visible, thermal), 1).square().mean((1, 2))[:, None]
    v, t = (
        Independent(Normal(x.mean(1), (x.var(1, correction=0) + floor).sqrt()), 1)
        for x in (visible, thermal)
    )
    expected = (kl_divergence(v, t) + kl_divergence(t, v)) / 2 / 5  # channels
    assert_close(gaussian_kl(visible, thermal, 0.3), expected.mean())


# ---- kernels


def test_the_discrepancy_of_two_points_by_hand():
    # s = d, so k(v, t) = mean_b exp(-1 / b) for every distance; L = 1 + 1 - 2 k(v, t)
    k = sum(math.exp(-1 / b) for b in (0.25, 0.5, 1, 2, 4)) / 5
    for distance in GROUND_DISTANCES:
        loss = kernel_mmd(*clouds(1, 1), distance)
        assert_close(loss.item(), 2 - 2 * k)


def looped_mmd(visible, thermal, distance, scale):
    """Return one identity's discrepancy in plain loops, for a fixed bandwidth."""

    def mean_kernel(xs, ys):
        total = 0.0
        for x in xs:
            for y in ys:
                d = ground_cost(x[None], y[None], distance)[0, 0]
                total = total + sum((-d / (b * scale)).exp() for b in (0.25, 0.5, 1, 2, 4)) / 5
        return total / (len(xs) * len(ys))

    cross = mean_kernel(visible, thermal)
    return mean_kernel(visible, visible) + mean_kernel(thermal, thermal) - 2 * cross


@cases("distance", GROUND_DISTANCES)
def test_the_discrepancy_and_its_gradient_are_those_of_plain_loops(distance):
    leaves = [x.requires_grad_() for x in clouds(3, 2, (2,))]
    expected = 0.0
    for visible, thermal in zip(*leaves, strict=True):
        images = torch.cat((visible, thermal)).detach()
        d = ground_cost(images, images, distance)
        scale = d[~torch.eye(5, dtype=torch.bool)].mean()
        expected = expected + looped_mmd(visible, thermal, distance, scale) / 2
    loss = kernel_mmd(*leaves, distance)
    assert_close(loss, expected)
    assert_close(torch.autograd.grad(loss, leaves), torch.autograd.grad(expected, leaves))


@cases("distance", GROUND_DISTANCES)
@cases("seed", range(5))
def test_the_discrepancy_lies_between_0_and_2(distance, seed):
    assert 0 < kernel_mmd(*clouds(seed=seed), distance) < 2


# ---- all three


@cases("divergence", [gaussian_kl, kernel_mmd])
@cases("factor", [1e-3, -2.0, 1e3])
def test_scale_does_not_matter_to_divergences(divergence, factor):
    visible, thermal = clouds()
    assert_close(divergence(factor * visible, factor * thermal), divergence(visible, thermal))


@cases("divergence", [centre_distance, gaussian_kl])
def test_gradients_are_those_of_finite_differences(divergence):
    leaves = [x.requires_grad_() for x in clouds(3, 2, (2,), 3)]
    assert torch.autograd.gradcheck(divergence, leaves)


@cases("divergence", DIVERGENCES)
def test_leading_axes_are_separate_terms(divergence):
    visible, thermal = clouds(leading=(2, 3))
    expected = torch.stack([divergence(v, t) for v, t in zip(visible, thermal, strict=True)])
    assert expected.shape == (2,)
    assert_close(divergence(visible, thermal), expected)


@cases("divergence", DIVERGENCES)
def test_moving_the_clouds_apart_raises_it(divergence):
    visible, thermal = clouds()
    assert divergence(visible, thermal + 2) > divergence(visible, thermal)

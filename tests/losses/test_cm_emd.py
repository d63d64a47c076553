import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.cases import cases
from tests.losses.generators import points_on_a_line, random_costs, seeded, shifted_clusters
from torch.testing import assert_close

from cmemd.errors import InputError
from cmemd.losses.alternatives import centre_distance, kernel_mmd
from cmemd.losses.cm_emd import (
    GROUND_DISTANCES,
    PAIR_DISTANCES,
    cloud_scale,
    cm_emd_loss,
    ground_cost,
    plan_saving,
    plan_sharpness,
    within_costs,
)
from cmemd.losses.transport import exact_plan


def clouds(identities=3, visible=4, thermal=4, dim=5, seed=0):
    """Return features of both modalities, (P, K, D) each, in float64."""
    generator = seeded(seed)
    shapes = (identities, visible, dim), (identities, thermal, dim)
    return tuple(torch.randn(*s, dtype=torch.float64, generator=generator) for s in shapes)


def loss_of(visible, thermal, distance="sqeuclidean"):
    return cm_emd_loss(ground_cost(visible, thermal, distance))


def pair_distance(v, t, distance):
    """Return the distance of two vectors, as a textbook writes it."""
    if distance == "cosine":
        return 1 - float(v @ t) / (math.sqrt(float(v @ v)) * math.sqrt(float(t @ t)))
    if distance == "manhattan":
        return sum(abs(float(x - y)) for x, y in zip(v, t, strict=True)) / math.sqrt(len(v))
    square = sum(float(x - y) ** 2 for x, y in zip(v, t, strict=True))
    return square if distance == "sqeuclidean" else math.sqrt(square)


# ---- ground distances


@cases("distance", GROUND_DISTANCES)
def test_ground_cost_is_the_distance_of_every_pair(distance):
    visible, thermal = clouds(2, 3, 4)
    cost = ground_cost(visible, thermal, distance)
    expected = [
        [[pair_distance(v, t, distance) for t in thermal[p]] for v in visible[p]] for p in range(2)
    ]
    assert_close(cost, torch.tensor(expected, dtype=torch.float64))


def test_ground_cost_by_hand():
    # v = (3, 0), t = (0, 4): |v - t|^2 = 9 + 16 = 25, |v - t| = 5, at a right angle.
    # v = (3, 0), t = (3, 0): 0, 0, 0.   v = (3, 0), t = (-1, 0): 16, 4, opposite.
    visible = torch.tensor([[3.0, 0.0]])
    thermal = torch.tensor([[0.0, 4.0], [3.0, 0.0], [-1.0, 0.0]])
    assert ground_cost(visible, thermal, "sqeuclidean").tolist() == [[25.0, 0.0, 16.0]]
    assert ground_cost(visible, thermal, "euclidean").tolist() == [[5.0, 0.0, 4.0]]
    assert ground_cost(visible, thermal, "cosine").tolist() == [[1.0, 0.0, 2.0]]
    manhattan = torch.tensor([[7.0, 0.0, 4.0]]) / 2**0.5  # (3 + 4, 0, 4) of two channels
    assert_close(ground_cost(visible, thermal, "manhattan"), manhattan)
    # Any two of the four images: 25, 0, 16; 25, 17; 16. The mean is 16.5.
    assert_close(cloud_scale(visible, thermal), torch.tensor([[16.5]]))
    kernels = [
        sum(math.exp(-d / (b * 16.5)) for b in (0.25, 0.5, 1, 2, 4)) / 5 for d in (25, 0, 16)
    ]
    expected = torch.tensor([[2 - 2 * k for k in kernels]])
    assert_close(ground_cost(visible, thermal, "kernel"), expected)


def looped_within(points, distance):
    return [[pair_distance(x, y, distance) for y in points] for x in points]


@cases("distance", GROUND_DISTANCES)
def test_costs_within_are_the_distances_of_a_modalitys_own_images(distance):
    visible, thermal = clouds(1, 3, 4)
    found = within_costs(visible, thermal, distance)
    for points, cost in zip((visible[0], thermal[0]), found, strict=True):
        assert_close(cost[0], torch.tensor(looped_within(points, distance), dtype=torch.float64))


def test_the_kernels_distance_is_below_2_and_blind_to_scale_and_shift():
    visible, thermal = clouds(3, 4, 5)
    cost = ground_cost(visible, thermal, "kernel")
    assert 0 < cost.min() < cost.max() < 2
    assert_close(ground_cost(7 * visible + 3, 7 * thermal + 3, "kernel"), cost)
    near = ground_cost(visible, visible + 1e-9, "kernel").diagonal(dim1=-2, dim2=-1)
    assert near.max() < 1e-9


def test_mmd_is_the_uniform_plan_less_that_within_each_modality_in_the_kernels_distance():
    visible, thermal = clouds(3, 4, 5)
    leaves = [x.requires_grad_() for x in (visible, thermal)]
    between = ground_cost(*leaves, "kernel").mean((1, 2))
    within = sum(cost.mean((1, 2)) for cost in within_costs(*leaves, "kernel"))
    loss = (between - within / 2).mean()
    expected = kernel_mmd(*leaves)
    assert_close(loss, expected)
    assert_close(torch.autograd.grad(loss, leaves), torch.autograd.grad(expected, leaves))


def test_the_centre_distance_is_the_same_in_the_squared_distance():
    visible, thermal = clouds(3, 4, 5)
    within = sum(cost.mean((1, 2)) for cost in within_costs(visible, thermal))
    loss = (ground_cost(visible, thermal).mean((1, 2)) - within / 2).mean()
    assert_close(loss, centre_distance(visible, thermal))


@cases("distance", ["chebyshev", "", None])
def test_an_unknown_distance_is_refused(distance):
    visible, thermal = clouds()
    with pytest.raises(InputError, match="ground distance"):
        ground_cost(visible, thermal, distance)


@cases("distance", GROUND_DISTANCES)
def test_ground_cost_stays_in_float32_under_autocast(distance):
    visible, thermal = (x.float() for x in clouds(dim=64))
    plain = ground_cost(visible, thermal, distance)
    with torch.autocast("cpu", torch.bfloat16):
        cost = ground_cost(visible, thermal, distance)
    assert cost.dtype == torch.float32
    assert torch.equal(cost, plain)


@cases("dtype", [torch.float16, torch.bfloat16])
@cases("distance", GROUND_DISTANCES)
def test_half_precision_features_give_float32_results(distance, dtype):
    visible, thermal = (x.to(dtype) for x in clouds())
    cost = ground_cost(visible, thermal, distance)
    assert cost.dtype == torch.float32
    assert torch.equal(cost, ground_cost(visible.float(), thermal.float(), distance))
    assert cm_emd_loss(cost).dtype == torch.float32


# ---- closed forms


def test_one_image_a_modality_gives_the_distance_of_the_pair():
    # identity 0: |(0, 0) - (3, 4)|^2 = 25; identity 1: |(1, 1) - (1, 3)|^2 = 4; mean 14.5
    visible = torch.tensor([[[0.0, 0.0]], [[1.0, 1.0]]])
    thermal = torch.tensor([[[3.0, 4.0]], [[1.0, 3.0]]])
    assert loss_of(visible, thermal).item() == 14.5


def test_two_images_a_modality_by_hand():
    # identity 0: straight 1/2 (1 + 4) = 2.5, crossed 1/2 (2 + 2) = 2    -> 2
    # identity 1: straight 1/2 (0 + 1) = 0.5, crossed 1/2 (5 + 3) = 4    -> 0.5
    # mean 1/2 (2 + 0.5) = 1.25
    cost = torch.tensor([[[1.0, 2.0], [2.0, 4.0]], [[0.0, 5.0], [3.0, 1.0]]])
    assert cm_emd_loss(cost).item() == 1.25


def test_one_image_against_many_by_hand():
    # All of v goes to each t in equal shares: 1/3 (1 + 4 + 16) = 7.
    visible = torch.zeros(1, 1, 1)
    thermal = torch.tensor([[[1.0], [-2.0], [4.0]]])
    assert_close(loss_of(visible, thermal), torch.tensor(7.0))


def test_unequal_numbers_of_images_by_hand():
    # v = 0, 10 hold 1/2 each; t = 0, 1, 2, 11 hold 1/4 each. v = 0 feeds two of t, v = 10 the
    # others: {0, 1}: 1/4 (0 + 1) + 1/4 (64 + 1) = 66/4 = 16.5. Any other split costs more:
    # {0, 2}: 1/4 (0 + 4 + 81 + 1) = 21.5, {1, 2}: 1/4 (1 + 4 + 100 + 1) = 26.5.
    visible = torch.tensor([[[0.0], [10.0]]])
    thermal = torch.tensor([[[0.0], [1.0], [2.0], [11.0]]])
    assert loss_of(visible, thermal).item() == 16.5


@cases("n", [1, 4, 8, 9])
def test_a_shifted_cloud_costs_the_squared_length_of_the_shift(n):
    problem = shifted_clusters(n)
    assert_close(cm_emd_loss(problem.cost), problem.value.mean())


@cases("n", [2, 8, 9])
def test_points_on_a_line_are_matched_in_order(n):
    problem = points_on_a_line(n)
    assert_close(cm_emd_loss(problem.cost), problem.value.mean())


@cases("distance", GROUND_DISTANCES)
def test_coinciding_clouds_cost_nothing_in_any_order(distance):
    cloud, _ = clouds(visible=6)
    order = torch.randperm(6, generator=seeded(1))
    loss = loss_of(cloud, cloud[:, order], distance)
    assert_close(loss, torch.zeros_like(loss), rtol=0, atol=1e-15)


@cases("distance", GROUND_DISTANCES)
def test_clouds_that_do_not_coincide_cost_something(distance):
    assert loss_of(*clouds(), distance) > 0.1


# ---- properties


@cases("distance", GROUND_DISTANCES)
@cases("counts", [(4, 4), (2, 6), (3, 4)])
def test_the_modalities_can_change_roles(distance, counts):
    visible, thermal = clouds(3, *counts)
    assert_close(loss_of(visible, thermal, distance), loss_of(thermal, visible, distance))


@cases("distance", GROUND_DISTANCES)
def test_the_order_of_images_and_of_identities_does_not_matter(distance):
    visible, thermal = clouds(visible=4, thermal=6)
    images = torch.randperm(4, generator=seeded(1)), torch.randperm(6, generator=seeded(2))
    identities = torch.tensor([2, 0, 1])
    moved = loss_of(visible[identities][:, images[0]], thermal[identities][:, images[1]], distance)
    assert_close(moved, loss_of(visible, thermal, distance))


@cases("distance", [distance for distance in PAIR_DISTANCES if distance != "manhattan"])
def test_rotating_the_feature_space_does_not_matter(distance):
    visible, thermal = clouds(dim=5)
    rotation = torch.linalg.qr(clouds(1, 5, 5)[0][0]).Q
    rotated = loss_of(visible @ rotation, thermal @ rotation, distance)
    assert_close(rotated, loss_of(visible, thermal, distance))


@cases("distance", GROUND_DISTANCES)
@cases("seed", range(5))
def test_it_is_at_most_the_uniform_plans_mean_distance(distance, seed):
    cost = ground_cost(*clouds(seed=seed), distance)
    assert cm_emd_loss(cost) < cost.mean()


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_it_is_between_0_and_the_mean_distance_for_every_input(data):
    # Few values, so that ties, repeated images and zeros are common.
    counts = [data.draw(st.integers(1, 5)) for _ in range(2)]
    numbers = st.sampled_from([0.0, 1.0, -1.0, 0.3, 1e-8, 1e6])
    visible, thermal = (
        torch.tensor(data.draw(st.lists(numbers, min_size=4 * k, max_size=4 * k))).view(2, k, 2)
        for k in counts
    )
    cost = ground_cost(
        visible.double(), thermal.double(), data.draw(st.sampled_from(GROUND_DISTANCES))
    )
    assert -1e-15 <= cm_emd_loss(cost) <= cost.mean() * (1 + 1e-12) + 1e-15


def test_leading_axes_are_separate_terms():
    cost = random_costs(6, 4, 4).view(2, 3, 4, 4)
    expected = torch.stack([cm_emd_loss(term) for term in cost])
    assert expected.shape == (2,)
    assert_close(cm_emd_loss(cost), expected)


def test_a_given_plan_is_used():
    cost = random_costs(3, 4, 4)
    uniform = torch.full_like(cost, 1 / 16)
    assert_close(cm_emd_loss(cost, uniform), cost.mean())


# ---- gradients


@cases(("n", "m"), [(1, 1), (4, 4), (2, 4), (3, 4), (9, 9)])
def test_the_gradient_by_the_cost_is_the_plan_over_the_number_of_identities(n, m):
    cost = random_costs(4, n, m).requires_grad_()
    cm_emd_loss(cost).backward()
    assert torch.equal(cost.grad, exact_plan(cost) / 4)


@cases("distance", GROUND_DISTANCES)
@cases("counts", [(1, 1), (4, 4), (2, 4), (3, 4)])
def test_the_gradient_is_that_of_finite_differences_where_the_plan_is_unique(distance, counts):
    visible, thermal = (x.requires_grad_() for x in clouds(2, *counts, dim=3))
    assert torch.autograd.gradcheck(lambda v, t: loss_of(v, t, distance), (visible, thermal))


def test_the_gradient_by_hand():
    # One identity, matching v0 = 0 -> t0 = 1, v1 = 5 -> t1 = 3; L = 1/2 (1 + 4).
    # dL/dv0 = 1/2 * 2 (0 - 1) = -1, dL/dv1 = 1/2 * 2 (5 - 3) = 2; for t the opposite.
    visible = torch.tensor([[[0.0], [5.0]]], requires_grad=True)
    thermal = torch.tensor([[[1.0], [3.0]]], requires_grad=True)
    loss_of(visible, thermal).backward()
    assert visible.grad.flatten().tolist() == [-1.0, 2.0]
    assert thermal.grad.flatten().tolist() == [1.0, -2.0]


def test_the_euclidean_gradient_at_distance_0_is_0():
    visible, _ = (x.requires_grad_() for x in clouds())
    loss_of(visible, visible.detach(), "euclidean").backward()
    assert torch.equal(visible.grad, torch.zeros_like(visible))


# ---- sharpness of plans


@cases(("n", "m"), [(2, 2), (4, 4), (2, 4), (3, 5)])
def test_the_uniform_plan_has_sharpness_0(n, m):
    plan = torch.full((3, n, m), 1 / (n * m), dtype=torch.float64)
    assert_close(plan_sharpness(plan).item(), 0.0, rtol=0, atol=1e-12)


@cases("n", [2, 4, 8])
def test_a_permutation_has_sharpness_1(n):
    assert_close(plan_sharpness(torch.eye(n).expand(2, 3, n, n) / n), torch.tensor(1.0))


def test_shares_along_single_edges_have_sharpness_1():
    # 2 x 4, each column fed by one row: 4 edges of 1/4.
    plan = torch.tensor([[1.0, 1, 0, 0], [0, 0, 1, 1]]) / 4
    assert_close(plan_sharpness(plan), torch.tensor(1.0))


def test_sharpness_by_hand():
    # 2 x 2 with 3/8, 1/8, 1/8, 3/8: sum of squares 20/64, uniform 16/64, permutation 32/64:
    # (20 - 16) / (32 - 16) = 1/4; averaged with a uniform plan 1/8.
    plan = torch.tensor([[[3.0, 1], [1, 3]], [[2.0, 2], [2, 2]]]) / 8
    assert_close(plan_sharpness(plan), torch.tensor(1 / 8))


@cases("shape", [(3, 1, 1), (3, 1, 5), (3, 5, 1)])
def test_a_single_image_of_a_modality_has_sharpness_0(shape):
    plan = torch.full(shape, 1 / (shape[1] * shape[2]))
    assert plan_sharpness(plan).item() == 0.0


def test_saving_by_hand():
    # 2 x 2: the matching costs (1 + 3) / 2 = 2, the uniform plan (1 + 5 + 7 + 3) / 4 = 4; with a
    # problem that costs 4 either way (2 + 4) / (4 + 4) is spent, a quarter saved.
    cost = torch.tensor([[[1.0, 5], [7, 3]], [[4.0, 4], [4, 4]]])
    assert_close(plan_saving(cost, exact_plan(cost)), torch.tensor(0.25))


@cases("value", [0.0, 3.0])
def test_nothing_is_saved_where_all_pairs_are_equally_far(value):
    cost = torch.full((2, 3, 3), value)
    assert plan_saving(cost, exact_plan(cost)).item() == pytest.approx(0, abs=1e-6)


def test_everything_is_saved_where_the_clouds_coincide():
    points = torch.tensor([[0.0, 0], [1, 0], [0, 1]])
    cost = ground_cost(points, points[[2, 0, 1]])[None]
    assert plan_saving(cost, exact_plan(cost)).item() == 1

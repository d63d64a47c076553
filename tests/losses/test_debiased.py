"""CM-EMD minus the transport within each modality."""

from itertools import permutations

import cmemd.compat  # noqa: F401  before torch and fastreid

import pytest
import torch
from tests.cases import cases
from tests.losses.generators import random_costs
from tests.losses.test_alignment import batch_of_features, named, terms
from tests.losses.test_cm_emd import clouds, pair_distance
from torch.testing import assert_close

from cmemd.data.grouping import IdentityRows
from cmemd.errors import InputError
from cmemd.losses.alignment import DebiasedAlignment, PairAlignment
from cmemd.losses.cm_emd import GROUND_DISTANCES
from cmemd.losses.debiased import debiased_transport, within_ratio
from cmemd.losses.transport import exact, exact_plan, plan_to_others

# ---- plans to other points


def least_to_others(cost):
    """Return the least mean cost over all matchings without fixed points, of (K, K) numbers."""
    size = len(cost)
    return min(
        sum(float(cost[i][j]) for i, j in enumerate(columns)) / size
        for columns in permutations(range(size))
        if all(i != j for i, j in enumerate(columns))
    )


def test_a_plan_to_others_by_hand():
    # points 0, 1, 5: squares 1, 16, 25. The only matchings without fixed points are the two cycles
    # 0 -> 1 -> 2 -> 0 and back, which cost 1/3 (1 + 16 + 25) = 14.
    points = torch.tensor([0.0, 1.0, 5.0])
    cost = (points[:, None] - points).square()[None]
    plan = plan_to_others(cost)
    assert plan.diagonal(dim1=1, dim2=2).eq(0).all()
    assert_close((plan * cost).sum(), torch.tensor(14.0))
    # two pairs of close points: each point goes to its neighbour, 1/4 (1 + 1 + 4 + 4) = 2.5
    points = torch.tensor([0.0, 1.0, 50.0, 52.0])
    cost = (points[:, None] - points).square()[None]
    expected = torch.eye(4)[[1, 0, 3, 2]][None] / 4
    assert torch.equal(plan_to_others(cost), expected)


@cases("on_host", [True, False])
@cases("factor", [1e-30, 1.0, 1e30])
@cases("size", [2, 3, 4, 5, 6])
def test_it_is_the_best_of_all_matchings_without_fixed_points(size, factor, on_host):
    cost = factor * random_costs(5, size, size)
    with pytest.MonkeyPatch.context() as patch:
        if not on_host:  # the solver of a GPU
            patch.setattr(exact, "_lapx", lambda: None)
        plan = plan_to_others(cost)
    assert plan.diagonal(dim1=1, dim2=2).eq(0).all()
    for axis in (1, 2):
        assert_close(plan.sum(axis), torch.full((5, size), 1 / size, dtype=torch.float64))
    expected = [factor * least_to_others(one / factor) for one in cost]
    values = (plan * cost).sum((1, 2))
    assert_close(values, torch.tensor(expected, dtype=torch.float64), rtol=1e-12, atol=0)


def test_the_diagonal_is_not_read():
    cost = random_costs(3, 4, 4)
    dear = cost + 100 * torch.eye(4)
    assert torch.equal(plan_to_others(dear), plan_to_others(cost))


@cases("value", [0.0, 3.0])
def test_equal_costs_have_a_plan_to_others_too(value):
    plan = plan_to_others(torch.full((2, 4, 4), value))
    assert plan.diagonal(dim1=1, dim2=2).eq(0).all()
    assert_close(plan.sum(1), torch.full((2, 4), 0.25))


def test_one_point_has_no_other_and_two_sets_no_diagonal():
    assert torch.equal(plan_to_others(torch.ones(3, 1, 1)), torch.zeros(3, 1, 1))
    with pytest.raises(InputError, match=r"cost \(B, K, K\) .* use exact_plan between two sets"):
        plan_to_others(torch.ones(3, 2, 4))


# ---- the loss


def test_the_debiased_transport_by_hand():
    # identity 0: between 5, within 2 and 4: 5 - 0.5 (2 + 4) / 2 = 3.5; identity 1: 1 - 0.5 * 3 < 0
    between = torch.tensor([5.0, 1.0])
    visible, thermal = torch.tensor([2.0, 6.0]), torch.tensor([4.0, 0.0])
    values = [
        debiased_transport(between, visible, thermal, share, clamp).item()
        for share in (0.0, 0.5, 1.0)
        for clamp in (False, True)
    ]
    #                 3, 3        (3.5 - 0.5) / 2, 3.5 / 2     (2 - 2) / 2, 2 / 2
    assert values == [3.0, 3.0, 1.5, 1.75, 0.0, 1.0]
    assert within_ratio(between, visible, thermal) == 1.0  # (8 + 4) / 2 / 6
    assert within_ratio(*torch.zeros(3, 2)) == 0


def test_the_module_by_hand():
    # visible 0, 1; thermal 3, 5. Between: straight (9 + 16) / 2 = 12.5, crossed 14.5.
    # Within: 1 and 4. 12.5 - 0.5 (1 + 4) / 2 = 11.25. The plan pairs 0 with 3 and 1 with 5; so
    # d/dv0 = -(3 - 0) - 0.5 d/dv0 (v0 - v1)^2 / 2 = -3 - 0.5 (0 - 1) = -2.5
    # d/dv1 = -(5 - 1) - 0.5 (1 - 0) = -4.5, d/dt0 = 3 + 0.5 * 2 = 4, d/dt1 = 4 - 0.5 * 2 = 3
    feature = torch.tensor([0.0, 1.0, 3.0, 5.0]).view(4, 1, 1).requires_grad_()
    rows = IdentityRows(torch.tensor([[0, 1]]), torch.tensor([[2, 3]]))
    output = named("cm_emd_debiased", NORMALIZE=False)({"global": feature}, rows)
    output.terms["global"].backward()
    assert output.terms["global"].item() == 11.25
    assert feature.grad.flatten().tolist() == [-2.5, -4.5, 4.0, 3.0]
    assert_close(output.watched["within_ratio"].item(), 2.5 / 12.5)


@cases("distance", GROUND_DISTANCES)
@cases("counts", [(4, 4), (2, 3), (1, 3), (1, 1)])
@cases("clamp", [False, True])
def test_it_is_a_plain_loop_over_features_and_identities(distance, counts, clamp):
    features, rows = batch_of_features(*counts)
    found = named("cm_emd_debiased", DISTANCE=distance, SHARE=0.7, CLAMP=clamp)(features, rows)
    for name, feature in features.items():
        total = 0.0
        for f in range(feature.shape[1]):
            unit = [x / x.square().sum().sqrt() for x in feature[:, f]]
            for own in zip(*rows, strict=True):
                apart, cost, _, others = (
                    [[pair_distance(unit[i], unit[j], distance) for j in second] for i in first]
                    for first in own
                    for second in own
                )
                within = [least_to_others(x) if len(x) > 1 else 0.0 for x in (apart, others)]
                cost = torch.tensor(cost, dtype=torch.float64)
                between = float((exact_plan(cost[None])[0] * cost).sum())
                value = between - 0.7 * sum(within) / 2
                total += (max(value, 0.0) if clamp else value) / 3
        assert_close(found.terms[name].item(), total, rtol=1e-10, atol=1e-12)


@cases("distance", GROUND_DISTANCES)
@cases("counts", [(4, 4), (2, 3)])
@cases("clamp", [False, True])
def test_its_gradient_is_that_of_finite_differences(distance, counts, clamp):
    features, rows = batch_of_features(*counts)
    loss = named("cm_emd_debiased", DISTANCE=distance, SHARE=0.8, CLAMP=clamp)
    leaf = features["local"].clone().requires_grad_()
    assert torch.autograd.gradcheck(lambda x: terms(loss({"local": x}, rows))["local"], leaf)


def gradients(loss, features, rows):
    leaves = {name: feature.clone().requires_grad_() for name, feature in features.items()}
    output = loss(leaves, rows)
    grads = torch.autograd.grad(sum(output.terms.values()), list(leaves.values()))
    return output, torch.cat([g.flatten() for g in grads])


def test_a_share_of_0_is_cm_emd_and_so_is_the_gradient_if_none_flows_within():
    features, rows = batch_of_features()
    plain, expected = gradients(PairAlignment(), features, rows)
    for clamp in (False, True):
        output, gradient = gradients(DebiasedAlignment(PairAlignment(), 0.0, clamp), features, rows)
        assert output.terms == plain.terms
        assert torch.equal(gradient, expected)
    constant, gradient = gradients(
        DebiasedAlignment(PairAlignment(), 0.5, within_gradient=False), features, rows
    )
    assert_close(gradient, expected)
    flowing, other = gradients(DebiasedAlignment(PairAlignment(), 0.5), features, rows)
    assert constant.terms == flowing.terms
    assert (other - expected).norm() > 0.1 * expected.norm()


def test_coinciding_clouds_are_below_0_and_a_clamp_ends_there_without_a_gradient():
    features, rows = batch_of_features()
    for feature in features.values():
        feature[rows.thermal[:, [2, 0, 3, 1]]] = feature[rows.visible]
    output, gradient = gradients(DebiasedAlignment(PairAlignment()), features, rows)
    assert all(term < -0.1 for term in output.terms.values())
    assert gradient.norm() > 0.1
    output, gradient = gradients(DebiasedAlignment(PairAlignment(), clamp=True), features, rows)
    assert all(term == 0 for term in output.terms.values())
    assert gradient.norm() == 0


@cases("share", [0.0, 0.5, 1.0])
def test_contracting_an_identity_scales_the_loss_so_the_gradient_contracts_by_its_sign(share):
    # With squared distances and features c + s x the loss is s^2 L, of slope 2 L at s = 1.
    features, rows = batch_of_features()
    feature = features["global"]
    loss = DebiasedAlignment(PairAlignment(normalize=False), share)
    centres = torch.empty_like(feature)
    for own in rows.both:
        centres[own] = feature[own].mean(0)
    factor = torch.ones((), dtype=torch.float64, requires_grad=True)
    moved = loss({"x": centres + factor * (feature - centres)}, rows).terms["x"]
    (slope,) = torch.autograd.grad(moved, factor)
    assert_close(slope, 2 * moved.detach())
    half = loss({"x": centres + 0.5 * (feature - centres)}, rows).terms["x"]
    assert_close(half, moved.detach() / 4)


def test_of_one_distribution_within_is_what_between_is_and_a_gap_shows_beyond_it():
    values = {}
    for shift in (0.0, 3.0):
        visible, thermal = clouds(identities=400, visible=8, thermal=8, dim=32)
        thermal = thermal + shift / 32**0.5
        feature = torch.cat((visible, thermal), 1).flatten(0, 1)[:, None]
        rows = torch.arange(400 * 16).view(400, 16)
        loss = DebiasedAlignment(PairAlignment(normalize=False), 1.0)
        values[shift] = loss({"x": feature}, IdentityRows(rows[:, :8], rows[:, 8:]))
    assert abs(values[0.0].watched["within_ratio"] - 1) < 0.06
    # the shift alone adds its square
    gain = values[3.0].terms["x"] - values[0.0].terms["x"]
    assert_close(gain.item(), 9.0, rtol=0.1, atol=0)


@cases("counts", [(4, 4), (2, 3)])
def test_in_the_squared_distance_every_uniform_plan_moves_the_centres_alike(counts):
    features, rows = batch_of_features(*counts)
    feature = features["global"]
    centres = [feature[side].mean(1) for side in rows]  # (P, 1, D)
    for name in ("uniform", "cm_emd", "sinkhorn", "centre", "cm_emd_debiased"):
        leaf = feature.clone().requires_grad_()
        loss = terms(named(name, NORMALIZE=False)({"x": leaf}, rows))["x"]
        (gradient,) = torch.autograd.grad(loss, leaf)
        for side, own, other in ((0, *centres), (1, *centres[::-1])):
            expected = 2 * (own - other) / (3 * counts[side])
            assert_close(gradient[rows[side]].mean(1), expected, msg=name)


def test_cm_emd_contracts_an_identity_without_a_gap_and_the_centre_distance_and_mmd_do_not():
    # The step's change of the variance within, relative to it. Uniform weights by hand: a step of
    # 2 (c_t - v) / (P K) for each image takes 4 / (P K) of the variance.
    visible, thermal = clouds(identities=40, visible=4, thermal=4, dim=16)
    changes = {}
    for name, options in (
        ("uniform", {}),
        ("cm_emd", {}),
        ("cm_emd_debiased", {"SHARE": 0.5}),
        ("cm_emd_debiased", {"SHARE": 1.0}),
        ("centre", {}),
        ("mmd", {}),
    ):
        leaf = torch.cat((visible, thermal), 1).flatten(0, 1)[:, None].requires_grad_()
        rows = torch.arange(40 * 8).view(40, 8)
        rows = IdentityRows(rows[:, :4], rows[:, 4:])
        loss = terms(named(name, NORMALIZE=False, **options)({"x": leaf}, rows))["x"]
        step = -torch.autograd.grad(loss, leaf)[0][:, 0]
        around = torch.cat([x - x.mean(1, keepdim=True) for x in (visible, thermal)])
        steps = torch.cat([step[side] for side in rows])
        key = name, options.get("SHARE")
        changes[key] = (2 * (around * steps).sum() / around.square().sum()).item()
    uniform = changes.pop(("uniform", None))
    assert_close(uniform, -4 / (40 * 4))
    shares = {key: change / uniform for key, change in changes.items()}
    assert 0.7 < shares["cm_emd", None] < 1
    assert 0 < shares["cm_emd_debiased", 0.5] < shares["cm_emd", None] / 2
    assert shares["cm_emd_debiased", 1.0] < 0  # it stretches
    assert abs(shares["centre", None]) < 1e-12
    assert abs(shares["mmd", None]) < 0.1


@cases("share", [-0.1, 1.1, float("nan")])
def test_a_share_out_of_range_is_refused(share):
    with pytest.raises(InputError, match=r"MODEL\.LOSSES\.ALIGN\.SHARE in \[0, 1\]"):
        named("cm_emd_debiased", SHARE=share)

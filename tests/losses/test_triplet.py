import math

import cmemd.compat  # noqa: F401  before fastreid

import pytest
import torch
from fastreid.modeling.losses import triplet_loss as fastreids
from fastreid.modeling.losses.triplet_loss import hard_example_mining
from fastreid.modeling.losses.utils import cosine_dist, euclidean_dist
from tests.cases import cases
from tests.losses.generators import seeded
from torch.testing import assert_close

from cmemd.errors import InputError
from cmemd.losses.triplet import (
    TripletLoss,
    WeightedTripletLoss,
    cosine_distance,
    euclidean_distance,
    triplet_loss,
    weighted_triplet_loss,
)

TARGETS = torch.tensor([3, 1, 1, 3, 2, 2, 3, 1])
LINE = torch.tensor([[0.0], [1.0], [10.0], [13.0]], dtype=torch.float64)  # identities 0, 0, 1, 1
OPTIONS = [(m, n, h) for m in (0.0, 0.3) for n in (True, False) for h in (True, False)]


def features_of(scale=1.0, dim=5):
    return scale * torch.randn(8, dim, dtype=torch.float64, generator=seeded(0))


def line_loss(margin, hard):
    return triplet_loss(LINE, torch.tensor([0, 0, 1, 1]), margin, False, hard).item()


def test_hard_triplets_by_hand():
    # anchors 0, 1, 10, 13: d_ap 1, 1, 3, 3; d_an 10, 9, 9, 12; d_ap - d_an -9, -8, -6, -9
    # margin 8: 0, 0, 2, 0 -> 2/4
    assert_close(line_loss(8.0, True), 0.5, rtol=1e-5, atol=0)
    soft = sum(math.log1p(math.exp(-x)) for x in (9, 8, 6, 9)) / 4
    assert_close(line_loss(0.0, True), soft, rtol=1e-5, atol=0)


def test_weighted_triplets_by_hand():
    # d_ap is a mean of (0, 1) or (0, 3) under softmax(d); d_an one of (10, 13), (9, 12), (10, 9),
    # (13, 12) under softmax(-d): 10 + 3 u, 9 + 3 u, 9 + w, 12 + w with u = 1 / (1 + e^3),
    # w = 1 / (1 + e)
    u, w = 1 / (1 + math.e**3), 1 / (1 + math.e)
    near, far = 1 - w, 3 * (1 - u)  # e / (1 + e) and 3 e^3 / (1 + e^3)
    gaps = near - 10 - 3 * u, near - 9 - 3 * u, far - 9 - w, far - 12 - w
    expected = sum(max(0.0, 8 + gap) for gap in gaps) / 4
    assert expected > 0
    assert_close(line_loss(8.0, False), expected, rtol=1e-5, atol=0)
    soft = sum(math.log1p(math.exp(gap)) for gap in gaps) / 4
    assert_close(line_loss(0.0, False), soft, rtol=1e-5, atol=0)


@cases(("margin", "normalize", "hard"), OPTIONS)
def test_near_features_have_fastreids_value(margin, normalize, hard):
    # up to the 1e-6 that its weights' denominators hold
    features = features_of(0.3)
    expected = fastreids(features, TARGETS, margin, normalize, hard)
    assert_close(
        triplet_loss(features, TARGETS, margin, normalize, hard), expected, rtol=1e-4, atol=1e-9
    )


@cases("normalize", [True, False])
@cases("scale", [0.0, 0.3, 1.0, 30.0])
def test_distances_and_hard_mining_are_fastreids_bit_for_bit(scale, normalize):
    ours, theirs = (features_of(scale, 64).float().requires_grad_() for _ in ("ours", "theirs"))
    distance = cosine_distance if normalize else euclidean_distance
    oracle = cosine_dist if normalize else euclidean_dist
    assert torch.equal(distance(ours, ours[:5]), oracle(theirs, theirs[:5]))
    same = TARGETS[:, None] == TARGETS
    d_ap, d_an = hard_example_mining(oracle(theirs, theirs), same.float(), (~same).float())
    expected = (0.3 + (d_ap - d_an)).relu().mean()
    loss = triplet_loss(ours, TARGETS, 0.3, normalize, True)
    assert torch.equal(loss, expected)
    for value in (loss, expected):
        value.backward()
    assert torch.equal(ours.grad, theirs.grad)


@cases("scale", [30.0, 1e3])
def test_far_features_have_weights_too_where_fastreids_vanish(scale):
    # Distances scale, so one much above the others takes all the weight: hard mining's value.
    features = features_of(scale)
    assert_close(
        triplet_loss(features, TARGETS, 0.3, False, False) / scale,
        triplet_loss(features, TARGETS, 0.3, False, True) / scale,
        rtol=0.2,
        atol=0,
    )
    other = fastreids(features, TARGETS, 0.3, False, False) / scale
    assert other > 1.5 * triplet_loss(features, TARGETS, 0.3, False, True) / scale


@cases(("margin", "normalize", "hard"), OPTIONS)
def test_the_gradient_is_that_of_finite_differences(margin, normalize, hard):
    # but for an image's distance to itself, 1e-6 by fast-reid's clamp
    features = features_of().requires_grad_()
    assert torch.autograd.gradcheck(
        lambda x: triplet_loss(x, TARGETS, margin, normalize, hard),
        (features,),
        eps=1e-7,
        atol=1e-4,
    )


@cases(("margin", "normalize", "hard"), OPTIONS)
def test_neither_the_order_of_images_nor_a_rotation_matters(margin, normalize, hard):
    features = features_of()
    order = torch.randperm(8, generator=seeded(1))
    rotation = torch.linalg.qr(features_of()[:5]).Q
    before = triplet_loss(features, TARGETS, margin, normalize, hard)
    moved = triplet_loss((features @ rotation)[order], TARGETS[order], margin, normalize, hard)
    assert_close(moved, before, rtol=1e-5, atol=1e-6)


@cases(("margin", "normalize", "hard"), OPTIONS)
@cases("value", [0.0, 0.3])
def test_identical_features_cost_the_margin_and_have_a_finite_gradient(
    margin, normalize, hard, value
):
    features = torch.full((8, 5), value, requires_grad=True)
    loss = triplet_loss(features, TARGETS, margin, normalize, hard)
    loss.backward()
    assert_close(loss.item(), margin or math.log(2), rtol=0, atol=2e-3)
    assert features.grad.isfinite().all()


@cases(("margin", "normalize", "hard"), OPTIONS)
def test_one_identity_has_value_0_and_gradient_0(margin, normalize, hard):
    features = features_of().requires_grad_()
    loss = triplet_loss(features, torch.zeros(8), margin, normalize, hard)
    loss.backward()
    assert loss.item() == 0
    assert torch.equal(features.grad, torch.zeros_like(features))


@cases("scale", [1.0, 1e4])
@cases("hard", [True, False])
def test_the_soft_margin_is_finite_however_wrong_the_order(scale, hard):
    targets = torch.tensor([0, 1, 0, 1])
    features = (scale * LINE).float().requires_grad_()
    loss = triplet_loss(features, targets, 0.0, False, hard)
    loss.backward()
    assert loss.isfinite()
    assert features.grad.isfinite().all()
    assert features.grad.norm() > 0


@cases("dtype", [torch.float16, torch.bfloat16])
@cases(("margin", "normalize", "hard"), OPTIONS)
def test_half_precision_and_autocast_are_computed_in_float32(margin, normalize, hard, dtype):
    half = features_of(dim=64).to(dtype)
    plain = triplet_loss(half.float(), TARGETS, margin, normalize, hard)
    assert plain.dtype == torch.float32
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(triplet_loss(half, TARGETS, margin, normalize, hard), plain)
        assert torch.equal(triplet_loss(half.float(), TARGETS, margin, normalize, hard), plain)


def test_the_module_keeps_its_options():
    for options in OPTIONS:
        expected = triplet_loss(features_of(), TARGETS, *options)
        assert torch.equal(TripletLoss(*options)(features_of(), TARGETS), expected)


@cases("margin", [-0.1, float("nan")])
def test_a_negative_margin_is_refused(margin):
    with pytest.raises(InputError, match=r"expected MODEL\.LOSSES\.TRI\.MARGIN of at least 0"):
        TripletLoss(margin)


# ---- the weighted regularised triplet loss


def looped_gaps(features, targets):
    """Return each anchor's gap in plain loops."""
    gaps = []
    for a in range(len(features)):
        near = {True: [], False: []}
        for b in range(len(features)):
            square = (features[a] - features[b]).square().sum()
            near[bool(targets[a] == targets[b])].append(square.clamp(min=1e-12).sqrt())
        p, n = torch.stack(near[True]), torch.stack(near[False])
        gap = (p * p.exp()).sum() / p.exp().sum() - (n * (-n).exp()).sum() / (-n).exp().sum()
        gaps.append(gap)
    return gaps


def test_weighted_regularised_triplets_by_hand():
    # One channel: identities {0, 3}, {1, 1}. w = softmax. Distances of 0 are 1e-6.
    # anchor 0: p 0, 3; n 1, 1 -> 3 e^3 / (1 + e^3) - 1; anchor 3: the same but n 2, 2 -> - 2
    # anchors 1: p 0, 0; n 1, 2 -> 0 - (1 e^-1 + 2 e^-2) / (e^-1 + e^-2)
    features = torch.tensor([[0.0], [3.0], [1.0], [1.0]], dtype=torch.float64)
    far = 3 * math.e**3 / (1 + math.e**3)
    near = (1 + 2 / math.e) / (1 + 1 / math.e)
    gaps = [far - 1, far - 2, -near, -near]
    targets = torch.tensor([0, 0, 1, 1])
    plain = sum(math.log1p(math.exp(g)) for g in gaps) / 4
    squared = sum(math.log1p(math.exp(math.copysign(g * g, g))) for g in gaps) / 4
    assert_close(weighted_triplet_loss(features, targets).item(), plain, rtol=1e-5, atol=0)
    value = weighted_triplet_loss(features, targets, True).item()
    assert_close(value, squared, rtol=1e-5, atol=0)


@cases("squared", [False, True])
@cases("targets", [TARGETS, torch.tensor([0, 1, 1, 1, 1, 1, 1, 2])])  # also one image alone
def test_weighted_triplets_and_their_gradient_are_those_of_plain_loops(squared, targets):
    ours, theirs = (features_of().requires_grad_() for _ in ("ours", "theirs"))
    gaps = looped_gaps(theirs, targets)
    expected = sum(((g * g.abs() if squared else g).exp() + 1).log() for g in gaps) / len(gaps)
    loss = weighted_triplet_loss(ours, targets, squared)
    assert_close(loss, expected, rtol=1e-5, atol=1e-8)
    for value in (loss, expected):
        value.backward()
    assert_close(ours.grad, theirs.grad, rtol=1e-4, atol=1e-6)


@cases("squared", [False, True])
def test_the_gradient_of_weighted_triplets_is_that_of_finite_differences(squared):
    features = features_of().requires_grad_()
    assert torch.autograd.gradcheck(
        lambda x: weighted_triplet_loss(x, TARGETS, squared), (features,), eps=1e-7, atol=1e-4
    )


@cases("squared", [False, True])
def test_degenerate_weighted_triplets_are_finite(squared):
    one = features_of().requires_grad_()
    loss = weighted_triplet_loss(one, torch.zeros(8), squared)
    loss.backward()
    assert loss.item() == 0
    assert torch.equal(one.grad, torch.zeros_like(one))
    for scale in (0.0, 1e4):  # identical features; distances whose exponential overflows
        features = features_of(scale).float().requires_grad_()
        loss = weighted_triplet_loss(features, TARGETS, squared)
        loss.backward()
        assert loss.isfinite(), scale
        assert features.grad.isfinite().all(), scale
    assert_close(weighted_triplet_loss(0 * one, TARGETS, squared).item(), math.log(2))


@cases("squared", [False, True])
@cases("dtype", [torch.float16, torch.bfloat16])
def test_weighted_triplets_are_computed_in_float32(squared, dtype):
    half = features_of(dim=64).to(dtype)
    with torch.autocast("cpu", torch.bfloat16):
        loss = weighted_triplet_loss(half, TARGETS, squared)
    assert torch.equal(loss, weighted_triplet_loss(half.float(), TARGETS, squared))


def test_the_plain_form_is_the_soft_triplet_loss_and_the_module_keeps_its_option():
    features = features_of()
    plain = WeightedTripletLoss()(features, TARGETS)
    assert torch.equal(plain, triplet_loss(features, TARGETS, 0.0, False, False))
    squared = WeightedTripletLoss(squared=True)(features, TARGETS)
    assert torch.equal(squared, weighted_triplet_loss(features, TARGETS, True))
    assert squared != plain

import math

import pytest
import torch
from tests.cases import cases
from tests.losses.generators import seeded
from torch.nn import functional
from torch.testing import assert_close

from cmemd.errors import InputError
from cmemd.losses.identity import IdentityLoss, identity_loss

TARGETS = torch.tensor([4, 0, 2, 2, 1])


def logits_of(features, images=5, classes=6):
    return torch.randn(images, features, classes, dtype=torch.float64, generator=seeded(features))


def test_two_images_and_two_features_by_hand():
    # Logits (ln 3, 0) give probabilities 3/4, 1/4; (0, 0) give 1/2, 1/2.
    # feature 0: image 0 has target 0: -ln 3/4; image 1 has target 1: -ln 1/4
    # feature 1: ln 2 for both. Means: 1/2 (ln 4/3 + ln 4) and ln 2; summed.
    sure, unsure = [math.log(3), 0.0], [0.0, 0.0]
    logits = torch.tensor([[sure, unsure], [sure, unsure]], dtype=torch.float64)
    expected = (math.log(4 / 3) + math.log(4)) / 2 + math.log(2)
    assert_close(identity_loss(logits, torch.tensor([0, 1])).item(), expected)


@cases("features", [1, 3, 6])
@cases("label_smoothing", [0.0, 0.1, 1.0])
def test_it_is_a_plain_sum_of_cross_entropies_over_features(features, label_smoothing):
    logits = logits_of(features)
    expected = sum(
        functional.cross_entropy(logits[:, f], TARGETS, label_smoothing=label_smoothing)
        for f in range(features)
    )
    assert_close(identity_loss(logits, TARGETS, label_smoothing), expected)


@cases("label_smoothing", [0.0, 0.1])
def test_the_gradient_is_that_of_finite_differences(label_smoothing):
    logits = logits_of(2).requires_grad_()
    assert torch.autograd.gradcheck(lambda x: identity_loss(x, TARGETS, label_smoothing), (logits,))


def test_a_constant_added_to_an_images_logits_does_not_matter():
    logits = logits_of(3)
    shifted = logits + torch.arange(15.0).view(5, 3, 1)
    assert_close(identity_loss(shifted, TARGETS), identity_loss(logits, TARGETS))


def test_the_order_of_images_and_of_features_does_not_matter():
    logits = logits_of(3)
    order = torch.tensor([3, 1, 4, 0, 2])
    moved = identity_loss(logits[order][:, [2, 0, 1]], TARGETS[order])
    assert_close(moved, identity_loss(logits, TARGETS))


@cases("features", [1, 4])
def test_equal_logits_cost_the_log_of_the_number_of_identities_each_feature(features):
    logits = torch.zeros(5, features, 6, dtype=torch.float64)
    assert_close(identity_loss(logits, TARGETS).item(), features * math.log(6))


def test_huge_logits_have_a_finite_value_and_gradient():
    logits = (1e4 * logits_of(2).float()).requires_grad_()
    loss = identity_loss(logits, TARGETS)
    loss.backward()
    assert loss.isfinite()
    assert logits.grad.isfinite().all()


def test_one_identity_to_classify_costs_nothing():
    assert identity_loss(torch.randn(3, 2, 1), torch.zeros(3, dtype=torch.long)).item() == 0.0


def test_the_module_gives_each_granularity_its_own_term():
    logits = {"global": logits_of(1), "local": logits_of(3)}
    losses = IdentityLoss(0.1)(logits, TARGETS)
    assert_close(losses, {k: identity_loss(v, TARGETS, 0.1) for k, v in logits.items()})


@cases("label_smoothing", [-0.1, 1.1, float("nan")])
def test_a_label_smoothing_outside_0_to_1_is_refused(label_smoothing):
    with pytest.raises(InputError, match=r"expected MODEL\.LOSSES\.CE\.EPSILON in \[0, 1\], got "):
        IdentityLoss(label_smoothing)

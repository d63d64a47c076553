import pytest
import torch
from tests.cases import cases
from tests.losses.generators import seeded
from torch.testing import assert_close

from cmemd.data.grouping import IdentityRows
from cmemd.errors import InputError
from cmemd.losses.cm_dl import CMDLLoss, cm_dl_loss


def features_of(identities=4, images=6, dim=5, seed=0):
    shape = (identities, images, dim)
    return torch.randn(*shape, dtype=torch.float64, generator=seeded(seed))


def test_two_identities_on_a_line_by_hand():
    # identity 0: 0, 2 -> centre 1; identity 1: 8, 12 -> centre 10; their centre 5.5
    # S_intra = 1/4 (1 + 1 + 4 + 4) = 2.5, S_inter = 1/2 (4.5^2 + 4.5^2) = 20.25
    # L = 2.5 / (20.25 + eps 22.75): 0.1234... at eps = 0+, 2.5 / 43 at eps = 1
    features = torch.tensor([[[0.0], [2.0]], [[8.0], [12.0]]], dtype=torch.float64)
    assert_close(cm_dl_loss(features, 1e-6).item(), 2.5 / (20.25 + 22.75e-6))
    assert_close(cm_dl_loss(features, 1.0).item(), 2.5 / 43)


def test_it_is_the_ratio_that_plain_loops_give():
    features, eps = features_of(), 1e-3
    centres = [sum(own) / len(own) for own in features]
    centre = sum(centres) / len(centres)
    intra = sum(
        ((image - c) ** 2).sum().item()
        for own, c in zip(features, centres, strict=True)
        for image in own
    ) / (4 * 6)
    inter = sum(((c - centre) ** 2).sum().item() for c in centres) / 4
    assert_close(cm_dl_loss(features, eps).item(), intra / (inter + eps * (intra + inter)))


@cases("eps", [1e-6, 1e-2])
def test_the_gradient_is_that_of_finite_differences(eps):
    features = features_of(3, 4, 3).requires_grad_()
    assert torch.autograd.gradcheck(lambda x: cm_dl_loss(x, eps), (features,))


@cases("factor", [1e-3, 5.0, -2.0, 1e4])
def test_scale_does_not_matter(factor):
    assert_close(cm_dl_loss(factor * features_of()), cm_dl_loss(features_of()))


def test_neither_shifts_nor_rotations_matter():
    features = features_of()
    rotation = torch.linalg.qr(features_of(1, 5, 5)[0]).Q
    assert_close(cm_dl_loss(features + torch.arange(5.0)), cm_dl_loss(features))
    assert_close(cm_dl_loss(features @ rotation), cm_dl_loss(features))


def test_a_shift_does_not_change_the_gradient():
    features = features_of()
    gradients = []
    for shift in (0.0, 3.0):
        leaf = (features + shift).requires_grad_()
        cm_dl_loss(leaf).backward()
        gradients.append(leaf.grad)
    assert_close(*gradients)
    # Shift invariance says that the gradient by the shift is 0.
    assert_close(gradients[0].sum((0, 1)), torch.zeros(5, dtype=torch.float64), rtol=0, atol=1e-12)


def test_the_order_of_images_and_of_identities_does_not_matter():
    features = features_of()
    moved = features[torch.tensor([2, 0, 3, 1])][:, torch.tensor([5, 1, 0, 2, 4, 3])]
    assert_close(cm_dl_loss(moved), cm_dl_loss(features))


def test_moving_identities_apart_lowers_it_and_spreading_their_images_raises_it():
    features = features_of()
    centres = features.mean(1, keepdim=True)
    assert cm_dl_loss(features + centres) < cm_dl_loss(features)
    assert cm_dl_loss(2 * features - centres) > cm_dl_loss(features)


@cases("identities", [2, 5])
def test_one_image_repeated_for_each_identity_gives_0(identities):
    features = features_of(identities, 1).expand(-1, 4, -1)
    assert_close(cm_dl_loss(features).item(), 0.0, rtol=0, atol=1e-30)


@cases("images", [1, 6])
def test_a_single_identity_has_value_0_and_gradient_0(images):
    features = features_of(1, images).requires_grad_()
    loss = cm_dl_loss(features)
    loss.backward()
    assert loss.item() == 0.0
    assert torch.equal(features.grad, torch.zeros_like(features))


@cases("dtype", [torch.float64, torch.float32, torch.bfloat16])
@cases("identities", [1, 2, 6])
@cases("images", [2, 3, 10])
def test_identical_features_have_value_0_and_gradient_0(identities, images, dtype):
    # Random ones: the mean of copies of 0 or 1 is exact, that of copies of 0.3 may be a bit off.
    one = torch.randn(64, dtype=torch.float64, generator=seeded(images)).to(dtype)
    features = one.expand(identities, images, 64).clone().requires_grad_()
    loss = cm_dl_loss(features)
    loss.backward()
    assert loss.item() == 0.0
    assert torch.equal(features.grad, torch.zeros_like(features))


@cases("eps", [1e-6, 1e-2])
def test_coinciding_centres_give_the_bound_and_a_finite_gradient(eps):
    # Both identities hold +1 and -1 along every axis: centres 0, S_inter = 0, L = 1 / eps.
    cloud = torch.cat((torch.eye(3), -torch.eye(3)))
    features = cloud.repeat(2, 1, 1).requires_grad_()
    loss = cm_dl_loss(features, eps)
    loss.backward()
    assert_close(loss.item(), 1 / eps)
    assert features.grad.isfinite().all()


@cases("seed", range(5))
def test_it_is_at_most_one_over_eps(seed):
    features = features_of(seed=seed)
    centred = features - features.mean(1, keepdim=True)  # centres coincide up to rounding
    for nearly in (0, 1e-9, 1e-3, 1):
        assert 0 < cm_dl_loss(centred + nearly * features, 0.1) <= 10 * (1 + 1e-12)


@cases("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_features_give_a_float32_value(dtype):
    features = features_of().to(dtype)
    loss = cm_dl_loss(features)
    assert loss.dtype == torch.float32
    assert torch.equal(loss, cm_dl_loss(features.float()))


def test_the_features_stay_as_they_were():
    features = features_of()
    cm_dl_loss(features)
    assert torch.equal(features, features_of())


@cases("dtype", [torch.float16, torch.bfloat16])
def test_autocast_changes_nothing(dtype):
    features = features_of(dim=64).float()
    plain = cm_dl_loss(features)
    with torch.autocast("cpu", dtype):
        assert torch.equal(cm_dl_loss(features), plain)


def test_the_modalities_can_change_roles():
    holistic = features_of().flatten(0, 1)
    visible, thermal = torch.arange(24).view(4, 6).split([2, 4], 1)
    loss = CMDLLoss()
    assert_close(
        loss(holistic, IdentityRows(thermal, visible)),
        loss(holistic, IdentityRows(visible, thermal)),
    )


@cases("factor", [1e-30, 1e30])
def test_tiny_and_huge_features_have_a_finite_value_and_gradient(factor):
    features = (factor * features_of()).requires_grad_()
    loss = cm_dl_loss(features)
    loss.backward()
    assert_close(loss, cm_dl_loss(features_of()))
    assert features.grad.isfinite().all()


def test_the_module_takes_both_modalities_of_each_identity_together():
    holistic = torch.tensor([8.0, 0.0, 12.0, 2.0], dtype=torch.float64)[:, None]
    rows = IdentityRows(torch.tensor([[1], [0]]), torch.tensor([[3], [2]]))
    # identities {0, 2} and {8, 12}, as in the hand sum above
    assert_close(CMDLLoss(1.0)(holistic, rows).item(), 2.5 / 43)


@cases("eps", [0.0, -1e-6, float("nan")])
def test_an_eps_that_bounds_nothing_is_refused(eps):
    with pytest.raises(InputError, match=r"expected MODEL\.LOSSES\.DL\.EPS above 0, got "):
        CMDLLoss(eps)

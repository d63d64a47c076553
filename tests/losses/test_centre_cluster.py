import pytest
import torch
from tests.cases import cases
from tests.losses.generators import seeded
from torch.testing import assert_close

from cmemd.data.grouping import IdentityRows
from cmemd.errors import InputError
from cmemd.losses.centre_cluster import CentreClusterLoss, centre_cluster_loss


def features_of(identities=4, images=6, dim=5, seed=0):
    shape = (identities, images, dim)
    return torch.randn(*shape, dtype=torch.float64, generator=seeded(seed))


def test_three_identities_on_a_line_by_hand():
    # identities {0, 2}, {3, 3}, {7, 9}: centres 1, 3, 8, images 1, 1, 0, 0, 1, 1 from them -> 4/6
    # centres 2, 7, 5 apart, margin 6: 4 + 0 + 1 -> 5/3
    features = torch.tensor([[[0.0], [2.0]], [[3.0], [3.0]], [[7.0], [9.0]]])
    assert_close(centre_cluster_loss(features, 6.0).item(), 4 / 6 + 5 / 3)
    assert_close(centre_cluster_loss(features, 2.0).item(), 4 / 6)


@cases("margin", [0.0, 0.7, 5.0])
def test_the_gradient_is_that_of_finite_differences(margin):
    features = features_of(3, 4, 3).requires_grad_()
    assert torch.autograd.gradcheck(lambda x: centre_cluster_loss(x, margin), (features,))


def test_shifts_rotations_and_orders_do_not_matter():
    features = features_of()
    rotation = torch.linalg.qr(features_of(1, 5, 5)[0]).Q
    moved = (features @ rotation + 3)[[2, 0, 3, 1]][:, [5, 1, 0, 2, 4, 3]]
    assert_close(centre_cluster_loss(moved, 3.0), centre_cluster_loss(features, 3.0))


def test_identical_features_cost_the_margin_and_have_gradient_0():
    features = torch.full((3, 4, 5), 0.25, requires_grad=True)
    loss = centre_cluster_loss(features, 0.7)
    loss.backward()
    assert_close(loss.item(), 0.7)
    assert torch.equal(features.grad, torch.zeros_like(features))


def test_one_identity_is_pulled_and_pushed_from_nothing():
    features = features_of(1).requires_grad_()
    loss = centre_cluster_loss(features, 100.0)
    loss.backward()
    expected = (features - features.mean(1)).norm(dim=-1).mean()
    assert_close(loss, expected)
    assert features.grad.isfinite().all()


@cases("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_features_give_a_float32_value(dtype):
    features = features_of().to(dtype)
    with torch.autocast("cpu", torch.bfloat16):
        loss = centre_cluster_loss(features, 3.0)
    assert loss.dtype == torch.float32
    assert torch.equal(loss, centre_cluster_loss(features.float(), 3.0))


def test_the_module_takes_both_modalities_together_and_normalises_on_request():
    features = torch.tensor([[2.0, 0.0], [0.0, 3.0], [4.0, 0.0], [0.0, 1.0]])
    rows = IdentityRows(torch.tensor([[0], [1]]), torch.tensor([[2], [3]]))
    # as they are: centres (3, 0), (0, 2), images 1 from them, sqrt 13 apart; normalised: (1, 0),
    # (0, 1) twice each, sqrt 2 apart
    assert_close(CentreClusterLoss(4.0, normalize=False)(features, rows).item(), 5 - 13**0.5)
    assert_close(CentreClusterLoss(4.0)(features, rows).item(), 4 - 2**0.5)


@cases("margin", [-0.1, float("nan")])
def test_a_negative_margin_is_refused(margin):
    with pytest.raises(InputError, match=r"expected MODEL\.LOSSES\.CENTRE\.MARGIN of at least 0"):
        CentreClusterLoss(margin)

"""Hetero-centre triplets, MSEL and DCL: by hand, by plain loops, their gradients, odd batches."""

import math

import pytest
import torch
from torch.testing import assert_close

from cmemd.data.grouping import group_by_identity
from cmemd.errors import InputError
from cmemd.losses.hetero_centre_triplet import (
    HeteroCentreTripletLoss,
    hetero_centre_triplet_loss,
)
from cmemd.losses.pmt import DCLLoss, MSELLoss, dcl_loss, msel_loss


def points(*shape, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(shape, dtype=torch.float64, generator=generator)


def batch(people, visible, thermal, width=3):
    """Features in a shuffled order, and their rows."""
    targets = torch.arange(people).repeat_interleave(visible + thermal)
    modalities = torch.tensor([0] * visible + [1] * thermal).repeat(people)
    order = torch.randperm(len(targets), generator=torch.Generator().manual_seed(1))
    return points(len(targets), width), group_by_identity(targets[order], modalities[order])


def test_hetero_centre_triplets_by_hand():
    """On a line: identity 0 at 0 and 1, identity 1 at 3 and 3.5."""
    centres = torch.tensor([[[0.0], [1.0]], [[3.0], [3.5]]], dtype=torch.float64)
    centres.requires_grad_()
    # positives 1, 1, .5, .5; negatives 3, 2, 2, 2.5; margin 1.5
    loss = hetero_centre_triplet_loss(centres, 1.5)
    assert_close(loss, torch.tensor((0 + 0.5 + 0 + 0) / 4, dtype=torch.float64))
    loss.backward()  # anchor 1 alone: d+ = |1 - 0|, d- = |3 - 1|
    assert_close(centres.grad.flatten().tolist(), [-0.25, 0.5, -0.25, 0.0])


def test_hetero_centre_triplets_are_the_plain_loop():
    features, rows = batch(4, 3, 2)
    stacked = torch.stack([features, features.roll(1, 1).square()], 1)  # (N, 2, D)
    found = HeteroCentreTripletLoss(0.7)({"local": stacked}, rows)["local"]
    total = 0.0
    for one in stacked.unbind(1):
        centres = [
            [sum(one[row] for row in of) / len(of) for of in (rows.visible[p], rows.thermal[p])]
            for p in range(4)
        ]
        terms = []
        for p in range(4):
            for m in range(2):
                anchor = centres[p][m]
                positive = (anchor - centres[p][1 - m]).norm()
                negative = min(
                    (anchor - centres[q][k]).norm() for q in range(4) if q != p for k in range(2)
                )
                terms.append(max(0.0, float(0.7 + positive - negative)))
        total += sum(terms) / len(terms)
    assert_close(float(found), total)


def test_msel_by_hand():
    """On a line: visible 0 and 2, thermal 1 and 5: c = 3, 2, 1, 4; w = 2, 2, 4, 4."""
    visible = torch.tensor([[[0.0], [2.0]]], dtype=torch.float64)
    thermal = torch.tensor([[[1.0], [5.0]]], dtype=torch.float64)
    # squares: 1, 0 and 9, 0
    assert_close(float(msel_loss(visible, thermal)), (1 / 2 + 9 / 2) / 2)


def test_msel_is_the_plain_loop():
    visible, thermal = points(3, 3, 4), points(3, 2, 4, seed=1)
    means = []
    for own, other in ((visible, thermal), (thermal, visible)):
        squares = []
        for p in range(3):
            for i in range(own.shape[1]):
                cross = [(own[p, i] - x).norm() for x in other[p]]
                within = [(own[p, i] - x).norm() for k, x in enumerate(own[p]) if k != i]
                squares.append((sum(cross) / len(cross) - sum(within) / len(within)) ** 2)
        means.append(sum(squares) / len(squares))
    assert_close(msel_loss(visible, thermal), sum(means) / 2)


def test_dcl_by_hand():
    """On a line: three identities at -1 and 1, 9 and 11, 19 and 21."""
    features = torch.tensor([[-1.0, 1.0], [9.0, 11.0], [19.0, 21.0]], dtype=torch.float64)
    # Own centres are at 1. Near centres: of identity 0 and 2 the middle one, at 11 and 9; of the
    # middle identity's images the nearer one, at 9.
    near = (11 + 9 + 9 + 9 + 9 + 11) / 6
    assert_close(float(dcl_loss(features[..., None])), 1 / near)


def test_dcl_is_the_plain_loop_and_knows_no_scale():
    features = points(5, 4, 3)
    centres = features.mean(1)
    own, closer = [], []
    for p in range(5):
        for image in features[p]:
            own.append((image - centres[p]).norm())
            others = [(image - centres[q]).norm() for q in range(5) if q != p]
            mean = sum(others) / len(others)
            near = [one for one in others if one <= mean]
            closer.append(sum(near) / len(near))
    expected = sum(own) / sum(closer)
    assert_close(dcl_loss(features), expected)
    assert_close(dcl_loss(7 * features + 3), expected)


def test_gradients_are_those_of_differences():
    centres, visible, thermal = points(4, 2, 3), points(2, 3, 3), points(2, 2, 3, seed=1)
    for name, function, inputs in (
        ("hct", lambda x: hetero_centre_triplet_loss(x, 5.0), (centres,)),
        ("msel", msel_loss, (visible, thermal)),
        ("dcl", dcl_loss, (points(3, 4, 3),)),
    ):
        inputs = tuple(one.requires_grad_() for one in inputs)
        assert torch.autograd.gradcheck(function, inputs), name


def test_odd_batches_have_finite_values_and_gradients():
    modules = {"hct": HeteroCentreTripletLoss(), "msel": MSELLoss(), "dcl": DCLLoss()}
    for people, visible, thermal in ((1, 1, 1), (1, 3, 2), (2, 1, 1), (3, 1, 4)):
        for same in (False, True):
            drawn, rows = batch(people, visible, thermal)
            for name, module in modules.items():
                case = name, people, visible, thermal, same
                features = torch.zeros_like(drawn) if same else drawn.clone()
                features.requires_grad_()
                of = {"global": features[:, None]} if name == "hct" else features
                found = module(of, rows)
                loss = found["global"] if name == "hct" else found
                loss.backward()
                assert loss.isfinite(), case
                assert features.grad.isfinite().all(), case
                if people == 1 and name != "msel":
                    assert loss == 0, case
                    assert not features.grad.any(), case
    for margin in (0, -1.0, math.nan):
        with pytest.raises(InputError, match=r"MODEL.LOSSES.HCT.MARGIN above 0"):
            HeteroCentreTripletLoss(margin)

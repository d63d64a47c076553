"""Soft labels between views: the second view's probabilities teach the first."""

import math

import pytest
import torch
from tests.losses.generators import seeded
from torch.nn import functional
from torch.testing import assert_close

from cmemd import load_config
from cmemd.errors import InputError
from cmemd.losses.build import build_losses
from cmemd.losses.soft_labels import SoftLabelLoss, soft_label_loss

PAIRS = torch.tensor([[0, 1], [4, 5], [6, 7]])  # rows 2 and 3 are thermal, say


def logits_of(features: int, rows: int = 8, classes: int = 5) -> torch.Tensor:
    return torch.randn(rows, features, classes, dtype=torch.float64, generator=seeded(features))


def test_two_images_by_hand():
    # Image 1: view 1 sees (1/2, 1/2), view 2 (3/4, 1/4): 3/4 ln 2 + 1/4 ln 2 = ln 2.
    # Image 2: view 1 sees (3/4, 1/4), view 2 (1/2, 1/2): 1/2 ln 4/3 + 1/2 ln 4.
    sure, unsure = [math.log(3), 0.0], [0.0, 0.0]
    logits = torch.tensor([[unsure], [sure], [sure], [unsure]], dtype=torch.float64)
    expected = (math.log(2) + (math.log(4 / 3) + math.log(4)) / 2) / 2
    assert_close(soft_label_loss(logits, torch.tensor([[0, 1], [2, 3]])).item(), expected)


def test_it_is_a_plain_loop_and_pytorchs_cross_entropy_of_soft_targets():
    logits = logits_of(3)
    total = 0.0
    for first, second in PAIRS.tolist():
        for feature in range(3):
            taught = [math.exp(z) for z in logits[first, feature].tolist()]
            teach = [math.exp(z) for z in logits[second, feature].tolist()]
            for a, b in zip(taught, teach, strict=True):
                total -= b / sum(teach) * math.log(a / sum(taught))
    assert_close(soft_label_loss(logits, PAIRS).item(), total / len(PAIRS))
    soft = [
        functional.cross_entropy(logits[PAIRS[:, 0], f], logits[PAIRS[:, 1], f].softmax(-1))
        for f in range(3)
    ]
    assert_close(soft_label_loss(logits, PAIRS), sum(soft))


def test_the_first_view_alone_has_a_gradient_that_is_q_minus_p():
    logits = logits_of(2).requires_grad_()
    soft_label_loss(logits, PAIRS).backward()
    expected = torch.zeros_like(logits)
    with torch.no_grad():
        first, second = logits[PAIRS[:, 0]].softmax(-1), logits[PAIRS[:, 1]].softmax(-1)
    expected[PAIRS[:, 0]] = (first - second) / len(PAIRS)
    assert_close(logits.grad, expected)
    fixed = logits.detach()

    def of_first(rows: torch.Tensor) -> torch.Tensor:
        return soft_label_loss(fixed.index_copy(0, PAIRS[:, 0], rows), PAIRS)

    assert torch.autograd.gradcheck(of_first, fixed[PAIRS[:, 0]].clone().requires_grad_())


def test_equal_views_cost_their_entropy_and_have_no_gradient():
    logits = logits_of(1)
    logits[PAIRS[:, 1]] = logits[PAIRS[:, 0]]
    logits.requires_grad_()
    loss = soft_label_loss(logits, PAIRS)
    p = logits[PAIRS[:, 0]].softmax(-1)
    assert_close(loss, -(p * p.log()).sum((1, 2)).mean())
    loss.backward()
    assert logits.grad.abs().max() < 1e-15


def test_parts_of_a_batch_average_to_the_whole_as_processes_do():
    logits, pairs = logits_of(2), PAIRS[:2]
    whole = soft_label_loss(logits, pairs)
    parts = [soft_label_loss(logits, pair[None]) for pair in pairs]
    assert_close(sum(parts) / 2, whole)


def test_no_pairs_and_huge_logits_have_finite_values_and_gradients():
    for pairs in (torch.empty(0, 2, dtype=torch.int64), PAIRS):
        logits = (1e4 * logits_of(2).float()).requires_grad_()
        loss = soft_label_loss(logits, pairs)
        loss.backward()
        assert loss.isfinite()
        assert logits.grad.isfinite().all()
    assert soft_label_loss(logits, PAIRS[:0]).item() == 0


def test_the_module_gives_each_granularity_its_term_and_wants_two_views():
    logits = {"global": logits_of(1), "local": logits_of(3)}
    terms = SoftLabelLoss()(logits, PAIRS)
    assert_close(terms, {name: soft_label_loss(x, PAIRS) for name, x in logits.items()})
    with pytest.raises(InputError, match=r"two views .*SOFT_LABELS, got one view: set DATALOADER"):
        SoftLabelLoss()(logits, None)


def test_its_weight_switches_it_on():
    assert "soft" not in build_losses(load_config(""))
    table = build_losses(load_config("", ["MODEL.LOSSES.SOFT_LABELS.WEIGHT", "1.5"]))
    assert (type(table["soft"].module), table["soft"].weight) == (SoftLabelLoss, 1.5)

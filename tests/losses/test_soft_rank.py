"""Soft ranks between the modalities: closed form against isotonic regression, loss by hand."""

import pytest
import torch
from scipy.optimize import isotonic_regression
from tests.cases import cases
from tests.losses.generators import seeded
from torch.testing import assert_close

from cmemd import load_config
from cmemd.data.grouping import IdentityRows
from cmemd.errors import InputError
from cmemd.losses.build import build_losses
from cmemd.losses.soft_rank import SoftRankLoss, soft_rank_loss, soft_ranks


def random(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.rand(*shape, dtype=torch.float64, generator=seeded(seed))


def projected(values: list[float], strength: float) -> list[float]:
    """Blondel's soft ranks: values / strength projected onto the permutahedron of G, ..., 1."""
    z = [value / strength for value in values]
    order = sorted(range(len(z)), key=lambda i: -z[i])
    differences = [z[i] - (len(z) - k) for k, i in enumerate(order)]
    dual = isotonic_regression(differences, increasing=False).x
    ranks = [0.0] * len(z)
    for place, i in enumerate(order):
        ranks[i] = z[i] - dual[place]
    return ranks


@cases("size", [4, 5, 9, 64])
def test_ranks_are_the_projection_onto_the_permutahedron(size):
    """Distances in [0, 1] with strength 0.5: exact from 4 images on, the extremes included."""
    rows = [random(size, seed=k).tolist() for k in range(20)]
    rows += [[0.0] * k + [1.0] * (size - k) for k in range(size + 1)]
    for row in rows:
        ours = soft_ranks(torch.tensor([row], dtype=torch.float64), 0.5)[0]
        assert_close(
            ours, torch.tensor(projected(row, 0.5), dtype=torch.float64), atol=1e-9, rtol=0
        )
        assert_close(ours.sum().item(), size * (size + 1) / 2)


def test_fewer_images_or_less_strength_leave_the_permutahedron():
    row = [0.0, 0.0, 1.0]  # G = 3 < 2 / 0.5: the projection is (1.5, 1.5, 3), of sum 6
    assert projected(row, 0.5) == pytest.approx([1.5, 1.5, 3.0])
    ours = soft_ranks(torch.tensor([row]), 0.5)[0]
    assert_close(ours, torch.tensor([4 / 3, 4 / 3, 10 / 3]))


def test_one_query_by_hand():
    # cos 1, 0, 0, -1, so d = 0, 1/2, 1/2, 1, mean 1/2.
    # Ranks 2 (d - 1/2) + 5/2 = 1.5, 2.5, 2.5, 3.5.
    # The first is the own identity's, t = 1, 4, 4, 4: differences 0.5, 1.5, 1.5, 0.5, mean 1.
    query = torch.tensor([[2.0, 0.0]])
    gallery = torch.tensor([[1.0, 0.0], [0.0, 3.0], [0.0, -1.0], [-5.0, 0.0]])
    loss = soft_rank_loss(query, torch.tensor([7]), gallery, torch.tensor([7, 1, 2, 3]))
    assert_close(loss.item(), 1.0)


def test_the_loss_is_a_plain_loop_over_projected_ranks():
    queries, gallery = random(6, 3) - 0.5, random(9, 3, seed=1) - 0.5
    people, others = torch.arange(3).repeat_interleave(2), torch.arange(3).repeat_interleave(3)
    total = 0.0
    for query, person in zip(queries, people, strict=True):
        cosines = torch.nn.functional.cosine_similarity(query[None], gallery)
        for rank, other in zip(projected(((1 - cosines) / 2).tolist(), 0.5), others, strict=True):
            total += abs(rank - (1 if other == person else 9))
    ours = soft_rank_loss(queries, people, gallery, others)
    assert_close(ours.item(), total / (6 * 9))


def test_the_gradient_is_that_of_finite_differences_and_pulls_the_own_identity_nearer():
    queries, gallery = random(4, 3) - 0.5, random(6, 3, seed=1) - 0.5
    people, others = torch.tensor([0, 0, 1, 1]), torch.tensor([0, 0, 0, 1, 1, 1])

    def loss(q: torch.Tensor, g: torch.Tensor) -> torch.Tensor:
        return soft_rank_loss(q, people, g, others)

    leaves = queries.clone().requires_grad_(), gallery.clone().requires_grad_()
    assert torch.autograd.gradcheck(loss, leaves)
    loss(*leaves).backward()
    moved = [x.detach() - 0.01 * x.grad for x in leaves]
    assert loss(*moved) < loss(*leaves)


def test_degenerate_batches_have_a_finite_value_and_gradient():
    for people, others, zero in (
        ([0, 0], [0, 0, 0, 0], True),  # one identity
        ([0, 1], [2, 2, 3, 3], True),  # no identity in common
        ([0, 1], [0, 0, 3, 3], False),  # one query has no match
    ):
        for features in (random(2, 3), torch.zeros(2, 3)):
            features = features.clone().requires_grad_()
            gallery = torch.ones(4, 3, dtype=features.dtype)
            loss = soft_rank_loss(features, torch.tensor(people), gallery, torch.tensor(others))
            loss.backward()
            assert loss.isfinite(), people
            assert (loss == 0) == zero, people
            assert features.grad.isfinite().all(), people


def test_the_module_is_the_mean_of_both_directions():
    features, targets = random(10, 3) - 0.5, torch.tensor([0, 0, 0, 0, 0, 1, 1, 1, 1, 1])
    rows = IdentityRows(torch.tensor([[0, 1], [5, 6]]), torch.tensor([[2, 3, 4], [7, 8, 9]]))
    visible, thermal = rows.visible.flatten(), rows.thermal.flatten()
    one = soft_rank_loss(features[visible], targets[visible], features[thermal], targets[thermal])
    two = soft_rank_loss(features[thermal], targets[thermal], features[visible], targets[visible])
    assert_close(SoftRankLoss()(features, targets, rows), (one + two) / 2)
    assert "rank" not in build_losses(load_config(""))
    options = ["MODEL.LOSSES.RANK.WEIGHT", "2.0", "MODEL.LOSSES.RANK.STRENGTH", "0.7"]
    built = build_losses(load_config("", options))["rank"]
    assert (built.weight, built.module.strength) == (2.0, 0.7)
    with pytest.raises(InputError, match=r"RANK\.STRENGTH above 0, got 0\.0"):
        SoftRankLoss(0.0)

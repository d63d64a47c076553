"""Plans that move a part of the mass, against POT."""

import math

import ot
import pytest
import torch
from tests.cases import cases
from tests.losses.generators import random_costs, seeded
from tests.losses.test_transport import objective
from torch.testing import assert_close

from cmemd.errors import InputError
from cmemd.losses.transport import (
    exact,
    exact_plan,
    partial_plan,
    sinkhorn_plan,
    unbalanced_plan,
)

SIZES = [(1, 1), (1, 3), (2, 4), (4, 4), (3, 5), (8, 8)]


def test_a_partial_plan_by_hand():
    # Half of the mass of 2 x 2 is one share: that of the nearest pair, 1/2 * 1.
    cost = torch.tensor([[[3.0, 1.0], [7.0, 5.0]]])
    assert_close(partial_plan(cost, 0.5), torch.tensor([[[0.0, 0.5], [0.0, 0.0]]]))
    # Three quarters: row 0 gives its 1/2, and row 1 the 1/4 that is missing. 1/2 * 1 + 1/4 * 7
    # = 2.25, or 1/4 * 3 + 1/4 * 1 + 1/4 * 5 = 2.25 too.
    assert_close((partial_plan(cost, 0.75) * cost).sum(), torch.tensor(2.25))


@cases("on_host", [True, False])
@cases("mass", [0.1, 0.25, 1 / 3, 0.5, 0.75, 0.9, 1.0])
@cases(("n", "m"), SIZES)
def test_it_costs_what_pots_partial_plan_costs_and_keeps_within_its_marginals(n, m, mass, on_host):
    cost = random_costs(3, n, m)
    with pytest.MonkeyPatch.context() as patch:
        if not on_host:  # the solvers of a GPU, up to the largest size of tensors
            if (n, m) in ((3, 5), (8, 8)):
                return
            patch.setattr(exact, "_lapx", lambda: None)
        plan = partial_plan(cost, mass)
    a, b = (torch.full((k,), 1 / k, dtype=torch.float64) for k in (n, m))
    expected = [
        ot.partial.partial_wasserstein(a.numpy(), b.numpy(), one.numpy(), m=mass) for one in cost
    ]
    expected = torch.stack([torch.from_numpy(one) for one in expected])
    assert_close(objective(plan, cost), objective(expected, cost), rtol=0, atol=1e-14)
    assert (plan >= 0).all()
    assert (plan.sum(2) <= a + 1e-12).all()
    assert (plan.sum(1) <= b + 1e-12).all()
    assert_close(plan.sum((1, 2)), torch.full((3,), mass, dtype=torch.float64))


def test_neither_shift_nor_scale_of_the_costs_changes_a_partial_plan():
    cost = random_costs(5, 4, 4)
    for mass in (0.5, 0.6):
        plan = partial_plan(cost, mass)
        for other in (cost - 3, 1e20 * cost, 1e-20 * cost):
            assert_close(partial_plan(other, mass), plan)
        assert_close(partial_plan(torch.ones(2, 4, 4), mass).sum((1, 2)), torch.full((2,), mass))


def test_all_mass_is_the_exact_plan():
    cost = random_costs(5, 4, 4)
    assert torch.equal(partial_plan(cost, 1), exact_plan(cost))
    assert partial_plan(cost[:0], 0.5).shape == (0, 4, 4)


@cases("mass", [0.0, -0.5, 1.1, math.nan])
def test_a_mass_out_of_range_is_refused(mass):
    with pytest.raises(InputError, match="a mass above 0, at most 1"):
        partial_plan(torch.ones(1, 2, 2), mass)


# ---- soft marginals


def test_one_pair_with_soft_marginals_by_hand():
    # c x + e KL(x | 1) + 2 r KL(x | 1): c + (e + 2 r) log x = 0, so x = exp(-c / (e + 2 r))
    plan = unbalanced_plan(torch.full((1, 1, 1), 3.0, dtype=torch.float64), 0.5, 0.75)
    assert_close(plan.item(), math.exp(-3 / 2))


@cases("epsilon", [0.1, 1.0])
@cases("penalty", [0.1, 0.5, 2.0])
@cases(("n", "m"), SIZES)
def test_it_is_pots_unbalanced_plan(n, m, penalty, epsilon):
    cost = random_costs(3, n, m)
    expected = torch.stack(
        [
            torch.from_numpy(
                ot.unbalanced.sinkhorn_unbalanced(
                    *(torch.full((k,), 1 / k, dtype=torch.float64).numpy() for k in (n, m)),
                    one.numpy(),
                    epsilon,
                    penalty,
                    stopThr=1e-14,
                    numItermax=20_000,
                )
            )
            for one in cost
        ]
    )
    plan = unbalanced_plan(cost, epsilon, penalty, iterations=500)
    assert_close(plan, expected, rtol=1e-7, atol=1e-10)
    assert_close(
        unbalanced_plan(cost.float(), epsilon, penalty, 500).double(), plan, rtol=0, atol=1e-5
    )


def test_with_a_large_penalty_it_is_sinkhorns_plan_and_dear_pairs_lose_their_mass():
    cost = random_costs(4, 4, 3)
    plan = unbalanced_plan(cost, 0.2, 1e5, iterations=500)
    assert_close(plan, sinkhorn_plan(cost, 0.2, iterations=500), rtol=0, atol=1e-5)
    cost[:, 0] += 50  # a visible image far from all
    plan = unbalanced_plan(cost, 0.2, 0.5)
    assert (plan[:, 0] < 1e-20).all()
    assert (plan[:, 1:].sum((1, 2)) > 0.2).all()
    assert unbalanced_plan(1e30 * cost.float(), 0.2, 0.5).isfinite().all()


def test_its_default_iterations_are_near_its_limit_at_the_demos_settings():
    generator = seeded(0)
    points = torch.randn(2, 50, 4, 16, dtype=torch.float64, generator=generator)
    points = points / points.norm(dim=-1, keepdim=True)
    cost = (points[0, :, :, None] - points[1, :, None]).square().sum(-1)
    plan, limit = unbalanced_plan(cost, 0.05, 0.5), unbalanced_plan(cost, 0.05, 0.5, 5000)
    assert_close(plan, limit, rtol=0, atol=1e-6)


def test_settings_out_of_range_are_refused():
    for options, words in (
        ((0.0, 1.0), "finite epsilon"),
        ((1.0, math.inf), "finite penalty"),
        ((1.0, math.nan), "finite penalty"),
        ((1.0, 1.0, 0), "at least one iteration"),
    ):
        with pytest.raises(InputError, match=words):
            unbalanced_plan(torch.ones(1, 2, 2), *options)

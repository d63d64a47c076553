import math

import ot
import pytest
import torch
from tests.cases import cases
from tests.losses import generators
from tests.losses.test_transport import BAD_MARGINALS, COST, objective
from torch.testing import assert_close

from cmemd.errors import InputError
from cmemd.losses.transport import exact_plan, sinkhorn_plan

SIZES = [(1, 1), (1, 4), (4, 4), (8, 8), (3, 5)]


def pots(cost, epsilon, a, b):
    """Return POT's plans, run to convergence."""
    return torch.stack(
        [
            torch.from_numpy(
                ot.sinkhorn(*problem, epsilon, "sinkhorn_log", stopThr=1e-13, numItermax=10_000)
            )
            for problem in zip(a.numpy(), b.numpy(), cost.double().numpy(), strict=True)
        ]
    )


def uniform(batch, n, m):
    return (torch.full((batch, size), 1 / size, dtype=torch.float64) for size in (n, m))


@cases("epsilon", [0.1, 1.0, 10.0])
@cases(("n", "m"), SIZES)
def test_it_is_pots_plan(n, m, epsilon):
    cost = generators.random_costs(3, n, m, torch.float32)
    expected = pots(cost, epsilon, *uniform(3, n, m))
    for dtype, tolerance in ((torch.float64, 1e-10), (torch.float32, 1e-6)):
        plan = sinkhorn_plan(cost.to(dtype), epsilon, iterations=500)
        assert plan.dtype == dtype
        assert_close(plan.double(), expected, rtol=0, atol=tolerance)


@cases(("n", "m"), [(1, 3), (4, 4), (3, 5)])
def test_it_is_pots_plan_with_own_marginals(n, m):
    cost = generators.random_costs(3, n, m)
    a, b = generators.random_marginals(3, n, m)
    plan = sinkhorn_plan(cost, 0.2, a, b, iterations=500)
    assert_close(plan, pots(cost, 0.2, a, b), rtol=0, atol=1e-10)
    # Masses count in their own unit, costs in theirs.
    assert_close(sinkhorn_plan(cost, 0.2, 7 * a, 7 * b, iterations=500), 7 * plan)
    assert_close(sinkhorn_plan(1e3 * cost - 5, 200.0, a, b, iterations=500), plan)


def test_two_by_two_by_hand():
    # Cost 0 on the diagonal and c off it: by symmetry pi = [[x, 1/2 - x], [1/2 - x, x]], with
    # x / (1/2 - x) = exp(c / epsilon): c = epsilon log 3 gives x = 3/8.
    cost = torch.tensor([[[0.0, math.log(3)], [math.log(3), 0.0]]], dtype=torch.float64)
    expected = torch.tensor([[[3.0, 1.0], [1.0, 3.0]]], dtype=torch.float64) / 8
    assert_close(sinkhorn_plan(cost, 1.0), expected, rtol=0, atol=1e-14)
    assert_close(sinkhorn_plan(0.1 * cost, 0.1), expected, rtol=0, atol=1e-14)


@cases(("n", "m"), SIZES)
@cases(("epsilon", "iterations"), [(1.0, 200), (0.1, 200), (0.01, 500), (1e-4, 2000)])
def test_the_excess_over_the_exact_plan_is_at_most_epsilon_times_the_entropy(
    n, m, epsilon, iterations
):
    # <pi_eps, C> - eps H(pi_eps) <= <pi*, C> - eps H(pi*), and H(pi_eps) <= H(a) + H(b), and
    # H(pi*) >= max(H(a), H(b)): the excess is at most eps min(H(a), H(b)) = eps log min(n, m).
    cost = generators.random_costs(4, n, m)
    exact = objective(exact_plan(cost), cost)
    excess = objective(sinkhorn_plan(cost, epsilon, iterations=iterations), cost) - exact
    assert excess.min() >= -1e-14
    assert excess.max() <= epsilon * math.log(min(n, m)) + 1e-14


@cases(("n", "m"), SIZES)
def test_as_epsilon_goes_to_0_it_meets_the_exact_plan(n, m):
    cost = generators.random_costs(4, n, m)
    plan = sinkhorn_plan(cost, 1e-5, iterations=2000)
    assert_close(plan, exact_plan(cost), rtol=0, atol=1e-6)


def test_as_epsilon_grows_it_meets_the_product_of_the_marginals():
    cost = generators.random_costs(3, 3, 5)
    a, b = generators.random_marginals(3, 3, 5)
    product = a[:, :, None] * b[:, None, :]
    assert_close(sinkhorn_plan(cost, 1e9, a, b), product, rtol=1e-8, atol=0)


@cases("iterations", [1, 2, 30])
@cases("epsilon", [1e-6, 0.1])
def test_the_marginals_hold_after_any_number_of_iterations(epsilon, iterations):
    cost = generators.random_costs(3, 6, 8)
    a, b = generators.random_marginals(3, 6, 8)
    plan = sinkhorn_plan(cost, epsilon, a, b, iterations=iterations)
    assert plan.min() >= 0
    assert_close(plan.sum(2), a, rtol=0, atol=1e-14)
    assert_close(plan.sum(1), b, rtol=0, atol=1e-14)


@cases("make", [generators.tied, generators.zeros])
def test_equal_costs_give_the_uniform_plan(make):
    cost = make(3, 4).cost
    assert_close(sinkhorn_plan(cost, 0.1), torch.full_like(cost, 1 / 12), rtol=0, atol=1e-15)


def test_a_mask_leaves_the_problem_of_the_rows_and_columns_it_keeps():
    cost = generators.random_costs(2, 3, 4)
    row_mask = torch.tensor([[True, False, True]]).expand(2, 3)
    column_mask = torch.tensor([[True, True, False, True]]).expand(2, 4)
    plan = sinkhorn_plan(cost, 0.1, row_mask=row_mask, column_mask=column_mask, iterations=500)
    rows, columns = [0, 2], [0, 1, 3]
    kept = sinkhorn_plan(cost[:, rows][:, :, columns], 0.1, iterations=500)
    assert_close(plan[:, rows][:, :, columns], kept, rtol=0, atol=1e-12)
    assert_close(plan.sum((1, 2)), torch.ones(2, dtype=torch.float64))
    assert plan[:, 1].count_nonzero() == plan[:, :, 2].count_nonzero() == 0


@cases("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_costs_give_the_float32_plan_of_the_same_numbers(dtype):
    cost = generators.random_costs(3, 4, 4, dtype)
    assert torch.equal(sinkhorn_plan(cost, 0.1), sinkhorn_plan(cost.float(), 0.1))
    assert sinkhorn_plan(cost[:0], 0.1).dtype == torch.float32


def test_the_plan_is_a_constant_and_gives_the_gradient_of_the_regularised_minimum():
    # d/dC min <pi, C> + eps sum pi log pi = pi, by the envelope theorem.
    cost = generators.random_costs(2, 3, 4)
    leaf = cost.clone().requires_grad_()
    plan = sinkhorn_plan(leaf, 0.3, iterations=500)
    assert not plan.requires_grad

    def minimum(cost):
        best = sinkhorn_plan(cost, 0.3, iterations=500)
        return (best * cost + 0.3 * best * best.log()).sum()

    step = torch.zeros_like(cost)
    step[1, 2, 0] = 1e-5
    slope = (minimum(cost + step) - minimum(cost - step)) / 2e-5
    assert slope.item() == pytest.approx(plan[1, 2, 0].item(), rel=1e-6)


def test_nothing_waits_for_an_accelerator():
    # A tensor without values: an operation that reads one fails.
    plan = sinkhorn_plan(torch.empty(3, 4, 5, device="meta"), 0.1, iterations=2)
    assert plan.device.type == "meta"
    assert plan.shape == (3, 4, 5)


def test_stages_are_the_plain_iterations_in_the_log_domain():
    # With an epsilon above the costs' range it does not fall, and each iteration is Sinkhorn's.
    cost = generators.random_costs(3, 6, 5)
    a, b = generators.random_marginals(3, 6, 5)
    for iterations in (1, 2, 9, 10, 25, 200, 321):
        columns = torch.zeros(3, 1, 5, dtype=torch.float64)
        for _ in range(iterations):
            rows = a.log()[:, :, None] - (columns - cost).logsumexp(2, keepdim=True)
            columns = b.log()[:, None] - (rows - cost).logsumexp(1, keepdim=True)
        expected = (rows + columns - cost).exp()
        plan = sinkhorn_plan(cost, 1.0, a, b, iterations=iterations)
        # The plan's rows are then cut and filled to their masses.
        tolerance = (expected.sum(2) - a).abs().max().item() + 1e-14
        assert_close(plan, expected, rtol=0, atol=tolerance, msg=f"{iterations} iterations")


def test_kernels_that_underflow_still_give_plans_with_the_right_marginals():
    a, b = generators.random_marginals(3, 4, 9)
    a = a * torch.tensor([1.0, 0.0, 1.0, 1.0])  # a row without mass
    b = b * torch.tensor([1e-20, *8 * [1.0]])  # and a column with hardly any
    sides = (side / side.sum(1, keepdim=True) for side in (a, b))
    a, b = (side.float() for side in sides)
    cost = generators.random_costs(3, 4, 9, torch.float32)
    for scale in (1e-30, 1.0, 1e30):
        for epsilon in (1e-60, 1e-9, 1e-3, 1.0, 1e60):
            for iterations in (1, 7, 200):
                case = f"{scale=} {epsilon=} {iterations=}"
                plan = sinkhorn_plan(scale * cost, epsilon, a, b, iterations=iterations)
                assert plan.min() >= 0, case
                assert plan[:, 1].count_nonzero() == 0, case
                assert_close(plan.sum(2), a, rtol=0, atol=1e-6, msg=case)
                assert_close(plan.sum(1), b, rtol=0, atol=1e-6, msg=case)


@cases("epsilon", [0.0, -1.0, math.nan, math.inf])
def test_an_epsilon_that_is_not_positive_and_finite_is_refused(epsilon):
    with pytest.raises(InputError, match="expected a positive, finite epsilon, got "):
        sinkhorn_plan(COST, epsilon)


def test_bad_costs_and_iterations_are_refused():
    with pytest.raises(InputError, match="expected at least one iteration, got 0: "):
        sinkhorn_plan(COST, 0.1, iterations=0)
    with pytest.raises(InputError, match="expected finite costs of at most "):
        sinkhorn_plan(math.nan * COST, 0.1)
    with pytest.raises(InputError, match=r"expected a cost \(B, n, m\)"):
        sinkhorn_plan(COST[0], 0.1)


@cases(("given", "message"), BAD_MARGINALS)
def test_impossible_marginals_are_refused(given, message):
    with pytest.raises(InputError, match=message):
        sinkhorn_plan(COST, 0.1, **given)

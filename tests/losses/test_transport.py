import itertools
import math

import generators
import numpy as np
import ot
import pytest
import torch
from generators import MARGINAL_TOLERANCE, OBJECTIVE_TOLERANCE
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import linear_sum_assignment
from torch.testing import assert_close

from cmemd.errors import InputError
from cmemd.losses.transport import exact_plan

SMALL = list(itertools.product(range(1, 9), repeat=2))
LARGER = [(1, 16), (9, 9), (10, 5), (12, 16), (16, 1), (16, 8), (16, 12), (16, 16)]
SQUARE_OR_NOT = [(8, 8), (9, 9), (2, 4), (3, 4), (7, 8)]  # subset tables and network simplex


def objective(plan, cost):
    return (plan.double() * cost.double()).sum((1, 2))


def assert_marginals(plan):
    _, n, m = plan.shape
    tolerance = MARGINAL_TOLERANCE[plan.dtype]
    assert plan.min() >= 0
    rows, columns = plan.sum(2), plan.sum(1)
    assert_close(rows, torch.full_like(rows, 1 / n), rtol=0, atol=tolerance)
    assert_close(columns, torch.full_like(columns, 1 / m), rtol=0, atol=tolerance)


def assignment_value(cost):
    """The optimum by SciPy's assignment solver, rows and columns split into lcm(n, m) shares."""
    n, m = cost.shape
    size = math.lcm(n, m)
    shares = np.repeat(np.repeat(cost.double().numpy(), size // n, 0), size // m, 1)
    return shares[linear_sum_assignment(shares)].sum() / size


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize(("n", "m"), SMALL + LARGER)
def test_the_value_is_that_of_pot_and_of_scipy(n, m, dtype):
    cost = generators.random_costs(3, n, m, dtype)
    plan = exact_plan(cost)
    assert plan.dtype == dtype
    assert plan.shape == cost.shape
    assert_marginals(plan)
    pot = torch.tensor([ot.emd2([], [], c) for c in cost.double().numpy()], dtype=torch.float64)
    scipy = torch.tensor([assignment_value(c) for c in cost], dtype=torch.float64)
    values = objective(plan, cost)
    assert_close(values, pot, rtol=0, atol=OBJECTIVE_TOLERANCE[dtype])
    assert_close(values, scipy, rtol=0, atol=OBJECTIVE_TOLERANCE[dtype])


@pytest.mark.parametrize(("n", "m"), [(1, 5), (4, 4), (8, 8), (2, 4), (3, 4), (9, 9)])
def test_the_plan_is_pots_where_one_plan_is_optimal(n, m):
    cost = generators.random_costs(4, n, m)
    expected = torch.stack([torch.from_numpy(ot.emd([], [], c)) for c in cost.numpy()])
    assert_close(exact_plan(cost), expected, rtol=0, atol=1e-14)


@pytest.mark.parametrize("n", [1, 2, 3, 4, 5])
def test_no_permutation_is_better(n):
    cost = generators.random_costs(5, n, n)
    permutations = torch.tensor(list(itertools.permutations(range(n))))  # (n!, n)
    values = cost[:, torch.arange(n), permutations].mean(-1)  # (B, n!)
    assert_close(objective(exact_plan(cost), cost), values.min(1).values, rtol=0, atol=1e-14)


@pytest.mark.parametrize(
    "problem",
    [
        generators.single(),
        *(generators.hidden_permutation(n) for n in (2, 5, 8, 9, 16)),
        *(generators.points_on_a_line(n) for n in (2, 5, 8, 9, 16)),
        *(generators.shifted_clusters(n) for n in (2, 5, 8, 9, 16)),
    ],
)
def test_problems_with_a_known_unique_answer_get_it(problem):
    plan = exact_plan(problem.cost)
    assert_close(plan, problem.plan, rtol=0, atol=1e-15)
    assert_close(objective(plan, problem.cost), problem.value, rtol=1e-12, atol=1e-15)


@pytest.mark.parametrize(("n", "m"), SQUARE_OR_NOT)
@pytest.mark.parametrize("make", [generators.tied, generators.zeros])
def test_equal_costs_give_a_plan_with_the_right_marginals(make, n, m):
    problem = make(n, m)
    plan = exact_plan(problem.cost)
    assert_marginals(plan)
    assert_close(objective(plan, problem.cost), problem.value)


@pytest.mark.parametrize("n", range(1, 9))
def test_square_problems_get_a_vertex_of_the_birkhoff_polytope(n):
    plan = exact_plan(generators.random_costs(4, n, n))
    edges = plan > 0
    assert (edges.sum(1) == 1).all()
    assert (edges.sum(2) == 1).all()
    assert (plan[edges] == 1 / n).all()


@pytest.mark.parametrize("m", [1, 2, 3, 8, 16])
def test_a_single_row_or_column_leaves_the_uniform_plan_only(m):
    cost = generators.random_costs(2, 1, m)
    uniform = torch.full_like(cost, 1 / m)
    assert_close(exact_plan(cost), uniform, rtol=0, atol=1e-16)
    assert_close(exact_plan(cost.mT), uniform.mT, rtol=0, atol=1e-16)


@pytest.mark.parametrize(("n", "m"), SQUARE_OR_NOT)
@pytest.mark.parametrize("offset", [1.0, -1.0, 1e6, -1e6])
def test_adding_a_constant_leaves_the_plan(n, m, offset):
    cost = generators.random_costs(3, n, m)
    assert_close(exact_plan(cost + offset), exact_plan(cost), rtol=0, atol=1e-14)


@pytest.mark.parametrize(("n", "m"), SQUARE_OR_NOT)
def test_adding_a_constant_to_a_row_or_a_column_leaves_the_plan(n, m):
    cost = generators.random_costs(3, n, m)
    rows = 100 * generators.random_costs(3, n, 1)
    columns = -100 * generators.random_costs(3, 1, m)
    assert_close(exact_plan(cost + rows + columns), exact_plan(cost), rtol=0, atol=1e-14)


@pytest.mark.parametrize(("n", "m"), SQUARE_OR_NOT)
@pytest.mark.parametrize("factor", [1e-30, 1e-6, 7.0, 1e30])
def test_scaling_leaves_the_plan(n, m, factor):
    cost = generators.random_costs(3, n, m)
    assert_close(exact_plan(factor * cost), exact_plan(cost), rtol=0, atol=1e-14)


@pytest.mark.parametrize(("n", "m"), SQUARE_OR_NOT)
def test_large_negative_costs_are_costs_like_others(n, m):
    cost = -1e12 * generators.random_costs(3, n, m)
    plan = exact_plan(cost)
    assert_marginals(plan)
    expected = torch.tensor([assignment_value(c) for c in cost], dtype=torch.float64)
    assert_close(objective(plan, cost), expected, rtol=1e-12, atol=0)


@pytest.mark.parametrize(("n", "m"), SQUARE_OR_NOT)
def test_permuting_rows_and_columns_permutes_a_unique_plan(n, m):
    cost = generators.random_costs(1, n, m)
    rows = generators.random_permutations(1, n, seed=1)[0]
    columns = generators.random_permutations(1, m, seed=2)[0]
    moved = exact_plan(cost[:, rows][:, :, columns])
    assert_close(moved, exact_plan(cost)[:, rows][:, :, columns], rtol=0, atol=1e-14)


@pytest.mark.parametrize(("n", "m"), SQUARE_OR_NOT)
def test_the_transposed_problem_has_the_transposed_unique_plan(n, m):
    cost = generators.random_costs(3, n, m)
    assert_close(exact_plan(cost.mT), exact_plan(cost).mT, rtol=0, atol=1e-14)


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 6), st.data())
def test_coarse_costs_full_of_ties_still_reach_the_optimum(n, data):
    entries = st.lists(st.integers(-3, 3), min_size=n * n, max_size=n * n)
    cost = torch.tensor(data.draw(entries), dtype=torch.float64).view(1, n, n)
    plan = exact_plan(cost)
    assert_marginals(plan)
    assert_close(objective(plan, cost)[0].item(), assignment_value(cost[0]), rtol=0, atol=1e-14)
    assert torch.equal(exact_plan(cost), plan)


@pytest.mark.parametrize(("n", "m"), SQUARE_OR_NOT)
def test_ties_are_broken_the_same_way_every_time(n, m):
    cost = generators.random_costs(4, n, m).round()  # zeros and ones
    assert torch.equal(exact_plan(cost), exact_plan(cost.clone()))


def test_of_equally_good_last_steps_the_lowest_column_wins():
    # 3 x 3, all costs equal. The last row takes column 0 (lowest of 0, 1, 2), the row before it
    # the lowest left, 1, and the first row column 2.
    expected = torch.tensor([[[0.0, 0, 1], [0, 1, 0], [1, 0, 0]]]) / 3
    assert torch.equal(exact_plan(torch.ones(1, 3, 3)), expected)
    # 2 x 2 with 0 + 3 = 1 + 2: the last row may take column 1 (cost 3) or 0 (cost 1 after 2).
    cost = torch.tensor([[[0.0, 2.0], [1.0, 3.0]]])
    assert torch.equal(exact_plan(cost), torch.tensor([[[0.0, 0.5], [0.5, 0.0]]]))


def test_no_problems_give_no_plans():
    assert exact_plan(torch.empty(0, 4, 4)).shape == (0, 4, 4)
    assert exact_plan(torch.empty(0, 9, 9, dtype=torch.float16)).dtype == torch.float32


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize(("n", "m"), [(4, 4), (3, 4)])
def test_half_precision_costs_give_the_float32_plan_of_the_same_numbers(n, m, dtype):
    cost = generators.random_costs(3, n, m, dtype)
    plan = exact_plan(cost)
    assert plan.dtype == torch.float32
    assert torch.equal(plan, exact_plan(cost.float()))


@pytest.mark.parametrize(("n", "m"), [(4, 4), (9, 9), (3, 4)])
def test_the_plan_carries_no_gradient_and_the_cost_stays_as_it_was(n, m):
    cost = generators.random_costs(3, m, n).mT.requires_grad_()  # not contiguous
    assert n == 1 or not cost.is_contiguous()
    before = cost.detach().clone()
    plan = exact_plan(cost)
    assert not plan.requires_grad
    assert torch.equal(cost.detach(), before)
    assert torch.equal(plan, exact_plan(before.contiguous()))


def test_it_runs_without_gradients_and_in_inference_mode():
    cost = generators.random_costs(3, 7, 7)
    with torch.inference_mode():
        inferred = exact_plan(cost)
    with torch.no_grad():
        assert torch.equal(exact_plan(cost), inferred)
    leaf = cost.clone().requires_grad_()
    (exact_plan(leaf) * leaf).sum().backward()
    assert torch.equal(leaf.grad, inferred)


def test_each_problem_of_a_batch_is_solved_by_itself():
    cost = generators.random_costs(5, 6, 6)
    assert torch.equal(exact_plan(cost), torch.cat([exact_plan(c[None]) for c in cost]))


@pytest.mark.parametrize("shape", [(4, 4), (2, 3, 4, 4), (2, 0, 4), (2, 4, 0)])
def test_another_shape_is_refused(shape):
    with pytest.raises(InputError, match=r"expects a cost \(B, n, m\)"):
        exact_plan(torch.zeros(shape))


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_costs_that_are_not_finite_are_refused(value):
    cost = torch.zeros(2, 3, 3)
    cost[1, 2, 0] = value
    with pytest.raises(InputError, match="finite"):
        exact_plan(cost)


def test_whole_numbers_are_refused_because_a_plan_has_fractions():
    with pytest.raises(InputError, match="floating"):
        exact_plan(torch.zeros(1, 2, 2, dtype=torch.long))

import itertools
import math
import re

import numpy as np
import ot
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import linear_sum_assignment
from tests.cases import cases
from tests.losses import generators
from tests.losses.generators import MARGINAL_TOLERANCE, OBJECTIVE_TOLERANCE
from torch.testing import assert_close

from cmemd.data.grouping import IdentityRows
from cmemd.errors import InputError
from cmemd.losses.alignment import PairAlignment
from cmemd.losses.transport import exact_plan
from cmemd.losses.transport.assignment import assignment_plan

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
    """Return SciPy's optimum, rows and columns split into lcm(n, m) shares."""
    n, m = cost.shape
    size = math.lcm(n, m)
    shares = np.repeat(np.repeat(cost.double().numpy(), size // n, 0), size // m, 1)
    return shares[linear_sum_assignment(shares)].sum() / size


@cases("dtype", [torch.float64, torch.float32])
@cases(("n", "m"), SMALL + LARGER)
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


@cases(("n", "m"), [(1, 5), (4, 4), (8, 8), (2, 4), (3, 4), (9, 9)])
def test_the_plan_is_pots_where_one_plan_is_optimal(n, m):
    cost = generators.random_costs(4, n, m)
    expected = torch.stack([torch.from_numpy(ot.emd([], [], c)) for c in cost.numpy()])
    assert_close(exact_plan(cost), expected, rtol=0, atol=1e-14)


@cases("n", [1, 2, 3, 4, 5])
def test_no_permutation_is_better(n):
    cost = generators.random_costs(5, n, n)
    permutations = torch.tensor(list(itertools.permutations(range(n))))  # (n!, n)
    values = cost[:, torch.arange(n), permutations].mean(-1)  # (B, n!)
    assert_close(objective(exact_plan(cost), cost), values.min(1).values, rtol=0, atol=1e-14)


@cases(
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


@cases(("n", "m"), SQUARE_OR_NOT)
@cases("make", [generators.tied, generators.zeros])
def test_equal_costs_give_a_plan_with_the_right_marginals(make, n, m):
    problem = make(n, m)
    plan = exact_plan(problem.cost)
    assert_marginals(plan)
    assert_close(objective(plan, problem.cost), problem.value)


@cases("n", range(1, 9))
def test_square_problems_get_a_vertex_of_the_birkhoff_polytope(n):
    plan = exact_plan(generators.random_costs(4, n, n))
    edges = plan > 0
    assert (edges.sum(1) == 1).all()
    assert (edges.sum(2) == 1).all()
    assert (plan[edges] == 1 / n).all()


@cases("m", [1, 2, 3, 8, 16])
def test_a_single_row_or_column_leaves_the_uniform_plan_only(m):
    cost = generators.random_costs(2, 1, m)
    uniform = torch.full_like(cost, 1 / m)
    assert_close(exact_plan(cost), uniform, rtol=0, atol=1e-16)
    assert_close(exact_plan(cost.mT), uniform.mT, rtol=0, atol=1e-16)


@cases(("n", "m"), SQUARE_OR_NOT)
@cases("offset", [1.0, -1.0, 1e6, -1e6])
def test_adding_a_constant_leaves_the_plan(n, m, offset):
    cost = generators.random_costs(3, n, m)
    assert_close(exact_plan(cost + offset), exact_plan(cost), rtol=0, atol=1e-14)


@cases(("n", "m"), SQUARE_OR_NOT)
def test_adding_a_constant_to_a_row_or_a_column_leaves_the_plan(n, m):
    cost = generators.random_costs(3, n, m)
    rows = 100 * generators.random_costs(3, n, 1)
    columns = -100 * generators.random_costs(3, 1, m)
    assert_close(exact_plan(cost + rows + columns), exact_plan(cost), rtol=0, atol=1e-14)


@cases(("n", "m"), SQUARE_OR_NOT)
@cases("factor", [1e-30, 1e-6, 7.0, 1e30])
def test_scaling_leaves_the_plan(n, m, factor):
    cost = generators.random_costs(3, n, m)
    assert_close(exact_plan(factor * cost), exact_plan(cost), rtol=0, atol=1e-14)


@cases(("n", "m"), SQUARE_OR_NOT)
def test_large_negative_costs_are_costs_like_others(n, m):
    cost = -1e12 * generators.random_costs(3, n, m)
    plan = exact_plan(cost)
    assert_marginals(plan)
    expected = torch.tensor([assignment_value(c) for c in cost], dtype=torch.float64)
    assert_close(objective(plan, cost), expected, rtol=1e-12, atol=0)


@cases(("n", "m"), SQUARE_OR_NOT)
def test_permuting_rows_and_columns_permutes_a_unique_plan(n, m):
    cost = generators.random_costs(1, n, m)
    rows = generators.random_permutations(1, n, seed=1)[0]
    columns = generators.random_permutations(1, m, seed=2)[0]
    moved = exact_plan(cost[:, rows][:, :, columns])
    assert_close(moved, exact_plan(cost)[:, rows][:, :, columns], rtol=0, atol=1e-14)


@cases(("n", "m"), SQUARE_OR_NOT)
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


@cases(("n", "m"), SQUARE_OR_NOT)
def test_ties_are_broken_the_same_way_every_time(n, m):
    cost = generators.random_costs(4, n, m).round()  # zeros and ones
    assert torch.equal(exact_plan(cost), exact_plan(cost.clone()))


def test_of_equally_good_last_steps_the_lowest_column_wins():
    # 3 x 3, all costs equal. The last row takes column 0 (lowest of 0, 1, 2), the row before it
    # the lowest left, 1, and the first row column 2.
    expected = torch.tensor([[[0.0, 0, 1], [0, 1, 0], [1, 0, 0]]]) / 3
    assert torch.equal(assignment_plan(torch.ones(1, 3, 3)), expected)
    # 2 x 2 with 0 + 3 = 1 + 2: the last row may take column 1 (cost 3) or 0 (cost 1 after 2).
    cost = torch.tensor([[[0.0, 2.0], [1.0, 3.0]]])
    assert torch.equal(assignment_plan(cost), torch.tensor([[[0.0, 0.5], [0.5, 0.0]]]))


def test_no_problems_give_no_plans():
    assert exact_plan(torch.empty(0, 4, 4)).shape == (0, 4, 4)
    assert exact_plan(torch.empty(0, 9, 9, dtype=torch.float16)).dtype == torch.float32


@cases("dtype", [torch.float16, torch.bfloat16])
@cases(("n", "m"), [(4, 4), (3, 4)])
def test_half_precision_costs_give_the_float32_plan_of_the_same_numbers(n, m, dtype):
    cost = generators.random_costs(3, n, m, dtype)
    plan = exact_plan(cost)
    assert plan.dtype == torch.float32
    assert torch.equal(plan, exact_plan(cost.float()))


@cases(("n", "m"), [(4, 4), (9, 9), (3, 4)])
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


def test_a_problem_alone_gets_the_plan_that_it_gets_in_a_batch():
    for seed in range(300):
        rng = np.random.default_rng(seed)
        size = (3, *rng.integers(1, 10, 2)) if seed % 2 else (3, *[int(rng.integers(1, 20))] * 2)
        ties, dtype = seed % 3, np.float32 if seed % 5 else np.float64
        cost = rng.integers(0, 4, size) if ties else rng.random(size)
        plans = exact_plan(torch.from_numpy(cost.astype(dtype)))
        for one, plan in zip(cost.astype(dtype), plans, strict=True):
            assert torch.equal(exact_plan(torch.from_numpy(one[None]))[0], plan), seed


def test_a_bad_cost_is_refused_wherever_it_stands():
    for dtype in (torch.float32, torch.float64):
        largest = torch.finfo(dtype).max
        for value in (math.nan, math.inf, -math.inf, largest, -largest / 32):
            for place in range(12):
                cost = torch.rand(2, 2, 3, dtype=dtype)
                cost.view(-1)[place] = value
                with pytest.raises(InputError, match="got NaN, infinity or a larger one: "):
                    exact_plan(cost)


@cases("shape", [(4, 4), (2, 3, 4, 4), (2, 0, 4), (2, 4, 0)])
def test_another_shape_is_refused(shape):
    words = f"expected a cost (B, n, m) with n, m >= 1, got shape {shape}: "
    with pytest.raises(InputError, match=re.escape(words)):
        exact_plan(torch.zeros(shape))


@cases("value", [math.nan, math.inf, -math.inf])
def test_costs_that_are_not_finite_are_refused(value):
    cost = torch.zeros(2, 3, 3)
    cost[1, 2, 0] = value
    with pytest.raises(InputError, match="expected finite costs of at most "):
        exact_plan(cost)


def test_integers_are_refused_because_a_plan_has_fractions():
    with pytest.raises(InputError, match="expected a floating-point cost, got torch.int64"):
        exact_plan(torch.zeros(1, 2, 2, dtype=torch.long))


# ---- every size, every scale

SCALES = ["ordinary", "ties", "negative", "offset", "largest", "smallest"]


def scaled_costs(scale, n, m, dtype):
    cost = generators.random_costs(2, n, m)
    largest = torch.finfo(dtype).max / 64
    return {
        "ordinary": cost,
        "ties": (3 * cost).round(),
        "negative": cost - 1,
        "offset": cost + 1e4,
        "largest": (2 * cost - 1) * 0.99 * largest,
        "smallest": cost * torch.finfo(dtype).tiny,
    }[scale].to(dtype)


@cases("dtype", [torch.float64, torch.float32])
@cases("scale", SCALES)
@cases("n", range(1, 17))
def test_the_value_is_pots_at_every_size_and_scale(n, scale, dtype):
    for m in range(n, 17, 1 if n < 9 else 3):
        cost = scaled_costs(scale, n, m, dtype)
        plan = exact_plan(cost)
        assert_marginals(plan)
        size = cost.double().abs().amax().item() or 1.0
        relative = cost.double() / size
        # POT's tolerances are absolute: it gets costs from 0 to 1.
        lowest = relative.min().item()
        spread = (relative - lowest).max().item() or 1.0
        pot = [spread * ot.emd2([], [], (c - lowest).numpy() / spread) + lowest for c in relative]
        expected = torch.tensor(pot, dtype=torch.float64)
        assert_close(objective(plan, relative), expected, rtol=0, atol=OBJECTIVE_TOLERANCE[dtype])


@cases("dtype", [torch.float64, torch.float32])
@cases("n", [4, 9])
def test_costs_whose_sums_overflow_are_refused(n, dtype):
    cost = torch.full((2, n, n), torch.finfo(dtype).max / 63, dtype=dtype)
    with pytest.raises(InputError, match="got NaN, infinity or a larger one: "):
        exact_plan(cost)
    with pytest.raises(InputError, match="got NaN, infinity or a larger one: "):
        exact_plan(-cost)


# ---- other marginals


@cases("dtype", [torch.float64, torch.float32])
@cases("total", [1.0, 1e-9, 1e9])
@cases(("n", "m"), [(1, 1), (1, 3), (4, 4), (3, 5), (8, 8), (16, 11)])
def test_own_marginals_are_met_at_pots_value(n, m, total, dtype):
    cost = generators.random_costs(3, n, m, dtype)
    a, b = generators.random_marginals(3, n, m, total)
    plan = exact_plan(cost, a.to(dtype), b.to(dtype))
    assert plan.dtype == dtype
    assert plan.min() >= 0
    tolerance = total * MARGINAL_TOLERANCE[dtype]
    assert_close(plan.sum(2).double(), a, rtol=0, atol=tolerance)
    assert_close(plan.sum(1).double(), b, rtol=0, atol=tolerance)
    problems = zip(a / total, b / total, cost.double(), strict=True)
    pot = [total * ot.emd2(*(x.numpy() for x in problem)) for problem in problems]
    expected = torch.tensor(pot, dtype=torch.float64)
    assert_close(objective(plan, cost), expected, rtol=0, atol=total * OBJECTIVE_TOLERANCE[dtype])


def test_own_marginals_by_hand():
    problem, a, b = generators.split_supply()
    plan = exact_plan(problem.cost, a, b)
    assert_close(plan, problem.plan)
    assert_close(objective(plan, problem.cost), problem.value)


@cases(("n", "m"), [(1, 1), (4, 4), (2, 4), (3, 4), (9, 9)])
def test_uniform_marginals_may_be_written_out(n, m):
    cost = generators.random_costs(3, n, m)
    a, b = (torch.full((3, size), 1 / size, dtype=torch.float64) for size in (n, m))
    expected = exact_plan(cost)
    for masses in ({"a": a}, {"b": b}, {"a": a, "b": b}):
        assert_close(exact_plan(cost, **masses), expected, rtol=0, atol=1e-14)


def test_a_row_without_mass_moves_nothing():
    cost = generators.random_costs(1, 3, 2)
    a = torch.tensor([[0.5, 0.0, 0.5]], dtype=torch.float64)
    plan = exact_plan(cost, a)
    assert torch.equal(plan[:, 1], torch.zeros(1, 2, dtype=torch.float64))
    assert_close(plan[:, [0, 2]], exact_plan(cost[:, [0, 2]]), rtol=0, atol=1e-15)


@cases(("n", "m"), [(4, 4), (3, 5), (9, 9)])
def test_a_mask_leaves_the_problem_of_the_rows_and_columns_it_keeps(n, m):
    cost = generators.random_costs(4, n, m)
    row_mask = torch.rand(4, n, generator=generators.seeded(1)) < 0.6
    column_mask = torch.rand(4, m, generator=generators.seeded(2)) < 0.6
    row_mask[:, 0] = column_mask[:, -1] = True
    assert not row_mask.all()
    assert not column_mask.all()
    plans = exact_plan(cost, row_mask=row_mask, column_mask=column_mask)
    for plan, full, rows, columns in zip(plans, cost, row_mask, column_mask, strict=True):
        expected = torch.zeros_like(full)
        kept = torch.meshgrid(rows.nonzero()[:, 0], columns.nonzero()[:, 0], indexing="ij")
        expected[kept] = exact_plan(full[kept][None])[0]
        assert_close(plan, expected, rtol=0, atol=1e-14)


def test_a_mask_of_one_side_by_hand():
    # Rows 0 and 2 share the mass, 1/2 each; either column takes 1/2: 0 -> 1 and 2 -> 0 cost 1 + 2,
    # 0 -> 0 and 2 -> 1 cost 5 + 9. Row 1, the cheapest by far, has no say.
    cost = torch.tensor([[[5.0, 1.0], [-9.0, -9.0], [2.0, 9.0]]])
    plan = exact_plan(cost, row_mask=torch.tensor([[True, False, True]]))
    assert torch.equal(plan, torch.tensor([[[0.0, 0.5], [0.0, 0.0], [0.5, 0.0]]]))


# ---- tracklets: many images of an identity, and another number of each modality

TRACKLETS = [(8, 24), (24, 16), (5, 19), (32, 96), (40, 64), (64, 64), (1, 100), (97, 3)]


def test_tracklets_reach_pots_value():
    for n, m in TRACKLETS:
        for dtype in (torch.float32, torch.float64):
            for scale in SCALES:
                case = f"{n} x {m}, {dtype}, {scale}"
                cost = scaled_costs(scale, n, m, dtype)
                plan = exact_plan(cost)
                assert plan.dtype == dtype, case
                assert plan.min() >= 0, case
                tolerance = 2 * MARGINAL_TOLERANCE[dtype]
                assert (n * plan.sum(2) - 1).abs().max() <= n * tolerance, case
                assert (m * plan.sum(1) - 1).abs().max() <= m * tolerance, case
                relative = cost.double() / cost.double().abs().amax()
                lowest = relative.amin()
                spread = (relative - lowest).amax()
                pot = [ot.emd2([], [], c.numpy()) for c in (relative - lowest) / spread]
                expected = spread * torch.tensor(pot, dtype=torch.float64) + lowest
                atol = OBJECTIVE_TOLERANCE[dtype]
                assert_close(objective(plan, relative), expected, rtol=0, atol=atol, msg=case)


def test_shares_of_tracklets_move_whole():
    # Where m = 3 n, each column has one third of a row: it comes from one row.
    plan = exact_plan(generators.random_costs(3, 8, 24))
    assert torch.equal((plan > 0).sum(1), torch.ones(3, 24, dtype=torch.long))
    assert torch.equal((plan > 0).sum(2), torch.full((3, 8), 3))


# ---- on the device: no synchronisation, few operations, compiled

TENSOR_SIZES = [(n, m) for n, m in SMALL if math.lcm(n, m) <= 8]


@cases("dtype", [torch.float64, torch.float32])
@cases("scale", SCALES)
@cases("n", range(1, 9))
def test_the_solver_of_accelerators_reaches_scipys_value(n, scale, dtype):
    cost = scaled_costs(scale, n, n, dtype)
    plan = assignment_plan(cost)
    assert_marginals(plan)
    size = cost.double().abs().amax().item() or 1.0
    relative = cost.double() / size
    expected = torch.tensor([assignment_value(c) for c in relative], dtype=torch.float64)
    assert_close(objective(plan, relative), expected, rtol=0, atol=OBJECTIVE_TOLERANCE[dtype])


@cases("n", range(1, 9))
def test_the_solver_of_accelerators_finds_a_unique_plan(n):
    cost = generators.random_costs(50, n, n)
    assert torch.equal(assignment_plan(cost), exact_plan(cost))
    assert torch.equal(assignment_plan(cost.mT), exact_plan(cost).mT)


@cases("n", range(1, 9))
def test_its_ties_give_the_later_rows_the_lower_columns(n):
    backwards = torch.eye(n).flip(1)[None] / n
    assert torch.equal(assignment_plan(torch.ones(2, n, n)), backwards.expand(2, n, n))


@cases(("n", "m"), TENSOR_SIZES)
def test_nothing_waits_for_an_accelerator(n, m):
    # A tensor without values: an operation that reads one (.item(), .cpu(), a branch) fails.
    cost = torch.empty(3, n, m, device="meta")
    plan = exact_plan(cost)
    assert plan.device.type == "meta"
    assert plan.shape == cost.shape


@cases(("n", "m"), [(4, 4), (2, 4), (7, 7), (8, 8)])
def test_it_compiles_to_one_graph(n, m):
    cost = generators.random_costs(5, n, m)
    compiled = torch.compile(exact_plan, fullgraph=True, dynamic=False, backend="eager")
    assert torch.equal(compiled(cost), assignment_plan(cost))
    # Where looking would break the graph, an assertion in it says the same.
    with pytest.raises(RuntimeError, match="expected finite costs"):
        compiled(cost * math.nan)


def launched(work):
    """Count the tensor operations that a call launches, without those inside other operations."""
    work()  # tables are made once
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as profile:
        work()
    own = (e for e in profile.events() if e.name.startswith("aten::"))
    return sum(e.cpu_parent is None or not e.cpu_parent.name.startswith("aten::") for e in own)


@cases(("k", "most"), [(4, 150), (8, 300)])
def test_alignment_launches_few_operations_for_any_batch(k, most):
    def alignment(identities, features):
        count = identities * 2 * k
        rows = torch.arange(count).view(2, identities, k)
        features_of = {
            name: torch.randn(count, number, 8, generator=generators.seeded(0))
            for name, number in (("global", 1), ("local", features), ("accumulated", features - 1))
        }
        align = PairAlignment(plan=assignment_plan)
        return launched(lambda: align(features_of, IdentityRows(*rows)))

    counts = {alignment(*size) for size in ((2, 2), (8, 2), (8, 6), (12, 6))}
    assert len(counts) == 1
    assert 0 < counts.pop() <= most


# ---- bad marginals

COST = torch.ones(2, 3, 4)
ROWS, COLUMNS = torch.full((2, 3), 1 / 3), torch.full((2, 4), 1 / 4)


def spoilt(masses, value):
    return masses.index_put((torch.tensor(1), torch.tensor(2)), torch.tensor(value))


BAD_MARGINALS = [
    ({"a": ROWS[:1]}, r"row marginal or mask of shape \(2, 3\), got \(1, 3\)"),
    ({"b": ROWS}, r"column marginal or mask of shape \(2, 4\), got \(2, 3\)"),
    ({"row_mask": COLUMNS > 0}, r"row marginal or mask of shape \(2, 3\), got \(2, 4\)"),
    ({"a": ROWS, "row_mask": ROWS > 0}, "of the rows, got both"),
    ({"column_mask": COLUMNS}, "boolean column mask, got torch.float32"),
    ({"row_mask": ROWS < 0}, "a problem without any mass"),
    ({"a": spoilt(ROWS, -0.1)}, "a negative one"),
    ({"b": spoilt(COLUMNS, math.nan)}, "NaN"),
    ({"b": spoilt(COLUMNS, math.inf)}, "same finite sum"),
    ({"a": spoilt(ROWS, math.inf)}, "same finite sum"),
    ({"a": 2 * ROWS}, "same finite sum"),
    ({"a": spoilt(ROWS, 0.3334)}, "same finite sum"),
]


@cases(("given", "message"), BAD_MARGINALS)
def test_impossible_marginals_are_refused(given, message):
    with pytest.raises(InputError, match=message):
        exact_plan(COST, **given)

"""Time of the transport solvers, against loops over POT, SciPy and lapx, and of the alignment term.

    python tests/benchmarks/bm_transport.py [--rounds 15]

Random costs. A loop takes the same tensor and gives the same plans, one problem at a time; "calls"
are SciPy's bare calls on NumPy arrays, without their results; "tensors" is the solver of
accelerators. Sinkhorn is compared with POT's batch and, where it is installed (`pip install
ott-jax`), with OTT-JAX. All are timed by turns of a few calls and compared by their medians, so
that other work on the machine slows all of them. On a GPU the loops bring the costs to the CPU and
the plans back.
"""

import argparse
import os
import platform
import statistics
import time
from collections.abc import Callable
from functools import partial

import lap
import numpy as np
import ot
import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor

from cmemd.data.grouping import IdentityRows
from cmemd.losses.alignment import PairAlignment
from cmemd.losses.transport import exact_plan, sinkhorn_plan
from cmemd.losses.transport.assignment import LARGEST, assignment_plan

PROBLEMS = 96  # 12 features (1 global, 6 local, 5 accumulated) x 8 identities
CALLS = 5  # a turn
FEATURES = {"global": (1, 2048), "local": (6, 256), "accumulated": (5, 256)}
BATCHES = {"64 images, 8 x (4 + 4)": (8, 4), "96 images, 6 x (8 + 8), sysu.yml": (6, 8)}


def main() -> None:
    """Print the machine and five tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=15, help="measurements of each, in turn")
    rounds = parser.parse_args().rounds
    device = "cuda" if torch.cuda.is_available() else "cpu"
    print(
        f"{len(os.sched_getaffinity(0))} cores ({platform.machine()}), load "
        f"{os.getloadavg()[0]:.1f}, torch {torch.__version__}, {device}, "
        f"{torch.get_num_threads()} threads, POT {ot.__version__}"
    )

    loops = {
        "calls": lambda cost: list(map(linear_sum_assignment, cost.cpu().numpy())),
        "SciPy": lambda cost: loop(cost, scipy_plan),
        "lapx": lambda cost: loop(cost, lapx_plan),
        "POT": lambda cost: loop(cost, pot_plan),
        "tensors": assignment_plan,
    }
    for dtype in (torch.float32, torch.float64):
        print(f"\nsquares, {dtype}: exact_plan in ms, and how many times faster it is than")
        print(f"{'K':>4}{'problems':>10}{'exact_plan':>12}" + "".join(f"{x:>9}" for x in loops))
        for k in (1, 2, 4, 8, 16, 32, 64, 128):
            for batch in (1, 24, PROBLEMS, 768) if k <= 8 else (1, PROBLEMS if k < 128 else 24):
                cost = torch.rand(batch, k, k, dtype=dtype, device=device)
                names = [name for name in loops if k <= LARGEST or name != "tensors"]
                print(f"{k:>4}{batch:>10}" + ratios(exact_plan, names, loops, cost, rounds, 12))

    print(f"\nrectangles, 24 problems, {device}: the same")
    print(f"{'n x m':>10}{'exact_plan':>12}{'POT':>9}")
    for n, m in ((2, 4), (3, 4), (7, 8), (8, 24), (16, 24), (16, 64), (15, 16), (32, 96), (48, 64)):
        cost = torch.rand(24, n, m, device=device)
        print(f"{f'{n} x {m}':>10}" + ratios(exact_plan, ["POT"], loops, cost, rounds, 12))

    print("\nsinkhorn_plan, epsilon 0.05, 200 iterations: ms, and how many times faster it is than")
    others = {"POT": pot_batch, **ott_solvers()}
    print(f"{'K':>4}{'problems':>10}{'ours':>12}" + "".join(f"{name:>12}" for name in others))
    for k, batch in ((4, PROBLEMS), (8, PROBLEMS), (16, PROBLEMS), (32, PROBLEMS), (8, 768)):
        cost = torch.rand(batch, k, k, device=device)
        works = ratios(
            partial(sinkhorn_plan, epsilon=0.05),
            list(others),
            others,
            cost,
            max(3, rounds // 3),
            12,
        )
        print(f"{k:>4}{batch:>10}{works}")

    print("\nalignment term of 12 features, forward and backward, ms")
    for name, (identities, k) in BATCHES.items():
        (ours,) = medians([alignment_step(identities, k, device)], rounds)
        print(f"{name} {ours:8.2f}")


def ratios(
    ours: Callable,
    names: list[str],
    others: dict[str, Callable],
    cost: Tensor,
    rounds: int,
    width: int,
) -> str:
    """Return our time in ms and the others' by ours, as columns of a table."""
    works = [partial(ours, cost), *(partial(others[name], cost) for name in names)]
    time_of_ours, *times = medians(works, rounds)
    columns = "".join(f"{other / time_of_ours:8.1f}x" for other in times)
    return f"{time_of_ours:{width}.3f}{columns}"


def loop(cost: Tensor, plan: Callable[[np.ndarray], np.ndarray]) -> Tensor:
    """Return plans (B, K, K), problem by problem."""
    return torch.from_numpy(np.stack([plan(problem) for problem in cost.cpu().numpy()])).to(cost)


def pot_plan(cost: np.ndarray) -> np.ndarray:
    """Return the plan (K, K) by the network simplex."""
    return ot.emd([], [], cost.astype(np.float64))


def scipy_plan(cost: np.ndarray) -> np.ndarray:
    """Return the plan (K, K) by the assignment solver."""
    plan = np.zeros_like(cost)
    plan[linear_sum_assignment(cost)] = 1 / len(cost)
    return plan


def lapx_plan(cost: np.ndarray) -> np.ndarray:
    """Return the plan (K, K) by lapx's solver of one problem."""
    plan = np.zeros_like(cost)
    plan[lap.lapjvr(cost, return_cost=False)] = 1 / len(cost)
    return plan


def pot_batch(cost: Tensor) -> Tensor:
    """Return POT's entropic plans of a batch, by as many iterations."""
    return ot.solve_batch(cost, 0.05, max_iter=200, tol=0, method="log_sinkhorn").plan


def ott_solvers() -> dict[str, Callable[[Tensor], object]]:
    """Return OTT-JAX's compiled solvers, where it is installed: in the log domain, and kernels."""
    try:
        import jax
        from ott.geometry.geometry import Geometry
        from ott.problems.linear.linear_problem import LinearProblem
        from ott.solvers.linear.sinkhorn import Sinkhorn
    except ImportError:
        return {}

    def solver(log_domain: bool) -> Callable[[Tensor], object]:
        solve = Sinkhorn(threshold=-1, min_iterations=200, max_iterations=200, lse_mode=log_domain)
        plans = jax.jit(
            jax.vmap(lambda cost: solve(LinearProblem(Geometry(cost, epsilon=0.05))).matrix)
        )
        return lambda cost: plans(cost.cpu().numpy()).block_until_ready()

    return {"OTT-JAX": solver(True), "its kernels": solver(False)}


def alignment_step(identities: int, k: int, device: str) -> Callable[[], None]:
    """Return a forward and backward pass of CM-EMD on random features of every granularity."""
    count = identities * 2 * k
    rows = IdentityRows(*torch.arange(count, device=device).view(2, identities, k))
    features = {
        name: torch.randn(count, *dims, device=device, requires_grad=True)
        for name, dims in FEATURES.items()
    }
    align = PairAlignment()
    return lambda: sum(align(features, rows).terms.values()).backward()


def medians(works: list[Callable[[], object]], rounds: int) -> list[float]:
    """Return the median time of a call of each in ms, alternating, after one warm-up turn."""
    spent: list[list[float]] = [[] for _ in works]
    for _ in range(rounds + 1):
        for work, times in zip(works, spent, strict=True):
            start = time.perf_counter()
            for _ in range(CALLS):
                work()
            if torch.cuda.is_available():
                torch.cuda.synchronize()
            times.append(1000 * (time.perf_counter() - start) / CALLS)
    return [statistics.median(times[1:]) for times in spent]


if __name__ == "__main__":
    main()

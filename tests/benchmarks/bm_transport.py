"""Time of the transport solvers, against loops over POT and SciPy, and of the alignment term.

    python tests/benchmarks/bm_transport.py [--rounds 15]

Random float32 costs, K x K. A loop takes the same tensor and gives the same plans, one problem at a
time; "calls" are SciPy's bare calls on NumPy arrays, without their results; "tensors" is the
solver of accelerators, which the CPU uses up to K = 4. All are timed by turns of a few calls and
compared by their medians, so that other work on the machine slows all of them. On a GPU the loops
bring the costs to the CPU and the plans back.
"""

import argparse
import os
import platform
import statistics
import time
from collections.abc import Callable
from functools import partial

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
    """Print the machine and four tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=15, help="measurements of each, in turn")
    rounds = parser.parse_args().rounds
    device = "cuda" if torch.cuda.is_available() else "cpu"
    print(
        f"{len(os.sched_getaffinity(0))} cores ({platform.machine()}), load "
        f"{os.getloadavg()[0]:.1f}, torch {torch.__version__}, {device}, "
        f"{torch.get_num_threads()} threads, POT {ot.__version__}"
    )

    print(f"\n{PROBLEMS} problems, ms (times faster exact_plan is)")
    others = {
        "ot.emd": lambda cost: loop(cost, pot_plan),
        "SciPy": lambda cost: loop(cost, scipy_plan),
        "calls": lambda cost: [linear_sum_assignment(problem) for problem in cost.numpy()],
        "tensors": assignment_plan,
    }
    print(f"{'K':>3} {'exact_plan':>11}" + "".join(f"{name:>16}" for name in others))
    for k in (*range(1, 9), 16):
        names = [name for name in others if k <= LARGEST or name != "tensors"]
        cost = torch.rand(PROBLEMS, k, k)
        works = [partial(exact_plan, cost.to(device))]
        works += [partial(others[name], cost) for name in names]
        ours, *theirs = medians(works, rounds)
        columns = "".join(f"{other:8.3f} ({other / ours:5.1f})" for other in theirs)
        print(f"{k:>3} {ours:11.3f} {columns}")

    print("\nby the number of problems, ms (times faster than the SciPy loop)")
    for k in (4, 8):
        for batch in (1, 24, 96, 384, 1536):
            cost = torch.rand(batch, k, k, device=device)
            solvers = (exact_plan, assignment_plan, others["SciPy"])
            ours, tensors, scipy = medians([partial(solve, cost) for solve in solvers], rounds)
            print(
                f"K = {k}, {batch:4d} problems: exact_plan {ours:7.3f} ({scipy / ours:.1f}), "
                f"tensors {tensors:7.3f} ({scipy / tensors:.1f})"
            )

    print(f"\nsinkhorn_plan, 200 iterations, {PROBLEMS} problems, ms")
    for k in (4, 8):
        cost = torch.rand(PROBLEMS, k, k, device=device)
        (ours,) = medians([partial(sinkhorn_plan, cost, 0.05)], max(3, rounds // 5))
        print(f"K = {k} {ours:8.1f}")

    print("\nalignment term of 12 features, forward and backward, ms")
    for name, (identities, k) in BATCHES.items():
        (ours,) = medians([alignment_step(identities, k, device)], rounds)
        print(f"{name} {ours:8.2f}")


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

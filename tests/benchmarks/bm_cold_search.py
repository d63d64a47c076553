"""Time of a cold ``cmemd search``: this checkout against another, processes in turn.

    git worktree add /tmp/before 31d1cb0
    python tests/benchmarks/bm_cold_search.py /tmp/before --model M --gallery G --image Q

Prints the median wall and processor time of a process in each, and the ratio. Both search the same
gallery with the same model, so name one that both can read.
"""

import argparse
import os
import resource
import statistics
import subprocess
import sys
import time
from pathlib import Path

HERE = Path(__file__).parents[2]


def main() -> None:
    """Print medians of the runs and the ratios of these medians."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("before", type=Path, help="another checkout")
    for name in ("model", "gallery", "image"):
        parser.add_argument(f"--{name}", required=True)
    parser.add_argument("--modality", default="thermal")
    parser.add_argument("--runs", type=int, default=10)
    args = parser.parse_args()
    words = ["search", "--model", args.model, "--gallery", args.gallery, "--image", args.image]
    words += ["--modality", args.modality, "--in", "all"]
    checkouts = {"before": args.before, "now": HERE}
    times = {name: [] for name in checkouts}
    for number in range(args.runs + 1):
        for name, checkout in checkouts.items():
            taken = run(checkout, words)
            if number:  # the first fills the caches of files
                times[name].append(taken)
    medians = {
        name: [statistics.median(column) for column in zip(*of, strict=True)]
        for name, of in times.items()
    }
    for place, what in enumerate(("wall", "processor")):
        before, now = medians["before"][place], medians["now"][place]
        print(f"{what}: before {before:.2f} s, now {now:.2f} s, ratio {now / before:.2f}")


def run(checkout: Path, words: list[str]) -> tuple[float, float]:
    """Return the wall and processor seconds of a command in a process of its own."""
    environment = os.environ | {"PYTHONPATH": str(checkout / "projects/CMEMD")}
    began, before = time.perf_counter(), resource.getrusage(resource.RUSAGE_CHILDREN)
    program = "import sys; from cmemd.cli.main import main; sys.exit(main())"
    subprocess.run(
        [sys.executable, "-c", program, *words], env=environment, check=True, capture_output=True
    )
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    spent = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return time.perf_counter() - began, spent


if __name__ == "__main__":
    main()

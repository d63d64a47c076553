"""``cmemd ablate``: train variants over several seeds and compare them."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from cmemd.study.ablation import Variant
    from cmemd.study.weight_search import Candidate

__all__ = ["HELP", "add_arguments", "run"]

HELP = "train and test several configurations over several seeds, and compare them"

_REPORTS = {
    "table.txt": b"Variant",
    "power.txt": b"Comparison",
    "search.txt": b"Variant",
    "study.png": b"\x89PNG",
}
_QUICK = ("SOLVER.MAX_EPOCH", "1", "TEST.EVAL_PERIOD", "1")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.add_argument(
        "--configs",
        nargs="+",
        type=Path,
        required=True,
        metavar="YAML",
        help="one per variant; the first is the baseline",
    )
    parser.add_argument(
        "--seeds",
        nargs="+",
        type=int,
        default=[0, 1, 2],
        metavar="N",
        help="each variant trains once per seed (default: 0 1 2)",
    )
    parser.add_argument(
        "--weights",
        nargs="+",
        type=float,
        metavar="W",
        help="first search over these MODEL.LOSSES.ALIGN.WEIGHTs: variants with an alignment term "
        "train without the validation identities, with a seed of their own; each variant then "
        "continues with the weight of its best validation mAP",
    )
    parser.add_argument(
        "--detect",
        type=float,
        default=1.0,
        metavar="POINTS",
        help="difference of mAP that the study should find; the number of seeds that this takes is "
        "printed before and after (default: 1)",
    )
    parser.add_argument(
        "--deviation",
        type=float,
        metavar="POINTS",
        help="expected standard deviation between paired differences of mAP (default: the largest "
        "among finished runs of --output, or else 2.5)",
    )
    parser.add_argument("--jobs", type=int, default=1, help="number of runs at a time (default: 1)")
    parser.add_argument(
        "--output", type=Path, required=True, metavar="DIR", help="folder for runs, table and plot"
    )
    parser.add_argument(
        "--quick",
        action="store_true",
        help="test in minutes whether everything runs: first seed, one epoch; metrics mean little",
    )
    parser.add_argument(
        "--script",
        type=Path,
        metavar="F",
        help="a training script, such as tools/train_net.py (default: cmemd train)",
    )
    parser.add_argument(
        "opts", nargs=argparse.REMAINDER, metavar="KEY VALUE", help="override every configuration"
    )


def run(args: argparse.Namespace) -> int:
    """Run what is not done, print and write the table and the plot; return 1 if a run failed.

    Raises:
        InputError: see ``plan_study`` and ``plan_search``; or no such script.
    """
    from cmemd.errors import InputError
    from cmemd.files import one_writer
    from cmemd.paths import check_output, check_place
    from cmemd.study.ablation import (
        USUAL_DEVIATION,
        check_seeds,
        describe_power,
        measured_deviation,
        plan_study,
    )
    from cmemd.study.weight_search import chosen_weights, plan_search

    if args.script is not None and not args.script.is_file():
        raise InputError(
            f"the training script at {args.script}",
            "no such file",
            "leave --script out: then cmemd train runs",
        )
    for name, least, most in (("detect", 0.1, 100.0), ("deviation", 0.01, 100.0)):
        points = getattr(args, name)
        if points is not None and not least <= points <= most:  # NaN too
            raise InputError(
                f"--{name} from {least:g} to {most:g} points", points, f"change --{name}"
            )
    if args.jobs < 1:
        raise InputError("--jobs of at least 1", args.jobs, "leave it out for one at a time")
    for config in args.configs:
        if config.suffix not in (".yml", ".yaml"):
            raise InputError(
                "yaml files after --configs",
                config,
                "KEY VALUE pairs go to the end, behind another option such as --jobs 1",
            )
    seeds, opts = args.seeds, args.opts
    if args.quick:
        seeds, opts = seeds[:1], [*opts, *_QUICK]
    check_seeds(seeds)
    candidates = []
    if args.weights:
        candidates = plan_search(args.configs, args.weights, max(seeds) + 1, args.output, opts)

    def planned() -> "list[Variant]":
        """Return the variants whose weights are known."""
        weights = chosen_weights(candidates)
        unknown = {candidate.variant for candidate in candidates} - weights.keys()
        ready = [config for config in args.configs if config.stem not in unknown]
        return plan_study(ready, seeds, args.output, opts, weights) if ready else []

    variants = planned()  # raises for bad input before any work
    for name, mark in _REPORTS.items():
        check_place(args.output / name)
        check_output(args.output / name, mark)
    args.output.mkdir(parents=True, exist_ok=True)
    deviation = args.deviation or measured_deviation(variants) or USUAL_DEVIATION
    print(describe_power(deviation, len(seeds), args.detect) + "\n")
    with one_writer(args.output):
        return _run_and_compare(args, candidates, planned)


def _run_and_compare(
    args: argparse.Namespace, candidates: "list[Candidate]", planned: "Callable[[], list[Variant]]"
) -> int:
    from cmemd.engine.runs import run_all
    from cmemd.study.ablation import in_turn
    from cmemd.study.weight_search import search_table

    failed = run_all([candidate.run for candidate in candidates], args.script, args.jobs)
    if candidates:
        _report(search_table(candidates), args.output / "search.txt")
    variants = planned()
    failed += run_all(in_turn(variants), args.script, args.jobs)
    if variants and variants[0].name == args.configs[0].stem:  # differences need the baseline
        _compare(variants, args.output, args.detect)
    for job in failed:
        print(f"failed: {job.name}, see {job.folder / 'output.txt'}")
    return 1 if failed else 0


def _compare(variants: "list[Variant]", output: Path, detect: float) -> None:
    from cmemd.study.ablation import SHOWN, power_table, study_table
    from cmemd.study.figures import draw_rows

    _report(study_table(variants), output / "table.txt")
    if len(variants) > 1:
        _report(power_table(variants, detect), output / "power.txt")
    metrics = [variant.metrics() for variant in variants]
    panels = {
        f"{name} (%)": [values[:, place] for values in metrics] for place, name in enumerate(SHOWN)
    }
    draw_rows([variant.name for variant in variants], panels, output / "study.png")


def _report(table: str, path: Path) -> None:
    from cmemd.files import write_whole

    print(table + "\n")
    write_whole(path, (table + "\n").encode())

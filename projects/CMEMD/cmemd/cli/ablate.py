"""``cmemd ablate``: trains variants over seeds and compares them."""

import argparse
from pathlib import Path

HELP = "train and test several configurations over several seeds, and compare them"

_QUICK = ("SOLVER.MAX_EPOCH", "1", "TEST.EVAL_PERIOD", "1")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.add_argument(
        "--configs",
        nargs="+",
        type=Path,
        required=True,
        metavar="YAML",
        help="the first is the baseline",
    )
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2], metavar="N")
    parser.add_argument("--jobs", type=int, default=1, help="runs at a time (default: 1)")
    parser.add_argument("--output", type=Path, required=True, metavar="DIR")
    parser.add_argument(
        "--quick",
        action="store_true",
        help="the first seed and one epoch: whether all runs, in minutes; its figures mean little",
    )
    parser.add_argument(
        "--script",
        type=Path,
        default=Path("tools/train_net.py"),
        help="what trains (default: tools/train_net.py)",
    )
    parser.add_argument(
        "opts", nargs=argparse.REMAINDER, metavar="KEY VALUE", help="over every configuration"
    )


def run(args: argparse.Namespace) -> int:
    """Run what is not done, print and write the table and the plot; 1 if a run failed.

    Raises:
        InputError: see ``plan_study``; or no such script.
    """
    from cmemd.errors import InputError
    from cmemd.evaluation.results import write_whole
    from cmemd.study.ablation import plan_study, run_study, study_table
    from cmemd.study.ablation_figure import draw_study

    if not args.script.is_file():
        raise InputError(
            f"expected the training script at {args.script}, found none: start this command in the "
            "checkout's folder, or name it with --script"
        )
    seeds, opts = args.seeds, args.opts
    if args.quick:
        seeds, opts = seeds[:1], [*opts, *_QUICK]
    variants = plan_study(args.configs, seeds, args.output, opts)
    failed = run_study(variants, args.script, args.jobs)
    table = study_table(variants)
    print(table)
    write_whole(args.output / "table.txt", (table + "\n").encode())
    draw_study(variants, args.output / "study.png")
    for job in failed:
        print(f"failed: {job.name}, see {job.folder / 'output.txt'}")
    return 1 if failed else 0

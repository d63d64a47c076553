"""``cmemd clouds``: the picture of what transport spares and uniform weights destroy."""

import argparse
from pathlib import Path

HELP = "draw the two-dimensional case where uniform alignment does damage"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.add_argument("--output", type=Path, required=True, metavar="PNG")
    parser.add_argument("--seed", type=int, default=0)


def run(args: argparse.Namespace) -> int:
    """Draw it and print each panel's Rank-1; the exit status."""
    from cmemd.study.clouds_figure import draw_clouds_figure

    for title, value in draw_clouds_figure(args.output, args.seed).items():
        print(f"{title}: Rank-1 {100 * value:.1f} %")
    return 0

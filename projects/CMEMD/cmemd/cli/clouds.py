"""``cmemd clouds``: draw a case where uniform alignment does damage and transport does not."""

import argparse
from pathlib import Path

__all__ = ["HELP", "add_arguments", "run"]

HELP = "draw the two-dimensional case where uniform alignment does damage"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.add_argument(
        "--output", type=Path, required=True, metavar="PNG", help="the picture to write"
    )
    parser.add_argument("--seed", type=int, default=0, help="seed of the points (default: 0)")


def run(args: argparse.Namespace) -> int:
    """Draw the picture, print the Rank-1 of each panel; return the exit status.

    Raises:
        InputError: the picture cannot be written.
    """
    from cmemd.study.figures import draw_clouds_figure

    for title, value in draw_clouds_figure(args.output, args.seed).items():
        print(f"{title}: Rank-1 {100 * value:.1f} %")
    return 0

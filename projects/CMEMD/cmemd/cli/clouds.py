"""``cmemd clouds``: draw a case where uniform alignment does damage and transport does not."""

import argparse
from pathlib import Path

__all__ = ["HELP", "add_arguments", "run"]

HELP = "draw the two-dimensional case where uniform alignment does damage"

_SEEDS = 2**63  # of PyTorch's generator


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.add_argument(
        "--output", type=Path, required=True, metavar="PNG", help="the picture to write"
    )
    parser.add_argument("--seed", type=int, default=0, help="seed of the points (default: 0)")


def run(args: argparse.Namespace) -> int:
    """Draw the picture, print the Rank-1 of each panel; return the exit status.

    Raises:
        InputError: a seed out of range, or a picture that cannot be written.
    """
    from cmemd.errors import InputError
    from cmemd.paths import check_picture

    if not 0 <= args.seed < _SEEDS:
        raise InputError(f"a --seed from 0 to {_SEEDS - 1}", args.seed, "leave it out for 0")
    check_picture(args.output)
    from cmemd.study.figures import draw_clouds_figure  # imports PyTorch, which takes seconds

    for title, value in draw_clouds_figure(args.output, args.seed).items():
        print(f"{title}: Rank-1 {100 * value:.1f} %")
    return 0

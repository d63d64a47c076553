"""``cmemd report``: the page of a run."""

import argparse
from pathlib import Path

__all__ = ["HELP", "add_arguments", "run"]

HELP = "write the page of a run: one HTML file with metrics, curves, rankings and transport plans"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.add_argument(
        "--run",
        required=True,
        type=Path,
        dest="folder",
        metavar="OUTPUT_DIR",
        help="folder of a training or an evaluation, finished or not",
    )
    parser.add_argument(
        "--compare",
        nargs="+",
        type=Path,
        default=[],
        metavar="RUN2",
        help="folders of other runs, set beside it with paired intervals; default: none",
    )
    parser.add_argument(
        "--output",
        required=True,
        type=Path,
        metavar="DIR",
        help="folder of the page, which becomes its index.html; or a name that ends in .html",
    )
    parser.add_argument(
        "--images",
        type=Path,
        metavar="DIR",
        help="the data set's folder, where images are no longer where the run found them",
    )
    parser.add_argument(
        "--seed",
        type=int,
        default=0,
        metavar="N",
        help="of what is drawn at random: queries, identities, the map (default: 0)",
    )


def run(args: argparse.Namespace) -> int:
    """Write the page and print its path; return the exit status.

    Raises:
        InputError: see ``write_report``.
    """
    from cmemd.report.page import write_report

    path = write_report(
        args.folder, args.output, compare=args.compare, images=args.images, seed=args.seed
    )
    print(f"page of the run: {path} ({path.stat().st_size / 1e6:.1f} MB)")
    return 0

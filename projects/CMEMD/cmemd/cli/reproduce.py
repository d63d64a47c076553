"""``cmemd reproduce``: published results, how to reproduce each, and what came out."""

import argparse
import os
from pathlib import Path

__all__ = ["HELP", "add_arguments", "run"]

HELP = "list published results, the command for each, and which of your results reproduce them"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.add_argument("table", metavar="TABLE", help="sysu or regdb")
    parser.add_argument(
        "--root",
        type=Path,
        default=Path("logs/reproduce"),
        metavar="DIR",
        help="folder of the runs (default: logs/reproduce)",
    )
    parser.add_argument(
        "--card",
        default="RTX 3090",
        metavar="NAME",
        help='whose least training time is shown (default: "RTX 3090")',
    )


def run(args: argparse.Namespace) -> int:
    """Print the table; return 0.

    Raises:
        InputError: an unknown table or card, no folder, or a damaged results file.
    """
    from cmemd.errors import InputError
    from cmemd.study.published import CARDS, format_reproduction, read_table

    rows = read_table(args.table)
    if args.card not in CARDS:
        raise InputError(f"--card of {', '.join(CARDS)}", args.card, "name one of them")
    if os.path.lexists(args.root) and not args.root.is_dir():
        raise InputError(f"a folder of runs at {args.root}", "something else", "change --root")
    print(format_reproduction(rows, args.root, args.card))
    return 0

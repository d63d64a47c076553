"""``cmemd doctor``: examine a copy of a data set."""

import argparse
import json
from pathlib import Path

from cmemd.doctor import EXAMINERS
from cmemd.errors import InputError

__all__ = ["HELP", "add_arguments", "run"]

HELP = "examine a copy of a data set: exit status 0 if it is usable, 1 if not"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.add_argument(
        "--layout", required=True, choices=EXAMINERS, help="data set whose folders are expected"
    )
    parser.add_argument("--root", required=True, type=Path, help="the data set's own folder")
    parser.add_argument(
        "--json", type=Path, metavar="OUT", help="also write all findings, with every case, to OUT"
    )


def run(args: argparse.Namespace) -> int:
    """Print counts and findings; return 0 if the data set is usable, 1 if not.

    Raises:
        InputError: a root that is no folder, or a JSON file that cannot be written.
    """
    from cmemd.doctor import examine  # imports Pillow and NumPy, which slow every command's start

    if args.json and (args.json.is_dir() or not args.json.parent.is_dir()):
        raise InputError(
            "a file in an existing folder for --json",
            args.json,
            "make its folder, or name a file",
        )
    report = examine(args.layout, args.root)
    print(report.to_text())
    if args.json:
        args.json.write_text(json.dumps(report.to_dict(), indent=2) + "\n", encoding="utf-8")
    return 0 if report.usable else 1

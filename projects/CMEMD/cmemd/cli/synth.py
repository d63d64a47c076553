"""``cmemd synth``: draw a stand-in data set."""

import argparse
import pkgutil
import re

from cmemd.errors import InputError, printable
from cmemd.standin import STANDINS

__all__ = ["HELP", "add_arguments", "run"]

HELP = "draw a stand-in data set in a genuine layout"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.add_argument(
        "--layout", required=True, choices=STANDINS, help="data set whose folders are imitated"
    )
    parser.add_argument("--root", required=True, help="the data set's own folder, to be made")
    parser.add_argument("--ids", type=int, default=100, help="number of people (default: 100)")
    parser.add_argument(
        "--per-camera",
        type=int,
        default=10,
        help="images per person and camera; for regdb, per person and modality (default: 10)",
    )
    parser.add_argument("--size", default="144x72", help="mean HxW in pixels (default: 144x72)")
    parser.add_argument("--seed", type=int, default=0, help="same seed, same bytes (default: 0)")
    parser.add_argument(
        "--view-variation",
        type=float,
        default=0.0,
        metavar="V",
        help="how much the four sides of a person differ, 0 to 1 (default: 0)",
    )


def run(args: argparse.Namespace) -> int:
    """Draw the data set; return the exit status.

    Raises:
        InputError: a malformed --size, or what the drawing raises.
    """
    size = re.fullmatch(r"([0-9]{1,9})x([0-9]{1,9})", args.size)
    if size is None:
        raise InputError("--size as HxW", repr(args.size), "write it as in 144x72")
    height, width = map(int, size.groups())
    draw = pkgutil.resolve_name(STANDINS[args.layout])
    draw(
        args.root,
        ids=args.ids,
        per_camera=args.per_camera,
        size=(height, width),
        seed=args.seed,
        view_variation=args.view_variation,
    )
    print(f"drew {args.ids} people into {printable(args.root)}")
    return 0

"""``cmemd synth``: draws a stand-in data set."""

import argparse
import re

from cmemd.errors import InputError

HELP = "draw a stand-in data set in a genuine layout"
LAYOUTS = ("sysu", "regdb", "llcm")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the command's arguments."""
    parser.add_argument("--layout", required=True, choices=LAYOUTS, help="whose folders to draw")
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


def run(args: argparse.Namespace) -> int:
    """Draws the data set; the exit status."""
    from cmemd import standin

    size = re.fullmatch(r"(\d+)x(\d+)", args.size)
    if size is None:
        raise InputError(f"expected --size as HxW, such as 144x72, got {args.size!r}")
    height, width = map(int, size.groups())
    draw = {
        "sysu": standin.draw_sysu,
        "regdb": standin.draw_regdb,
        "llcm": standin.draw_llcm,
    }
    draw[args.layout](
        args.root,
        ids=args.ids,
        per_camera=args.per_camera,
        size=(height, width),
        seed=args.seed,
    )
    print(f"drew {args.ids} people into {args.root}")
    return 0

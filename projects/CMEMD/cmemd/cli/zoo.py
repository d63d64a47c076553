"""``cmemd zoo``: write the page of released models."""

import argparse
from pathlib import Path

__all__ = ["HELP", "add_arguments", "run"]

HELP = "write MODEL_ZOO.md from the index of released models"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.add_argument("--index", type=Path, metavar="F.yml", help="default: the package's index")
    parser.add_argument(
        "--output",
        type=Path,
        default=Path("MODEL_ZOO.md"),
        metavar="F.md",
        help="default: %(default)s",
    )


def run(args: argparse.Namespace) -> int:
    """Write the page and return the exit status.

    Raises:
        InputError: the index cannot be read, or the page cannot be written, or is another file.
    """
    from cmemd.inference.zoo import INDEX, read_zoo, write_zoo_page

    entries = read_zoo(args.index or INDEX)
    write_zoo_page(entries, args.output)
    print(f"wrote {len(entries)} models to {args.output}")
    return 0

"""``cmemd zoo``: writes the page of released models."""

import argparse
from pathlib import Path

HELP = "write MODEL_ZOO.md from the index of released models"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the command's arguments."""
    parser.add_argument("--index", type=Path, metavar="F.yml", help="default: the package's own")
    parser.add_argument(
        "--output", type=Path, default=Path("MODEL_ZOO.md"), help="default: MODEL_ZOO.md"
    )


def run(args: argparse.Namespace) -> int:
    """Writes the page; the exit status.

    Raises:
        InputError: The index cannot be read, or the page not be written.
    """
    from cmemd.files import write_whole
    from cmemd.inference.zoo import INDEX, read_index, zoo_page

    entries = read_index(args.index or INDEX)
    write_whole(args.output, zoo_page(entries).encode())
    print(f"wrote {len(entries)} models to {args.output}")
    return 0

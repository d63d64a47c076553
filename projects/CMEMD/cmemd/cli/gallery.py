"""``cmemd gallery``: show and maintain a gallery."""

import argparse
from typing import TYPE_CHECKING, Any

from cmemd.errors import InputError

if TYPE_CHECKING:
    from lancedb.expr import Expr

__all__ = ["HELP", "add_arguments", "run"]

HELP = "show a gallery, remove rows from it, index or compact it"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's actions and their arguments."""
    actions = parser.add_subparsers(dest="action", required=True, metavar="action")
    for name, text in {
        "info": "show counts, time span, index and bytes",
        "remove": "remove the rows that fit all given options; compact deletes them from disk",
        "index": "build the approximate index of a large gallery again",
        "compact": "delete removed rows, old versions and leftovers from disk",
    }.items():
        action = actions.add_parser(name, help=text, description=text)
        action.add_argument("gallery", metavar="G")
        if name == "info":
            action.add_argument("--json", action="store_true", help="print JSON")
        if name == "remove":
            _add_filter(action)


def _add_filter(parser: argparse.ArgumentParser) -> None:
    for name in ("path", "identity", "camera"):
        parser.add_argument(
            f"--{name}", action="append", default=[], help="any of several if repeated"
        )
    parser.add_argument("--before", metavar="TIME", help="taken before this time, ISO 8601")
    parser.add_argument("--after", metavar="TIME", help="taken at this time or later")


def run(args: argparse.Namespace) -> int:
    """Run one action and return the exit status.

    Raises:
        InputError: the gallery is missing or in use, the disk is full, or no row to remove is
            named.
    """
    from cmemd.gallery.table import INDEX_FROM, open_gallery

    where = _where(args) if args.action == "remove" else None
    with open_gallery(args.gallery, alone=args.action == "compact") as gallery:
        if args.action == "info":
            _print_info(gallery.info(), args.json)
        elif args.action == "remove":
            print(f"{gallery.remove(where)} rows removed, {len(gallery)} left")
        elif args.action == "compact":
            gallery.compact()
            print(f"{len(gallery)} rows, {gallery.info()['bytes']} bytes")
        elif gallery.build_index():
            print(f"indexed {len(gallery)} rows")
        else:
            print(f"no index: search is exact below {INDEX_FROM} rows, and it has {len(gallery)}")
    return 0


def _where(args: argparse.Namespace) -> "Expr":
    import os

    from cmemd.gallery.sources import parse_time
    from cmemd.gallery.table import row_filter

    where = row_filter(
        paths=[spelt for path in args.path for spelt in (path, os.path.abspath(path))],
        identities=args.identity,
        cameras=args.camera,
        since=parse_time(args.after) if args.after else None,
        until=parse_time(args.before) if args.before else None,
    )
    if where is None:
        raise InputError(
            "rows to remove",
            "no condition",
            "give --path, --identity, --camera, --before or --after; to remove all rows, delete "
            "the gallery's folder",
        )
    return where


def _print_info(info: dict[str, Any], as_json: bool) -> None:
    import json

    from tabulate import tabulate

    rows = [(name, "none" if value is None else value) for name, value in info.items()]
    print(json.dumps(info) if as_json else tabulate(rows, tablefmt="plain", disable_numparse=True))

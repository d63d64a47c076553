"""``cmemd gallery``: show and maintain a gallery."""

import argparse
from typing import TYPE_CHECKING, Any

from cmemd.errors import InputError

if TYPE_CHECKING:
    from lancedb.expr import Expr

    from cmemd.gallery.table import Gallery

__all__ = ["HELP", "add_arguments", "run"]

HELP = "show or check a gallery, remove rows from it, index or compact it"

_SHOWN = 20  # faults of a kind that are named
_KINDS = {
    "unreadable": "parts that cannot be read",
    "vector": "rows whose vector is not of unit length",
    "checksum": "rows that have changed since they were written",
    "modality": "rows of an unknown modality",
    "model": "rows of another model",
    "duplicate": "paths that are there twice",
    "index": "faults of the index: build it again with cmemd gallery index",
    "version": "versions of the gallery that are gone",
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's actions and their arguments."""
    actions = parser.add_subparsers(dest="action", required=True, metavar="action")
    for name, text in {
        "info": "show counts, time span, index and bytes",
        "check": "read all rows; check vectors, checksums, labels and index; exit with 0 or 1",
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
        elif args.action == "check":
            return _check(gallery)
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


def _check(gallery: "Gallery") -> int:
    """Print the faults of a gallery by their kinds; return 1 if there are any."""
    from collections import Counter

    faults: Counter[str] = Counter()
    for kind, name in gallery.check():
        faults[kind] += 1
        if faults[kind] <= _SHOWN:
            print(f"{kind}: {name}")
    if not faults:
        print(f"{len(gallery)} rows, nothing wrong")
        return 0
    for kind, number in faults.items():
        print(f"{number} {_KINDS[kind]}")
    print("remove these rows, and embed their images again; or restore the gallery from a copy")
    return 1


def _where(args: argparse.Namespace) -> "Expr":
    import os

    from cmemd.gallery.sources import parse_time
    from cmemd.gallery.table import row_filter

    since, until = (text and parse_time(text) for text in (args.after, args.before))
    if since and until and since >= until:
        raise InputError("--after before --before", f"{args.after} and {args.before}", "swap them")
    where = row_filter(
        paths=[spelt for path in args.path for spelt in (path, os.path.abspath(path))],
        identities=args.identity,
        cameras=args.camera,
        since=since,
        until=until,
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

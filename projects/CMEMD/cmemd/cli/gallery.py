"""``cmemd gallery``: show and maintain a gallery."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cmemd.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from lancedb.expr import Expr

    from cmemd.gallery.table import Gallery

__all__ = ["HELP", "add_arguments", "run"]

HELP = "show, check, label or export a gallery, remove rows from it, index or compact it"

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
        "label": "set the labels of rows by their path",
        "export": "write rows to a new file: .parquet or .npz with vectors, .csv of labels",
        "index": "build the approximate index of a large gallery again",
        "compact": "delete removed rows, old versions and leftovers from disk",
    }.items():
        action = actions.add_parser(name, help=text, description=text)
        action.add_argument("gallery", metavar="G")
        if name in ("info", "label", "export"):
            action.add_argument("--json", action="store_true", help="print JSON")
        if name == "label":
            _add_list(action)
        if name == "export":
            action.add_argument("--output", type=Path, required=True, metavar="F")
        if name in ("remove", "export"):
            _add_filter(action)


def _add_list(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--list",
        type=Path,
        required=True,
        metavar="L.csv",
        help="columns path and any of identity, camera, time and tracklet; an empty value takes a "
        "label away",
    )
    parser.add_argument(
        "--skip-missing",
        action="store_true",
        help="count paths that the gallery does not hold, in place of refusing the list",
    )


def _add_filter(parser: argparse.ArgumentParser) -> None:
    for name in ("path", "identity", "camera", "tracklet"):
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
    from cmemd.gallery.export import check_export, export_gallery
    from cmemd.gallery.sources import read_labels
    from cmemd.gallery.table import INDEX_FROM, open_gallery

    where = _where(args) if args.action in ("remove", "export") else None
    if where is None and args.action == "remove":
        raise InputError(
            "rows to remove",
            "no condition",
            "give --path, --identity, --camera, --tracklet, --before or --after; to remove all "
            "rows, delete the gallery's folder",
        )
    labels = read_labels(args.list) if args.action == "label" else {}
    if args.action == "export":
        check_export(args.output)
    with open_gallery(args.gallery, alone=args.action == "compact") as gallery:
        if args.action == "info":
            _print_info(gallery.info(), args.json)
        elif args.action == "check":
            return _check(gallery)
        elif args.action == "remove":
            assert where is not None
            print(f"{gallery.remove(where)} rows removed, {len(gallery)} left")
        elif args.action == "label":
            _print_counts(_label(gallery, labels, args), args.json)
        elif args.action == "export":
            rows = export_gallery(gallery, args.output, where)
            _print_counts({"rows": rows, "output": str(args.output)}, args.json)
        elif args.action == "compact":
            gallery.compact()
            print(f"{len(gallery)} rows, {gallery.info()['bytes']} bytes")
        elif gallery.build_index():
            print(f"indexed {len(gallery)} rows")
        else:
            print(f"no index: search is exact below {INDEX_FROM} rows, and it has {len(gallery)}")
    return 0


def _label(
    gallery: "Gallery", labels: "Mapping[str, Mapping[str, object]]", args: argparse.Namespace
) -> dict[str, int]:
    """Set labels by path; return how many rows changed, and how many paths there were otherwise."""
    from cmemd.gallery.embedding import relabel

    names = list(next(iter(labels.values()), ()))
    there, changed = set(), {}
    for number, row in gallery.lookup(labels.keys(), names):
        there.add(row["path"])
        if any(row[name] != labels[row["path"]][name] for name in names):
            changed[number] = labels[row["path"]]
    missing = [path for path in labels if path not in there]
    if not there or (missing and not args.skip_missing):
        raise InputError(
            f"paths of gallery {args.gallery} in {args.list}",
            f"{len(missing)} others of {len(labels)}{', first ' + missing[0] if missing else ''}",
            "correct them, or count them with --skip-missing" if there else "correct the paths",
        )
    done = relabel(gallery, changed)
    return {"labelled": done, "unchanged": len(there) - done, "missing": len(missing)}


def _print_counts(counts: "Mapping[str, object]", as_json: bool) -> None:
    import json

    words = ", ".join(f"{name} {value}" for name, value in counts.items())
    print(json.dumps(counts) if as_json else words)


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


def _where(args: argparse.Namespace) -> "Expr | None":
    import os

    from cmemd.gallery.sources import parse_time
    from cmemd.gallery.table import row_filter

    since, until = (text and parse_time(text) for text in (args.after, args.before))
    if since and until and since >= until:
        raise InputError("--after before --before", f"{args.after} and {args.before}", "swap them")
    return row_filter(
        paths=[spelt for path in args.path for spelt in (path, os.path.abspath(path))],
        identities=args.identity,
        cameras=args.camera,
        tracklets=args.tracklet,
        since=since,
        until=until,
    )


def _print_info(info: dict[str, Any], as_json: bool) -> None:
    import json

    from tabulate import tabulate

    rows = [(name, "none" if value is None else value) for name, value in info.items()]
    print(json.dumps(info) if as_json else tabulate(rows, tablefmt="plain", disable_numparse=True))

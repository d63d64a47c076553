"""``cmemd doctor``: examine a copy of a data set."""

import argparse
import json
import os
from pathlib import Path

from cmemd.cli.embed import add_sensor, sensor_options
from cmemd.data.layouts import own
from cmemd.doctor import EXAMINERS
from cmemd.errors import InputError

__all__ = ["HELP", "add_arguments", "run"]

HELP = "examine a copy of a data set: exit status 0 if it is usable, 1 if not"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.add_argument(
        "--layout",
        required=True,
        choices=(*EXAMINERS, own.LAYOUT.name),
        help="data set whose folders are expected; own for lists or a folder of yours",
    )
    parser.add_argument(
        "--root",
        type=Path,
        help="the data set's own folder; for lists, where their relative paths start",
    )
    parser.add_argument(
        "--list",
        nargs="+",
        type=Path,
        metavar="CSV",
        help="with --layout own: lists, .csv or .parquet, whose identities are one naming",
    )
    add_sensor(parser, "none")
    parser.add_argument(
        "--write-guard",
        type=Path,
        metavar="F",
        help="with --layout own: write these cameras' statistics for --guard-statistics of embed "
        "and search",
    )
    parser.add_argument(
        "--write-sums",
        type=Path,
        metavar="FILE",
        help="write the SHA-256 of each image and list, if the copy is usable; sha256sum -c reads "
        "it too",
    )
    parser.add_argument(
        "--sums",
        type=Path,
        metavar="FILE",
        help="report each file that changed since FILE was written, which decoding cannot always "
        "tell: a changed byte of a JPEG may give another valid picture",
    )
    parser.add_argument(
        "--json", type=Path, metavar="OUT", help="also write all findings, with every case, to OUT"
    )


def run(args: argparse.Namespace) -> int:
    """Print counts and findings; return 0 if the data set is usable, 1 if not.

    Raises:
        InputError: a root that is no folder, checksums that cannot be read, or a file that
            cannot be written.
    """
    from cmemd.data.appearance import statistics_file
    from cmemd.data.sensors import PLAIN
    from cmemd.doctor import (  # imports Pillow and NumPy, which slow every command's start
        examine,
        examine_own,
    )
    from cmemd.doctor.sums import format_sums, read_sums
    from cmemd.files import write_whole
    from cmemd.paths import check_output, check_place

    if args.list and args.layout != own.LAYOUT.name:
        raise InputError("--list with --layout own", f"--layout {args.layout}", "leave it out")
    if args.root is None and not args.list:
        raise InputError("--root, the folder to examine", "none", "name it; or --list for a list")
    sensor = PLAIN.changed(sensor_options(args))
    if args.layout != own.LAYOUT.name and (sensor != PLAIN or args.write_guard):
        raise InputError(
            "--range, --palette, --polarity and --write-guard with --layout own",
            f"--layout {args.layout}",
            "leave them out",
        )
    if args.write_guard:
        check_place(args.write_guard)
        check_output(args.write_guard, b"cmemd-guard")
    new = args.write_sums
    if new and (os.path.lexists(new) or not new.parent.is_dir()):
        raise InputError(
            "a new file in an existing folder for --write-sums",
            new,
            "make its folder, or name another file",
        )
    if args.json and (args.json.is_dir() or not args.json.parent.is_dir()):
        raise InputError(
            "a file in an existing folder for --json",
            args.json,
            "make its folder, or name a file",
        )
    if args.json:
        check_place(args.json)
        check_output(args.json, b'"data_set"')
    sums = read_sums(args.sums) if args.sums else None
    if args.layout == own.LAYOUT.name:
        report = examine_own(args.list or (), args.root, sums, sensor)
    else:
        report = examine(args.layout, args.root, sums)
    print(report.to_text())
    if args.write_guard:
        if report.guard_statistics is None:
            raise InputError(
                "readable images of both modalities for --write-guard",
                "none of one",
                "complete the list, or leave --write-guard out",
            )
        write_whole(args.write_guard, statistics_file(report.guard_statistics))
    if args.json:
        write_whole(args.json, (json.dumps(report.to_dict(), indent=2) + "\n").encode())
    if new and report.usable:
        write_whole(new, format_sums(report.digests).encode("utf-8", "surrogateescape"))
        print(f"{len(report.digests):,} checksums in {new}")
    elif new:
        print("no checksums written: they would certify this copy")
    return 0 if report.usable else 1

"""``cmemd list``: write the list of images that a folder's names stand for."""

import argparse
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from cmemd.errors import InputError, format_warning, printable

if TYPE_CHECKING:
    from cmemd.data.modality import Modality

__all__ = ["HELP", "add_arguments", "run"]

HELP = "write the list of a folder's images: path, identity, modality, camera"

_HEADER = b"path,identity,modality"
_SHOWN = 3


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.add_argument("--root", required=True, type=Path, help="the folder of images")
    parser.add_argument(
        "--pattern",
        help="path of an image below --root, without its extension: {identity}, {modality}, "
        "{camera}, {time}, {split}, {frame} and {tracklet} stand for parts of a name, * for "
        "anything in a name, ** for any folders; default {modality}/{identity}/{camera}_* "
        "(docs/own_data.md)",
    )
    parser.add_argument(
        "--visible", metavar="WORD", help="how the folder names say visible (default: visible)"
    )
    parser.add_argument(
        "--thermal", metavar="WORD", help="how the folder names say thermal (default: thermal)"
    )
    parser.add_argument(
        "--modality",
        choices=("visible", "thermal"),
        help="of all images, for a pattern without {modality}",
    )
    parser.add_argument(
        "--output",
        type=Path,
        metavar="CSV",
        help="write the list there, with paths relative to its folder; default: standard output, "
        "with paths as --root gives them, which fit a list in the working folder",
    )


def run(args: argparse.Namespace) -> int:
    """Write the list; return the exit status.

    Raises:
        InputError: no such folder, a bad pattern, no image that matches, or an output that cannot
            be written.
    """
    from cmemd.data.image_files import Tally
    from cmemd.data.layouts import own
    from cmemd.files import write_output
    from cmemd.paths import check_output, check_place

    if args.output is not None:
        if args.output.suffix.lower() != ".csv":
            raise InputError("an --output that ends in .csv", args.output, "name a .csv file")
        check_place(args.output)
        check_output(args.output, _HEADER)
    tally = Tally()
    listed, unmatched = own.read_folder(
        args.root, own.PATTERN if args.pattern is None else args.pattern, _words(args), tally
    )
    text = own.write_list(listed, lambda path: _shown_path(path, listed.folder, args))
    if args.output is not None:
        write_output(args.output, text.encode(), _HEADER)
        print(f"{len(listed.rows):,} images in {printable(args.output)}")
    else:
        _print(text)
    for line in tally.lines():
        sys.stderr.write(format_warning(line))
    if unmatched:
        shown = ", ".join(map(printable, unmatched[:_SHOWN]))
        rest = f" and {len(unmatched) - _SHOWN:,} more" if len(unmatched) > _SHOWN else ""
        sys.stderr.write(
            format_warning(
                f"left out, not named as the pattern ({len(unmatched):,}): {shown}{rest}"
            )
        )
    return 0


def _words(args: argparse.Namespace) -> "dict[Modality, str] | None":
    from cmemd.data.modality import Modality

    if args.modality is not None:
        if args.visible or args.thermal:
            raise InputError(
                "--modality, or words for both modalities", "both", "leave one of them out"
            )
        return {Modality[args.modality.upper()]: args.modality}
    words = {m: getattr(args, m.name.lower()) or m.name.lower() for m in Modality}
    if len(set(words.values())) < len(words):
        raise InputError("different words for visible and thermal", words, "change one of them")
    return words


def _shown_path(path: str, folder: Path, args: argparse.Namespace) -> str:
    """Return a path as the list holds it, with forward slashes."""
    if args.output is not None:
        return os.path.relpath(path, args.output.absolute().parent).replace(os.sep, "/")
    below = os.path.relpath(path, folder)
    return os.path.normpath(os.path.join(args.root, below)).replace(os.sep, "/")


def _print(text: str) -> None:
    """Write to standard output as it is, for a file or a pipe; escaped for a terminal."""
    raw = None if sys.stdout.isatty() else getattr(sys.stdout, "buffer", None)
    if raw is None:
        sys.stdout.write(text)
        return
    sys.stdout.flush()
    raw.write(text.encode())
    raw.flush()

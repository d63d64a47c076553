"""``cmemd search``: find the people of query images in a gallery."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from cmemd.cli.embed import add_model, report_skipped, report_tally
from cmemd.data.image_files import Tally
from cmemd.errors import InputError

if TYPE_CHECKING:
    from cmemd.gallery.search import Match

__all__ = ["HELP", "add_arguments", "run"]

HELP = "rank a gallery's images by their similarity to a query"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    add_model(parser)
    parser.add_argument("--gallery", required=True, metavar="G", help="gallery to search")
    parser.add_argument(
        "--image",
        required=True,
        metavar="Q|DIR",
        help="query image, or several as for --images of cmemd embed",
    )
    parser.add_argument(
        "--top", type=int, default=10, metavar="K", help="matches per query; default: %(default)s"
    )
    parser.add_argument(
        "--threshold",
        type=float,
        default=float("-inf"),
        metavar="T",
        help="lowest score of a match; cmemd calibrate finds it",
    )
    parser.add_argument(
        "--in", choices=["visible", "thermal"], dest="among", help="only matches of this modality"
    )
    parser.add_argument(
        "--camera", action="append", default=[], help="only matches of this camera; repeatable"
    )
    parser.add_argument(
        "--since", metavar="TIME", help="only matches taken at this time or later, ISO 8601"
    )
    parser.add_argument("--until", metavar="TIME", help="only matches taken before this time")
    parser.add_argument("--exact", action="store_true", help="search without the gallery's index")
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.add_argument("--sheet", type=Path, metavar="OUT.png", help="write a contact sheet")


def run(args: argparse.Namespace) -> int:
    """Search, print the matches, draw the sheet, and return the exit status.

    Raises:
        InputError: the gallery, model or image is missing, the gallery is another model's, or no
            query can be read.
    """
    import numpy as np

    from cmemd.gallery.search import find_matches
    from cmemd.gallery.sheet import QUERIES, contact_sheet, write_sheet
    from cmemd.gallery.sources import find_sources, parse_time
    from cmemd.gallery.table import open_gallery, row_filter
    from cmemd.inference.predictor import Predictor

    if args.top < 1:
        raise InputError("--top of at least 1", args.top, "leave it out for 10")
    where = row_filter(
        cameras=args.camera,
        modality=args.among,
        since=parse_time(args.since) if args.since else None,
        until=parse_time(args.until) if args.until else None,
    )
    with open_gallery(args.gallery) as gallery:
        tally = Tally()
        paths = [source.path for source in find_sources(args.image, tally=tally)]
        # JSON on stdout stays alone there.
        report_tally(tally, sys.stderr if args.json else None)
        predictor = Predictor(args.model, device=args.device, batch_size=args.batch_size)
        gallery.check_model(predictor.digest, predictor.size)
        found = list(predictor.stream(paths, args.modality))
        if not found:
            raise InputError(
                f"a readable query at {args.image}",
                f"none ({predictor.skipped[0][1]})",
                "name another image",
            )
        queries = np.stack([vector for _, vector in found])
        matches = find_matches(
            gallery, queries, args.top, where=where, threshold=args.threshold, exact=args.exact
        )
    answers = [(str(path), of) for (path, _), of in zip(found, matches, strict=True)]
    if args.sheet:
        write_sheet(contact_sheet(answers, args.top), args.sheet)
    _print(answers, args.json)
    report_skipped(predictor, sys.stderr if args.json else None)
    if not args.json and args.sheet and len(answers) > QUERIES:
        print(f"the sheet shows the first {QUERIES} of {len(answers)} queries")
    return 0


def _print(answers: Sequence[tuple[str, Sequence["Match"]]], as_json: bool) -> None:
    import dataclasses
    import json
    import os

    from tabulate import tabulate

    if as_json:
        document = [
            {"query": path, "matches": [dataclasses.asdict(match) for match in matches]}
            for path, matches in answers
        ]
        print(json.dumps(document, default=lambda time: time.isoformat(), indent=2))
        return
    for path, matches in answers:
        print(os.path.relpath(path))
        if not matches:
            print("no match")
            continue
        rows = [
            (
                rank,
                f"{match.score:.4f}",
                os.path.relpath(match.path),
                match.modality,
                match.identity,
                match.camera,
                match.time and match.time.isoformat(),
            )
            for rank, match in enumerate(matches, 1)
        ]
        headers = ["rank", "score", "path", "modality", "identity", "camera", "time"]
        print(tabulate(rows, headers, disable_numparse=True))

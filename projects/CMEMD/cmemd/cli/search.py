"""``cmemd search``: find the people of query images in a gallery."""

import argparse
import math
import sys
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain, islice
from pathlib import Path
from typing import TYPE_CHECKING

from cmemd.cli.embed import add_model, report_skipped, report_tally
from cmemd.data.image_files import Tally
from cmemd.errors import InputError

if TYPE_CHECKING:
    from lancedb.expr import Expr

    from cmemd.gallery.search import Match
    from cmemd.gallery.table import Gallery
    from cmemd.inference import Predictor

    Answer = tuple[str, list[Match]]

__all__ = ["HELP", "add_arguments", "run", "threshold_number"]

HELP = "rank a gallery's images by their similarity to a query"

_CHUNK = 1024  # queries that are searched for at once


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
        metavar="F.json|T",
        help="file of cmemd calibrate --output, or the lowest score of a match, from -1 to 1",
    )
    parser.add_argument(
        "--in",
        choices=["visible", "thermal", "all"],
        dest="among",
        help="search images of this modality; default: the one that the query does not have",
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
        InputError: the gallery, model or image is missing; the gallery or the threshold is another
            model's, or the threshold another pair of modalities'; no row fits the conditions; or no
            query can be read.
    """
    from cmemd.data.modality import Modality
    from cmemd.gallery.sheet import QUERIES, check_sheet, contact_sheet, write_sheet
    from cmemd.gallery.sources import find_sources
    from cmemd.gallery.table import open_gallery
    from cmemd.inference.predictor import Predictor

    if args.top < 1:
        raise InputError("--top of at least 1", args.top, "leave it out for 10")
    threshold_number(args.threshold)
    if args.sheet:
        check_sheet(args.sheet)
    among = args.among or {"visible": "thermal", "thermal": "visible"}[args.modality]
    where = _conditions(args, among)
    with open_gallery(args.gallery) as gallery:
        candidates = _count(gallery, where, args, among)
        tally, asked = Tally(), Modality[args.modality.upper()]
        paths = [source.path for source in find_sources(args.image, tally=tally, modality=asked)]
        # JSON on stdout stays alone there.
        report_tally(tally, sys.stderr if args.json else None)
        predictor = Predictor(args.model, device=args.device, batch_size=args.batch_size)
        gallery.check_model(predictor.digest, predictor.size)
        threshold = _threshold(args, predictor.digest, among, candidates)
        answers = _answers(gallery, predictor, paths, where, threshold, args)
        first = next(answers, None)
        if first is None:
            raise InputError(
                f"a readable query at {args.image}",
                f"none ({predictor.skipped[0][1]})",
                "name another image",
            )
        shown, queries = [], 0
        printer = _print_json if args.json else _print_tables
        for answer in printer(chain([first], answers)):
            queries += 1
            if args.sheet and len(shown) < QUERIES:
                shown.append(answer)
    if args.sheet:
        write_sheet(contact_sheet(shown, args.top), args.sheet)
    report_skipped(predictor, sys.stderr if args.json else None)
    if not args.json and args.sheet and queries > QUERIES:
        print(f"the sheet shows the first {QUERIES} of {queries} queries")
    return 0


def _conditions(args: argparse.Namespace, among: str) -> "Expr | None":
    from cmemd.gallery.sources import parse_time
    from cmemd.gallery.table import row_filter

    since, until = (text and parse_time(text) for text in (args.since, args.until))
    if since and until and since >= until:
        raise InputError("--since before --until", f"{args.since} and {args.until}", "swap them")
    return row_filter(
        cameras=args.camera,
        modality=None if among == "all" else among,
        since=since,
        until=until,
    )


def _count(gallery: "Gallery", where: "Expr | None", args: argparse.Namespace, among: str) -> int:
    """Return the number of rows to search; raise if there are none, or a camera has none."""
    from cmemd.gallery.table import row_filter

    for camera in args.camera:
        if not gallery.count(row_filter(cameras=[camera])):
            raise InputError(
                f"images of camera {camera} in gallery {args.gallery}",
                "none",
                "name a camera as the images were labelled",
            )
    candidates = gallery.count(where)
    if not candidates:
        times = f" from {args.since or 'any time'} to {args.until or 'now'}"
        raise InputError(
            f"{'' if among == 'all' else among + ' '}images to search in gallery {args.gallery}"
            f"{times if args.since or args.until else ''}",
            f"none of its {len(gallery)}",
            "choose the modality with --in, or change --camera, --since or --until",
        )
    return candidates


def threshold_number(text: str | None) -> float | None:
    """Return the threshold that is given as a number; None if it is a file or not given."""
    try:
        number = float(text or "")
    except ValueError:
        return None
    if not -1 <= number <= 1:  # NaN is outside too
        raise InputError(
            "a --threshold from -1 to 1, the range of a cosine",
            text,
            "find one with cmemd calibrate, or leave it out for all matches",
        )
    return number


def _threshold(args: argparse.Namespace, model: str, among: str, candidates: int) -> float:
    """Return the lowest score of a match; check that a file's threshold belongs to this search."""
    import warnings

    from cmemd.evaluation.thresholds import MOST_CANDIDATES, read_threshold

    if args.threshold is None:
        return -math.inf
    number = threshold_number(args.threshold)
    if number is not None:
        return number
    of = read_threshold(Path(args.threshold), model, args.modality, among)
    expected = of.check_candidates(candidates)
    if candidates > of.candidates or candidates * MOST_CANDIDATES < of.candidates:
        warnings.warn(
            f"the threshold was calibrated for {100 * of.rate:.3g} % of unknown people among "
            f"{of.candidates} candidates; among these {candidates} expect about "
            f"{100 * expected:.3g} %",
            stacklevel=2,
        )
    return of.threshold


def _answers(
    gallery: "Gallery",
    predictor: "Predictor",
    paths: Sequence[str],
    where: "Expr | None",
    threshold: float,
    args: argparse.Namespace,
) -> "Iterator[Answer]":
    """Yield each readable query and its matches; hold some queries at a time."""
    import numpy as np

    from cmemd.gallery.search import find_matches

    embedded = predictor.stream(paths, args.modality)
    while part := list(islice(embedded, _CHUNK)):
        queries = np.stack([vector for _, vector in part])
        matches = find_matches(
            gallery, queries, args.top, where=where, threshold=threshold, exact=args.exact
        )
        yield from ((str(path), of) for (path, _), of in zip(part, matches, strict=True))


def _print_json(answers: "Iterable[Answer]") -> "Iterator[Answer]":
    """Print a list of queries, one after the other; yield each."""
    import dataclasses
    import json

    before = "[\n"
    for path, matches in answers:
        entry = {"query": path, "matches": [dataclasses.asdict(match) for match in matches]}
        print(before + json.dumps(entry, default=lambda time: time.isoformat(), indent=2), end="")
        before = ",\n"
        yield path, matches
    print("\n]")


def _print_tables(answers: "Iterable[Answer]") -> "Iterator[Answer]":
    """Print a table of each query; yield each."""
    import os

    from tabulate import tabulate

    for path, matches in answers:
        print(os.path.relpath(path))
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
        print(tabulate(rows, headers, disable_numparse=True) if rows else "no match")
        yield path, matches

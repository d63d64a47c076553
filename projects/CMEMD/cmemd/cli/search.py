"""``cmemd search``: find the people of query images in a gallery."""

import argparse
import math
import sys
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import chain, islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cmemd.cli.embed import add_model, report_skipped, report_tally, sensor_options
from cmemd.data.image_files import Tally
from cmemd.errors import InputError

if TYPE_CHECKING:
    import numpy as np
    from lancedb.expr import Expr

    from cmemd.gallery.queries import Query
    from cmemd.gallery.search import Match
    from cmemd.gallery.sheet import Row
    from cmemd.gallery.sources import Source
    from cmemd.gallery.table import Gallery

    Answer = tuple[Query, list[Match]]

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
        nargs="+",
        metavar="Q|DIR",
        help="query image, or several as for --images of cmemd embed; several words are one query, "
        "the mean of their embeddings, unless --group says another",
    )
    parser.add_argument(
        "--pattern",
        metavar="REGEX",
        help="take the queries' labels from their path, as cmemd embed",
    )
    parser.add_argument(
        "--group",
        choices=["image", "tracklet", "all"],
        help="a query of each image, of each tracklet or of all images, by the mean of their "
        "embeddings; tracklet averages the gallery's tracklets too, and uses no index",
    )
    parser.add_argument(
        "--one-per",
        choices=["identity", "camera", "tracklet"],
        help="only the best match of each; images without that label all stay; uses no index",
    )
    parser.add_argument(
        "--exclude-self",
        action="store_true",
        help="leave out the query's own images, and tracklets that hold them",
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
    from cmemd.data.appearance import read_statistics
    from cmemd.gallery.groups import average_tracklets
    from cmemd.gallery.queries import embed_queries
    from cmemd.gallery.sheet import QUERIES, check_sheet, contact_sheet, write_sheet
    from cmemd.gallery.table import open_gallery, row_filter
    from cmemd.inference.predictor import Predictor

    if args.top < 1:
        raise InputError("--top of at least 1", args.top, "leave it out for 10")
    told = sensor_options(args)
    threshold_number(args.threshold)
    if args.sheet:
        check_sheet(args.sheet)
    among = args.among or {"visible": "thermal", "thermal": "visible"}[args.modality]
    where = _conditions(args, among)
    statistics = read_statistics(args.guard_statistics) if args.guard_statistics else None
    with open_gallery(args.gallery) as gallery:
        candidates = _count(gallery, where, args, among)
        tally = Tally()
        sources = _sources(args, tally)
        group = args.group or ("all" if len(args.image) > 1 else "image")
        if group == "tracklet":
            _check_tracklets(gallery, where, sources, args)
        # JSON on stdout stays alone there.
        report_tally(tally, sys.stderr if args.json else None)
        # Thermal queries are read as the gallery's thermal images were.
        sensor = gallery.sensor.changed(told)
        if gallery.count(row_filter(modality="thermal")):
            gallery.check_sensor(sensor)
        predictor = Predictor(
            args.model,
            device=args.device,
            batch_size=args.batch_size,
            guard=args.guard,
            sensor=sensor,
            statistics=statistics,
        )
        gallery.check_model(predictor.digest, predictor.size)
        averages = average_tracklets(gallery, where) if group == "tracklet" else None
        candidates = candidates if averages is None else len(averages)
        threshold = _threshold(args, predictor.digest, among, candidates)
        if group != "image" and args.threshold and threshold_number(args.threshold) is None:
            warnings.warn(
                "the threshold was calibrated for single images, and means of several score "
                "higher: more unknown people pass",
                stacklevel=1,
            )
        options = {
            "where": where,
            "threshold": threshold,
            "exact": args.exact,
            "one_per": args.one_per,
            "tracklets": averages,
        }
        queries_of = embed_queries(predictor, sources, args.modality, group)
        answers = _answers(gallery, queries_of, args.top, args.exclude_self, options)
        first = next(answers, None)
        if first is None:
            raise InputError(
                f"a readable query at {' '.join(args.image)}",
                f"none ({predictor.skipped[0][1]})",
                "name another image",
            )
        shown: list[Answer] = []
        queries = 0
        printer = _print_json if args.json else _print_tables
        for answer in printer(chain([first], answers)):
            queries += 1
            if args.sheet and len(shown) < QUERIES:
                shown.append(answer)
        rows = _sheet_rows(gallery, shown)
    if args.sheet:
        write_sheet(contact_sheet(rows, args.top), args.sheet)
    report_skipped(predictor, sys.stderr if args.json else None)
    if not args.json and args.sheet and queries > QUERIES:
        print(f"the sheet shows the first {QUERIES} of {queries} queries")
    return 0


def _sources(args: argparse.Namespace, tally: Tally) -> "list[Source]":
    """Return the images of all queries, each once."""
    from cmemd.data.modality import Modality
    from cmemd.gallery.sources import find_sources

    asked = Modality[args.modality.upper()]
    found = [find_sources(what, args.pattern, tally, asked) for what in args.image]
    return list({source.path: source for part in found for source in part}.values())


def _check_tracklets(
    gallery: "Gallery", where: "Expr | None", sources: "Sequence[Source]", args: argparse.Namespace
) -> None:
    """Raise unless a query or a row to search has a tracklet."""
    if gallery.labelled("tracklet", where) or any(source.tracklet for source in sources):
        return
    raise InputError(
        f"tracklets of queries or in gallery {args.gallery}",
        "none",
        "give the queries' in a list or by --pattern, and the gallery's with cmemd gallery label",
    )


def _sheet_rows(gallery: "Gallery", answers: "Sequence[Answer]") -> "list[Row]":
    """Return the rows of a sheet; an identity that is not given may be known to the gallery."""
    from cmemd.gallery.sheet import Row

    unknown = {query.paths[0] for query, _ in answers if query.identity is None}
    numbers = [number for number, _ in gallery.lookup(unknown, ())] if unknown else []
    known = {row["path"]: row["identity"] for row in gallery.labels(numbers).values()}
    return [
        Row(query.paths[0], query.name, query.identity or known.get(query.paths[0]), matches)
        for query, matches in answers
    ]


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
    if args.one_per and not gallery.labelled(args.one_per, where):
        raise InputError(
            f"images with a label {args.one_per} for --one-per in gallery {args.gallery}",
            f"none of {candidates}",
            "set labels with cmemd gallery label, or leave out --one-per",
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
    embedded: "Iterator[tuple[Query, np.ndarray]]",
    top: int,
    exclude_self: bool,
    options: "Mapping[str, Any]",
) -> "Iterator[Answer]":
    """Yield each readable query and its matches; hold some queries at a time."""
    import numpy as np

    from cmemd.gallery.search import find_matches

    while part := list(islice(embedded, _CHUNK)):
        queries, vectors = zip(*part, strict=True)
        own = [query.paths for query in queries] if exclude_self else []
        matches = find_matches(gallery, np.stack(vectors), top, exclude=own, **options)
        yield from zip(queries, matches, strict=True)


def _print_json(answers: "Iterable[Answer]") -> "Iterator[Answer]":
    """Print a list of queries, one after the other; yield each."""
    import dataclasses
    import json

    before = "[\n"
    for query, matches in answers:
        entry = {
            "query": query.paths[0],
            "images": query.paths,
            "identity": query.identity,
            "matches": [dataclasses.asdict(match) for match in matches],
        }
        print(before + json.dumps(entry, default=lambda time: time.isoformat(), indent=2), end="")
        before = ",\n"
        yield query, matches
    print("\n]")


def _print_tables(answers: "Iterable[Answer]") -> "Iterator[Answer]":
    """Print a table of each query; yield each."""
    import os

    from tabulate import tabulate

    for query, matches in answers:
        several = len(query.paths) > 1
        names = " ".join(map(os.path.relpath, query.paths))
        print(f"mean of {len(query.paths)} images: {names}" if several else names)
        columns = {
            "rank": range(1, len(matches) + 1),
            "score": [f"{match.score:.4f}" for match in matches],
            "path": [os.path.relpath(match.path) for match in matches],
            "modality": [match.modality for match in matches],
            "identity": [match.identity for match in matches],
            "camera": [match.camera for match in matches],
            "time": [match.time and match.time.isoformat() for match in matches],
        }
        if any(match.tracklet for match in matches):
            columns["tracklet"] = [match.tracklet for match in matches]
        if any(match.images > 1 for match in matches):
            columns["images"] = [match.images for match in matches]
        table = tabulate(columns, headers="keys", disable_numparse=True)
        print(table if matches else "no match")
        yield query, matches

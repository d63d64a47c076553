"""``cmemd calibrate``: find the threshold for a wanted rate of false positives."""

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from cmemd.errors import InputError

if TYPE_CHECKING:
    import numpy as np

__all__ = ["HELP", "add_arguments", "run"]

HELP = "find the threshold for cmemd search from labelled embeddings"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    for name, text in {
        "probes": "embeddings with identities; some of the people must be absent from the gallery",
        "gallery": "embeddings with identities of the people to find",
    }.items():
        parser.add_argument(
            f"--{name}",
            required=True,
            action="append",
            type=Path,
            metavar="F",
            help=f"{text}; written by cmemd embed --output; repeatable",
        )
    parser.add_argument(
        "--fpir",
        type=float,
        default=0.01,
        metavar="RATE",
        help="share of queries of unknown people that may get a match; default: %(default)s",
    )
    parser.add_argument(
        "--top",
        type=int,
        default=10,
        metavar="K",
        help="matches that a search lists; default: %(default)s",
    )
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.add_argument(
        "--output",
        type=Path,
        metavar="F.json",
        help="write the thresholds, with what they belong to, for --threshold of cmemd search",
    )


def run(args: argparse.Namespace) -> int:
    """Calibrate each pair of modalities, print the thresholds, and return the exit status.

    Raises:
        InputError: a file holds no embeddings, the files are of two models, an identity is missing,
            an image is there twice, the probes are too few for the rate, no threshold keeps the
            rate, or the output is another file.
    """
    import dataclasses
    import itertools
    import json

    from tabulate import tabulate

    from cmemd.evaluation.open_set import calibrate, open_set_scores
    from cmemd.evaluation.thresholds import PairThreshold, check_thresholds, write_thresholds

    if args.top < 1:
        raise InputError("--top of at least 1", args.top, "leave it out for 10")
    if args.output:
        check_thresholds(args.output)
    probes, gallery = _read(args.probes), _read(args.gallery)
    _check(probes, gallery)
    results, thresholds = [], []
    for pair in itertools.product(*(sorted(set(side["modality"])) for side in (probes, gallery))):
        (these, ids), (rows, row_ids) = (
            (side["vector"][chosen], side["identity"][chosen])
            for side, modality in zip((probes, gallery), pair, strict=True)
            for chosen in [side["modality"] == modality]
        )
        scores = open_set_scores(these, ids, rows, row_ids)
        done = calibrate(scores, ids, args.fpir, args.top)
        facts = {**dataclasses.asdict(done), "top": args.top}
        results.append({"probes": pair[0], "gallery": pair[1], "candidates": len(rows), **facts})
        probe, row = pair
        of = PairThreshold(probe, row, len(rows), args.fpir, facts.pop("threshold"))
        thresholds.append((of, facts))
    if args.output:
        write_thresholds(args.output, probes["model"][0], thresholds)
    if args.json:
        print(json.dumps(results, indent=2))
        return 0
    headers = ["probes", "gallery", "candidates", "threshold", "FPIR", "FNIR", "mated", "non-mated"]
    table = [
        (
            result["probes"],
            result["gallery"],
            result["candidates"],
            f"{result['threshold']:.6f}",
            _rate(result["fpir"], result["fpir_interval"]),
            _rate(result["fnir"], result["fnir_interval"]),
            result["mated"],
            result["non_mated"],
        )
        for result in results
    ]
    print(tabulate(table, headers, disable_numparse=True))
    if args.output:
        print(f"wrote {args.output}")
    return 0


def _rate(rate: float, interval: tuple[float, float]) -> str:
    return f"{100 * rate:.2f} % ({100 * interval[0]:.2f} to {100 * interval[1]:.2f})"


def _read(paths: Sequence[Path]) -> "dict[str, np.ndarray]":
    import numpy as np

    from cmemd.gallery.embeddings_file import read_embeddings

    parts = [read_embeddings(path) for path in paths]
    if len({part["vector"].shape[1] for part in parts}) > 1:
        raise InputError(
            f"embeddings of one size in {', '.join(map(str, paths))}",
            "several sizes",
            "embed all images with one model",
        )
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def _check(probes: "dict[str, np.ndarray]", gallery: "dict[str, np.ndarray]") -> None:
    from cmemd.evaluation.own_samples import check_side

    models = {*probes["model"], *gallery["model"]}
    if len(models) > 1:
        raise InputError(
            "embeddings of one model", f"{len(models)} models", "embed all images with one model"
        )
    for name, side in (("probes", probes), ("gallery", gallery)):
        check_side(name, side)
    both = set(probes["path"]) & set(gallery["path"])
    if both:
        raise InputError(
            "probes that are not in the gallery",
            f"{len(both)} that are, such as {min(both)}",
            "split the images, because an image always finds itself",
        )

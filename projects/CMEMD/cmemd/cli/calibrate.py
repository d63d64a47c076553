"""``cmemd calibrate``: the threshold for a wanted rate of false positives."""

import argparse
from pathlib import Path

from cmemd.errors import InputError

HELP = "find the threshold for cmemd search from labelled embeddings"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    for name, text in {
        "probes": "embeddings with identities, some of people who are not in the gallery",
        "gallery": "embeddings of the people to be found, with identities",
    }.items():
        parser.add_argument(
            f"--{name}",
            required=True,
            action="append",
            type=Path,
            metavar="F",
            help=f"{text}; of cmemd embed --output; several times for several files",
        )
    parser.add_argument(
        "--fpir",
        type=float,
        default=0.01,
        metavar="RATE",
        help="share of queries of unknown people that may find somebody; default: %(default)s",
    )
    parser.add_argument(
        "--top", type=int, default=10, metavar="K", help="matches that a search lists"
    )
    parser.add_argument("--json", action="store_true", help="print JSON")


def run(args: argparse.Namespace) -> int:
    """Calibrate each pair of modalities, print the thresholds; the exit status.

    Raises:
        InputError: Files that are no embeddings or of two models, people or images that do not
            suit the question, or a rate that so few probes cannot measure.
    """
    import dataclasses
    import itertools
    import json

    from tabulate import tabulate

    from cmemd.evaluation.open_set import calibrate, open_set_scores

    probes, gallery = _read(args.probes), _read(args.gallery)
    _check(probes, gallery)
    results = []
    for pair in itertools.product(*(sorted(set(side["modality"])) for side in (probes, gallery))):
        (these, ids), (rows, row_ids) = (
            (side["vector"][chosen], side["identity"][chosen])
            for side, modality in zip((probes, gallery), pair, strict=True)
            for chosen in [side["modality"] == modality]
        )
        scores = open_set_scores(these, ids, rows, row_ids)
        done = calibrate(scores, ids, args.fpir, args.top)
        results.append({"probes": pair[0], "gallery": pair[1], **dataclasses.asdict(done)})
    if args.json:
        print(json.dumps(results, indent=2))
        return 0
    headers = ["probes", "gallery", "threshold", "FPIR", "FNIR", "mated", "non-mated"]
    table = [
        (
            result["probes"],
            result["gallery"],
            f"{result['threshold']:.6f}",
            _rate(result["fpir"], result["fpir_interval"]),
            _rate(result["fnir"], result["fnir_interval"]),
            result["mated"],
            result["non_mated"],
        )
        for result in results
    ]
    print(tabulate(table, headers, disable_numparse=True))
    return 0


def _rate(rate: float, interval: tuple[float, float]) -> str:
    return f"{100 * rate:.2f} % ({100 * interval[0]:.2f} to {100 * interval[1]:.2f})"


def _read(paths):
    import numpy as np

    from cmemd.gallery.embeddings_file import read_embeddings

    parts = [read_embeddings(path) for path in paths]
    if len({part["vector"].shape[1] for part in parts}) > 1:
        raise InputError(
            f"expected embeddings of one size in {', '.join(map(str, paths))}, got several: "
            "embed them with one model"
        )
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def _check(probes, gallery) -> None:
    models = {*probes["model"], *gallery["model"]}
    if len(models) > 1:
        raise InputError(
            f"expected embeddings of one model, got {len(models)}: embed all with the same"
        )
    for name, side in (("probes", probes), ("gallery", gallery)):
        unknown = side["path"][side["identity"] == ""]
        if len(unknown):
            raise InputError(
                f"expected an identity for every image of the {name}, got {len(unknown)} without, "
                f"such as {unknown[0]}: embed them with a list or a pattern"
            )
    both = set(probes["path"]) & set(gallery["path"])
    if both:
        raise InputError(
            f"expected probes that are not in the gallery, got {len(both)} that are, such as "
            f"{min(both)}: an image finds itself, which says nothing; split them"
        )

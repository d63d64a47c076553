"""``cmemd score``: score features that any system saved."""

import argparse
import warnings
from pathlib import Path
from typing import TYPE_CHECKING

from cmemd.errors import InputError

if TYPE_CHECKING:
    import numpy as np

    from cmemd.data.layouts.permutations import RandPermCam
    from cmemd.evaluation.protocols import Protocol

__all__ = ["HELP", "add_arguments", "run"]

HELP = "score saved features under the field's protocols"

_METRIC = "euclidean"  # for files that name none


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.add_argument(
        "--protocol",
        action="append",
        required=True,
        dest="protocols",
        metavar="NAME",
        help="such as sysu-all-1shot, regdb-v2t, llcm-t2v-paper; repeat it for several protocols",
    )
    parser.add_argument(
        "--features",
        required=True,
        type=Path,
        metavar="F.npz",
        help="features, one row per test image; docs/scoring.md describes the file",
    )
    parser.add_argument(
        "--splits",
        type=Path,
        metavar="DIR",
        help="SYSU-MM01's exp folder: rand_perm_cam.mat gives the official gallery sampling, "
        "test_id the identities that features may have; default: none",
    )
    parser.add_argument(
        "--draw",
        choices=["auto", "official", "python"],
        default="auto",
        help="SYSU-MM01's gallery sampling; default: auto, official with --splits, else python",
    )
    parser.add_argument(
        "--metric",
        choices=["euclidean", "cosine"],
        help="distance between features; default: the one that the file names, as our evaluation's "
        f"do, else {_METRIC}",
    )
    parser.add_argument(
        "--rerank",
        action=argparse.BooleanOptionalAction,
        help="score a second time, with k-reciprocal re-ranking; default: as the file says, "
        "else no",
    )
    parser.add_argument(
        "--json",
        type=Path,
        metavar="RESULTS.json",
        help="write a results file, and each query's metrics beside it; default: none",
    )


def run(args: argparse.Namespace) -> int:
    """Score, print the table, write the results file; return the exit status.

    Raises:
        InputError: unknown or mixed protocols; files that are missing, damaged or of another data
            set; or a sampling that the protocol does not have.
    """
    from cmemd.evaluation.features_file import read_saved
    from cmemd.evaluation.protocols import choose_sampling, get_protocols
    from cmemd.evaluation.results import (
        Column,
        check_results_output,
        results_document,
        write_results,
    )
    from cmemd.evaluation.scoring import Reranking, score_all
    from cmemd.evaluation.tables import format_counts, format_table
    from cmemd.files import file_sha256

    protocols = get_protocols(args.protocols)
    if args.json:
        check_results_output(args.json)
    perm = _read_splits(args, protocols[0])
    for protocol in protocols:
        choose_sampling(protocol, args.draw, perm)
    saved = read_saved(args.features, protocols[0].dataset)
    if args.splits is not None:
        _check_identities(saved.samples.pids, args)
    _warn_of_other_sampling(saved.draw, choose_sampling(protocols[0], args.draw, perm))
    rerank = saved.reranking is not None if args.rerank is None else args.rerank
    rerankings = [None, saved.reranking or Reranking()] if rerank else [None]
    metric = args.metric or saved.metric or _METRIC
    columns = [
        Column(score, flip)
        for flip, samples in saved.by_flip.items()
        for reranking in rerankings
        for score in score_all(samples, protocols, args.draw, perm, metric, reranking).values()
    ]
    source = {"file": args.features.name, "sha256": file_sha256(args.features)}
    document = results_document(columns, {"features": source})
    print(format_table(document))
    print(format_counts(document))
    if args.json:
        write_results(document, args.json, columns, saved.samples)
    return 0


def _read_splits(args: argparse.Namespace, protocol: "Protocol") -> "RandPermCam | None":
    """Return the official permutations of --splits, unless another sampling is asked for."""
    from cmemd.data.layouts import ALL_LAYOUTS
    from cmemd.data.layouts.permutations import read_rand_perm_cam
    from cmemd.evaluation.protocols import PYTHON

    if args.splits is None:
        return None
    if not ALL_LAYOUTS[protocol.dataset].official_permutations:
        raise InputError(
            "--splits for SYSU-MM01's protocols only", protocol.name, "leave --splits out"
        )
    if not args.splits.is_dir():
        raise InputError(
            f"SYSU-MM01's exp folder at --splits {args.splits}",
            "a file" if args.splits.exists() else "no such folder",
            "name the folder, or leave --splits out for the python sampling",
        )
    if args.draw != PYTHON:
        return read_rand_perm_cam(args.splits / "rand_perm_cam.mat")
    if not _has_identities(args.splits):
        raise InputError(
            f"test_id.txt or test_id.mat in --splits {args.splits}, which the python sampling "
            "reads there",
            "neither",
            "name SYSU-MM01's exp folder, or leave --splits out",
        )
    return None


def _has_identities(folder: Path) -> bool:
    return any((folder / f"test_id{suffix}").is_file() for suffix in (".txt", ".mat"))


def _warn_of_other_sampling(before: str | None, now: str) -> None:
    if before not in (None, now):
        warnings.warn(
            f"the evaluation that saved these features used the {before} gallery sampling, this "
            f"score uses the {now} one: the two cannot be compared (--splits, --draw)",
            stacklevel=2,
        )


def _check_identities(pids: "np.ndarray", args: argparse.Namespace) -> None:
    """Refuse features of other identities: those of training identities score far too well."""
    from cmemd.data.layouts.identity_lists import read_ids

    if not _has_identities(args.splits):
        return
    foreign = sorted(set(pids.tolist()) - set(read_ids(args.splits, "test_id")))
    if foreign:
        raise InputError(
            f"features of the test identities in {args.splits} only",
            f"{len(foreign)} others in {args.features}, such as {foreign[:5]}",
            "leave them out, or give --splits of this data set",
        )

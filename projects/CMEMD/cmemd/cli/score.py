"""``cmemd score``: score features that any system saved."""

import argparse
from pathlib import Path

from cmemd.errors import InputError

__all__ = ["HELP", "add_arguments", "run"]

HELP = "score saved features under the field's protocols"


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
        help="SYSU-MM01's exp folder, with rand_perm_cam.mat for the official sampling and test_id",
    )
    parser.add_argument(
        "--draw",
        choices=["official", "python"],
        default="auto",
        help="SYSU-MM01's gallery sampling; default: official where --splits has "
        "rand_perm_cam.mat, else python",
    )
    parser.add_argument(
        "--metric",
        choices=["euclidean", "cosine"],
        default="euclidean",
        help="distance between features; default: %(default)s",
    )
    parser.add_argument(
        "--rerank", action="store_true", help="score a second time, with k-reciprocal re-ranking"
    )
    parser.add_argument("--json", type=Path, metavar="RESULTS.json", help="write a results file")


def run(args: argparse.Namespace) -> int:
    """Score, print the table, write the results file; return the exit status.

    Raises:
        InputError: unknown or mixed protocols; files that are missing, damaged or of another data
            set; or a sampling that the protocol does not have.
    """
    from cmemd.data.layouts import LAYOUTS
    from cmemd.data.layouts.permutations import read_rand_perm_cam
    from cmemd.evaluation.features_file import read_features
    from cmemd.evaluation.protocols import choose_sampling, get_protocols
    from cmemd.evaluation.results import Column, results_document, write_results
    from cmemd.evaluation.scoring import Reranking, score_all
    from cmemd.evaluation.tables import format_counts, format_table
    from cmemd.files import file_sha256

    protocols = get_protocols(args.protocols)
    dataset = protocols[0].dataset
    perm = None
    if args.splits is not None:
        if not LAYOUTS[dataset].official_permutations:
            raise InputError(
                "--splits for SYSU-MM01's protocols only", protocols[0].name, "leave --splits out"
            )
        path = args.splits / "rand_perm_cam.mat"
        if path.is_file() or args.draw == "official":
            perm = read_rand_perm_cam(path)
    for protocol in protocols:
        choose_sampling(protocol, args.draw, perm)
    samples = read_features(args.features, dataset)
    if args.splits is not None:
        _check_identities(samples.pids, args)
    columns = [
        Column(score, flip=None)
        for reranking in ([None, Reranking()] if args.rerank else [None])
        for score in score_all(samples, protocols, args.draw, perm, args.metric, reranking).values()
    ]
    source = {"file": args.features.name, "sha256": file_sha256(args.features)}
    document = results_document(columns, {"features": source})
    print(format_table(document))
    print(format_counts(document))
    if args.json:
        write_results(document, args.json, columns, samples)
    return 0


def _check_identities(pids, args: argparse.Namespace) -> None:
    """Refuse features of other identities: those of training identities score far too well."""
    from cmemd.data.layouts.identity_lists import read_ids

    if not any((args.splits / f"test_id{suffix}").is_file() for suffix in (".txt", ".mat")):
        return
    foreign = sorted(set(pids.tolist()) - set(read_ids(args.splits, "test_id")))
    if foreign:
        raise InputError(
            f"features of the test identities in {args.splits} only",
            f"{len(foreign)} others in {args.features}, such as {foreign[:5]}",
            "leave them out, or give --splits of this data set",
        )

"""``cmemd score``: score features that any system saved."""

import argparse
import warnings
from pathlib import Path
from typing import TYPE_CHECKING

from cmemd.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np

    from cmemd.data.layouts.permutations import RandPermCam
    from cmemd.evaluation.features_file import SavedFeatures
    from cmemd.evaluation.protocols import Options, Protocol
    from cmemd.evaluation.results import Column
    from cmemd.evaluation.samples import Samples

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
        help="such as sysu-all-1shot, regdb-v2t, llcm-t2v-paper, own-t2v; repeat it for several "
        "protocols",
    )
    parser.add_argument(
        "--features",
        type=Path,
        metavar="F.npz",
        help="features, one row per test image; docs/scoring.md describes the file",
    )
    for side in ("queries", "gallery"):
        parser.add_argument(
            f"--{side}",
            action="append",
            type=Path,
            metavar="F.parquet",
            help=f"embeddings of the {side} for own-... protocols, instead of --features; .parquet "
            "or .npz, written by cmemd embed --output; repeatable",
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
    _add_own(parser)


def _add_own(parser: argparse.ArgumentParser) -> None:
    """Declare the options of protocols of one's own, and of mixed ones."""
    # No defaults here: those of ``Options`` hold, and docs/scoring.md explains each.
    own = parser.add_argument_group("protocols of one's own, own-...")
    own.add_argument("--name", help="of the data, as a heading over results")
    own.add_argument(
        "--trials",
        type=int,
        metavar="N",
        help="gallery samplings of one image per identity and camera; default: 0, one gallery of "
        "all images",
    )
    own.add_argument("--seed", type=int, metavar="N", help="of these samplings; default: 0")
    own.add_argument(
        "--ignore-same-camera",
        action="store_true",
        default=None,
        help="remove gallery images of the query's own identity and camera",
    )
    own.add_argument(
        "--ignore-same-tracklet",
        action="store_true",
        default=None,
        help="remove those of its own identity, camera and tracklet",
    )
    own.add_argument(
        "--within",
        type=float,
        metavar="SECONDS",
        help="remove those that were taken longer before or after the query; default: 0, none",
    )
    own.add_argument("--cmc", metavar="RANKS", help="over identities (default) or images")
    own.add_argument(
        "--fpir",
        type=float,
        action="append",
        metavar="RATE",
        help="give the misses where this share of searches for unknown people finds someone; "
        "repeatable; default: 0.01 and 0.1",
    )
    own.add_argument(
        "--det", type=Path, metavar="F.png", help="draw misses against false positives"
    )
    mixed = parser.add_argument_group("mixed protocols, ...-mixed")
    mixed.add_argument(
        "--ratio",
        type=float,
        metavar="R",
        help="share of thermal images in the gallery, and of visible ones among the queries; "
        "default: 0.5",
    )
    mixed.add_argument(
        "--validation",
        type=Path,
        action="append",
        metavar="F",
        help="features or embeddings of validation identities, on which the parameters of three "
        "remedies are chosen, a row each; repeatable for embeddings",
    )


def run(args: argparse.Namespace) -> int:
    """Score, print the table, write the results file; return the exit status.

    Raises:
        InputError: unknown or mixed protocols; files that are missing, damaged or of another data
            set; or a sampling that the protocol does not have.
    """
    from cmemd.evaluation.protocols import choose_sampling, get_protocols, with_options
    from cmemd.evaluation.remedies import check_remedies
    from cmemd.evaluation.results import (
        Column,
        check_results_output,
        results_document,
        write_results,
    )
    from cmemd.evaluation.sampling import check_scorable, sample_trials
    from cmemd.evaluation.scoring import Reranking, score_all
    from cmemd.evaluation.tables import format_counts, format_open_set, format_table
    from cmemd.paths import check_picture

    protocols = with_options(get_protocols(args.protocols), _options(args))
    _check_sources(args, protocols)
    if args.json:
        check_results_output(args.json)
    if args.det:
        check_picture(args.det)
    if args.validation:
        check_remedies(protocols)
    perm = _read_splits(args, protocols[0])
    for protocol in protocols:
        choose_sampling(protocol, args.draw, perm)
    saved, validation, source = _read(args, protocols[0])
    if args.splits is not None:
        _check_identities(saved.samples.pids, args)
    for protocol in protocols:
        if protocol.rules:
            trials = sample_trials(saved.samples, protocol, args.draw, perm)
            check_scorable(saved.samples, protocol, trials)
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
    if validation is not None:
        columns += _remedied(saved, validation, protocols, args.draw, perm, metric)
    document = results_document(columns, source)
    if args.name:
        print(args.name)
    print(format_table(document))
    print(format_counts(document))
    if rates := format_open_set(document):
        print(rates)
    if args.det:
        _draw(args, columns)
    if args.json:
        write_results(document, args.json, columns, saved.samples)
    return 0


def _options(args: argparse.Namespace) -> "Options":
    from dataclasses import fields

    from cmemd.evaluation.protocols import Options

    given = {field.name: getattr(args, field.name) for field in fields(Options)}
    given = {name: value for name, value in given.items() if value is not None}
    if "fpir" in given:
        given["fpir"] = tuple(given["fpir"])
    return Options(**given)


def _check_sources(args: argparse.Namespace, protocols: "Sequence[Protocol]") -> None:
    """Raise unless there are features, or queries and a gallery for protocols of one's own."""
    from cmemd.data.layouts import own

    sides = args.queries or args.gallery
    if bool(args.features) == bool(sides) or (sides and not (args.queries and args.gallery)):
        named = [f"--{n}" for n in ("features", "queries", "gallery") if getattr(args, n)]
        raise InputError(
            "either --features, or --queries and --gallery",
            " and ".join(named) or "none",
            "name what to score",
        )
    ours = protocols[0].dataset == own.LAYOUT.name
    if sides and not ours:
        raise InputError(
            "--queries and --gallery with own-... protocols",
            protocols[0].name,
            "score own-t2v or own-v2t, or give --features of that data set",
        )
    if args.det and not ours:
        raise InputError("--det with own-... protocols", protocols[0].name, "leave --det out")
    if args.validation and not sides and len(args.validation) > 1:
        raise InputError(
            "one --validation beside --features", len(args.validation), "name one features file"
        )


def _read(
    args: argparse.Namespace, protocol: "Protocol"
) -> "tuple[SavedFeatures, Samples | None, dict[str, object]]":
    """Return what is scored, the validation images, and where the features come from."""
    import numpy as np

    from cmemd.evaluation.features_file import SavedFeatures, read_saved
    from cmemd.evaluation.own_samples import check_disjoint, own_samples
    from cmemd.files import file_sha256

    def fact(path: Path) -> dict[str, str]:
        return {"file": path.name, "sha256": file_sha256(path)}

    validation = None
    if args.features:
        saved = read_saved(args.features, protocol.dataset)
        source: dict[str, object] = {"features": fact(args.features)}
        if args.validation:
            validation = read_saved(args.validation[0], protocol.dataset).samples
            pids = [{"identity": of.pids} for of in (validation, saved.samples)]
            check_disjoint(*pids)
    else:
        queries, gallery = _columns(args.queries), _columns(args.gallery)
        # Vectors of unit length rank alike by both; thresholds of a search are cosines.
        saved = SavedFeatures(own_samples(queries, gallery), metric="cosine")
        source = {
            name: [fact(path) for path in getattr(args, name)] for name in ("queries", "gallery")
        }
        if args.validation:
            held = _columns(args.validation)
            check_disjoint(held, queries, gallery)
            validation = own_samples(held, held)
            if {*held["model"].tolist()} != {*queries["model"].tolist()}:
                raise InputError(
                    "validation embeddings of the model under test",
                    "those of another model",
                    "embed all images with one model",
                )
    if args.validation:
        source["validation"] = [fact(path) for path in args.validation]
    sizes = {of.features.shape[1] for of in (saved.samples, validation) if of is not None}
    if len(sizes) > 1:
        raise InputError(
            "validation features as long as those under test",
            " and ".join(map(str, np.sort([*sizes]))),
            "take both from one model",
        )
    return saved, validation, source


def _columns(paths: "Sequence[Path]") -> "dict[str, np.ndarray]":
    """Return the columns of several files of embeddings as one."""
    import numpy as np

    from cmemd.gallery.embeddings_file import read_embeddings

    parts = [read_embeddings(path, ("camera", "time", "tracklet")) for path in paths]
    if len({part["vector"].shape[1] for part in parts}) > 1:
        raise InputError(
            f"embeddings of one size in {', '.join(map(str, paths))}",
            "several sizes",
            "embed all images with one model",
        )
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def _remedied(
    saved: "SavedFeatures",
    validation: "Samples",
    protocols: "Sequence[Protocol]",
    draw: str,
    perm: "RandPermCam | None",
    metric: str,
) -> "list[Column]":
    """Return a score of each remedy, with parameters of the validation images."""
    from cmemd.evaluation.remedies import choose_remedies
    from cmemd.evaluation.results import Column
    from cmemd.evaluation.scoring import score

    return [
        Column(score(saved.samples, protocol, draw, perm, metric, remedy), saved.flip)
        for protocol in protocols
        for remedy in choose_remedies(validation, protocol, draw, perm, metric)
    ]


def _draw(args: argparse.Namespace, columns: "Sequence[Column]") -> None:
    """Draw the DET curves; say why there is none where every query has a gallery image."""
    from cmemd.evaluation.det import draw_scores

    if draw_scores([column.score for column in columns], args.name or "", args.det):
        print(f"wrote {args.det}")
    else:
        warnings.warn(
            f"no {args.det}: every query has a gallery image of its identity, and misses need "
            "some without",
            stacklevel=2,
        )


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

"""``cmemd embed``: embeddings of images, into a gallery or a file."""

import argparse
import shutil
from pathlib import Path

HELP = "embed images into a gallery or a file"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    add_model(parser)
    parser.add_argument(
        "--images",
        required=True,
        metavar="DIR|LIST|GLOB",
        help="folder with subfolders; list .txt (a path a line) or .csv (path, identity, camera, "
        "time); glob in quotes",
    )
    parser.add_argument(
        "--pattern",
        metavar="REGEX",
        help=r"labels from the path, such as 'cam(?P<camera>\d+)/(?P<identity>\d+)/'",
    )
    to = parser.add_mutually_exclusive_group(required=True)
    to.add_argument("--gallery", metavar="G", help="add there what it does not have yet")
    to.add_argument(
        "--output",
        type=Path,
        metavar="F",
        help="write .parquet, or .npz, which is held in memory until it is whole; an interrupted "
        "run is continued from F.unfinished",
    )
    parser.add_argument(
        "--on-corrupt",
        choices=["skip", "raise"],
        default="skip",
        help="images that cannot be read: list and skip them, or stop; default: %(default)s",
    )
    parser.add_argument(
        "--strict", action="store_true", help="refuse images that look like the other modality"
    )


def add_model(parser: argparse.ArgumentParser) -> None:
    """Declare the model and how it runs, for each command that embeds."""
    parser.add_argument("--model", required=True, metavar="DIR", help="exported model folder")
    parser.add_argument(
        "--modality",
        required=True,
        choices=["visible", "thermal"],
        help="how the images were taken; a wrong one gives wrong answers",
    )
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--batch-size", type=int, default=64)


def run(args: argparse.Namespace) -> int:
    """Embed what is not embedded yet, say how many; the exit status.

    Raises:
        InputError: No such model, images or labels, a gallery of another model, or a full disk.
    """
    from cmemd.data.modality import Modality
    from cmemd.gallery.embedding import embed_chunks, labelled_anew, not_in_gallery
    from cmemd.gallery.embeddings_file import check_suffix, write_embeddings
    from cmemd.gallery.sources import find_sources
    from cmemd.gallery.table import create_gallery
    from cmemd.inference.predictor import Predictor

    if args.output:
        check_suffix(args.output)
    modality = Modality[args.modality.upper()]
    sources = find_sources(args.images, args.pattern)
    predictor = Predictor(
        args.model,
        device=args.device,
        batch_size=args.batch_size,
        strict=args.strict,
        on_corrupt=args.on_corrupt,
    )
    # Its commits are what an interrupted run to a file goes on from.
    unfinished = args.output and args.output.with_name(f"{args.output.name}.unfinished")
    with create_gallery(unfinished or args.gallery, predictor.digest, predictor.size) as gallery:
        new = not_in_gallery(sources, gallery, modality)
        added = sum(gallery.add(rows) for rows in embed_chunks(predictor, new, modality))
        report_skipped(predictor)
        if args.output:
            rows = write_embeddings(labelled_anew(gallery, sources, modality), args.output)
            shutil.rmtree(unfinished, ignore_errors=True)
            print(f"{rows} embeddings in {args.output}, {rows - added} of an interrupted run")
        else:
            print(
                f"{added} embeddings added to {args.gallery}, {len(sources) - len(new)} were there "
                f"already; {len(gallery)} in all"
            )
    return 0


def report_skipped(predictor) -> None:
    """List images that could not be read."""
    for path, reason in predictor.skipped:
        print(f"skipped {path}: {reason}")
    if predictor.skipped:
        print(f"{len(predictor.skipped)} images skipped")

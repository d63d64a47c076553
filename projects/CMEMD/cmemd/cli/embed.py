"""``cmemd embed``: embed images into a gallery or a file."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

from cmemd.data.image_files import Tally
from cmemd.data.layouts import own
from cmemd.errors import InputError, printable

if TYPE_CHECKING:
    from cmemd.gallery.embedding import Done, Embedder
    from cmemd.gallery.on_ray import RayEmbedder
    from cmemd.inference.model_folder import ModelUser
    from cmemd.inference.predictor import Predictor

__all__ = [
    "HELP",
    "add_arguments",
    "add_model",
    "add_sensor",
    "sensor_options",
    "report_skipped",
    "report_tally",
    "run",
]

HELP = "embed images into a gallery or a file"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    add_model(parser)
    images = parser.add_mutually_exclusive_group(required=True)
    images.add_argument(
        "--images",
        metavar="DIR|LIST|GLOB",
        help="folder with subfolders; list .txt (one path per line, # for comments) or .csv (path, "
        "identity, camera, time, tracklet); glob in quotes; what is left out is counted and named",
    )
    images.add_argument(
        "--video",
        type=Path,
        metavar="F",
        help="video, of which --boxes are cut out frame by frame; needs OpenCV",
    )
    parser.add_argument(
        "--boxes",
        type=Path,
        metavar="CSV",
        help="boxes of --video, a line each as MOT has them: frame, track, x, y, w, h, ...; frames "
        "count from 1",
    )
    parser.add_argument(
        "--split",
        nargs="+",
        choices=own.SPLITS,
        default=(),
        help="only these splits of a list, such as the split.csv of a run; default: all",
    )
    parser.add_argument(
        "--pattern",
        metavar="REGEX",
        help=r"take labels from the path, for example 'cam(?P<camera>\d+)/(?P<identity>\d+)/'",
    )
    to = parser.add_mutually_exclusive_group(required=True)
    to.add_argument(
        "--gallery", metavar="G", help="gallery, to which new and changed images are added"
    )
    to.add_argument(
        "--output",
        type=Path,
        metavar="F",
        help="write a .parquet or .npz file, or add to one that this command wrote; the next run "
        "continues an interrupted one from F.unfinished",
    )
    parser.add_argument(
        "--on-corrupt",
        choices=["skip", "raise"],
        default="skip",
        help="list and skip images that cannot be read or found, or stop at the first; default: "
        "%(default)s",
    )
    parser.add_argument(
        "--engine",
        choices=["local", "ray"],
        default="local",
        help="where images are embedded: in this process, or on the Ray cluster of RAY_ADDRESS "
        "(without one, on a new one of this machine alone); default: %(default)s",
    )


def add_model(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of a model, for each command that embeds."""
    parser.add_argument("--model", required=True, metavar="DIR", help="exported model folder")
    parser.add_argument(
        "--modality",
        required=True,
        choices=["visible", "thermal"],
        help="how the images were taken; a wrong modality gives wrong matches",
    )
    add_sensor(parser)
    add_guard(parser)
    parser.add_argument("--device", default="cpu", help="cpu or cuda; default: %(default)s")
    parser.add_argument(
        "--batch-size", type=int, default=64, metavar="N", help="default: %(default)s"
    )


def add_sensor(
    parser: argparse.ArgumentParser, default: str = "the gallery's, or the model's"
) -> None:
    """Declare how the files of a thermal camera become grey levels; see ``sensor_options``."""
    own = f"default: {default}"
    parser.add_argument(
        "--range",
        metavar="R",
        help="grey levels of thermal counts of more than 8 bits: LOW:HIGH, percentile:1,99 or agc; "
        f"'' for none, which refuses them; {own}",
    )
    parser.add_argument(
        "--palette", help=f"false colours of thermal images: jet, inferno, ironbow or none; {own}"
    )
    parser.add_argument(
        "--polarity", help=f"of thermal images: white-hot, or black-hot, which is inverted; {own}"
    )


def add_guard(parser: argparse.ArgumentParser) -> None:
    """Declare what happens to images that look like the other modality."""
    parser.add_argument(
        "--guard",
        choices=["off", "warn", "strict"],
        default="warn",
        help="images that look like the other modality: pass, warn or refuse; default: %(default)s",
    )
    parser.add_argument(
        "--strict", action="store_const", const="strict", dest="guard", help="as --guard strict"
    )
    parser.add_argument(
        "--guard-statistics",
        type=Path,
        metavar="F",
        help="your own cameras' statistics for --guard, of cmemd doctor --write-guard; default: "
        "those of the model's training images",
    )


def sensor_options(args: argparse.Namespace) -> dict[str, str]:
    """Return what the options of ``add_sensor`` say.

    Raises:
        InputError: an option is invalid.
    """
    from cmemd.data.sensors import PLAIN

    options = {"range": args.range, "palette": args.palette, "polarity": args.polarity}
    given = {name: value for name, value in options.items() if value is not None}
    PLAIN.changed(given)
    return given


def run(args: argparse.Namespace) -> int:
    """Embed new and changed images, print how many, and return the exit status.

    Raises:
        InputError: the model, images or labels are missing, no image can be read, the gallery or
            the file is another model's or another program's, or the disk is full.
    """
    from cmemd.data.appearance import read_statistics
    from cmemd.data.modality import Modality
    from cmemd.gallery.embedding import update_gallery
    from cmemd.gallery.embeddings_file import check_suffix, own_model, own_sensor
    from cmemd.gallery.sources import find_sources, given_labels
    from cmemd.gallery.table import create_gallery, recorded_sensor
    from cmemd.gallery.unfinished import unfinished_gallery, write_in_order
    from cmemd.gallery.video_sources import VIDEO_LABELS, video_sources

    options = sensor_options(args)
    what = _what(args)
    before = None
    if args.output:
        check_suffix(args.output)
        if args.output.exists() or args.output.is_symlink():
            before = own_model(args.output)
    modality = Modality[args.modality.upper()]
    tally = Tally()
    if args.video:
        sources, given = video_sources(args.video, args.boxes, tally), VIDEO_LABELS
    else:
        sources = find_sources(args.images, args.pattern, tally, modality, args.split)
        given = given_labels(args.images, args.pattern)
    report_tally(tally)
    if args.on_corrupt == "raise" and (faults := tally.faults()):
        raise InputError(
            f"only images at {what}", faults, "restore them, or leave out --on-corrupt raise"
        )
    statistics = read_statistics(args.guard_statistics) if args.guard_statistics else None
    if args.gallery:
        recorded = recorded_sensor(args.gallery)
    else:
        recorded = own_sensor(args.output) if before is not None else None
    embedder, embed = _engine(args.engine)
    predictor = embedder(
        args.model,
        device=args.device,
        batch_size=args.batch_size,
        guard=args.guard,
        sensor=recorded.changed(options) if recorded else options,
        statistics=statistics,
        on_corrupt=args.on_corrupt,
    )
    if before not in (None, predictor.digest):
        raise InputError(
            f"embeddings of model {before[:16]}, as in {args.output}",
            f"model {predictor.digest[:16]}",
            "name that model, or another file",
        )
    if args.gallery:
        with create_gallery(
            args.gallery, predictor.digest, predictor.size, sensor=predictor.sensor
        ) as gallery:
            done = update_gallery(gallery, predictor, sources, modality, given, embed)
            report_skipped(predictor)
            _check_some(done, predictor, what)
            print(f"{done.added} embeddings added to {args.gallery}, {done}; {len(gallery)} in all")
        return 0
    # A run to a file commits to this gallery, so that the next run can continue it.
    if recorded is not None and recorded != predictor.sensor:
        raise InputError(
            f"thermal images read by {recorded}, as in {args.output}",
            str(predictor.sensor),
            "leave out --range, --palette and --polarity, or name another file",
        )
    with unfinished_gallery(
        args.output, predictor.digest, predictor.size, predictor.sensor
    ) as gallery:
        done = update_gallery(gallery, predictor, sources, modality, given, embed)
        report_skipped(predictor)
        rows = write_in_order(gallery, [source.path for source in sources], args.output)
    _check_some(done, predictor, what)
    print(f"{rows} embeddings in {args.output}: {done.added} added, {done}")
    return 0


def _what(args: argparse.Namespace) -> str:
    """Return the images in words; raise if options do not fit together."""
    if not args.video:
        if args.boxes:
            raise InputError("--video with --boxes", "none", "name the video, or leave out --boxes")
        return args.images
    if not args.boxes:
        raise InputError(
            "--boxes with --video", "none", "name the tracker's file of boxes (MOT format)"
        )
    if args.engine != "local" or args.pattern or args.split:
        raise InputError(
            "--video with --engine local, and without --pattern and --split",
            f"--engine {args.engine}"
            if args.engine != "local"
            else "--pattern"
            if args.pattern
            else "--split",
            "frames are read in order, by one process; their labels are the boxes' tracks",
        )
    return str(args.video)


def _engine(name: str) -> "tuple[type[Predictor | RayEmbedder], Embedder]":
    """Return what holds the model, and what embeds images with it."""
    if name == "ray":
        from cmemd.gallery.on_ray import RayEmbedder, embed_on_ray

        return RayEmbedder, embed_on_ray
    from cmemd.gallery.embedding import embed_chunks
    from cmemd.inference.predictor import Predictor

    return Predictor, embed_chunks


def _check_some(done: "Done", predictor: "ModelUser", images: str) -> None:
    """Raise if images were named and none of them could be read."""
    if predictor.skipped and not (done.added or done.changed or done.relabelled or done.unchanged):
        raise InputError(
            f"embeddings of {images}",
            "no readable image",
            "see the list above, and fix the images",
        )


def report_tally(tally: Tally, file: TextIO | None = None) -> None:
    """Print what a search for images left out; ``file`` is stdout by default."""
    for line in tally.lines():
        print(line, file=file)


def report_skipped(predictor: "ModelUser", file: TextIO | None = None) -> None:
    """Print the images that could not be read, and what is ignored of others.

    Args:
        predictor: has read the images.
        file: to print to; stdout by default.
    """
    for path, reason in predictor.skipped:
        print(printable(f"skipped {path}: {reason}"), file=file)
    if predictor.skipped:
        print(f"{len(predictor.skipped)} images skipped", file=file)
    report_tally(predictor.noted, file)

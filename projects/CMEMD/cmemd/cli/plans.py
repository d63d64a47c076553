"""``cmemd plans``: measure which views the optimal plans of saved features pair."""

import argparse
import os
from collections.abc import Iterable
from pathlib import Path

__all__ = ["HELP", "add_arguments", "run"]

HELP = "measure, on a stand-in, which views the optimal plans of features pair, and Rank-1 by view"

_RANDOM = "of uniform plans (%)"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.add_argument(
        "--features",
        nargs="+",
        type=Path,
        required=True,
        metavar="NPZ",
        help="files saved with TEST.SAVE_FEATURES, each once; those in name/seed-*/ share a row",
    )
    parser.add_argument(
        "--standin",
        type=Path,
        required=True,
        metavar="DIR",
        help="their stand-in of SYSU-MM01",
    )
    parser.add_argument(
        "--images",
        type=int,
        default=4,
        metavar="K",
        help="images of each modality in a plan (default: 4)",
    )
    parser.add_argument(
        "--output", type=Path, metavar="PNG", help="draw the table as a picture; default: none"
    )


def run(args: argparse.Namespace) -> int:
    """Print the table, draw the picture; return the exit status.

    Raises:
        InputError: features that are unreadable, repeated or not of the stand-in; a number out of
            range, or a picture that cannot be written.
    """
    from cmemd.errors import InputError, printable
    from cmemd.paths import check_picture

    places = [os.path.realpath(path) for path in args.features]
    if len(set(places)) < len(places):
        raise InputError(
            "each features file once",
            f"{len(places)} names of {len(set(places))}",
            "fix --features",
        )
    if args.images < 1:
        raise InputError("--images of at least 1", args.images, "leave it out for 4")
    if args.output:
        check_picture(args.output)
    import numpy as np
    from tabulate import tabulate

    from cmemd.data.layouts import sysu
    from cmemd.evaluation.features_file import read_features
    from cmemd.study.figures import draw_rows
    from cmemd.study.plan_mass import measure_plans, read_views

    views = read_views(args.standin)
    found: dict[Path, list[dict[str, float]]] = {}
    for path in args.features:
        of = measure_plans(read_features(path, sysu.LAYOUT.name), views, images=args.images)
        row = {
            f"same-view mass (%), K = {args.images}": 100 * of.same_view_mass,
            _RANDOM: 100 * of.uniform_mass,
            "modality gap": of.modality_gap,
            "variance within / between": of.variance_ratio,
            "Rank-1, own view (%)": 100 * of.same_view_rank1,
            "Rank-1, other views (%)": 100 * of.other_view_rank1,
        }
        found.setdefault(_group(path), []).append(row)
    titles = list(row)
    rows = {
        printable(name): {title: np.array([of[title] for of in seeds]) for title in titles}
        for name, seeds in zip(_names(found), found.values(), strict=True)
    }
    counts = dict(zip(rows, map(len, found.values()), strict=True))
    cells = [
        [name, counts[name], *(f"{of.mean():.3f} ± {of.std():.3f}" for of in values.values())]
        for name, values in rows.items()
    ]
    print(tabulate(cells, headers=["Features", "Seeds", *titles], disable_numparse=True))
    if args.output:
        panels = {
            title: [values[title] for values in rows.values()]
            for title in titles
            if title != _RANDOM  # the same in every row
        }
        draw_rows(list(rows), panels, args.output)
    return 0


def _group(path: Path) -> Path:
    """Return the folder whose seeds share a row."""
    folder = path.absolute().parent
    return folder.parent if folder.name.startswith("seed-") else folder


def _names(folders: Iterable[Path]) -> list[str]:
    """Return each folder's name, or its path where folders share a name."""
    names = [folder.name for folder in folders]
    return [
        name if names.count(name) == 1 else str(folder)
        for name, folder in zip(names, folders, strict=True)
    ]

"""``cmemd compare``: result cards side by side."""

import argparse
from pathlib import Path

from cmemd.errors import InputError

HELP = "line up several results.json, with their differences"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.add_argument(
        "results", nargs="+", type=Path, metavar="RESULTS.json", help="files that evaluations wrote"
    )
    parser.add_argument(
        "--names",
        nargs="+",
        metavar="NAME",
        help="a name per file; default: the file's folder, or its path where folders share a name",
    )


def run(args: argparse.Namespace) -> int:
    """Print a table for each way of scoring, and each card's difference to the first.

    Raises:
        InputError: A file is missing or no results file; names are repeated or not one per file;
            the cards have no way of scoring in common.
    """
    from cmemd.evaluation.results import read_per_query, read_results
    from cmemd.evaluation.tables import format_comparison

    names = args.names or _default_names(args.results)
    if len(names) != len(args.results) or len(set(names)) != len(names):
        raise InputError(
            f"expected {len(args.results)} different names, one per results file; got "
            f"{' '.join(names)}; mend --names, or name each file once"
        )
    documents = {name: read_results(path) for name, path in zip(names, args.results, strict=True)}
    per_query = {
        name: read_per_query(path, documents[name])
        for name, path in zip(names, args.results, strict=True)
    }
    print(format_comparison(documents, per_query))
    return 0


def _default_names(paths: list[Path]) -> list[str]:
    folders = [path.resolve().parent.name for path in paths]
    return [
        folder if folders.count(folder) == 1 else str(path)
        for folder, path in zip(folders, paths, strict=True)
    ]

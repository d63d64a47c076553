"""``cmemd compare``: results files side by side."""

import argparse
import os
from pathlib import Path

from cmemd.errors import InputError

__all__ = ["HELP", "add_arguments", "run"]

HELP = "compare several results.json in tables, with their differences"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.add_argument(
        "results", nargs="+", type=Path, metavar="RESULTS.json", help="results files of evaluations"
    )
    parser.add_argument(
        "--names",
        nargs="+",
        metavar="NAME",
        help="one name per file, each another; default: its folder, or its path where folders "
        "share a name",
    )


def run(args: argparse.Namespace) -> int:
    """Print a table for each way of scoring, with differences; return the exit status.

    Raises:
        InputError: a file is missing or not a results file; names are repeated or not one per
            file; no two files were scored in the same way.
    """
    from cmemd.evaluation.results import read_per_query, read_results
    from cmemd.evaluation.tables import format_comparison

    names = args.names or _default_names(args.results)
    if len(names) != len(args.results) or len(set(names)) != len(names):
        raise InputError(
            f"{len(args.results)} different names, one per results file",
            " ".join(names),
            "fix --names, or name each file once",
        )
    documents = {name: read_results(path) for name, path in zip(names, args.results, strict=True)}
    per_query = {
        name: read_per_query(path, documents[name])
        for name, path in zip(names, args.results, strict=True)
    }
    print(format_comparison(documents, per_query))
    return 0


def _default_names(paths: list[Path]) -> list[str]:
    folders = [Path(os.path.realpath(path)).parent.name for path in paths]
    return [
        folder if folders.count(folder) == 1 else str(path)
        for folder, path in zip(folders, paths, strict=True)
    ]

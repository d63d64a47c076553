"""``cmemd verify``: check a model folder, or another program, by the folder's test vector."""

import argparse
from pathlib import Path

__all__ = ["HELP", "add_arguments", "run"]

HELP = "check a model folder's graphs, or another program's embeddings, by its test vector"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.add_argument("model", metavar="DIR", help="a model folder, or a name in the zoo")
    parser.add_argument(
        "--client",
        type=Path,
        metavar="F.json",
        help="another program's embeddings of test_visible.png and test_thermal.png: lists of "
        "numbers by the names visible and thermal",
    )
    parser.add_argument(
        "--device", default="cpu", metavar="D", help="cpu or cuda (default: %(default)s)"
    )


def run(args: argparse.Namespace) -> int:
    """Print the agreement of each graph; return 1 if one is too small.

    Raises:
        InputError: the folder is damaged or has no test vector, or the file is not what it should
            be.
    """
    import json

    from tabulate import tabulate

    from cmemd.errors import EXIT_FAILED, InputError
    from cmemd.inference.model_folder import read_model_folder
    from cmemd.inference.test_vector import check_client, check_folder
    from cmemd.inference.zoo import find_model
    from cmemd.paths import check_input

    folder = read_model_folder(find_model(args.model))
    if args.client is None:
        measured = check_folder(folder, args.device)
    else:
        check_input(args.client, "a client's embeddings", "name a JSON file")
        try:
            embeddings = json.loads(args.client.read_text(encoding="utf-8"))
        except (ValueError, RecursionError):
            embeddings = None
        if not isinstance(embeddings, dict) or not embeddings:
            raise InputError(
                f"JSON with embeddings by modality in {args.client}",
                "something else",
                "write it so",
            )
        measured = check_client(folder, embeddings)
    rows = [
        [m.name, m.modality, f"{m.cosine:.6f}", f"{m.difference:.1e}", "ok" if m.passes else "BAD"]
        for m in measured
    ]
    print(tabulate(rows, ["Checked", "Image", "Cosine", "Largest difference", ""]))
    return 0 if measured and all(m.passes for m in measured) else EXIT_FAILED

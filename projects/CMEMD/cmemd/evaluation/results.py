"""The results document ``results.json``, and tables of it.

Figures are in percent and never rounded in the document; tables show two decimals.
"""

import contextlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tabulate import tabulate

from cmemd.errors import InputError
from cmemd.evaluation.scoring import CMC_RANKS, FIGURES, Score

HEADINGS = dict(zip(FIGURES, [*(f"Rank-{rank}" for rank in CMC_RANKS), "mAP", "mINP"], strict=True))


def results_document(scores: Mapping[str, Score]) -> dict[str, Any]:
    """Turn scores into the results document.

    Args:
        scores: Protocol name -> score.

    Returns:
        ``{"protocols": {name: {...}}}``. Each protocol holds the means over trials (``rank1``,
        ``rank5``, ``rank10``, ``rank20``, ``mAP``, ``mINP``), ``std`` and ``per_trial`` with the
        same names (population standard deviation; a list), the number of ``trials``, ``draw``,
        ``metric``, ``cmc``, and the counts ``queries``, ``queries_without_positive`` (not counted
        in any figure) and ``gallery``.
    """
    return {"protocols": {name: _entry(score) for name, score in scores.items()}}


def write_results(document: Mapping[str, Any], path: Path | str) -> None:
    """Write a results document as JSON, whole or not at all.

    Raises:
        InputError: The folder cannot be written to.
    """
    text = json.dumps(document, indent=2, allow_nan=False) + "\n"
    write_whole(Path(path), text.encode())


def read_results(path: Path | str) -> dict[str, Any]:
    """Read a results document and check what tables need of it.

    Raises:
        InputError: No such file, not JSON, or not a results document.
    """
    path = Path(path)
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(
            f"expected a results file at {path}; got: {error.strerror}; name the results.json that "
            "an evaluation wrote"
        ) from error
    except ValueError as error:
        raise InputError(
            f"expected JSON in {path}; got: {error}; name the results.json that an evaluation wrote"
        ) from error
    if problem := _problem(document):
        raise InputError(
            f"expected a results document in {path}; got {problem}; name the results.json that an "
            "evaluation wrote"
        )
    return document


def format_table(document: Mapping[str, Any]) -> str:
    """A row per protocol: each figure as mean ± standard deviation over trials, in percent."""
    rows = [[name, entry["draw"], *_cells(entry)] for name, entry in document["protocols"].items()]
    return _table(["Protocol", "Draw"], rows)


def format_comparison(documents: Mapping[str, Mapping[str, Any]]) -> str:
    """A row per protocol and document, the rows of one protocol together.

    Args:
        documents: Name to show -> results document.
    """
    protocols = dict.fromkeys(name for d in documents.values() for name in d["protocols"])
    rows = [
        [protocol, name, entry["draw"], entry["metric"], *_cells(entry)]
        for protocol in protocols
        for name, document in documents.items()
        if (entry := document["protocols"].get(protocol))
    ]
    return _table(["Protocol", "Results", "Draw", "Metric"], rows)


def write_whole(path: Path, content: bytes) -> None:
    """Write a file so that nobody ever reads half of it: beside it first, then in its place.

    Raises:
        InputError: The folder cannot be written to.
    """
    unfinished = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        unfinished.write_bytes(content)
        os.replace(unfinished, path)
    except OSError as error:
        with contextlib.suppress(OSError):  # the first error is the one to tell
            unfinished.unlink()
        raise InputError(
            f"expected to write {path}; got: {error.strerror}; choose another output folder"
        ) from error


def _entry(score: Score) -> dict[str, Any]:
    return {
        **_percent(score.mean()),
        "std": _percent(score.std()),
        "per_trial": {
            name: [100 * float(value) for value in values] for name, values in score.trials.items()
        },
        "trials": score.protocol.trials,
        "draw": score.draw,
        "metric": score.metric,
        "cmc": score.protocol.cmc,
        "queries": score.queries,
        "queries_without_positive": score.queries_without_positive,
        "gallery": score.gallery,
    }


def _percent(figures: Mapping[str, float]) -> dict[str, float]:
    return {name: 100 * value for name, value in figures.items()}


def _problem(document: Any) -> str | None:
    """What keeps a document from being shown, or None."""
    protocols = document.get("protocols") if isinstance(document, dict) else None
    if not isinstance(protocols, dict) or not protocols:
        return "no protocols"
    for name, entry in protocols.items():
        if not isinstance(entry, dict) or not isinstance(entry.get("std"), dict):
            return f"no figures for {name}"
        for figure in FIGURES:
            for holder in (entry, entry["std"]):
                if type(holder.get(figure)) not in (int, float):
                    return f"no {figure} for {name}"
        for key in ("draw", "metric"):
            if not isinstance(entry.get(key), str):
                return f"no {key} for {name}"
    return None


def _cells(entry: Mapping[str, Any]) -> list[str]:
    return [f"{entry[figure]:.2f} ± {entry['std'][figure]:.2f}" for figure in FIGURES]


def _table(labels: list[str], rows: list[list[str]]) -> str:
    return tabulate(
        rows,
        headers=[*labels, *HEADINGS.values()],
        colalign=["left"] * len(labels) + ["right"] * len(HEADINGS),
        disable_numparse=True,  # a folder named 1e5 is not a number
    )

"""The result card: ``results.json``, and each query's figures beside it.

``results.schema.json`` is its JSON Schema. Figures are in percent and never rounded in the card.
"""

import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from cmemd.errors import InputError
from cmemd.evaluation.samples import Samples
from cmemd.evaluation.scoring import FIGURES, Score
from cmemd.evaluation.versions import versions
from cmemd.files import write_whole

SCHEMA, VERSION = "cmemd-results", 1


@dataclass(frozen=True, eq=False)
class Column:
    """A score and how its features were made.

    Attributes:
        score: The score.
        flip: Whether features are means over an image and its mirror image; None for unknown.
    """

    score: Score
    flip: bool | None


def results_document(
    columns: Sequence[Column], run: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """Turn scores into the card, as ``results.schema.json`` describes it.

    Args:
        columns: At least one.
        run: Where the features come from; anything that JSON can hold.
    """
    return {
        "schema": SCHEMA,
        "version": VERSION,
        "scores": [_entry(column) for column in columns],
        "run": dict(run or {}),
        "versions": versions(),
        "per_query": None,
    }


def write_results(
    document: Mapping[str, Any],
    path: Path | str,
    columns: Sequence[Column] = (),
    samples: Samples | None = None,
) -> None:
    """Write a card as JSON, whole or not at all, and each query's figures beside it.

    Args:
        document: Of ``results_document``.
        path: Where to; the queries' figures go to ``<its stem>.per_query.npz``.
        columns: The document's; none for a card without each query's figures.
        samples: What was scored, where there are columns.

    Raises:
        InputError: The folder cannot be written to.
    """
    path = Path(path)
    if columns:
        # The card goes last: whoever reads it finds what it names.
        beside = path.with_name(f"{path.stem}.per_query.npz")
        write_whole(beside, _per_query(columns, samples))
        document = {**document, "per_query": beside.name}
    text = json.dumps(document, indent=2, allow_nan=False) + "\n"
    write_whole(path, text.encode())


def read_results(path: Path | str) -> dict[str, Any]:
    """Read a card and check it against the schema.

    Raises:
        InputError: No such file, not JSON, or not a card of this version.
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
            f"expected a result card of version {VERSION} in {path}; got {problem}; name the "
            "results.json that an evaluation by this version of cmemd wrote"
        )
    return document


def read_per_query(path: Path | str, document: Mapping[str, Any]) -> list[dict[str, np.ndarray]]:
    """Each query's figures of a card.

    Args:
        path: The card's file.
        document: The card.

    Returns:
        For each score ``queries`` (Q, 3) and ``figures`` (6, Q); nothing where the card names no
        file or the file did not come along.

    Raises:
        InputError: The file is damaged.
    """
    if not document["per_query"]:
        return []
    # A card may come from anywhere: only a file beside it is read, whatever it names.
    beside = Path(path).with_name(Path(document["per_query"]).name)
    if not beside.is_file():
        return []
    try:
        with np.load(beside, allow_pickle=False) as stored:
            return [
                {name: stored[f"{number}/{name}"] for name in ("queries", "figures")}
                for number in range(len(document["scores"]))
            ]
    except Exception as error:
        raise InputError(
            f"expected each query's figures in {beside}; got a damaged file ({error}); take it "
            "from where the card came from, or delete it"
        ) from error


def _entry(column: Column) -> dict[str, Any]:
    score = column.score
    return {
        "protocol": score.protocol.name,
        "description": score.protocol.description,
        "draw": score.draw,
        "metric": score.metric,
        "flip": column.flip,
        "reranking": score.reranking and score.reranking._asdict(),
        "cmc": score.protocol.cmc,
        "trials": score.protocol.trials,
        "mean": _percent(score.mean()),
        "std": _percent(score.std()),
        "per_trial": {
            name: [100 * float(value) for value in values] for name, values in score.trials.items()
        },
        "counts": dict(score.counts),
    }


def _percent(figures: Mapping[str, float]) -> dict[str, float]:
    return {name: 100 * value for name, value in figures.items()}


def _per_query(columns: Sequence[Column], samples: Samples) -> memoryview:
    arrays = {}
    for number, column in enumerate(columns):
        rows = column.score.query_rows
        keys = samples.pids[rows], samples.camids[rows], samples.frames[rows]
        figures = [100 * column.score.per_query[name] for name in FIGURES]
        arrays[f"{number}/queries"] = np.stack(keys, axis=1)
        arrays[f"{number}/figures"] = np.array(figures, dtype=np.float32)
    content = io.BytesIO()
    np.savez_compressed(content, **arrays)
    return content.getbuffer()


def _problem(document: Any) -> str | None:
    """What keeps a document from being a card, or None."""
    import jsonschema  # a tenth of a second, and only readers need it

    schema = json.loads(Path(__file__).with_name("results.schema.json").read_text())
    validator = jsonschema.Draft202012Validator(schema)
    error = jsonschema.exceptions.best_match(validator.iter_errors(document))
    return error and f"at {error.json_path}: {error.message[:160]}"

"""The results file, ``results.json``, and each query's metrics beside it.

``results.schema.json`` is its JSON Schema. Metrics are in percent and never rounded in the file.
"""

import io
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from cmemd.errors import InputError, exhausted, reason
from cmemd.evaluation.mixed import Centring
from cmemd.evaluation.open_set import TOP, operating_points
from cmemd.evaluation.samples import Samples
from cmemd.evaluation.scoring import METRICS, Reranking, Score
from cmemd.evaluation.versions import versions
from cmemd.files import schema_problem, write_whole
from cmemd.paths import check_input, check_output, check_place

__all__ = [
    "SCHEMA",
    "VERSION",
    "Column",
    "check_results_output",
    "read_per_query",
    "read_results",
    "results_document",
    "write_results",
]

SCHEMA, VERSION = "cmemd-results", 1
_SCHEMA_FILE = Path(__file__).with_name("results.schema.json")
_METRICS_ARRAY = "figures"  # in the npz file, where version 1 calls metrics so


@dataclass(frozen=True, eq=False)
class Column:
    """A score and how its features were made.

    Attributes:
        score: the score.
        flip: whether features are means over an image and its mirror image; None for unknown.
    """

    score: Score
    flip: bool | None


def results_document(
    columns: Sequence[Column], run: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """Return the content of a results file, as ``results.schema.json`` describes it.

    Args:
        columns: at least one.
        run: where the features come from; anything that JSON can hold.
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
    """Write a results file, whole or not at all, and each query's metrics beside it.

    Args:
        document: of ``results_document``.
        path: the file to write; the queries' metrics go to ``<its stem>.per_query.npz``.
        columns: the document's; none to write no query's metrics.
        samples: the scored images, where there are columns.

    Raises:
        InputError: the folder cannot be written to.
    """
    path = Path(path)
    if columns:
        # The results file goes last, so that the file it names is always there.
        assert samples is not None, "columns come with their images"
        beside = _beside(path)
        write_whole(beside, _per_query(columns, samples))
        document = {**document, "per_query": beside.name}
    text = json.dumps(document, indent=2, allow_nan=False) + "\n"
    write_whole(path, text.encode())


def read_results(path: Path | str) -> dict[str, Any]:
    """Read a results file and check it against the schema.

    Raises:
        InputError: no such file, not JSON, or not a results file of this version.
    """
    path = Path(path)
    remedy = "name the results.json that an evaluation wrote"
    check_input(path, "a results file", remedy)
    try:
        document = json.loads(path.read_text(encoding="utf-8"), parse_constant=_no_number)
    except OSError as error:
        raise InputError(f"a results file at {path}", reason(error), remedy) from error
    except (ValueError, RecursionError) as error:
        got = f"an unreadable file ({reason(error, 120)})"
        raise InputError(f"JSON in {path}", got, remedy) from error
    if problem := schema_problem(document, _SCHEMA_FILE):
        raise InputError(
            f"a results file of version {VERSION} in {path}",
            f"a problem {problem}",
            "name the results.json that an evaluation by this version of cmemd wrote",
        )
    return document


def check_results_output(path: Path | str) -> None:
    """Raise where a results file cannot be written, or would replace a file of another kind.

    Raises:
        InputError: something else is there or beside it, or the folder cannot be written to.
    """
    path = Path(path)
    check_place(path)
    check_output(path, f'"schema": "{SCHEMA}"'.encode())
    check_output(_beside(path), b"PK\x03\x04")


def read_per_query(path: Path | str, document: Mapping[str, Any]) -> list[dict[str, np.ndarray]]:
    """Read each query's metrics of a results file.

    Args:
        path: the results file.
        document: its content.

    Returns:
        For each score ``queries`` (Q, 3) and ``metrics`` (6, Q). Empty if the results file names
        no second file, or that file is not there.

    Raises:
        InputError: the second file is damaged.
    """
    if not document["per_query"]:
        return []
    # A results file may come from anywhere: read only a file beside it, whatever it names.
    beside = Path(path).with_name(Path(document["per_query"]).name)
    if not beside.is_file():
        return []
    try:
        with np.load(beside, allow_pickle=False) as stored:
            return [
                _of_score(stored[f"{n}/queries"], stored[f"{n}/{_METRICS_ARRAY}"])
                for n in range(len(document["scores"]))
            ]
    except Exception as error:  # NumPy fails in many ways; nearly all mean bad bytes
        if exhausted(error):
            raise
        raise InputError(
            f"each query's metrics in {beside}",
            f"a damaged file ({reason(error, 120)})",
            "copy it again from where the results file came from, or delete it",
        ) from error


def _beside(path: Path) -> Path:
    return path.with_name(f"{path.stem}.per_query.npz")


def _no_number(name: str) -> float:
    raise ValueError(f"{name}, which JSON does not have")


def _of_score(queries: np.ndarray, metrics: np.ndarray) -> dict[str, np.ndarray]:
    shapes = queries.shape, metrics.shape
    fit = shapes == ((metrics.shape[-1], 3), (len(METRICS), queries.shape[0]))
    if not fit or queries.dtype.kind not in "iu" or metrics.dtype.kind != "f":
        raise ValueError(f"arrays of shapes {shapes[0]} and {shapes[1]}")
    return {"queries": queries, "metrics": metrics}


def _entry(column: Column) -> dict[str, Any]:
    score = column.score
    remedy = score.reranking
    return {
        "protocol": score.protocol.name,
        "description": score.protocol.description,
        "draw": score.sampling,
        "metric": score.distance,
        "flip": column.flip,
        "reranking": remedy._asdict() if isinstance(remedy, Reranking) else None,
        "cmc": score.protocol.cmc,
        "trials": score.protocol.trials,
        "mean": _percent(score.mean()),
        "std": _percent(score.std()),
        "per_trial": {
            name: [100 * float(value) for value in values] for name, values in score.trials.items()
        },
        "counts": dict(score.counts),
        **_further(score),
    }


def _further(score: Score) -> dict[str, Any]:
    """Return what only some protocols have."""
    entry: dict[str, Any] = {}
    remedy = score.reranking
    if rules := score.protocol.rules:
        entry["rules"] = rules
    if remedy is not None and not isinstance(remedy, Reranking):
        name = "centred" if isinstance(remedy, Centring) else "balanced"
        entry["remedy"] = {"name": name, **remedy._asdict()}
    if score.own_modality_first is not None:
        shares = 100 * score.own_modality_first
        entry["own_modality_first"] = {
            "mean": float(shares.mean()),
            "std": float(shares.std()),
            "per_trial": shares.tolist(),
        }
    if score.open_set is not None and score.open_set_pids is not None:
        mated = score.open_set.mated
        points = operating_points(score.open_set, score.open_set_pids, score.protocol.fpir)
        entry["open_set"] = {
            "mated": int(mated.sum()),
            "non_mated": int((~mated).sum()),
            "top": TOP,
            "points": [_point(asdict(point)) for point in points],
        }
    return entry


def _point(point: dict[str, Any]) -> dict[str, Any]:
    """Return an operating point with rates in percent."""
    threshold = point.pop("threshold")
    shown = {
        name: value if value is None else (100 * np.array(value)).tolist()
        for name, value in point.items()
    }
    return {"threshold": threshold, **shown}


def _percent(metrics: Mapping[str, float]) -> dict[str, float]:
    return {name: 100 * value for name, value in metrics.items()}


def _per_query(columns: Sequence[Column], samples: Samples) -> memoryview:
    arrays = {}
    for number, column in enumerate(columns):
        rows = column.score.query_rows
        keys = samples.pids[rows], samples.camids[rows], samples.frames[rows]
        metrics = [100 * column.score.per_query[name] for name in METRICS]
        arrays[f"{number}/queries"] = np.stack(keys, axis=1)
        arrays[f"{number}/{_METRICS_ARRAY}"] = np.array(metrics, dtype=np.float32)
    content = io.BytesIO()
    write: Callable[..., None] = np.savez_compressed  # declared without the arrays' names
    write(content, **arrays)
    return content.getbuffer()

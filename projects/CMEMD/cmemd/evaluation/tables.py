"""Tables of a results file, or of several side by side."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tabulate import tabulate

from cmemd.errors import InputError, printable
from cmemd.evaluation.bootstrap import Interval, paired_interval
from cmemd.evaluation.scoring import CMC_RANKS, METRICS

__all__ = [
    "HEADINGS",
    "Comparison",
    "compare_results",
    "format_comparison",
    "format_counts",
    "format_difference",
    "format_table",
    "scoring_way",
]

HEADINGS = dict(zip(METRICS, [*(f"Rank-{rank}" for rank in CMC_RANKS), "mAP", "mINP"], strict=True))
_ROW_HEADINGS = ("Draw", "Metric", "Flip", "Re-ranking")


def format_table(document: Mapping[str, Any]) -> str:
    """Return a row per score: mean ± standard deviation over trials of each metric, in percent."""
    rows = [
        [entry["protocol"], *scoring_way(entry), *_cells(entry)] for entry in document["scores"]
    ]
    return _table(["Protocol", *_ROW_HEADINGS], rows)


def format_counts(document: Mapping[str, Any]) -> str:
    """Return a row per protocol: the numbers of images scored, and of designed cases."""
    counts = {entry["protocol"]: entry["counts"] for entry in document["scores"]}
    names = [name.replace("_", " ") for name in next(iter(counts.values()))]
    rows = [[protocol, *of_protocol.values()] for protocol, of_protocol in counts.items()]
    return tabulate(rows, headers=["Protocol", *names])


@dataclass(frozen=True)
class Comparison:
    """Results that were scored in one way, and their differences to the first one.

    Attributes:
        protocol: name of the protocol.
        way: heading -> how it was scored: gallery sampling, metric, flip, re-ranking.
        entries: name -> entry of a results file.
        differences: name of each but the first -> metric -> difference in points, and its interval
            where both have metrics of the same queries.
    """

    protocol: str
    way: Mapping[str, str]
    entries: Mapping[str, Mapping[str, Any]]
    differences: Mapping[str, Mapping[str, tuple[float, Interval | None]]]


def compare_results(
    documents: Mapping[str, Mapping[str, Any]],
    per_query: Mapping[str, Sequence[Mapping[str, Any]]] | None = None,
) -> list[Comparison]:
    """Return a comparison for each way of scoring.

    Metrics of different protocols, samplings, distances, flip or re-ranking are never compared.

    Args:
        documents: name to show -> content of a results file.
        per_query: name -> metrics of each query, where they were saved; they give intervals.

    Raises:
        InputError: of several results files, no two were scored in the same way.
    """
    per_query = per_query or {}
    ways: dict[tuple, dict[str, tuple[Mapping, Mapping | None]]] = {}
    for name, document in documents.items():
        queries = per_query.get(name) or [None] * len(document["scores"])
        for entry, of_queries in zip(document["scores"], queries, strict=True):
            ways.setdefault((entry["protocol"], *scoring_way(entry)), {})[name] = entry, of_queries
    if len(documents) > 1 and all(len(entries) == 1 for entries in ways.values()):
        found = "; ".join(f"{next(iter(of))} with {', '.join(way)}" for way, of in ways.items())
        raise InputError(
            "results files that share a protocol, draw, metric, flip and re-ranking",
            found,
            "score them in one way, since others cannot be compared",
        )
    return [_comparison(way, entries) for way, entries in ways.items()]


def format_comparison(
    documents: Mapping[str, Mapping[str, Any]],
    per_query: Mapping[str, Sequence[Mapping[str, Any]]] | None = None,
) -> str:
    """Return ``compare_results`` as tables, one for each way of scoring."""
    return "\n\n".join(map(_comparison_table, compare_results(documents, per_query)))


def _comparison(way: tuple, entries: Mapping[str, tuple[Mapping, Mapping | None]]) -> Comparison:
    first, *others = entries
    return Comparison(
        way[0],
        dict(zip(_ROW_HEADINGS, way[1:], strict=True)),
        {name: entry for name, (entry, _) in entries.items()},
        {name: _differences(entries[first], entries[name]) for name in others},
    )


def _differences(
    first: tuple[Mapping, Mapping | None], second: tuple[Mapping, Mapping | None]
) -> dict[str, tuple[float, Interval | None]]:
    intervals: Mapping[str, Interval] = {}
    if first[1] is not None and second[1] is not None:
        intervals = paired_interval(first[1], second[1])
    return {
        metric: (second[0]["mean"][metric] - first[0]["mean"][metric], intervals.get(metric))
        for metric in METRICS
    }


def _comparison_table(found: Comparison) -> str:
    title = f"{found.protocol}: " + ", ".join(
        f"{heading.lower()} {value}" for heading, value in found.way.items()
    )
    rows = [[printable(name), *_cells(entry)] for name, entry in found.entries.items()]
    parts = [title, _table(["Results"], rows)]
    first = next(iter(found.entries))
    if found.differences:
        differences = [
            [printable(f"{name} - {first}"), *(format_difference(*of[m]) for m in METRICS)]
            for name, of in found.differences.items()
        ]
        parts.append(_table(["Difference"], differences))
    return "\n".join(parts)


def format_difference(difference: float, interval: Interval | None) -> str:
    """Return a difference in points, and its interval if there is one, as a cell of a table."""
    ends = "" if interval is None else f" [{interval.low:+.2f}, {interval.high:+.2f}]"
    return f"{difference:+.2f}{ends}"


def scoring_way(entry: Mapping[str, Any]) -> tuple[str, str, str, str]:
    """Return gallery sampling, metric, flip and re-ranking of an entry, in words."""
    flip = {True: "on", False: "off", None: "unknown"}[entry["flip"]]
    reranking = entry["reranking"]
    if reranking is None:
        return entry["draw"], entry["metric"], flip, "off"
    settings = " ".join(f"{name}={value:g}" for name, value in reranking.items())
    return entry["draw"], entry["metric"], flip, settings


def _cells(entry: Mapping[str, Any]) -> list[str]:
    return [f"{entry['mean'][metric]:.2f} ± {entry['std'][metric]:.2f}" for metric in METRICS]


def _table(labels: list[str], rows: list[list[str]]) -> str:
    return tabulate(
        rows,
        headers=[*labels, *HEADINGS.values()],
        colalign=["left"] * len(labels) + ["right"] * len(HEADINGS),
        disable_numparse=True,  # a folder named 1e5 is not a number
    )

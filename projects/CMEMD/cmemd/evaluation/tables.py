"""Tables of a results file, or of several side by side."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tabulate import tabulate

from cmemd.errors import InputError, printable
from cmemd.evaluation.bootstrap import Interval, paired_interval
from cmemd.evaluation.protocols import EVERYTHING
from cmemd.evaluation.ranking import IDENTITIES
from cmemd.evaluation.scoring import CMC_RANKS, METRICS

__all__ = [
    "HEADINGS",
    "Comparison",
    "compare_results",
    "format_comparison",
    "format_counts",
    "format_difference",
    "format_open_set",
    "format_table",
    "scoring_way",
]

_Scored = tuple[Mapping[str, Any], Mapping[str, Any] | None]  # an entry, and its queries' metrics

HEADINGS = dict(zip(METRICS, [*(f"Rank-{rank}" for rank in CMC_RANKS), "mAP", "mINP"], strict=True))
_ROW_HEADINGS = ("Draw", "Metric", "Flip", "Re-ranking")
_OWN_FIRST = (
    "Own modality first"  # of a mixed protocol: share of queries by their first wrong match
)


def format_table(document: Mapping[str, Any]) -> str:
    """Return a row per score: mean ± standard deviation over trials of each metric, in percent."""
    scores = document["scores"]
    rows = [[_name(entry), *scoring_way(entry), *_cells(entry)] for entry in scores]
    more = [_OWN_FIRST] if any("own_modality_first" in entry for entry in scores) else []
    for row, entry in zip(rows, scores, strict=True):
        row += [_own_first(entry) for _ in more]
    return _table(["Protocol", *_ROW_HEADINGS], rows, more)


def format_open_set(document: Mapping[str, Any]) -> str:
    """Return a row per score and rate: misses where a rate of false positives is kept, in percent.

    Empty where no query lacks a gallery image of its identity.
    """
    rows = [
        [
            _name(entry),
            *scoring_way(entry)[:3],
            f"{point['rate']:g}",
            _rate(point, "fpir"),
            _rate(point, "fnir"),
            "-" if point["threshold"] is None else f"{point['threshold']:.6g}",
            entry["open_set"]["mated"],
            entry["open_set"]["non_mated"],
        ]
        for entry in document["scores"]
        if "open_set" in entry
        for point in entry["open_set"]["points"]
    ]
    if not rows:
        return ""
    headings = ["Protocol", *_ROW_HEADINGS[:3], "Rate", "FPIR", "FNIR", "Score above"]
    return tabulate(rows, headers=[*headings, "Mated", "Non-mated"], disable_numparse=True)


def _rate(point: Mapping[str, Any], name: str) -> str:
    if point[name] is None:
        return "-"
    low, high = point[f"{name}_interval"]
    return f"{point[name]:.2f} ({low:.2f} to {high:.2f})"


def _own_first(entry: Mapping[str, Any]) -> str:
    share = entry.get("own_modality_first")
    return "-" if share is None else f"{share['mean']:.2f} ± {share['std']:.2f}"


def _name(entry: Mapping[str, Any]) -> str:
    """Return a protocol's name, with the rules that a user chose."""
    rules = {k: v for k, v in entry.get("rules", {}).items() if v not in (None, False)}
    if entry["draw"] == EVERYTHING and "ratio" not in rules:
        rules.pop("seed", None)  # nothing was chosen by it
    words = [
        name.replace("_", " ") if value is True else f"{name} {value:g}"
        for name, value in rules.items()
    ]
    if "ignore_same_camera" in entry.get("rules", {}) and entry["cmc"] != IDENTITIES:
        words.append(f"CMC over {entry['cmc']}")
    return entry["protocol"] + (f" ({', '.join(words)})" if words else "")


def format_counts(document: Mapping[str, Any]) -> str:
    """Return a row per protocol: the numbers of images scored, and of designed cases."""
    counts = {_name(entry): entry["counts"] for entry in document["scores"]}
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
    ways: dict[tuple[str, ...], dict[str, _Scored]] = {}
    for name, document in documents.items():
        nothing: list[Mapping[str, Any] | None] = [None] * len(document["scores"])
        queries = per_query.get(name) or nothing
        for entry, of_queries in zip(document["scores"], queries, strict=True):
            ways.setdefault((_name(entry), *scoring_way(entry)), {})[name] = entry, of_queries
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


def _comparison(way: tuple[str, ...], entries: Mapping[str, _Scored]) -> Comparison:
    first, *others = entries
    return Comparison(
        way[0],
        dict(zip(_ROW_HEADINGS, way[1:], strict=True)),
        {name: entry for name, (entry, _) in entries.items()},
        {name: _differences(entries[first], entries[name]) for name in others},
    )


def _differences(first: _Scored, second: _Scored) -> dict[str, tuple[float, Interval | None]]:
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
    reranking = entry.get("remedy") or entry["reranking"]
    if reranking is None:
        return entry["draw"], entry["metric"], flip, "off"
    settings = " ".join(
        value if name == "name" else f"{name}={value:g}" for name, value in reranking.items()
    )
    return entry["draw"], entry["metric"], flip, settings


def _cells(entry: Mapping[str, Any]) -> list[str]:
    return [f"{entry['mean'][metric]:.2f} ± {entry['std'][metric]:.2f}" for metric in METRICS]


def _table(labels: list[str], rows: list[list[str]], more: Sequence[str] = ()) -> str:
    return tabulate(
        rows,
        headers=[*labels, *HEADINGS.values(), *more],
        colalign=["left"] * len(labels) + ["right"] * (len(HEADINGS) + len(more)),
        disable_numparse=True,  # a folder named 1e5 is not a number
    )

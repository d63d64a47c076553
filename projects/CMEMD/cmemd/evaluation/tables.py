"""Result cards as tables: one card, or several lined up."""

from collections.abc import Mapping, Sequence
from typing import Any

from tabulate import tabulate

from cmemd.errors import InputError
from cmemd.evaluation.bootstrap import Interval, paired_interval
from cmemd.evaluation.scoring import CMC_RANKS, FIGURES

HEADINGS = dict(zip(FIGURES, [*(f"Rank-{rank}" for rank in CMC_RANKS), "mAP", "mINP"], strict=True))
_ROW_HEADINGS = ("Draw", "Metric", "Flip", "Re-ranking")


def format_table(document: Mapping[str, Any]) -> str:
    """A row per score: each figure as mean ± standard deviation over trials, in percent."""
    rows = [[entry["protocol"], *_how(entry), *_cells(entry)] for entry in document["scores"]]
    return _table(["Protocol", *_ROW_HEADINGS], rows)


def format_counts(document: Mapping[str, Any]) -> str:
    """A row per protocol: what was scored, and what stood out."""
    counts = {entry["protocol"]: entry["counts"] for entry in document["scores"]}
    names = [name.replace("_", " ") for name in next(iter(counts.values()))]
    rows = [[protocol, *of_protocol.values()] for protocol, of_protocol in counts.items()]
    return tabulate(rows, headers=["Protocol", *names])


def format_comparison(
    documents: Mapping[str, Mapping[str, Any]],
    per_query: Mapping[str, Sequence[Mapping[str, Any]]] | None = None,
) -> str:
    """Cards lined up: a table for each way of scoring, then differences to the first card.

    Figures of different protocols, draws, metrics, flip or re-ranking are never in one table.

    Args:
        documents: Name to show -> card.
        per_query: Name -> figures of each query, where they were saved; they give intervals.

    Raises:
        InputError: No two cards, of several, were scored in the same way.
    """
    per_query = per_query or {}
    ways: dict[tuple, dict[str, tuple[Mapping, Mapping | None]]] = {}
    for name, document in documents.items():
        queries = per_query.get(name) or [None] * len(document["scores"])
        for entry, of_queries in zip(document["scores"], queries, strict=True):
            ways.setdefault((entry["protocol"], *_how(entry)), {})[name] = entry, of_queries
    if len(documents) > 1 and all(len(cards) == 1 for cards in ways.values()):
        found = "; ".join(f"{next(iter(cards))}: {', '.join(way)}" for way, cards in ways.items())
        raise InputError(
            "expected cards that share a protocol, draw, metric, flip and re-ranking; got "
            f"{found}; figures of different protocols cannot be compared"
        )
    return "\n\n".join(_comparison(way, cards) for way, cards in ways.items())


def _comparison(way: tuple, cards: Mapping[str, tuple[Mapping, Mapping | None]]) -> str:
    title = f"{way[0]}: " + ", ".join(
        f"{heading.lower()} {value}" for heading, value in zip(_ROW_HEADINGS, way[1:], strict=True)
    )
    parts = [title, _table(["Results"], [[name, *_cells(e)] for name, (e, _) in cards.items()])]
    first, *others = cards
    if others:
        differences = [
            [f"{name} - {first}", *_differences(cards[first], cards[name])] for name in others
        ]
        parts.append(_table(["Difference"], differences))
    return "\n".join(parts)


def _differences(
    first: tuple[Mapping, Mapping | None], second: tuple[Mapping, Mapping | None]
) -> list[str]:
    intervals: Mapping[str, Interval] = {}
    if first[1] is not None and second[1] is not None:
        intervals = paired_interval(first[1], second[1])
    cells = []
    for figure in FIGURES:
        cell = f"{second[0]['mean'][figure] - first[0]['mean'][figure]:+.2f}"
        if figure in intervals:
            cell += f" [{intervals[figure].low:+.2f}, {intervals[figure].high:+.2f}]"
        cells.append(cell)
    return cells


def _how(entry: Mapping[str, Any]) -> tuple[str, str, str, str]:
    flip = {True: "on", False: "off", None: "unknown"}[entry["flip"]]
    reranking = entry["reranking"]
    if reranking is None:
        return entry["draw"], entry["metric"], flip, "off"
    settings = " ".join(f"{name}={value:g}" for name, value in reranking.items())
    return entry["draw"], entry["metric"], flip, settings


def _cells(entry: Mapping[str, Any]) -> list[str]:
    return [f"{entry['mean'][figure]:.2f} ± {entry['std'][figure]:.2f}" for figure in FIGURES]


def _table(labels: list[str], rows: list[list[str]]) -> str:
    return tabulate(
        rows,
        headers=[*labels, *HEADINGS.values()],
        colalign=["left"] * len(labels) + ["right"] * len(HEADINGS),
        disable_numparse=True,  # a folder named 1e5 is not a number
    )

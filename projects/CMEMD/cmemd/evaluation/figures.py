"""Figures of an evaluation: CMC curves, rates by group, distances of pairs.

Each function turns numbers into a matplotlib figure and nothing else. Figures take their colours
from here, so that a page can give them other ones in the dark.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

__all__ = [
    "COLOURS",
    "DASHES",
    "GRID",
    "INK",
    "MUTED",
    "draw_cmc",
    "draw_distances",
    "draw_rates",
    "legend",
    "new_axes",
]

INK, MUTED, GRID = "#1f2328", "#59636e", "#d5dae0"
# After Okabe and Ito: told apart by people with any kind of colour vision. Lines also differ in
# their dashes, and bars in their filling.
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#b5578f", "#8a6d00", "#5b6b7b")
DASHES = ("-", "--", "-.", ":", (0, (6, 1, 1, 1, 1, 1)), (0, (1, 2)))
_LONG = 18  # characters of a name; longer ones stand below each other
_SIZE = (4.3, 3.0)  # inches; a page sets panels side by side, or one below the other


def new_axes(
    title: str, xlabel: str, ylabel: str, size: tuple[float, float] = _SIZE
) -> tuple[Figure, Axes]:
    """Return a small figure with one pair of axes, without a frame around it.

    Args:
        title: what the figure shows.
        xlabel: name and unit of the horizontal axis.
        ylabel: name and unit of the vertical axis.
        size: width and height in inches.
    """
    figure = Figure(figsize=size, dpi=110, facecolor="none", layout="constrained")
    axes = figure.add_subplot()
    axes.set_facecolor("none")
    figure.suptitle(
        title, x=0.01, ha="left", fontsize=11, color=INK, fontweight="bold", parse_math=False
    )
    axes.set_xlabel(xlabel, fontsize=10, color=MUTED, parse_math=False)
    axes.set_ylabel(ylabel, fontsize=10, color=MUTED, parse_math=False)
    axes.tick_params(labelsize=10, colors=MUTED, length=0)
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.spines["bottom"].set_color(GRID)
    axes.grid(axis="y", color=GRID, linewidth=0.7)
    axes.set_axisbelow(True)
    return figure, axes


def draw_cmc(curves: Mapping[str, np.ndarray], title: str = "CMC") -> Figure:
    """Draw the mean over trials of each curve, within a band from its lowest to its highest trial.

    Args:
        curves: name -> ``(T, R)`` shares of queries whose match is among the first 1..R ranks.
        title: what the figure shows.
    """
    figure, axes = new_axes(title, "Rank", "Queries with a match (%)")
    for number, (name, trials) in enumerate(curves.items()):
        ranks, colour = np.arange(1, trials.shape[1] + 1), COLOURS[number % len(COLOURS)]
        shares = 100 * trials
        axes.fill_between(ranks, shares.min(0), shares.max(0), color=colour, alpha=0.2, linewidth=0)
        dashes = DASHES[number % len(DASHES)]
        axes.plot(ranks, shares.mean(0), color=colour, linestyle=dashes, linewidth=2, label=name)
    axes.set_ylim(0, 101)
    axes.set_xlim(1, max(2, *(trials.shape[1] for trials in curves.values())))
    axes.set_xticks([tick for tick in (1, 5, 10, 15, 20) if tick <= axes.get_xlim()[1]])
    if len(curves) > 1:
        legend(axes)
    return figure


def draw_rates(
    groups: Sequence[str],
    rates: np.ndarray,
    intervals: np.ndarray,
    title: str,
    xlabel: str = "Rank-1 (%)",
    overall: float | None = None,
) -> Figure:
    """Draw a dot and the line of its interval for each group, top to bottom.

    Args:
        groups: names of the G groups.
        rates: ``(G,)`` shares.
        intervals: ``(G, 2)`` ends of their intervals.
        title: what the groups are.
        xlabel: name and unit of the rate.
        overall: the rate of all, as a dotted line.
    """
    height = 1.25 + 0.36 * len(groups)
    figure, axes = new_axes(title, xlabel, "", (4.3, height))
    places = np.arange(len(groups))
    axes.grid(axis="y", linewidth=0)
    axes.grid(axis="x", color=GRID, linewidth=0.7)
    if overall is not None:
        axes.axvline(100 * overall, color=MUTED, linestyle=":", linewidth=1.2)
        axes.annotate(
            "all",
            (100 * overall, -0.6),
            fontsize=9.5,
            color=MUTED,
            ha="left",
            va="center",
            xytext=(3, 0),
            textcoords="offset points",
        )
    axes.hlines(places, *(100 * intervals.T), color=COLOURS[0], linewidth=2.4, alpha=0.55)
    axes.plot(100 * rates, places, "o", color=COLOURS[0], markersize=6.5)
    axes.set_yticks(places, groups, parse_math=False)
    axes.tick_params(axis="y", labelcolor=INK)
    axes.set_ylim(len(groups) - 0.5, -0.85)
    high = min(100.0, 100 * float(intervals.max()) + 4)
    axes.set_xlim(max(0.0, min(0.0, 100 * float(intervals.min()))), high)
    return figure


def draw_distances(same: np.ndarray, other: np.ndarray, title: str, xlabel: str) -> Figure:
    """Draw the distances of pairs of one identity, filled, and of two identities, as an outline.

    Args:
        same: ``(n,)`` finite distances of pairs of one identity; may be empty.
        other: ``(m,)`` of two identities; not empty.
        title: which pairs these are.
        xlabel: name of the distance.
    """
    figure, axes = new_axes(title, xlabel, "Pairs (%)")
    both = np.concatenate([same, other])
    edges = np.linspace(both.min(), max(both.max(), both.min() + 1e-9), 41).tolist()
    styles: tuple[tuple[np.ndarray, str, str, dict[str, Any]], ...] = (
        (same, "same identity", COLOURS[0], {"histtype": "stepfilled", "alpha": 0.45}),
        (other, "other identities", COLOURS[1], {"histtype": "step", "linewidth": 2}),
    )
    for values, name, colour, style in styles:
        if len(values):
            weights = np.full(len(values), 100 / len(values))
            axes.hist(values, edges, weights=weights, color=colour, label=name, **style)
    legend(axes)
    return figure


def legend(axes: Axes, columns: int = 3) -> None:
    """Add a legend below the axes, where it covers nothing; names may hold any characters."""
    handles, names = axes.get_legend_handles_labels()
    if max(map(len, names)) > _LONG:
        columns = 1
    found = axes.figure.legend(
        handles,
        names,
        loc="outside lower left",
        fontsize=9.5,
        frameon=False,
        ncols=columns,
        labelcolor=MUTED,
        handlelength=2.2,
        columnspacing=1.4,
    )
    for text in found.get_texts():
        text.set_parse_math(False)

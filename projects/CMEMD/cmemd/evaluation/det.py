"""The DET curve as a picture: misses against false positives, at every threshold."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from cmemd.evaluation.open_set import OperatingPoint, det_curve, operating_points
from cmemd.evaluation.scoring import Score
from cmemd.evaluation.searches import OpenSetScores
from cmemd.files import write_figure

__all__ = ["draw_det", "draw_scores"]

_SIZE, _DPI = (5.6, 5.0), 150  # inches
_COLOURS = ("#1f6f8b", "#c8553d", "#5a7d2a", "#7a4f9a")


def draw_det(
    curves: Mapping[str, tuple[OpenSetScores, Sequence[OperatingPoint]]], title: str, path: Path
) -> None:
    """Draw FNIR over FPIR, both in percent and logarithmic, as a PNG.

    Rates of 0 have no place on such an axis; the curve ends at the rate of a single probe.

    Args:
        curves: by name, searches and the points to mark.
        title: over the picture.
        path: PNG file to write.

    Raises:
        InputError: the PNG cannot be written.
    """
    figure = Figure(figsize=_SIZE, dpi=_DPI, facecolor="white", layout="constrained")
    axes = figure.add_subplot(xscale="log", yscale="log")
    for number, (name, (scores, points)) in enumerate(curves.items()):
        colour = _COLOURS[number % len(_COLOURS)]
        fpir, fnir = det_curve(scores)
        shown = (fpir > 0) & (fnir > 0)
        axes.plot(
            100 * fpir[shown],
            100 * fnir[shown],
            drawstyle="steps-post",
            color=colour,
            label=f"{name}: {np.sum(scores.mated)} mated, {np.sum(~scores.mated)} non-mated",
        )
        marked = [(100 * p.fpir, 100 * p.fnir) for p in points if p.fpir and p.fnir]
        if marked:
            axes.plot(*zip(*marked, strict=True), "o", color=colour)
    axes.set_xlabel("false positives among searches for unknown people, FPIR, %")
    axes.set_ylabel("misses among searches for known people, FNIR, %")
    axes.set_title(title)
    axes.grid(which="both", color="#dddddd", linewidth=0.6)
    axes.legend(frameon=False, fontsize=8)
    write_figure(figure, path)


def draw_scores(scores: Sequence[Score], name: str, path: Path) -> bool:
    """Draw the curves of scores that have open-set metrics; return whether there were any.

    Args:
        scores: of any protocols.
        name: of the data, for the title; "" for ours.
        path: PNG file to write.

    Raises:
        InputError: the PNG cannot be written.
    """
    curves: dict[str, tuple[OpenSetScores, list[OperatingPoint]]] = {}
    for score in scores:
        found, pids = score.open_set, score.open_set_pids
        if found is None or pids is None or not 0 < np.sum(found.mated) < len(found.mated):
            continue
        points = operating_points(found, pids, score.protocol.fpir)
        curves.setdefault(score.protocol.name, (found, points))
    if curves:
        title = name or scores[0].protocol.description.partition(":")[0]
        draw_det(curves, title, path)
    return bool(curves)

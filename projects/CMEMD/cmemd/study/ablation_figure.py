"""The picture of a study: each variant's figures, seed by seed."""

import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from cmemd.evaluation.results import write_whole
from cmemd.study.ablation import SHOWN, Variant

_BAR, _DOT = "#9fb8cc", "#1b3a52"


def draw_study(variants: Sequence[Variant], path: Path) -> None:
    """Draws a bar for each variant's mean and a dot for each seed, as a PNG.

    Args:
        variants: of ``plan_study``; those without a finished run get an empty row.
        path: of the file.

    Raises:
        InputError: if the file cannot be written.
    """
    height = 1.2 + 0.42 * len(variants)
    figure = Figure(figsize=(11, height), dpi=130, facecolor="white", layout="constrained")
    rows = np.arange(len(variants))
    for axes, place, name in zip(
        figure.subplots(1, len(SHOWN), sharey=True), range(len(SHOWN)), SHOWN, strict=True
    ):
        for row, variant in enumerate(variants):
            values = variant.figures()[:, place]
            if len(values):
                axes.barh(row, values.mean(), color=_BAR, height=0.6)
                axes.plot(values, np.full(len(values), row), "o", color=_DOT, markersize=4)
        axes.set_title({"rank1": "Rank-1"}.get(name, name) + " (%)", fontsize=11)
        axes.set_yticks(rows, [variant.name for variant in variants])
        axes.set_ylim(len(variants) - 0.5, -0.5)
        axes.grid(axis="x", linewidth=0.4)
        axes.set_axisbelow(True)
        axes.spines[["top", "right"]].set_visible(False)
    png = io.BytesIO()
    FigureCanvasAgg(figure).print_png(png)
    write_whole(path, png.getbuffer())

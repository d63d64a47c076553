"""The picture of a comparison: a row for each variant, a panel for each figure."""

import io
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from cmemd.files import write_whole

__all__ = ["draw_rows"]

_BAR, _DOT = "#9fb8cc", "#1b3a52"


def draw_rows(names: Sequence[str], panels: Mapping[str, Sequence[np.ndarray]], path: Path) -> None:
    """Draws a bar for each row's mean and a dot for each of its values, as a PNG.

    Args:
        names: of the rows, top to bottom.
        panels: title -> each row's values, one for each seed; a row without any stays empty.
        path: of the file.

    Raises:
        InputError: if the file cannot be written.
    """
    height = 1.2 + 0.42 * len(names)
    figure = Figure(figsize=(11, height), dpi=130, facecolor="white", layout="constrained")
    places = figure.subplots(1, len(panels), sharey=True, squeeze=False)[0]
    for axes, (title, rows) in zip(places, panels.items(), strict=True):
        for row, values in enumerate(rows):
            if len(values):
                axes.barh(row, np.mean(values), color=_BAR, height=0.6)
                axes.plot(values, np.full(len(values), row), "o", color=_DOT, markersize=4)
        axes.set_title(title, fontsize=11)
        axes.set_yticks(np.arange(len(names)), names)
        axes.set_ylim(len(names) - 0.5, -0.5)
        axes.grid(axis="x", linewidth=0.4)
        axes.set_axisbelow(True)
        axes.spines[["top", "right"]].set_visible(False)
    png = io.BytesIO()
    FigureCanvasAgg(figure).print_png(png)
    write_whole(path, png.getbuffer())

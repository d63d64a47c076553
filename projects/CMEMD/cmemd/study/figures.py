"""The pictures of the studies: variants side by side, and ``cmemd.study.clouds``."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from cmemd.files import write_figure
from cmemd.study.clouds import PLANS, Clouds, learn_map, make_clouds, rank1

__all__ = ["draw_clouds_figure", "draw_rows"]

_BAR, _DOT = "#9fb8cc", "#1b3a52"
_COLOURED = 5  # people with a colour of their own; the others are grey
_COLOURS = ("#1b6ca8", "#d1495b", "#2e8b57", "#8a5fbf", "#c98a1b")


def draw_rows(names: Sequence[str], panels: Mapping[str, Sequence[np.ndarray]], path: Path) -> None:
    """Draw a bar for each row's mean and a dot for each of its values, as a PNG.

    Args:
        names: labels of the rows, top to bottom.
        panels: title -> each row's values, one for each seed; a row without values stays empty.
        path: PNG file to write.

    Raises:
        InputError: the file cannot be written.
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
        axes.set_yticks(np.arange(len(names)), names, parse_math=False)  # a name may hold "$"
        axes.set_ylim(len(names) - 0.5, -0.5)
        axes.grid(axis="x", linewidth=0.4)
        axes.set_axisbelow(True)
        axes.spines[["top", "right"]].set_visible(False)
    write_figure(figure, path)


def draw_clouds_figure(path: Path | str, seed: int = 0) -> dict[str, float]:
    """Draw the points before, after uniform alignment and after transport, as a PNG.

    Args:
        path: PNG file to write.
        seed: seed of ``make_clouds``.

    Returns:
        Title of each panel -> Rank-1, in [0, 1].

    Raises:
        InputError: the file cannot be written.
    """
    clouds = make_clouds(seed)
    panels = {"before": clouds}
    panels |= {name: clouds.mapped(learn_map(clouds, name)) for name in PLANS}
    figure = Figure(figsize=(11, 5.2), dpi=130, facecolor="white", layout="constrained")
    for axes, (title, points) in zip(figure.subplots(1, 3), panels.items(), strict=True):
        _draw_points(axes, points)
        axes.set_title(f"{title}\nRank-1 {100 * rank1(points):.0f} %", fontsize=12)
    figure.supxlabel("● visible   ▲ thermal; a line joins the two images of one pose", fontsize=10)
    write_figure(figure, path)
    return {title: rank1(points) for title, points in panels.items()}


def _draw_points(axes: Axes, points: Clouds) -> None:
    visible, thermal = points.visible.numpy(), points.thermal.numpy()
    middle = torch.cat((points.visible, points.thermal)).mean((0, 1)).numpy()
    for person in range(len(visible)):
        from_middle = abs(person - len(visible) // 2)
        colour = _COLOURS[person % len(_COLOURS)] if from_middle <= _COLOURED // 2 else "#c9ccd1"
        for pose in range(visible.shape[1]):
            pair = [visible[person, pose] - middle, thermal[person, pose] - middle]
            axes.plot(*zip(*pair, strict=True), color=colour, linewidth=0.8, zorder=1)
            for (x, y), mark, size in zip(pair, "o^", (26, 30), strict=True):
                axes.scatter(x, y, color=colour, marker=mark, s=size, zorder=2)
    axes.set(xlim=(-4, 4), ylim=(-9.5, 9.5), xticks=[], yticks=[])

"""The picture of ``cmemd.study.clouds``."""

import io
from pathlib import Path

import torch
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from cmemd.files import write_whole
from cmemd.study.clouds import PLANS, Clouds, draw_clouds, learn_map, rank1

_SHOWN = 5  # people with a colour of their own; the others are grey
_COLOURS = ("#1b6ca8", "#d1495b", "#2e8b57", "#8a5fbf", "#c98a1b")


def draw_clouds_figure(path: Path | str, seed: int = 0) -> dict[str, float]:
    """Draws the plane before, after uniform alignment and after transport, as a PNG.

    Args:
        path: of the file.
        seed: of ``draw_clouds``.

    Returns:
        Title of each panel -> Rank-1, in [0, 1].

    Raises:
        InputError: if the file cannot be written.
    """
    clouds = draw_clouds(seed)
    panels = {"before": clouds}
    panels |= {name: clouds.mapped(learn_map(clouds, name)) for name in PLANS}
    figure = Figure(figsize=(11, 5.2), dpi=130, facecolor="white", layout="constrained")
    for axes, (title, points) in zip(figure.subplots(1, 3), panels.items(), strict=True):
        _draw(axes, points)
        axes.set_title(f"{title}\nRank-1 {100 * rank1(points):.0f} %", fontsize=12)
    figure.supxlabel("● visible   ▲ thermal; a line joins the two images of one pose", fontsize=10)
    png = io.BytesIO()
    FigureCanvasAgg(figure).print_png(png)
    write_whole(Path(path), png.getbuffer())
    return {title: rank1(points) for title, points in panels.items()}


def _draw(axes: Axes, points: Clouds) -> None:
    visible, thermal = points.visible.numpy(), points.thermal.numpy()
    middle = torch.cat((points.visible, points.thermal)).mean((0, 1)).numpy()
    for person in range(len(visible)):
        nearness = abs(person - len(visible) // 2)
        colour = _COLOURS[person % len(_COLOURS)] if nearness <= _SHOWN // 2 else "#c9ccd1"
        for pose in range(visible.shape[1]):
            pair = [visible[person, pose] - middle, thermal[person, pose] - middle]
            axes.plot(*zip(*pair, strict=True), color=colour, linewidth=0.8, zorder=1)
            axes.scatter(*pair[0], color=colour, marker="o", s=26, zorder=2)
            axes.scatter(*pair[1], color=colour, marker="^", s=30, zorder=2)
    axes.set(xlim=(-4, 4), ylim=(-9.5, 9.5), xticks=[], yticks=[])

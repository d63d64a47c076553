"""A picture of queries and their ranked galleries.

Lengths are in inches of the printed page, from its top left corner.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Circle, FancyBboxPatch
from PIL import Image

from cmemd.data.boxes import located
from cmemd.data.images import read_rgb
from cmemd.data.layouts.permutations import RandPermCam
from cmemd.data.sensors import PICTURES
from cmemd.errors import InputError
from cmemd.evaluation.distances import distance_matrix
from cmemd.evaluation.protocols import AUTO, Protocol, choose_sampling
from cmemd.evaluation.rank_counting import rank_order
from cmemd.evaluation.ranking import QueryScores
from cmemd.evaluation.samples import Samples
from cmemd.evaluation.sampling import ignored, sample_trials
from cmemd.evaluation.scoring import score_trial
from cmemd.files import write_figure

__all__ = ["draw_ranked_gallery", "spread_over_ap"]

_DPI = 150
_TILE = (0.9, 1.8)  # width, height: people are about twice as tall as wide
_STEP = (1.06, 2.34)  # from tile to tile and from row to row
_MARGIN = 0.45
_QUERY_GAP = 0.42  # between the query and its gallery
_TOP = 1.5  # title and column headings
_BOTTOM = 0.75  # caption

_RIGHT, _WRONG, _QUERY = "#12864a", "#cc3333", "#30343b"
_INK, _GREY, _PANEL = "#1b1f24", "#69707a", "#f1f3f5"
_FONT = "DejaVu Sans"  # part of matplotlib; has the tick and the cross


@dataclass(frozen=True)
class _Tile:
    """One framed image with its two lines of text."""

    path: str
    corner: tuple[float, float]
    colour: str
    frame: float
    mark: str
    heading: str
    label: str


def draw_ranked_gallery(
    samples: Samples,
    protocol: Protocol,
    path: Path | str,
    *,
    perm: RandPermCam | None = None,
    sampling: str = AUTO,
    distance: str = "euclidean",
    queries: int = 6,
    top: int = 10,
    trial: int = 0,
) -> None:
    """Draw queries with the nearest images of one trial's gallery, as a PNG.

    ``spread_over_ap`` chooses the queries; none is picked by hand. Images that the protocol
    ignores are not shown. Right and wrong differ in colour, thickness of the frame and mark. All
    images are stretched to one size, as a network sees them.

    Args:
        samples: the images; their ``paths`` are opened.
        protocol: gives queries and gallery.
        path: PNG file to write.
        perm: the official permutations, needed by the official sampling.
        sampling: ``auto``, ``official``, ``python`` or ``everything``.
        distance: ``euclidean`` or ``cosine``.
        queries: rows; fewer where fewer queries have a positive.
        top: gallery images per row; fewer where the gallery is smaller.
        trial: number of the trial, from 0.

    Raises:
        InputError: no row, no column or no such trial; an image cannot be read; the PNG cannot be
            written; or as ``score_all``.
    """
    if queries < 1 or top < 1 or not 0 <= trial < protocol.trials:
        raise InputError(
            f"at least one query and one image, and a trial from 0 to {protocol.trials - 1}",
            f"{queries}, {top} and {trial}",
            "change these numbers",
        )
    rows = sample_trials(samples, protocol, sampling, perm)[trial]
    distances = distance_matrix(
        samples.features[rows.queries], samples.features[rows.gallery], distance
    )
    scores = score_trial(samples, protocol, rows, distances)
    hidden = ignored(samples, protocol, rows.queries, rows.gallery)

    shown = spread_over_ap(scores.ap[0], queries)
    tiles, columns = [], 0
    for place, query in enumerate(shown):
        order = rank_order(distances[query : query + 1])[0]
        found = rows.gallery[order[~hidden[query, order]][:top]]
        columns = max(columns, len(found))
        tiles += _row_tiles(samples, rows.queries[query], found, scores.ap[0, query], place)

    axes = _page(columns, len(shown))
    _write_heading(axes, protocol, scores, trial, choose_sampling(protocol, sampling, perm))
    _write_caption(axes, len(shown), int(scores.counted.sum()))
    for tile in tiles:
        _draw_tile(axes, tile)
    figure = axes.figure
    assert isinstance(figure, Figure)  # matplotlib declares a part of one too
    write_figure(figure, path)


def spread_over_ap(ap: np.ndarray, count: int) -> np.ndarray:
    """Return the places of queries, spread evenly from the best to the worst.

    The counted queries, sorted by falling average precision (equal ones in their order), are cut
    into ``count`` parts of one size; the middle one of each part is taken.

    >>> spread_over_ap(np.array([0.1, 0.9, np.nan, 0.5, 0.3, 0.7, 0.2]), 3)
    array([5, 4, 0])

    Args:
        ap: ``(Q,)`` average precision, NaN where a query has no positive.
        count: at least 1.

    Returns:
        At most ``count`` positions in ``ap``, best first.
    """
    order = np.argsort(-ap, kind="stable")[: np.sum(~np.isnan(ap))]  # NaN sorts last
    count = min(count, len(order))
    return order[(2 * np.arange(count) + 1) * len(order) // (2 * count)]


def _row_tiles(samples: Samples, query: int, found: np.ndarray, ap: float, row: int) -> list[_Tile]:
    y = _TOP + row * _STEP[1]
    tiles = [
        _Tile(
            path=samples.paths[query],
            corner=(_MARGIN, y),
            colour=_QUERY,
            frame=1.8,
            mark="",
            heading=f"AP {100 * ap:.1f} %",
            label=_label(samples, query),
        )
    ]
    for column, image in enumerate(found):
        right = samples.pids[image] == samples.pids[query]
        tiles.append(
            _Tile(
                path=samples.paths[image],
                corner=(_gallery_left() + column * _STEP[0], y),
                colour=_RIGHT if right else _WRONG,
                frame=4.2 if right else 1.4,
                mark="✓" if right else "✗",
                heading=f"{column + 1}",
                label=_label(samples, image),
            )
        )
    return tiles


def _label(samples: Samples, row: int) -> str:
    return f"id {samples.pids[row]} · cam {samples.camids[row]}"


def _gallery_left() -> float:
    return _MARGIN + _TILE[0] + _QUERY_GAP


def _page(columns: int, rows: int) -> Axes:
    """Return axes over the whole page, in inches, y downwards."""
    columns = max(columns, 8)  # room for the title over a small gallery
    width = _gallery_left() + (columns - 1) * _STEP[0] + _TILE[0] + _MARGIN
    height = _TOP + rows * _STEP[1] + _BOTTOM
    figure = Figure(figsize=(width, height), dpi=_DPI, facecolor="white")
    axes = figure.add_axes((0, 0, 1, 1), xlim=(0, width), ylim=(height, 0))
    axes.set_axis_off()
    axes.add_patch(
        FancyBboxPatch(
            (_MARGIN - 0.06, _TOP - 0.3),
            _TILE[0] + 0.12,
            rows * _STEP[1] + 0.2,
            boxstyle="round,pad=0.08,rounding_size=0.12",
            facecolor=_PANEL,
            edgecolor="none",
        )
    )
    return axes


def _write_heading(
    axes: Axes, protocol: Protocol, scores: QueryScores, trial: int, sampling: str
) -> None:
    _text(axes, _MARGIN - 0.14, 0.42, protocol.description, size=19, weight="bold")
    metrics = (
        f"Rank-1 {100 * np.nanmean(scores.hits(1, protocol.cmc)):.1f} %   ·   "
        f"mAP {100 * np.nanmean(scores.ap):.1f} %   ·   "
        f"trial {trial + 1} of {protocol.trials}, {sampling} sampling"
    )
    _text(axes, _MARGIN - 0.14, 0.8, metrics, size=12.5, colour=_GREY)
    query, gallery = (
        " or ".join(side.modality.name.lower() for side in sides)
        for sides in zip(*protocol.sides, strict=True)
    )
    heading = f"{query} query"
    _text(axes, _MARGIN + _TILE[0] / 2, _TOP - 0.2, heading, weight="bold", centre=True)
    heading = f"{gallery} gallery, nearest first"
    _text(axes, _gallery_left(), _TOP - 0.2, heading, weight="bold")


def _write_caption(axes: Axes, shown: int, counted: int) -> None:
    height = axes.get_ylim()[0]
    lines = (
        f"{shown} of {counted} queries, evenly spaced from the highest to the lowest average "
        "precision (AP); none picked by hand.",
        "✓ thick green frame: the query's identity.   ✗ thin red frame: another person.",
    )
    for number, line in enumerate(lines):
        _text(axes, _MARGIN - 0.14, height - 0.52 + 0.24 * number, line, size=9.5, colour=_GREY)


def _draw_tile(axes: Axes, tile: _Tile) -> None:
    (x, y), (width, height) = tile.corner, _TILE
    outline = FancyBboxPatch(
        (x, y),
        width,
        height,
        boxstyle="round,pad=0,rounding_size=0.07",
        facecolor="none",
        edgecolor=tile.colour,
        linewidth=tile.frame,
        zorder=3,
    )
    axes.add_patch(outline)
    picture = axes.imshow(
        _pixels(tile.path),
        extent=(x, x + width, y + height, y),
        aspect="auto",
        interpolation="lanczos",
        zorder=2,
    )
    picture.set_clip_path(outline)
    if tile.mark:
        centre = (x + width - 0.13, y + 0.13)
        axes.add_patch(
            Circle(centre, 0.12, facecolor=tile.colour, edgecolor="white", linewidth=1, zorder=4)
        )
        _text(axes, *centre, tile.mark, size=8.5, colour="white", weight="bold", centre=True)
    middle = x + width / 2
    _text(axes, middle, y + height + 0.13, tile.heading, size=8.5, weight="bold", centre=True)
    _text(axes, middle, y + height + 0.28, tile.label, size=7.5, colour=_GREY, centre=True)


def _pixels(key: str) -> np.ndarray:
    """Return the pixels of one tile, ``(height, width, 3)`` bytes."""
    path, box, _ = located(key)
    size = round(_DPI * _TILE[0]), round(_DPI * _TILE[1])
    try:
        image = read_rgb(path, box=box, sensor=PICTURES)
        return np.asarray(image.resize(size, Image.Resampling.LANCZOS))
    except InputError as error:
        raise InputError(f"{error}, or ask for no ranked gallery (TEST.RANKED_GALLERY 0)") from None


def _text(
    axes: Axes,
    x: float,
    y: float,
    words: str,
    *,
    size: float = 9,
    colour: str = _INK,
    weight: str = "normal",
    centre: bool = False,
) -> None:
    axes.text(
        x,
        y,
        words,
        fontsize=size,
        color=colour,
        fontweight=weight,
        family=_FONT,
        ha="center" if centre else "left",
        va="center_baseline",
        zorder=5,
    )

"""The network's sections: transport plans, stripe weights, activation maps."""

from pathlib import Path
from typing import TYPE_CHECKING

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure
from PIL import Image

from cmemd.errors import InputError, MissingDependencyError
from cmemd.evaluation.figures import COLOURS, GRID, new_axes
from cmemd.report.blocks import Cell, Matrix, Missing, Section, Strip, Table, Tile
from cmemd.report.pictures import address, chart
from cmemd.report.run import Run

if TYPE_CHECKING:
    from cmemd.report.network import Plan, Seen

__all__ = ["draw_stripes", "network_sections", "overlay", "plan_cells"]

_ENLARGED = (96, 192)  # width and height of an activation map
_TITLES = {
    "plans": "The transport plan of an identity",
    "stripes": "Stripe weights",
    "activations": "Activation maps",
}


def network_sections(run: Run, seed: int) -> list[Section]:
    """Return the sections that need the network; without it, they say why they are empty."""
    sections = {anchor: Section(anchor, title) for anchor, title in _TITLES.items()}
    seen = _look(run, seed)
    if isinstance(seen, Missing):
        for section in sections.values():
            section.missing.append(Missing(section.title, seen.why, seen.remedy))
        return list(sections.values())
    _add_plans(run, seen, seed, sections["plans"])
    _add_stripes(seen, sections["stripes"])
    _add_activations(run, seen, sections["activations"])
    return list(sections.values())


def _look(run: Run, seed: int) -> "Seen | Missing":
    if run.saved is None:
        found = run.missing["features"]
        return Missing("", found.why, found.remedy)
    try:
        from cmemd.report.network import look_into
    except ImportError as error:
        why = f"{error.name} is not installed; the network is needed"
        return Missing("", why, "pip install 'cmemd[train]', and fast-reid")
    try:
        return look_into(run, seed)
    except (InputError, MissingDependencyError) as error:
        return Missing("", str(error))


def _add_plans(run: Run, seen: "Seen", seed: int, section: Section) -> None:
    count = len(seen.visible)
    section.lead = (
        f"Identity {seen.pid}: of {seen.compared} identities drawn with seed {seed}, the one whose "
        f"plan saves the median share. Rows are {count} visible images, columns {count} thermal "
        "ones. The area of a filled square is the mass that optimal transport moves between the "
        "two; the outline is what uniform weights would have moved. The number is the ground cost "
        f"({seen.distance}); a stronger shade costs more."
    )
    views = _views(run)
    visible_side, thermal_side = _side(run, seen.visible, views), _side(run, seen.thermal, views)
    rows = []
    for plan in seen.plans:
        spent, uniform = (plan.plan * plan.cost).sum(), plan.cost.mean()
        note = f"Transport costs {spent:.3f}, uniform weights {uniform:.3f}: "
        note += f"it saves {100 * plan.saving:.0f} %."
        cells = plan_cells(plan)
        section.blocks.append(Matrix(plan.title, visible_side, thermal_side, cells, note))
        line = [plan.title, f"{spent:.4f}", f"{uniform:.4f}", f"{100 * plan.saving:.1f} %"]
        if views:
            visible, thermal = (
                [_view(run, r, views) for r in of] for of in (seen.visible, seen.thermal)
            )
            same = np.array(visible)[:, None] == np.array(thermal)
            line += [f"{100 * (plan.plan * same).sum():.0f} %", f"{100 * same.mean():.0f} %"]
        rows.append(line)
    head = ["Feature", "Cost of the plan", "Cost of uniform weights", "Saved"]
    if views:
        head += ["Mass on pairs of one view", "The same, uniform"]
    section.blocks.append(Table("What each plan saves", head, rows))


def plan_cells(plan: "Plan") -> list[list[Cell]]:
    """Return the cells of a plan; a square that fills its cell is the whole mass of an image."""
    most = 1 / max(plan.plan.shape)
    uniform = float(np.sqrt(1 / plan.plan.size / most))
    span = plan.cost.max() - plan.cost.min()
    digits = 2 if plan.cost.max() >= 1 else 4 if plan.cost.max() < 0.1 else 3
    return [
        [
            Cell(
                side=round(float(np.sqrt(min(1.0, max(0.0, mass / most)))), 3),
                uniform=round(uniform, 3),
                mass=f"{mass:.3f}",
                cost=f"{cost:.{digits}f}",
                shade=round(float((cost - plan.cost.min()) / (span if span > 0 else 1)), 3),
            )
            for mass, cost in zip(masses, costs, strict=True)
        ]
        for masses, costs in zip(plan.plan, plan.cost, strict=True)
    ]


def _side(run: Run, rows: np.ndarray, views: dict[str, str]) -> list[Tile]:
    samples = run.samples
    tiles = []
    for row in rows:
        label, view = f"cam {samples.camids[row]}", _view(run, row, views)
        label += f" · {view}" if view else ""
        picture = run.images.thumbnail(str(samples.paths[row]))
        tiles.append(Tile(picture, f"image of {label}", "", "", label))
    return tiles


def _views(run: Run) -> dict[str, str]:
    """Return path -> view of a stand-in's images; empty for other data."""
    from cmemd.study.plan_mass import read_views  # loads PyTorch

    try:
        return read_views(run.root) if run.standin and run.root is not None else {}
    except InputError:
        return {}


def _view(run: Run, row: int, views: dict[str, str]) -> str:
    parts = Path(str(run.samples.paths[row])).parts
    ends = ("/".join(parts[start:]) for start in range(len(parts)))
    return next((views[end] for end in ends if end in views), "")


def _add_stripes(seen: "Seen", section: Section) -> None:
    if seen.weights is None:
        section.missing.append(
            Missing(
                "Stripe weights", "the network has no local features", "MODEL.HEADS.GRANULARITIES"
            )
        )
        return
    weights = np.atleast_2d(seen.weights)
    per_image = seen.weights.ndim == 2
    section.lead = "How much each stripe counts in the holistic feature; the weights sum to 1."
    if not seen.learned:
        section.lead += (
            " No loss trains them here: they are as they started (MODEL.LOSSES.DL.WEIGHT 0)."
        )
    mean = weights.mean(axis=0)
    words = ", ".join(f"stripe {n + 1} {w:.3f}" for n, w in enumerate(mean))
    note = f"Dots: {len(weights)} images." if per_image else "One weight for all images."
    section.blocks.append(
        chart(draw_stripes(weights), f"Weights, from the head down: {words}.", note)
    )


def draw_stripes(weights: np.ndarray) -> Figure:
    """Draw a bar for each stripe's mean weight, from the head down, and a dot for each image.

    Args:
        weights: ``(N, S)``, or ``(1, S)`` where they are the same for all images.
    """
    stripes = weights.shape[1]
    figure, axes = new_axes("Weight of each stripe", "Weight", "", (4.3, 1.2 + 0.36 * stripes))
    axes.grid(axis="y", linewidth=0)
    axes.grid(axis="x", color=GRID, linewidth=0.7)
    places = np.arange(stripes)
    axes.barh(places, weights.mean(axis=0), height=0.55, color=COLOURS[0], alpha=0.75)
    if len(weights) > 1:
        for place in places:
            spread = np.linspace(-0.2, 0.2, len(weights))
            axes.plot(weights[:, place], place + spread, ".", color=COLOURS[1], markersize=3)
    axes.axvline(1 / stripes, color=COLOURS[1], linestyle=":", linewidth=1.3)
    axes.annotate(
        "equal",
        (1 / stripes, -0.62),
        xytext=(3, 0),
        textcoords="offset points",
        fontsize=9.5,
        color=COLOURS[1],
        va="center",
    )
    names = [f"stripe {n + 1}" for n in places]
    names[0] += " (top)"
    axes.set_yticks(places, names)
    axes.set_ylim(stripes - 0.5, -0.95)
    return figure


def _add_activations(run: Run, seen: "Seen", section: Section) -> None:
    section.lead = (
        "Bright places answer most: the norm over channels of each stream's last feature map, from "
        "its lowest to its highest value in the image. Images are shown as the network gets them."
    )
    samples = run.samples
    for found in seen.activations:
        modality = "thermal" if samples.modalities[found.row] else "visible"
        label = f"id {samples.pids[found.row]} · cam {samples.camids[found.row]}"
        image = Image.fromarray(found.pixels).resize(_ENLARGED, Image.Resampling.LANCZOS)
        tiles = [
            Tile(
                address(image), f"{modality} image, {label}", "", "image", "as the network sees it"
            )
        ]
        for stream, values in found.maps.items():
            picture = address(overlay(np.asarray(image), values))
            words = f"activation of the {stream} stream, {modality}, {label}"
            tiles.append(Tile(picture, words, "", f"{stream} stream", ""))
        section.blocks.append(Strip(f"{modality.capitalize()}: {label}", tiles, wide=True))


def overlay(pixels: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Return an image under its activations, in a map of colours of even brightness.

    Args:
        pixels: ``(H, W, 3)`` bytes.
        values: ``(h, w)`` from 0 to 1; they are interpolated to H x W.
    """
    grey = pixels.mean(axis=2, keepdims=True)
    small = Image.fromarray(values.astype(np.float32))
    large = small.resize(pixels.shape[1::-1], Image.Resampling.BICUBIC)
    heat = mpl.colormaps["cividis"](np.clip(np.asarray(large), 0, 1))[..., :3] * 255
    return (0.35 * grey + 0.65 * heat).astype(np.uint8)

"""Training curves: each loss term, the rate, what is watched, and evaluations over time."""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from cmemd.evaluation.figures import COLOURS, DASHES, MUTED, legend, new_axes
from cmemd.evaluation.tables import HEADINGS
from cmemd.report.blocks import Missing, Section
from cmemd.report.pictures import chart
from cmemd.report.run import Run

__all__ = ["draw_curves", "training_section"]

_LOSS = "loss_"
_ORDER = ("global", "local", "accumulated")
_TITLES = {
    "id": "Identity loss",
    "align": "Alignment loss",
    "dl": "CM-DL",
    "tri": "Triplet loss",
    "centre": "Centre-cluster loss",
}
# name of a scalar -> title and unit of its panel
_WATCHED = {
    "total_loss": ("Total loss", "Loss"),
    "lr": ("Learning rate", "Rate"),
    "cls_accuracy": ("Accuracy on training batches", "Images classified right (share)"),
    "modality_gap": ("Modality gap", "Distance of the modalities' centres"),
    "plan_saving": ("Plan saving", "Share of the uniform plan's cost"),
    "plan_sharpness": ("Plan sharpness", "0 uniform, 1 a matching"),
    "within_ratio": ("Variation within", "Transport within / between the modalities"),
    "time": ("Time of an iteration", "Seconds"),
}


def training_section(run: Run) -> Section:
    """Return a panel for each term and each watched value."""
    section = Section("training", "Training")
    if not run.scalars:
        section.missing.append(run.missing["scalars"])
        return section
    section.lead = (
        "Weighted terms as they were minimised, at the iterations that the run logged. "
        "A dotted vertical line is a resumed start."
    )
    stops = [start.get("iteration", 0) for start in run.interruptions]
    for (title, unit), curves in _panels(run.scalars).items():
        figure = draw_curves(curves, title, unit, stops)
        ends = "; ".join(
            f"{name} from {y[0]:.3g} to {y[-1]:.3g}" for name, (_, y) in curves.items()
        )
        section.blocks.append(chart(figure, f"{title} over iterations: {ends}."))
    _add_evaluations(run, section, stops)
    return section


def draw_curves(
    curves: Mapping[str, tuple[np.ndarray, np.ndarray]],
    title: str,
    unit: str,
    stops: Sequence[int] = (),
) -> Figure:
    """Draw values over iterations.

    Args:
        curves: name -> (iterations, values); a single point becomes a dot.
        title: what they are.
        unit: name and unit of the vertical axis.
        stops: iterations from which a resumed training went on.
    """
    figure, axes = new_axes(title, "Iteration", unit)
    for number, (name, (x, y)) in enumerate(curves.items()):
        axes.plot(
            x,
            y,
            color=COLOURS[number % len(COLOURS)],
            linestyle=DASHES[number % len(DASHES)],
            linewidth=2,
            marker="o" if len(x) == 1 else "",
            label=name,
        )
    for stop in stops:
        axes.axvline(stop, color=MUTED, linestyle=":", linewidth=1.2)
    lowest, highest = (f(f(y) for _, y in curves.values()) for f in (min, max))
    if lowest >= 0:
        axes.set_ylim(0, 1.08 * highest if highest > 0 else 1)
    axes.set_xlim(0, 1.03 * max(x.max() for x, _ in curves.values()))
    axes.xaxis.set_major_locator(MaxNLocator(5, integer=True))
    axes.yaxis.set_major_locator(MaxNLocator(5))
    if len(curves) > 1:
        legend(axes)
    return figure


def _panels(
    scalars: Mapping[str, tuple[np.ndarray, np.ndarray]],
) -> dict[tuple[str, str], dict[str, tuple[np.ndarray, np.ndarray]]]:
    """Return (title, unit) -> name -> values: terms of one loss share a panel."""
    panels: dict[tuple[str, str], dict[str, tuple[np.ndarray, np.ndarray]]] = {}
    for name in sorted(scalars, key=_place):
        if name.startswith(_LOSS):
            loss, _, term = name.removeprefix(_LOSS).partition("_")
            title = _TITLES.get(loss, f"Loss: {loss}")
            panels.setdefault((title, "Weighted loss"), {})[term or title] = scalars[name]
    watched = {
        titles: {titles[0]: scalars[name]} for name, titles in _WATCHED.items() if name in scalars
    }
    first = {titles: of for titles, of in watched.items() if titles[0] == "Total loss"}
    return {**first, **panels, **watched}


def _place(name: str) -> tuple[str, int, str]:
    """Return what sorts terms by loss, and then from coarse to fine."""
    loss, _, term = name.removeprefix(_LOSS).partition("_")
    return loss, _ORDER.index(term) if term in _ORDER else len(_ORDER), name


def _add_evaluations(run: Run, section: Section, stops: Sequence[int]) -> None:
    """Add Rank-1 and mAP of each evaluation; the last one comes from the results file."""
    last = max(int(x[-1]) for x, _ in run.scalars.values())
    for metric in ("rank1", "mAP"):
        heading, curves = HEADINGS[metric], {}
        for name, (x, y) in run.scalars.items():
            if name.endswith(f"/{heading}"):
                curves[name.rpartition("/")[0]] = (x, y)
        final = (run.facts.get("selection") or {}).get("rule") == "last"
        for entry in (run.results or {}).get("scores", []) if final else []:
            if entry["flip"] or entry["reranking"]:
                continue
            x, y = curves.get(entry["protocol"], (np.empty(0), np.empty(0)))
            before = x < last
            curves[entry["protocol"]] = (
                np.append(x[before], last),
                np.append(y[before], entry["mean"][metric]),
            )
        if not curves:
            section.missing.append(
                Missing(
                    f"{heading} over time",
                    "no evaluation was logged during training",
                    "TEST.EVAL_PERIOD",
                )
            )
            continue
        figure = draw_curves(curves, f"{heading} of each evaluation", f"{heading} (%)", stops)
        ends = "; ".join(f"{name} ends at {y[-1]:.1f} %" for name, (_, y) in curves.items())
        single = all(len(x) == 1 for x, _ in curves.values())
        note = "One evaluation; TEST.EVAL_PERIOD asks for more." if single else ""
        section.blocks.append(chart(figure, f"{heading} over iterations: {ends}.", note))

"""Several runs side by side, with paired intervals."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from cmemd.evaluation.figures import draw_cmc
from cmemd.evaluation.scoring import METRICS
from cmemd.evaluation.tables import HEADINGS, Comparison, compare_results, format_difference
from cmemd.report.blocks import Missing, Section, Table
from cmemd.report.pictures import chart
from cmemd.report.run import Run
from cmemd.report.training import draw_curves

__all__ = ["compare_runs", "comparison_section"]

_LARGE = 12  # keys that differ, shown at once


def compare_runs(runs: Sequence[Run]) -> list[Comparison]:
    """Return a comparison for each way of scoring that runs share.

    Raises:
        InputError: no two runs were scored in the same way.
    """
    documents = {run.name: run.results for run in runs if run.results is not None}
    return compare_results(
        documents, {run.name: run.per_query for run in runs if run.name in documents}
    )


def comparison_section(
    runs: Sequence[Run], comparisons: Sequence[Comparison], cmc: Mapping[str, np.ndarray]
) -> Section:
    """Return metrics, differences and curves of runs, and where their configurations differ.

    Args:
        runs: at least two, the first of which the others are compared with.
        comparisons: of ``compare_runs``.
        cmc: name of a run -> its CMC under the first protocol, ``(T, R)``.
    """
    first = runs[0]
    section = Section(
        "comparison",
        "Side by side",
        f"Differences are to {first.name}, in points. Their 95 % intervals resample the queries, "
        "in pairs: an interval that holds 0 shows no difference. The training seed is not covered.",
    )
    for run in runs:
        if run.results is None:
            section.missing.append(Missing(f"Metrics of {run.name}", run.missing["results"].why))
    for found in comparisons:
        if len(found.entries) > 1:
            section.blocks += _tables(found)
    if len(cmc) > 1:
        ends = "; ".join(f"{name} Rank-1 {100 * of.mean(0)[0]:.1f} %" for name, of in cmc.items())
        title = f"CMC: {first.entry['protocol']}"
        section.blocks.append(chart(draw_cmc(cmc, title), f"CMC of each run: {ends}."))
    losses = {run.name: run.scalars["total_loss"] for run in runs if "total_loss" in run.scalars}
    if len(losses) > 1:
        figure = draw_curves(losses, "Total loss", "Loss")
        ends = "; ".join(f"{name} ends at {y[-1]:.3g}" for name, (_, y) in losses.items())
        section.blocks.append(chart(figure, f"Total loss of each run: {ends}."))
    section.blocks.append(_configurations(runs))
    return section


def _tables(found: Comparison) -> list[Table]:
    way = ", ".join(f"{name.lower()} {value}" for name, value in found.way.items())
    metrics = [
        [name, *(f"{entry['mean'][m]:.2f} ± {entry['std'][m]:.2f}" for m in METRICS)]
        for name, entry in found.entries.items()
    ]
    first = next(iter(found.entries))
    differences = [
        [f"{name} − {first}", *(format_difference(*of[m]).replace(" [", "\n[") for m in METRICS)]
        for name, of in found.differences.items()
    ]
    heads = list(HEADINGS.values())
    return [
        Table(f"{found.protocol}: {way}", ["Run", *heads], metrics),
        Table(f"{found.protocol}: differences, in points", ["Difference", *heads], differences),
    ]


def _configurations(runs: Sequence[Run]) -> Table:
    keys = sorted({key for run in runs for key in run.config} - {"OUTPUT_DIR"})
    rows = [
        [key, *(_word(run.config.get(key)) for run in runs)]
        for key in keys
        if len({_word(run.config.get(key)) for run in runs}) > 1
    ]
    caption = "Keys of the configuration that differ"
    kind = "table" if len(rows) <= _LARGE else "fold"
    return Table(caption, ["Key", *(run.name for run in runs)], rows, plain=True, kind=kind)


def _word(value: Any) -> str:
    return "not set" if value is None else str(value)

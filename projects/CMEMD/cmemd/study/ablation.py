"""A study: several configurations, several seeds, one table.

Shape legend: ``S`` = seeds, ``Q`` = queries.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from tabulate import tabulate

from cmemd.config import load_config
from cmemd.engine.preflight import check_config
from cmemd.engine.runs import Run
from cmemd.errors import InputError, printable
from cmemd.evaluation.bootstrap import paired_difference
from cmemd.evaluation.results import read_per_query
from cmemd.evaluation.scoring import METRICS
from cmemd.evaluation.tables import HEADINGS
from cmemd.study.power import LEVEL, POWER, detectable_difference, seeds_needed

__all__ = [
    "SHOWN",
    "USUAL_DEVIATION",
    "WEIGHT",
    "Variant",
    "check_seeds",
    "describe_power",
    "in_turn",
    "measured_deviation",
    "plan_study",
    "power_table",
    "study_table",
    "variant_names",
]

SHOWN = ("rank1", "mAP", "mINP")
WEIGHT = "MODEL.LOSSES.ALIGN.WEIGHT"
# Of the differences of mAP between seeds, in points [C]: with five seeds of five epochs on stand-in
# people, they were between 2.0 and 3.1 (docs/evidence.md).
USUAL_DEVIATION = 2.5
_JUDGED = "mAP"
_SEEDS = 2**31 - 1  # the next one is the search's, and NumPy adds the rank below 2**32
_SAVED = ("TEST.SAVE_FEATURES", "True")


@dataclass(frozen=True)
class Variant:
    """One configuration and its runs, one for each seed."""

    name: str
    runs: tuple[Run, ...]

    def found(self) -> dict[int, tuple[Mapping[str, Any], Mapping[str, np.ndarray] | None]]:
        """Return seed -> results of each finished run, with each query's metrics.

        The queries' metrics are of the first protocol, or None where they were not saved.
        """
        found: dict[int, tuple[Mapping[str, Any], Mapping[str, np.ndarray] | None]] = {}
        for run in self.runs:
            document = run.results()
            if document is not None:
                per_query = read_per_query(run.folder / "results.json", document)
                found[run.cfg.SEED] = document, per_query[0] if per_query else None
        return found

    def metrics(self) -> np.ndarray:
        """Return (S, 3) means of ``SHOWN`` under the first protocol, of the finished runs."""
        return np.array(
            [
                [document["scores"][0]["mean"][name] for name in SHOWN]
                for document, _ in self.found().values()
            ]
        ).reshape(-1, len(SHOWN))


def plan_study(
    configs: Sequence[Path],
    seeds: Sequence[int],
    output: Path,
    opts: Sequence[str] = (),
    weights: Mapping[str, float] | None = None,
) -> list[Variant]:
    """Return the runs of a study; the first configuration is the baseline.

    Each run saves its test features (TEST.SAVE_FEATURES), so that further measurements need no
    new training.

    Args:
        configs: yaml files; their stems name the variants.
        seeds: at least one; the same for every variant, so that differences are paired.
        output: run s of variant v writes to ``output/v/seed-s``.
        opts: KEY VALUE pairs that override every configuration.
        weights: name -> MODEL.LOSSES.ALIGN.WEIGHT, which overrides the configuration's own.

    Raises:
        InputError: no or repeated names or seeds, negative seeds, a bad configuration, or a folder
            that holds a run of another configuration.
    """
    names = variant_names(configs)
    check_seeds(seeds)
    variants = []
    for name, config in zip(names, configs, strict=True):
        runs = []
        for seed in seeds:
            folder = output / name / f"seed-{seed}"
            words = [*opts, *_SAVED]
            if weights and name in weights:
                words += [WEIGHT, str(weights[name])]
            words += ["SEED", str(seed), "OUTPUT_DIR", str(folder)]
            cfg = load_config(config, words)
            flags = ["--config-file", str(config), "--resume"]
            runs.append(Run(f"{name}, seed {seed}", cfg, (*flags, *words)))
        check_config(runs[0].cfg)  # before the runs of another variant take hours
        variants.append(Variant(name, tuple(runs)))
    for variant in variants:
        for run in variant.runs:
            run.results()  # raises if another configuration has a run there
    return variants


def variant_names(configs: Sequence[Path]) -> list[str]:
    """Return the stems of the yaml files.

    Raises:
        InputError: no or repeated names.
    """
    names = [Path(config).stem for config in configs]
    if not names or len(set(names)) < len(names):
        raise InputError(
            "configurations of different names, at least one",
            ", ".join(names) or "none",
            "rename the yaml files",
        )
    return names


def check_seeds(seeds: Sequence[int]) -> None:
    """Raise unless there are seeds, all distinct and in range.

    Raises:
        InputError: no or repeated seeds, or one out of range.
    """
    if not seeds or len(set(seeds)) < len(seeds) or not 0 <= min(seeds) <= max(seeds) < _SEEDS:
        raise InputError(
            f"different seeds of at least 0, below {_SEEDS}, at least one",
            list(seeds),
            "change --seeds",
        )


def in_turn(variants: Sequence[Variant]) -> list[Run]:
    """Return all runs seed by seed, so that an early look compares all variants."""
    return [run for of_seed in zip(*(v.runs for v in variants), strict=True) for run in of_seed]


def study_table(variants: Sequence[Variant]) -> str:
    """Return a row per variant: means and deviations over seeds, differences to the first variant.

    Runs that are not done are left out; the table shows the number of seeds. A difference is over
    the seeds that both variants have.
    """
    baseline = variants[0]
    rows = []
    for variant in variants:
        metrics = variant.metrics()
        row = [printable(variant.name), len(metrics)]
        if len(metrics):
            means, deviations = metrics.mean(0), metrics.std(0)
            row += [f"{m:.2f} ± {s:.2f}" for m, s in zip(means, deviations, strict=True)]
            if variant is not baseline:
                row += _difference_cells(baseline.found(), variant.found())
        rows.append(row)
    labels = [HEADINGS[name] for name in SHOWN]
    headers = ["Variant", "Seeds", *labels, *(f"{label} - {baseline.name}" for label in labels)]
    return tabulate(rows, headers=headers, disable_numparse=True)


def describe_power(deviation: float, seeds: int, detect: float) -> str:
    """Return a line on what a study can see, before it is run.

    Args:
        deviation: expected standard deviation of the differences of mAP between seeds, in points.
        seeds: number of paired seeds.
        detect: the difference to be found, in points.
    """
    detectable = (
        f"detects a true difference of {detectable_difference(deviation, seeds):.2f} points"
        if seeds > 1
        else "detects no difference, since one seed shows no spread"
    )
    needed = seeds_needed(detect, deviation)
    return (
        f"power: at a deviation of {deviation:.2f} points between paired differences of {_JUDGED}, "
        f"a study of {seeds} seed{'s' * (seeds != 1)} {detectable} (paired t-test, level "
        f"{100 * LEVEL:g} %, power {100 * POWER:g} %); {detect:g} takes {needed} seeds"
    )


def measured_deviation(variants: Sequence[Variant]) -> float | None:
    """Return the largest deviation of the differences of mAP to the first variant, in points.

    None if no variant has two finished seeds in common with the first.
    """
    spreads = [
        float(differences.std(ddof=1))
        for variant in variants[1:]
        if len(differences := _paired_differences(variants[0], variant)) > 1
    ]
    return max(spreads, default=None)


def power_table(variants: Sequence[Variant], detect: float) -> str:
    """Return a row for each comparison with the first variant: what it could detect, in points.

    Args:
        variants: the first is the baseline.
        detect: the difference whose number of seeds is asked for, in points.
    """
    rows = []
    for variant in variants[1:]:
        differences = _paired_differences(variants[0], variant)
        row = [printable(variant.name), len(differences)]
        if len(differences) > 1:
            deviation = float(differences.std(ddof=1))
            detectable = detectable_difference(deviation, len(differences))
            row += [f"{differences.mean():+.2f}", f"{deviation:.2f}", f"{detectable:.2f}"]
            row += [str(seeds_needed(detect, deviation))]
        rows.append(row)
    headers = ["Comparison", "Seeds", f"{_JUDGED} - {printable(variants[0].name)}"]
    headers += ["Deviation of differences", "Detectable difference", f"Seeds for {detect:g}"]
    return tabulate(rows, headers=headers, disable_numparse=True)


def _paired_differences(first: Variant, second: Variant) -> np.ndarray:
    """Return differences of mAP in points, one for each seed that both have finished."""
    found = [
        {seed: document["scores"][0]["mean"][_JUDGED] for seed, (document, _) in of.found().items()}
        for of in (first, second)
    ]
    return np.array([found[1][seed] - found[0][seed] for seed in found[0] if seed in found[1]])


def _difference_cells(first: Mapping[int, Any], second: Mapping[int, Any]) -> list[str]:
    seeds = sorted(first.keys() & second.keys())
    if not seeds or any(of[seed][1] is None for of in (first, second) for seed in seeds):
        return ["-"] * len(SHOWN)
    cells = []
    for name in SHOWN:
        place = METRICS.index(name)
        values = [
            np.array([of[seed][1]["metrics"][place] for seed in seeds], dtype=np.float64)
            for of in (first, second)
        ]
        counted = ~np.isnan(values[0]).any(0)
        mean, low, high = paired_difference(*(value[:, counted] for value in values))
        cells.append(f"{mean:+.2f} [{low:+.2f}, {high:+.2f}]")
    return cells

"""A study: several configurations, several seeds, one table.

Shape legend: S seeds, Q queries, R resamples.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import cmemd.compat  # noqa: F401  before fastreid

import numpy as np
from tabulate import tabulate

from cmemd.config import load_config
from cmemd.engine.runs import Run
from cmemd.errors import InputError
from cmemd.evaluation.results import read_per_query
from cmemd.evaluation.scoring import FIGURES

__all__ = [
    "SHOWN",
    "WEIGHT",
    "Variant",
    "check_seeds",
    "in_turn",
    "paired_difference",
    "plan_study",
    "study_table",
    "variant_names",
]

SHOWN = ("rank1", "mAP", "mINP")
WEIGHT = "MODEL.LOSSES.ALIGN.WEIGHT"
_SAVED = ("TEST.SAVE_FEATURES", "True")
_RESAMPLES = 2000


@dataclass(frozen=True)
class Variant:
    """One configuration and its runs, one for each seed."""

    name: str
    runs: tuple[Run, ...]

    def found(self) -> dict[int, tuple[Mapping, Mapping | None]]:
        """Seed of each finished run -> its card, and each query's figures of its first protocol."""
        found = {}
        for run in self.runs:
            card = run.results()
            if card is not None:
                per_query = read_per_query(run.folder / "results.json", card)
                found[run.cfg.SEED] = card, per_query[0] if per_query else None
        return found

    def figures(self) -> np.ndarray:
        """(seeds, 3) means of ``SHOWN`` under the first protocol, of the finished runs."""
        return np.array(
            [
                [card["scores"][0]["mean"][name] for name in SHOWN]
                for card, _ in self.found().values()
            ]
        ).reshape(-1, len(SHOWN))


def plan_study(
    configs: Sequence[Path],
    seeds: Sequence[int],
    output: Path,
    opts: Sequence[str] = (),
    weights: Mapping[str, float] | None = None,
) -> list[Variant]:
    """The runs of a study; the first configuration is the baseline.

    Each run saves its test features (TEST.SAVE_FEATURES): what else there is to measure of a
    variant needs no training again.

    Args:
        configs: yaml files; their stems name the variants.
        seeds: at least one; the same for every variant, so that differences are paired.
        output: run s of variant v writes to ``output/v/seed-s``.
        opts: KEY VALUE pairs over every configuration.
        weights: name -> MODEL.LOSSES.ALIGN.WEIGHT, over the configuration's own.

    Raises:
        InputError: for repeated names or seeds, none at all, negative seeds, a bad configuration,
            or a folder that holds a run of another configuration.
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
        variants.append(Variant(name, tuple(runs)))
    for variant in variants:
        for run in variant.runs:
            run.results()  # refuses what another configuration left there
    return variants


def variant_names(configs: Sequence[Path]) -> list[str]:
    """Stems of the yaml files.

    Raises:
        InputError: for repeated names, or none at all.
    """
    names = [Path(config).stem for config in configs]
    if not names or len(set(names)) < len(names):
        raise InputError(f"expected configurations of different names, at least one; got {names}")
    return names


def check_seeds(seeds: Sequence[int]) -> None:
    """Refuses what are no seeds of a study.

    Raises:
        InputError: for repeated or negative ones, or none at all.
    """
    if not seeds or len(set(seeds)) < len(seeds) or min(seeds) < 0:
        raise InputError(f"expected different seeds of at least 0, at least one; got {seeds}")


def in_turn(variants: Sequence[Variant]) -> list[Run]:
    """All runs seed by seed, so that an early look compares all variants."""
    return [run for of_seed in zip(*(v.runs for v in variants), strict=True) for run in of_seed]


def study_table(variants: Sequence[Variant]) -> str:
    """A row per variant: means and deviations over seeds, and differences to the first variant.

    Runs that are not done are left out and counted; a difference is over the seeds that both have.
    """
    baseline = variants[0]
    rows = []
    for variant in variants:
        figures = variant.figures()
        row = [variant.name, len(figures)]
        if len(figures):
            means, deviations = figures.mean(0), figures.std(0)
            row += [f"{m:.2f} ± {s:.2f}" for m, s in zip(means, deviations, strict=True)]
            if variant is not baseline:
                row += _difference_cells(baseline.found(), variant.found())
        rows.append(row)
    labels = [{"rank1": "Rank-1"}.get(figure, figure) for figure in SHOWN]
    headers = ["Variant", "Seeds", *labels, *(f"{label} - {baseline.name}" for label in labels)]
    return tabulate(rows, headers=headers, disable_numparse=True)


def paired_difference(
    first: np.ndarray, second: np.ndarray, level: float = 0.95
) -> tuple[float, float, float]:
    """Mean of second - first and its bootstrap interval over seeds and queries.

    Both seeds and queries are drawn anew, each with both methods' figures, since a difference
    could lie in either; with few seeds the interval is rough.

    Args:
        first: (S, Q) a figure of each query after the training of each seed.
        second: the same of another method.
        level: share of resamples in the interval.

    Returns:
        Mean, low end, high end.
    """
    difference = second - first
    rng = np.random.default_rng(0)
    seeds, queries = difference.shape
    means = np.empty(_RESAMPLES)
    for resample in range(_RESAMPLES):
        drawn = difference[rng.integers(seeds, size=seeds)].mean(0)
        means[resample] = drawn[rng.integers(queries, size=queries)].mean()
    low, high = np.quantile(means, [(1 - level) / 2, (1 + level) / 2])
    return float(difference.mean()), float(low), float(high)


def _difference_cells(first: Mapping, second: Mapping) -> list[str]:
    seeds = sorted(first.keys() & second.keys())
    if not seeds or any(of[seed][1] is None for of in (first, second) for seed in seeds):
        return ["-"] * len(SHOWN)
    cells = []
    for figure in SHOWN:
        place = FIGURES.index(figure)
        values = [
            np.array([of[seed][1]["figures"][place] for seed in seeds], dtype=np.float64)
            for of in (first, second)
        ]
        counted = ~np.isnan(values[0]).any(0)
        mean, low, high = paired_difference(*(value[:, counted] for value in values))
        cells.append(f"{mean:+.2f} [{low:+.2f}, {high:+.2f}]")
    return cells

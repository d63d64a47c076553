"""The same search over every variant's weight, on identities held out of training."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import cmemd.compat  # noqa: F401  before fastreid

from tabulate import tabulate

from cmemd.config import load_config
from cmemd.data.build import held_out, train_dataset
from cmemd.engine.runs import Run
from cmemd.errors import InputError
from cmemd.evaluation.results import read_results
from cmemd.study.ablation import SHOWN, WEIGHT, variant_names

__all__ = ["Candidate", "chosen_weights", "plan_search", "search_table"]

_CHOSEN_BY = "mAP"


@dataclass(frozen=True)
class Candidate:
    """A variant with one weight, trained without the validation identities."""

    variant: str
    weight: float
    run: Run

    def figures(self) -> Mapping[str, float] | None:
        """Its figures on the validation identities, first protocol; None if it is not done."""
        if self.run.results() is None:
            return None
        return read_results(self.run.folder / "validation" / "results.json")["scores"][0]["mean"]


def plan_search(
    configs: Sequence[Path],
    weights: Sequence[float],
    seed: int,
    output: Path,
    opts: Sequence[str] = (),
) -> list[Candidate]:
    """A run for each weight of each variant that has an alignment term.

    Args:
        configs: yaml files; their stems name the variants.
        weights: of MODEL.LOSSES.ALIGN.WEIGHT, positive.
        seed: of all runs; not one of the study's, which are to tell what a seed changes.
        output: a run writes to ``output/search/variant/weight-w``.
        opts: KEY VALUE pairs over every configuration.

    Raises:
        InputError: for weights that repeat or are not positive, a bad configuration, or a folder
            that holds a run of another configuration.
    """
    if len(set(weights)) < len(weights) or min(weights) <= 0:
        raise InputError(f"expected different positive --weights, got {list(weights)}")
    candidates = []
    for name, config in zip(variant_names(configs), configs, strict=True):
        given = load_config(config, list(opts))
        if given.MODEL.LOSSES.ALIGN.NAME == "none":
            continue
        for weight in weights:
            folder = output / "search" / name / f"weight-{weight}"
            words = [*opts, WEIGHT, str(weight), *held_out(given, train_dataset(given))]
            words += ["SOLVER.SELECTION", "validation"]
            words += ["SEED", str(seed), "OUTPUT_DIR", str(folder)]
            flags = ("--config-file", str(config), "--resume")
            run = Run(f"{name}, weight {weight}", load_config(config, words), (*flags, *words))
            run.results()  # refuses what another configuration left there
            candidates.append(Candidate(name, weight, run))
    return candidates


def chosen_weights(candidates: Sequence[Candidate]) -> dict[str, float]:
    """Name -> weight of the highest mAP on validation; the smaller weight of equal ones.

    Variants of which a run is not done are left out: another one could still be better.
    """
    chosen = {}
    for name in dict.fromkeys(candidate.variant for candidate in candidates):
        found = [(c.figures(), c.weight) for c in candidates if c.variant == name]
        if all(figures for figures, _ in found):
            chosen[name] = max(found, key=lambda pair: (pair[0][_CHOSEN_BY], -pair[1]))[1]
    return chosen


def search_table(candidates: Sequence[Candidate]) -> str:
    """A row for each weight of each variant, in percent; the chosen ones are marked."""
    chosen = chosen_weights(candidates)
    rows = []
    for candidate in candidates:
        figures = candidate.figures()
        shown = [f"{figures[name]:.2f}" for name in SHOWN] if figures else ["-"] * len(SHOWN)
        mark = "chosen" if chosen.get(candidate.variant) == candidate.weight else ""
        rows.append([candidate.variant, f"{candidate.weight:g}", *shown, mark])
    headers = ["Variant", "Weight", *(f"validation {name}" for name in SHOWN), ""]
    return tabulate(rows, headers=headers, disable_numparse=True)

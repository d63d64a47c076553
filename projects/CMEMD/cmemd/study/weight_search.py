"""A search over the weight of each variant, on identities held out of training."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from tabulate import tabulate

from cmemd.config import load_config
from cmemd.data.build import held_out, train_dataset
from cmemd.engine.preflight import check_config
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

    def metrics(self) -> Mapping[str, float] | None:
        """Return its metrics on the validation identities, first protocol; None if not done."""
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
    """Return a run for each weight of each variant that has an alignment term.

    Args:
        configs: yaml files; their stems name the variants.
        weights: values of MODEL.LOSSES.ALIGN.WEIGHT, positive.
        seed: seed of all runs; must not be one of the study's own seeds.
        output: a run writes to ``output/search/variant/weight-w``.
        opts: KEY VALUE pairs that override every configuration.

    Raises:
        InputError: weights that repeat or are not positive, a bad configuration, or a folder that
            holds a run of another configuration.
    """
    if len(set(weights)) < len(weights) or not all(0 < weight < math.inf for weight in weights):
        raise InputError("different positive weights", list(weights), "change --weights")
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
            check_config(run.cfg)
            run.results()  # raises if another configuration has a run there
            candidates.append(Candidate(name, weight, run))
    return candidates


def chosen_weights(candidates: Sequence[Candidate]) -> dict[str, float]:
    """Return name -> weight of the highest validation mAP; of equal ones the smaller weight.

    A variant with an unfinished run is left out: that run could still be better.
    """
    chosen = {}
    for name in dict.fromkeys(candidate.variant for candidate in candidates):
        own = [candidate for candidate in candidates if candidate.variant == name]
        found = [(metrics, c.weight) for c in own if (metrics := c.metrics())]
        if len(found) == len(own):
            chosen[name] = max(found, key=lambda pair: (pair[0][_CHOSEN_BY], -pair[1]))[1]
    return chosen


def search_table(candidates: Sequence[Candidate]) -> str:
    """Return a row for each weight of each variant, in percent; the chosen ones are marked."""
    chosen = chosen_weights(candidates)
    rows = []
    for candidate in candidates:
        metrics = candidate.metrics()
        shown = [f"{metrics[name]:.2f}" for name in SHOWN] if metrics else ["-"] * len(SHOWN)
        mark = "chosen" if chosen.get(candidate.variant) == candidate.weight else ""
        rows.append([candidate.variant, f"{candidate.weight:g}", *shown, mark])
    headers = ["Variant", "Weight", *(f"validation {name}" for name in SHOWN), ""]
    return tabulate(rows, headers=headers, disable_numparse=True)

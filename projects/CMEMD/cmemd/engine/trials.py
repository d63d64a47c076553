"""RegDB's ten trials: one training each, in a process of its own, and their average."""

import logging
import os
import re
import sys
from argparse import Namespace
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cmemd.compat  # noqa: F401  before fastreid

import numpy as np
from fastreid.utils.logger import setup_logger

from cmemd.config import load_config
from cmemd.data.build import build_dataset
from cmemd.data.layouts import regdb
from cmemd.engine.children import stopping_children
from cmemd.engine.runs import Run
from cmemd.errors import EXIT_BAD_INPUT, InputError
from cmemd.evaluation.results import write_results
from cmemd.evaluation.tables import format_table
from cmemd.evaluation.versions import versions
from cmemd.files import one_writer

__all__ = [
    "TRIALS",
    "TrialRun",
    "average",
    "parse_trials",
    "plan_trials",
    "planned_trials",
    "run_trials",
]

logger = logging.getLogger(__name__)

TRIALS = regdb.SPLITS
_DATASET = regdb.LAYOUT.dataset


@dataclass(frozen=True)
class TrialRun(Run):
    """The run on one split.

    Attributes:
        number: of the split.
    """

    number: int


def run_trials(args: Namespace, start: Callable[[Sequence[str]], int]) -> dict[str, Any]:
    """Train and test the trials one after the other, then average them.

    A finished trial is not run again. An interrupted one goes on from its last checkpoint. Trial n
    writes to ``OUTPUT_DIR/trial-n``, the average to ``OUTPUT_DIR/results.json``.

    Args:
        args: of ``cmemd train``.
        start: runs it with a command line, in a process of its own; returns the exit status.

    Returns:
        See ``average``.

    Raises:
        InputError: bad input, before any work; after it, if a trial failed.
    """
    trials = plan_trials(args)
    output = trials[0].folder.parent
    output.mkdir(parents=True, exist_ok=True)
    with one_writer(output):
        return _run_trials(trials, output, start)


def _run_trials(
    trials: Sequence[TrialRun], output: Path, start: Callable[[Sequence[str]], int]
) -> dict[str, Any]:
    setup_logger(str(output), name="cmemd")
    failed = []
    for trial in trials:
        if trial.results():
            logger.info("Trial %d is done: %s", trial.number, trial.folder)
            continue
        logger.info("Trial %d starts: %s", trial.number, trial.folder)
        status = start(trial.words)
        if status == EXIT_BAD_INPUT:
            raise InputError(
                f"good input for trial {trial.number}",
                "the error above",
                "correct the input, then start the same command again",
            )
        if status or not trial.results():
            failed.append(trial.number)
    if failed:
        raise InputError(
            f"results of all trials in {output} for their average",
            f"failures of trials {', '.join(map(str, failed))} (see their log.txt)",
            "start the same command again, which goes on with those alone",
        )
    document = average({trial.number: trial.results() for trial in trials})
    write_results(document, output / "results.json")
    logger.info(
        "Mean ± standard deviation over %d trainings, in percent:\n%s",
        len(trials),
        format_table(document),
    )
    return document


def start_process(*command: str) -> Callable[[Sequence[str]], int]:
    """Return how ``run_trials`` starts a training: in a fresh interpreter, where a crash stays.

    Args:
        command: the interpreter's words before those of the training.
    """

    def start(words: Sequence[str]) -> int:
        with stopping_children() as children:
            return children.run([sys.executable, *command, *words])

    return start


def plan_trials(args: Namespace) -> list[TrialRun]:
    """Return the trials that were asked for, after checks of all their splits and folders.

    Raises:
        InputError: an invalid trial number, a data set without several splits, a missing split, a
            folder that holds a trial of another configuration, or options that do not go together.
    """
    if args.eval_only or args.num_machines > 1 or "TORCHELASTIC_RUN_ID" in os.environ:
        raise InputError(
            "--trials alone, since it starts the training of each trial itself",
            "--eval-only, --num-machines or torchrun with it",
            "leave those out",
        )
    flags = ("--num-gpus", str(args.num_gpus))
    numbers = parse_trials(args.trials)
    trials = planned_trials(args.config_file, list(args.opts or []), numbers, flags)
    for trial in trials:
        build_dataset(trial.cfg, _DATASET)
        trial.results()
    return trials


def planned_trials(
    config_file: str, opts: Sequence[str], numbers: Sequence[int], flags: Sequence[str] = ()
) -> list[TrialRun]:
    """Return the runs of some trials; looks at no file but the configuration.

    Args:
        config_file: path of the yaml.
        opts: KEY VALUE pairs that override it.
        numbers: of the trials.
        flags: more words for each command line.

    Raises:
        InputError: a data set without several splits, or a bad configuration.
    """
    output = load_config(config_file, opts).OUTPUT_DIR
    trials = []
    for number in numbers:
        words = [*opts, "DATASETS.REGDB.TRIAL", str(number)]
        words += ["OUTPUT_DIR", str(Path(output, f"trial-{number}"))]
        cfg = load_config(config_file, words)
        if [*cfg.DATASETS.NAMES, *cfg.DATASETS.TESTS] != [_DATASET, _DATASET]:
            raise InputError(
                f"--trials with {_DATASET}, which has {len(TRIALS)} splits",
                f"DATASETS.NAMES {list(cfg.DATASETS.NAMES)}, TESTS {list(cfg.DATASETS.TESTS)}",
                "leave --trials out",
            )
        line = ("--config-file", config_file, "--resume", *flags, *words)
        trials.append(TrialRun(f"trial {number}", cfg, line, number))
    return trials


def parse_trials(text: str) -> list[int]:
    """Return the numbers of trials in "1-10" or "1,4-6".

    Raises:
        InputError: the text is of another form, or a number is no trial's.
    """
    numbers = set()
    for part in text.split(","):
        match = re.fullmatch(r"\s*(\d+)(?:-(\d+))?\s*", part)
        span = range(int(match[1]), int(match[2] or match[1]) + 1) if match else range(0)
        if not span or span[0] not in TRIALS or span[-1] not in TRIALS:
            raise InputError(
                f"--trials from {TRIALS[0]} to {TRIALS[-1]}", repr(text), "write 1-10 or 1,4-6"
            )
        numbers.update(span)
    return sorted(numbers)


def average(documents: Mapping[int, Mapping[str, Any]]) -> dict[str, Any]:
    """Return the content of a results file whose trials are trainings.

    Args:
        documents: number of a trial -> content of its results file; all scored in the same ways.

    Returns:
        Of each score the mean over trainings, their population standard deviation, each training's
        own metrics, and the largest of each count. ``run.trials`` holds each training's own facts
        and versions by its number.
    """
    scores = zip(*(document["scores"] for document in documents.values()), strict=True)
    facts = {
        str(number): {**document["run"], "versions": document["versions"]}
        for number, document in documents.items()
    }
    return {
        **next(iter(documents.values())),
        "scores": [_average(entries) for entries in scores],
        "run": {"trials": facts},
        "versions": versions(),
        "per_query": None,
    }


def _average(entries: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    per_trial = {name: [entry["mean"][name] for entry in entries] for name in entries[0]["mean"]}
    return {
        **entries[0],
        "trials": len(entries),
        "mean": {name: float(np.mean(values)) for name, values in per_trial.items()},
        "std": {name: float(np.std(values)) for name, values in per_trial.items()},
        "per_trial": per_trial,
        "counts": {
            name: max(entry["counts"][name] for entry in entries) for name in entries[0]["counts"]
        },
    }

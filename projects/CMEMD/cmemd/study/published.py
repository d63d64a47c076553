"""Published results, the command that should reproduce each, and whether results of ours do.

``published.yml`` holds the results of others. A result counts as reproduced if all of this is so
[C]:

- each published metric is met within ``MARGIN`` points, as two implementations of one method differ
  by more than that;
- the last checkpoint was tested, so no result on the test set chose it;
- the metrics are means over ``TRIALS`` galleries, or over the ten splits of RegDB;
- no flipped images and no re-ranking, and the leak guard found nothing;
- the configuration is the row's, and the numbers of test images are the genuine data set's.
"""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from tabulate import tabulate

from cmemd.config import load_config
from cmemd.config_file import find_config
from cmemd.engine.runs import Run
from cmemd.engine.trials import TRIALS as SPLITS
from cmemd.engine.trials import planned_trials
from cmemd.errors import InputError, printable
from cmemd.evaluation.results import read_results

__all__ = [
    "CARDS",
    "MARGIN",
    "TABLES",
    "TRIALS",
    "Published",
    "Verdict",
    "format_reproduction",
    "judge",
    "read_table",
    "results_of",
]

MARGIN, TRIALS = 1.0, 10  # points; galleries
_METRICS = ("rank1", "mAP")
_INDEX = yaml.safe_load(Path(__file__).with_suffix(".yml").read_text(encoding="utf-8"))
TABLES = tuple(_INDEX["tables"])
CARDS = tuple(
    dict.fromkeys(
        card
        for table in _INDEX["tables"].values()
        for row in table["rows"].values()
        for card in row.get("fastest", ())
    )
)
# Training images of an epoch: of the identities that the field trains on.
_EPOCH = {"sysu": 34_167, "regdb": 4_120}


@dataclass(frozen=True)
class Published:
    """Published metrics of a method under one protocol, and what a training of ours takes.

    Attributes:
        method: its name.
        table: one of ``TABLES``.
        config: name of the configuration that should reproduce it.
        protocol: name of the protocol.
        metrics: ``rank1``, and ``mAP`` where it was published, in percent.
        source: of the metrics.
        others: lowest and highest Rank-1 of other implementations; None where unknown.
        genuine: ``queries`` and ``gallery`` of the genuine data set's test.
        trained: the time that others report for a training, in words; "" where unknown.
        memory: GiB of a training step in float32, counted; None where not counted.
        fastest: card -> images a second that it cannot exceed.
    """

    method: str
    table: str
    config: str
    protocol: str
    metrics: Mapping[str, float]
    source: str
    others: tuple[float, float] | None
    genuine: Mapping[str, int]
    trained: str
    memory: float | None
    fastest: Mapping[str, float]

    @property
    def folder(self) -> str:
        """Name of the folder of its run, below the root."""
        return self.config.replace("/", "-")

    def command(self, root: Path) -> str:
        """Return the command that trains and tests it."""
        splits = "--trials 1-10 " if self.table == "regdb" else ""
        return f"cmemd train --config-file {self.config} {splits}OUTPUT_DIR {root / self.folder}"

    def hours(self, card: str) -> float | None:
        """Return the least hours of all its trainings on a card; None where not counted."""
        if card not in self.fastest:
            return None
        images = _EPOCH[self.table] * load_config(find_config(self.config)).SOLVER.MAX_EPOCH
        trainings = len(SPLITS) if self.table == "regdb" else 1
        return trainings * images / self.fastest[card] / 3600


@dataclass(frozen=True)
class Verdict:
    """What came out.

    Attributes:
        metrics: name -> percent.
        against: why it does not count as reproduced; empty where it does.
    """

    metrics: Mapping[str, float]
    against: tuple[str, ...]

    @property
    def reproduced(self) -> bool:
        """Whether the published result counts as reproduced."""
        return not self.against


def read_table(name: str) -> list[Published]:
    """Return the rows of a table, one for each method and protocol.

    Args:
        name: one of ``TABLES``.

    Raises:
        InputError: no such table.
    """
    if name not in TABLES:
        raise InputError(f"a table of {', '.join(TABLES)}", name, "name one of them")
    table = _INDEX["tables"][name]
    return [
        Published(
            method,
            name,
            row["config"],
            protocol,
            dict(zip(_METRICS, metrics, strict=False)),
            _INDEX["sources"][row["source"]],
            tuple(row["others"]) if number == 0 and "others" in row else None,
            table["genuine"][protocol],
            row.get("trained", ""),
            row.get("memory"),
            row.get("fastest", {}),
        )
        for method, row in table["rows"].items()
        for number, (protocol, metrics) in enumerate(row["published"].items())
    ]


def results_of(row: Published, root: Path) -> tuple[Mapping[str, Any] | None, str]:
    """Return the content of a row's results file, and what is wrong with its run.

    Args:
        row: the row.
        root: folder of all runs.

    Returns:
        None where it has not been run; "" where nothing is wrong.

    Raises:
        InputError: its results file is damaged.
    """
    folder = root / row.folder
    path = folder / "results.json"
    if not os.path.lexists(path):
        return None, ""
    document = read_results(path)
    config, words = find_config(row.config), ["OUTPUT_DIR", str(folder)]
    runs: Sequence[Run] = [Run(row.method, load_config(config, words), ())]
    if row.table == "regdb":
        runs = planned_trials(config, words, list(SPLITS))
    try:
        unfinished = sum(run.results() is None for run in runs)
    except InputError:
        return document, "another configuration"
    if unfinished:
        return document, "unfinished" if len(runs) == 1 else f"{unfinished} splits unfinished"
    return document, ""


def judge(row: Published, document: Mapping[str, Any], problem: str = "") -> Verdict | None:
    """Say whether results reproduce a published row.

    Args:
        row: the row.
        document: content of a results file.
        problem: what is wrong with the run that wrote it; "" for nothing.

    Returns:
        None where the document has no plain score under the row's protocol.
    """
    plain = [
        entry
        for entry in document["scores"]
        if entry["protocol"] == row.protocol
        and entry["flip"] is False
        and entry["reranking"] is None
        and "remedy" not in entry
    ]
    if not plain:
        return None
    entry, facts = plain[0], document["run"]
    metrics = {name: entry["mean"][name] for name in _METRICS}
    against = [problem] if problem else []
    counts = {name: entry["counts"][name] for name in row.genuine}
    if counts != dict(row.genuine):
        against.append(
            f"{counts['queries']} queries and {counts['gallery']} gallery images, not "
            f"{row.genuine['queries']} and {row.genuine['gallery']}: another data set"
        )
    if entry["trials"] != TRIALS:
        against.append(f"{entry['trials']} of {TRIALS} trials")
    for run in facts.get("trials", {"": facts}).values():
        against += _objections(run)
    for name, published in row.metrics.items():
        difference = metrics[name] - published
        if abs(difference) > MARGIN:
            against.append(f"{'Rank-1' if name == 'rank1' else name} {difference:+.2f}")
    return Verdict(metrics, tuple(dict.fromkeys(against)))


def _objections(run: Mapping[str, Any]) -> list[str]:
    """Return what speaks against one run's facts."""
    found = []
    selection, guard = run.get("selection") or {}, run.get("leak_guard") or {}
    if selection.get("rule") != "last" or not selection.get("final"):
        found.append(f"checkpoint: {selection.get('rule', 'unknown')}, not the last one")
    if guard.get("outcome") != "clean":
        found.append(f"leak guard: {guard.get('outcome', 'unknown')}")
    return found


def format_reproduction(rows: Sequence[Published], root: Path, card: str) -> str:
    """Return the table of published rows, and under it the commands.

    Args:
        rows: of one table.
        root: folder of all runs.
        card: one of ``CARDS``.

    Raises:
        InputError: a results file is damaged.
    """
    lines = [_line(row, root, card) for row in rows]
    headings = ["Method", "Protocol", "Published", "Others", f"Hours, {card}", "GiB", "Measured"]
    table = tabulate(lines, headers=[*headings, "Reproduced"], disable_numparse=True)
    once = {row.method: row for row in rows}.values()
    commands = "\n".join(f"  {row.method}: {row.command(root)}" for row in once)
    sources = "\n".join(
        f"  {row.method}: {row.source}" + (f"; others report {row.trained}" * bool(row.trained))
        for row in once
    )
    return "\n\n".join(
        [
            table,
            "Published, Measured: Rank-1 / mAP in percent. Others: Rank-1 of other "
            "implementations.\n"
            "Hours: the least that the card's peak rates allow in float32, no measurement. GiB: "
            "memory\nof a training step in float32, counted.\n"
            f"Reproduced: within {MARGIN:g} point, last checkpoint, {TRIALS} galleries or splits.",
            f"Commands:\n{commands}",
            f"Sources:\n{sources}",
        ]
    )


def _line(row: Published, root: Path, card: str) -> list[str]:
    document, problem = results_of(row, root)
    verdict = None if document is None else judge(row, document, problem)
    hours = row.hours(card)
    measured, reproduced = "-", "not run"
    if document is not None and verdict is None:
        reproduced = "no: another protocol"
    elif verdict is not None:
        measured = _pair(verdict.metrics)
        reproduced = "yes" if verdict.reproduced else "no: " + "; ".join(verdict.against)
    return [
        row.method,
        row.protocol,
        _pair(row.metrics),
        "-" if row.others is None else f"{row.others[0]:g} to {row.others[1]:g}",
        "-" if hours is None else f"{hours:.1f}",
        "-" if row.memory is None else f"{row.memory:g}",
        measured,
        printable(reproduced),
    ]


def _pair(metrics: Mapping[str, float]) -> str:
    return " / ".join(f"{metrics[name]:.2f}" if name in metrics else "-" for name in _METRICS)

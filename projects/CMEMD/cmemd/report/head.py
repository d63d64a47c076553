"""The head of the page: the verdict, the metrics, and where they come from."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from cmemd.data.layouts import LAYOUTS
from cmemd.errors import InputError, printable
from cmemd.evaluation.bootstrap import mean_interval
from cmemd.evaluation.protocols import get_protocol
from cmemd.evaluation.scoring import METRICS
from cmemd.evaluation.tables import HEADINGS, scoring_way
from cmemd.report.blocks import Missing, Section, Table
from cmemd.report.run import Run

__all__ = ["Fact", "Figure", "facts", "headline", "metrics_section", "provenance_section"]

_GOOD, _CARE, _BAD, _PLAIN = "good", "care", "bad", "plain"
_SELECTION = {
    "last": (_GOOD, "last epoch", "No score chose it."),
    "validation": (_GOOD, "best on validation identities", "The test set did not choose it."),
    "best_on_test": (
        _CARE,
        "best on the test set",
        "The metrics are biased upwards, by 0.4 to 2 points of Rank-1 in released logs.",
    ),
    "untrained": (_PLAIN, "none: untrained", "The network as training starts it."),
    "given": (_PLAIN, "given by hand", "The run does not say why this checkpoint."),
}
_LEAK = {
    "clean": (_GOOD, "clean", "No identity under test was trained on."),
    "unknown": (_CARE, "unknown", "The weights do not say what they were trained on."),
    "overridden": (_BAD, "overridden", "Identities under test were trained on."),
    "untrained": (_PLAIN, "untrained", "Nothing was trained on."),
}


@dataclass(frozen=True)
class Figure:
    """One large number: name, value with its unit, and a line under it."""

    name: str
    value: str
    note: str


@dataclass(frozen=True)
class Fact:
    """One line of the verdict.

    Attributes:
        state: "good", "care", "bad" or "plain".
        name: what it is about.
        value: in a word or two.
        note: what that means.
    """

    state: str
    name: str
    value: str
    note: str


def headline(run: Run) -> list[Figure]:
    """Return the large numbers: Rank-1 and mAP under the first protocol, with their intervals."""
    if run.main is None:
        return []
    found = []
    for metric in ("rank1", "mAP"):
        mean, std = run.entry["mean"][metric], run.entry["std"][metric]
        notes = (
            [f"± {std:.1f} over {run.entry['trials']} trials"] if run.entry["trials"] > 1 else []
        )
        if interval := _intervals(run, 0).get(metric):
            notes.append(f"95 % interval {interval[0]:.1f} to {interval[1]:.1f}")
        found.append(Figure(HEADINGS[metric], f"{mean:.1f} %", "\n".join(notes)))
    return found


def facts(run: Run) -> list[Fact]:
    """Return what decides whether the numbers can be trusted and compared."""
    found = [_data_fact(run)]
    if run.results is None:
        last = max((int(x[-1]) for x, _ in run.scalars.values()), default=0)
        found.append(
            Fact(_CARE, "Run", "unfinished", f"{last:,} iterations are logged; no results yet.")
        )
    else:
        selection, guard = run.facts.get("selection") or {}, run.facts.get("leak_guard") or {}
        state, value, note = _SELECTION.get(
            selection.get("rule", ""), (_CARE, "unknown", "The results file does not say.")
        )
        if selection.get("epoch"):
            value += f", epoch {selection['epoch']}"
        found.append(Fact(state, "Checkpoint", value, note))
        state, value, note = _LEAK.get(
            guard.get("outcome", ""), (_CARE, "unknown", "The results file does not say.")
        )
        if guard.get("overlap"):
            value += f", {guard['overlap']} identities"
        found.append(Fact(state, "Leak guard", value, note))
    stops = run.interruptions
    found.append(
        Fact(
            _PLAIN if stops else _GOOD,
            "Interruptions",
            f"{len(stops)}" if stops else "none",
            "A resumed training ends bit-equal on one machine." if stops else "One start.",
        )
        if run.log or run.results
        else Fact(_CARE, "Interruptions", "unknown", "No record.")
    )
    for warning in run.facts.get("warnings", []):
        found.append(Fact(_BAD, "Warning", "", str(warning)))
    return found


def metrics_section(run: Run) -> Section:
    """Return every metric of every score, with deviations and intervals."""
    section = Section("metrics", "Metrics")
    if run.results is None:
        section.missing.append(run.missing["results"])
        return section
    rows = []
    for number, entry in enumerate(run.results["scores"]):
        intervals, how = _intervals(run, number), scoring_way(entry)
        cells = []
        for metric in METRICS:
            cell = f"{entry['mean'][metric]:.2f}"
            if entry["trials"] > 1:
                cell += f" ± {entry['std'][metric]:.2f}"
            if metric in intervals:
                cell += f"\n[{intervals[metric][0]:.1f}, {intervals[metric][1]:.1f}]"
            cells.append(cell)
        rows.append([f"{entry['protocol']}\n{_words(how)}", *cells])
    section.lead = (
        "Percent: mean ± deviation over the trials. The 95 % intervals resample people; they "
        "cover neither the training seed nor the gallery sampling."
    )
    section.blocks.append(Table("Metrics of each protocol", ["Protocol", *HEADINGS.values()], rows))
    names = list(run.results["scores"][0]["counts"])
    counts = {entry["protocol"]: entry["counts"] for entry in run.results["scores"]}
    section.blocks.append(
        Table(
            "Images of each protocol",
            ["Protocol", *(name.replace("_", " ") for name in names)],
            [
                [protocol, *(f"{of.get(name, 0):,}" for name in names)]
                for protocol, of in counts.items()
            ],
        )
    )
    if not run.per_query:
        section.missing.append(
            Missing("Intervals", "no metrics of each query (results.per_query.npz)")
        )
    return section


def provenance_section(run: Run) -> Section:
    """Return configuration, protocol, digests, versions and interruptions."""
    section = Section(
        "provenance",
        "Where it comes from",
        "Everything that identifies the run. Two runs with equal digests are the same run.",
    )
    known = run.facts
    dataset, checkpoint = known.get("dataset") or {}, known.get("checkpoint") or {}
    rows = [
        ["Folder", str(run.folder)],
        ["Data set", _dataset_words(dataset)],
        ["Seed", _word(known.get("seed", run.config.get("SEED")))],
        ["Checkpoint", _word(checkpoint.get("file"))],
        ["Training identities", _word((known.get("leak_guard") or {}).get("training_identities"))],
    ]
    for number, entry in enumerate((run.results or {}).get("scores", [])):
        rows.append([f"Protocol {number + 1}", f"{entry['description']}. {_source(entry)}"])
    section.blocks.append(Table("The run", ["What", "Value"], rows, plain=True))
    digests = {
        "Run": run.log.identity.digest if run.log else known.get("identity"),
        "Configuration": (known.get("config") or {}).get("sha256"),
        "Checkpoint": checkpoint.get("sha256"),
        "Test images": dataset.get("files_sha256"),
        "Test identities": dataset.get("identities_sha256"),
        **{
            name.capitalize(): digest
            for name, digest in (run.log.identity.data if run.log else {}).items()
        },
    }
    section.blocks.append(
        Table(
            "Digests (SHA-256)",
            ["Of", "Digest"],
            [[name, _word(digest)] for name, digest in digests.items()],
            plain=True,
        )
    )
    if run.log and run.log.starts:
        section.blocks.append(
            Table(
                "Starts of the training",
                ["Time", "From iteration", "Processes", "Commit", "Changed keys"],
                [
                    [
                        str(start.get("time")),
                        f"{start.get('iteration', 0):,}",
                        str(start.get("processes")),
                        str(start.get("commit"))[:12],
                        ", ".join(start.get("changed") or {}) or "none",
                    ]
                    for start in run.log.starts
                ],
                plain=True,
            )
        )
    if run.results:
        versions = run.results.get("versions", {})
        section.blocks.append(
            Table(
                "Versions at the evaluation",
                ["Program", "Version"],
                [[name, _word(version)] for name, version in versions.items()],
                plain=True,
            )
        )
    if run.config:
        rows = [[key, _word(value)] for key, value in sorted(run.config.items())]
        section.blocks.append(
            Table("Configuration", ["Key", "Value"], rows, plain=True, kind="fold")
        )
    else:
        section.missing.append(run.missing["config"])
    return section


def _intervals(run: Run, number: int) -> dict[str, tuple[float, float]]:
    if number >= len(run.per_query):
        return {}
    stored = run.per_query[number]
    counted = ~np.isnan(stored["metrics"]).any(axis=0)
    people = stored["queries"][counted, 0]
    if len(np.unique(people)) < 2:
        return {}
    return {
        metric: mean_interval(values[counted].astype(np.float64), people)
        for metric, values in zip(METRICS, stored["metrics"], strict=True)
    }


def _data_fact(run: Run) -> Fact:
    dataset = run.facts.get("dataset") or {}
    name = dataset.get("name") or _first(run.config.get("DATASETS.TESTS")) or "unknown"
    title = next((of.title for of in LAYOUTS.values() if of.dataset == name), str(name))
    if run.standin:
        note = f"Not comparable with published numbers on {title}."
        return Fact(_CARE, "Data set", f"stand-in for {title}: drawn people", note)
    if run.standin is None:
        note = "Its folder is not at hand, so a stand-in of drawn people cannot be told apart."
        return Fact(_PLAIN, "Data set", title, note)
    return Fact(_GOOD, "Data set", title, "No stand-in.")


def _dataset_words(dataset: Mapping[str, Any]) -> str:
    if not dataset:
        return "unknown"
    trial = "" if dataset.get("trial") is None else f", split {dataset['trial']}"
    images, identities = (f"{dataset.get(name, 0):,}" for name in ("images", "identities"))
    split = f"{dataset.get('name')}{trial}, {dataset.get('split')}"
    return f"{split}: {images} images of {identities} identities"


def _source(entry: Mapping[str, Any]) -> str:
    try:
        return f"Rules: {get_protocol(entry['protocol']).source}."
    except InputError:  # a protocol of another version
        return ""


def _words(way: tuple[str, str, str, str]) -> str:
    sampling, metric, flip, reranking = way
    words = f"{sampling} sampling, {metric}"
    words += ", flip" if flip == "on" else ""
    return words + ("" if reranking == "off" else f", re-ranked ({reranking})")


def _first(value: Any) -> Any:
    return value[0] if isinstance(value, list | tuple) and value else value


def _word(value: Any) -> str:
    return "unknown" if value is None else printable(str(value))

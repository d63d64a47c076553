"""Faults, the cases found in a copy, and the report as text or JSON."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

from tabulate import tabulate

from cmemd.data.image_files import Tally
from cmemd.errors import printable

__all__ = ["Fault", "Report", "Row", "Severity"]

_EXAMPLES = 3


class Severity(Enum):
    """What a fault means for training and scoring.

    ERROR: the data set's builder or the evaluation would refuse the data, or would silently train
    or score on wrong data. WARNING: everything runs, but metrics are not comparable with published
    ones, or some of the data is never used. NOTE: no consequence.
    """

    ERROR = "error"
    WARNING = "warning"
    NOTE = "note"


@dataclass(frozen=True)
class Fault:
    """A kind of fault.

    Attributes:
        severity: what it means.
        problem: what is wrong, as a heading over the cases.
        remedy: what to do about it.
    """

    severity: Severity
    problem: str
    remedy: str


COUNTS = Fault(
    Severity.WARNING,
    "counts that are not the genuine data set's",
    "complete or clean the copy: metrics on it are not comparable with published ones",
)
STANDIN = Fault(
    Severity.NOTE,
    "a drawn stand-in",
    "nothing: its counts need not be the genuine ones",
)


@dataclass(frozen=True)
class Row:
    """One line of the table; ``expected`` is None if no genuine count is known."""

    subject: str
    expected: int | str | None
    found: int | str

    @property
    def differs(self) -> bool:
        """Whether a genuine count is known and another was found."""
        return self.expected is not None and self.expected != self.found


@dataclass
class Report:
    """All findings of an examination.

    Attributes:
        data_set: the genuine data set's name.
        root: the folder examined.
        standin: the name in its meta.jsonl if it is a drawn stand-in, else None.
        rows: the table.
        findings: every fault found, with its cases in the order of discovery.
        tally: files that were left out, or have two names.
        digests: path below the folder -> SHA-256, of each image and list that was read.
        guard_statistics: limits for the modality guard, of a data set of one's own; else None.
    """

    data_set: str
    root: str
    standin: str | None = None
    rows: list[Row] = field(default_factory=list)
    findings: dict[Fault, list[str]] = field(default_factory=dict)
    tally: Tally = field(default_factory=Tally)
    digests: dict[str, str] = field(default_factory=dict)
    guard_statistics: Mapping[str, Any] | None = None

    def row(self, subject: str, found: int | str, expected: int | str | None = None) -> None:
        """Add a line to the table."""
        self.rows.append(Row(subject, expected, found))

    def add(self, fault: Fault, cases: Iterable[object]) -> None:
        """Add cases of a fault; without a case nothing is added."""
        texts = [str(case) for case in cases]
        if texts:
            self.findings.setdefault(fault, []).extend(texts)

    def compare_counts(self) -> None:
        """Turn differing lines of the table into a finding, except for a stand-in."""
        if self.standin is None:
            self.add(COUNTS, (f"{r.subject}: {r.found}, not {r.expected}" for r in self.differing))
        else:
            self.add(STANDIN, [f"meta.jsonl says: {self.standin}"])

    @property
    def differing(self) -> list[Row]:
        """Lines of the table that differ from the genuine data set."""
        return [row for row in self.rows if row.differs]

    @property
    def usable(self) -> bool:
        """Whether no error was found."""
        return not any(fault.severity is Severity.ERROR for fault in self.findings)

    def to_dict(self) -> dict[str, object]:
        """Return everything, with all cases, for JSON."""
        return {
            "data_set": self.data_set,
            "root": self.root,
            "standin": self.standin,
            "usable": self.usable,
            "table": [
                {"subject": row.subject, "expected": row.expected, "found": row.found}
                for row in self.rows
            ],
            "findings": [
                {
                    "severity": fault.severity.value,
                    "problem": fault.problem,
                    "remedy": fault.remedy,
                    "count": len(cases),
                    "cases": cases,
                }
                for fault, cases in self._worst_first()
            ],
        }

    def to_text(self) -> str:
        """Return the table, each finding with its first cases and remedy, and the verdict."""
        mark = "" if self.standin else "differs"
        table = tabulate(
            [
                (row.subject, _cell(row.expected), _cell(row.found), mark if row.differs else "")
                for row in self.rows
            ],
            headers=(f"{self.data_set} in {printable(self.root)}", "expected", "found", ""),
            colalign=("left", "right", "right", "left"),
            tablefmt="plain",
            disable_numparse=True,
        )
        findings = [_paragraph(fault, cases) for fault, cases in self._worst_first()]
        return "\n\n".join([table, *findings, self._verdict()])

    def _worst_first(self) -> list[tuple[Fault, list[str]]]:
        order = list(Severity)
        return sorted(self.findings.items(), key=lambda item: order.index(item[0].severity))

    def _verdict(self) -> str:
        kinds = [fault.severity for fault in self.findings]
        counts = ", ".join(f"{s.value}s: {kinds.count(s)}" for s in Severity)
        return f"{'usable' if self.usable else 'not usable'} ({counts})"


def _cell(value: int | str | None) -> str:
    if value is None:
        return "-"
    return f"{value:,}" if isinstance(value, int) else value


def _paragraph(fault: Fault, cases: list[str]) -> str:
    lines = [f"{fault.severity.value}: {fault.problem} ({len(cases):,})"]
    lines += [f"  {printable(case)}" for case in cases[:_EXAMPLES]]
    if len(cases) > _EXAMPLES:
        lines.append(f"  and {len(cases) - _EXAMPLES:,} more")
    return "\n".join([*lines, f"  -> {fault.remedy}"])

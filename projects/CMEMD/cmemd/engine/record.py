"""What a checkpoint was trained on: the training record, and the leak guard that reads it.

A network scores far too well on people that it was trained on; RegDB's ten splits make that an
easy mistake. Each checkpoint stores its training identities; evaluation refuses to test on them.
"""

import dataclasses
import hashlib
import logging
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from cmemd.data.naming import published_licence
from cmemd.errors import InputError
from cmemd.version import __version__

__all__ = [
    "RECORD",
    "TrainingRecord",
    "check_leak",
    "check_people",
    "identity_digests",
    "people_digests",
]

logger = logging.getLogger(__name__)

RECORD = "cmemd_record"  # the record's name in a checkpoint
_VERSION = 1
_DIGEST_LENGTH = 16  # 64 bits: of a million identities, two share one with probability 3e-8
_SHOWN = 5
_ADDED = "licences"  # absent in older records


def identity_digests(dataset_name: str, pids: Iterable[Any]) -> dict[str, Any]:
    """Return digest -> number of each identity: the first 16 hex digits of SHA-256 of "name/pid".

    Checkpoints travel further than data sets do. Digests can be compared, and tell nothing else.

    Args:
        dataset_name: of the data set; of lists of one's own, their naming.
        pids: numbers of identities, or their names.
    """
    return {
        hashlib.sha256(f"{dataset_name}/{pid}".encode()).hexdigest()[:_DIGEST_LENGTH]: pid
        for pid in sorted(set(pids))
    }


def people_digests(people: Iterable[tuple[str, Any]]) -> dict[str, Any]:
    """Return digest -> identity of people, each given as its naming and its identity in it."""
    by_naming: dict[str, list[Any]] = defaultdict(list)
    for naming, identity in people:
        by_naming[naming].append(identity)
    digests: dict[str, Any] = {}
    for naming, identities in by_naming.items():
        digests |= identity_digests(naming, identities)
    return digests


@dataclass
class TrainingRecord:
    """What a run trains on and how it is tested; its checkpoints hold it as plain types.

    Attributes:
        dataset: the data set's name in records, see ``cmemd.data.naming``.
        trial: number of its split, or None.
        identities: digests of the training identities, sorted.
        validation: digests of the identities that are held out, sorted.
        protocols: names of the test protocols.
        seed: of all random numbers; -1 = from the clock.
        epochs: number of epochs of the whole run.
        selection: the rule that chooses the checkpoint to be tested.
        config_sha256: digest of the configuration.
        earlier: digests of the training identities of the start-up weights, sorted.
        complete: False where the start-up weights had no record, so that ``earlier`` may lack some.
        licences: of each data set that the weights were ever trained on, by its name; empty in
            older records.
    """

    dataset: str
    trial: int | None
    identities: list[str]
    validation: list[str]
    protocols: list[str]
    seed: int
    epochs: int
    selection: str
    config_sha256: str
    earlier: list[str] = dataclasses.field(default_factory=list)
    complete: bool = True
    licences: dict[str, str] = dataclasses.field(default_factory=dict)

    @property
    def known(self) -> set[str]:
        """Digests of all identities that the weights were ever trained on."""
        return {*self.identities, *self.earlier}

    def start_from(self, other: "TrainingRecord | None") -> None:
        """Add the training identities of start-up weights; None = weights without a record."""
        if other is None:
            logger.warning(
                "The start-up weights have no training record: their training identities are "
                "unknown, and so is the leak guard's outcome for this run and its checkpoints"
            )
            self.complete = False
        else:
            self.earlier = sorted(other.known)
            self.complete = other.complete
            earlier = other.licences or {other.dataset: published_licence(other.dataset)}
            self.licences = {**earlier, **self.licences}

    def state_dict(self) -> dict[str, Any]:
        """Return the record as plain types, for fast-reid's Checkpointer."""
        return {
            "version": _VERSION,
            "cmemd": __version__,
            "number_of_identities": len(self.identities),
            **dataclasses.asdict(self),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take over the record of a resumed run's checkpoint.

        Raises:
            InputError: the run was trained on other identities, or the record is unreadable.
        """
        other = TrainingRecord.from_state(state)
        if other.identities != self.identities:
            changed = len(set(other.identities) ^ set(self.identities))
            raise InputError(
                f"a checkpoint of this run's {len(self.identities)} training identities of "
                f"{_named(self)} to resume from",
                f"one of {len(other.identities)} identities of {_named(other)}, {changed} of them "
                "in one of the two only",
                "restore the data set's options, or use another OUTPUT_DIR",
            )
        self.earlier, self.complete = other.earlier, other.complete
        self.licences = {**other.licences, **self.licences}

    @classmethod
    def from_state(cls, state: Mapping[str, Any]) -> "TrainingRecord":
        """Return the record that ``state_dict`` returned.

        Raises:
            InputError: it is of another version, or something else.
        """
        try:
            if state["version"] != _VERSION:
                raise InputError(
                    f"a training record of version {_VERSION}",
                    f"{state['version']} (written by cmemd {state['cmemd']})",
                    "use that release of cmemd",
                )
            values = {f.name: state[f.name] for f in dataclasses.fields(cls) if f.name != _ADDED}
            return cls(**values, **({_ADDED: state[_ADDED]} if _ADDED in state else {}))
        except (KeyError, TypeError) as error:
            raise InputError(
                "a training record in the checkpoint",
                f"something else ({error!r})",
                "take the checkpoint from its source again",
            ) from None

    def comparable(self, other: "TrainingRecord") -> bool:
        """Return whether the two runs' selection scores can be compared."""
        names = ("dataset", "trial", "identities", "validation", "protocols", "selection")
        return all(getattr(self, name) == getattr(other, name) for name in names)


def check_leak(
    record: TrainingRecord | None,
    dataset_name: str,
    pids: Iterable[int],
    *,
    where: str,
    allow: bool = False,
) -> dict[str, Any]:
    """Raise if weights were trained on identities under test.

    Args:
        record: of the weights; None where they carry none.
        dataset_name: of the data set under test.
        pids: identities under test.
        where: see ``check_people``.
        allow: see there, as for what is returned.

    Raises:
        InputError: there are shared identities, and ``allow`` is off.
    """
    return check_people(record, ((dataset_name, pid) for pid in pids), where=where, allow=allow)


def check_people(
    record: TrainingRecord | None,
    people: Iterable[tuple[str, Any]],
    *,
    where: str,
    allow: bool = False,
) -> dict[str, Any]:
    """Raise if weights were trained on people under test.

    Args:
        record: of the weights; None where they carry none.
        people: those under test, each as its naming and its identity in it.
        where: names the test set in messages.
        allow: do not raise.

    Returns:
        ``outcome``: "clean", "unknown" (no record, or an incomplete one) or "overridden";
        ``overlap``: the number of shared identities that are known of; ``training_identities``:
        the number trained on, or None where unknown.

    Raises:
        InputError: there are shared identities, and ``allow`` is off.
    """
    if record is None:
        logger.warning(
            "The weights have no training record: whether they were trained on identities of %s is "
            "unknown",
            where,
        )
        return {"outcome": "unknown", "overlap": 0, "training_identities": None}
    tested = people_digests(people)
    shared = sorted(tested[digest] for digest in tested.keys() & record.known)
    if shared and not allow:
        raise InputError(
            "weights that were not trained on identities under test",
            f"weights that were trained on {len(shared)} of the {len(tested)} identities of "
            f"{where}, such as {', '.join(map(str, shared[:_SHOWN]))} (they come from "
            f"{_named(record)})",
            "they would score too well; test on the set that belongs to their training, or set "
            "TEST.ALLOW_LEAK True, which the results will say",
        )
    outcome = "overridden" if shared else "clean" if record.complete else "unknown"
    return {
        "outcome": outcome,
        "overlap": len(shared),
        "training_identities": len(record.known) if record.complete else None,
    }


def _named(record: TrainingRecord) -> str:
    return record.dataset + ("" if record.trial is None else f" trial {record.trial}")

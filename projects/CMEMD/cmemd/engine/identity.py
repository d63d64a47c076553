"""The identity of a run: what must stay the same for a run to go on.

``run.json`` is in the run's folder from the first second. Every checkpoint carries the identity
too, and every results file its digest.
"""

import datetime
import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from cmemd.errors import InputError
from cmemd.evaluation.versions import versions
from cmemd.files import write_whole
from cmemd.version import __version__

__all__ = [
    "FREE_KEYS",
    "IDENTITY",
    "RUN_FILE",
    "RunIdentity",
    "RunLog",
    "flat_config",
    "read_run",
]

RUN_FILE = "run.json"
IDENTITY = "cmemd_run"  # the identity's name in a checkpoint
_SCHEMA, _VERSION = "cmemd-run", 1

# Keys that may change when a run is resumed: epochs, checkpoints, workers, device, evaluation.
# A change is carried out and recorded. All other keys must stay as they were [C].
FREE_KEYS = (
    "OUTPUT_DIR",
    "CUDNN_BENCHMARK",
    "MODEL.DEVICE",
    "DATALOADER.NUM_WORKERS",
    "DATALOADER.PREFETCH",
    "DATALOADER.CACHE",
    "SOLVER.MAX_EPOCH",
    "SOLVER.CHECKPOINT_PERIOD",
    "SOLVER.CHECKPOINT_MINUTES",
    "SOLVER.SELECTION",
    "TEST.*",
    "TRACKERS",
    "DATASETS.TESTS",
)


@dataclass(frozen=True)
class RunIdentity:
    """What makes a run this run.

    Attributes:
        config: every key of the effective configuration -> its value, as JSON holds it.
        data: digests of the training images and of the start-up weights, by name.
        version: of cmemd.
    """

    config: Mapping[str, Any]
    data: Mapping[str, str]
    version: str

    @property
    def digest(self) -> str:
        """SHA-256 in hex of all that must stay the same."""
        fixed = {key: value for key, value in self.config.items() if not _free(key)}
        text = json.dumps([fixed, dict(self.data), self.version], sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()

    @classmethod
    def of(cls, cfg: Mapping[str, Any], data: Mapping[str, str]) -> "RunIdentity":
        """Return the identity of a run that starts now."""
        return cls(flat_config(cfg), dict(data), __version__)

    def changes(self, new: "RunIdentity") -> dict[str, tuple[Any, Any]]:
        """Return key -> (value here, value in ``new``) of every difference.

        A new ``SEED`` of -1 takes the seed that the run has.
        """
        return {
            key: (self.config.get(key), new.config.get(key))
            for key in sorted(self.config.keys() | new.config.keys())
            if self.config.get(key) != new.config.get(key)
            and not (key == "SEED" and new.config[key] == -1)
        }

    def check_same_run(self, new: "RunIdentity", folder: Path) -> dict[str, tuple[Any, Any]]:
        """Return the changes of free keys, for a run that is resumed.

        Args:
            new: the identity under which the run is to go on.
            folder: the run's, for the message.

        Raises:
            InputError: another key, the training data or the version of cmemd has changed; names
                what differs.
        """
        changes = self.changes(new)
        fixed = [
            f"{key} {new_value!r} instead of {old!r}"
            for key, (old, new_value) in changes.items()
            if not _free(key)
        ]
        fixed += [
            f"other {name}"
            for name in sorted(self.data.keys() | new.data.keys())
            if self.data.get(name) != new.data.get(name)
        ]
        if self.version != new.version:
            fixed.append(f"cmemd {new.version} instead of {self.version}")
        schedule = new.config.get("SOLVER.SCHED")
        if "SOLVER.MAX_EPOCH" in changes and schedule != "MultiStepLR":
            old, now = changes["SOLVER.MAX_EPOCH"]
            fixed.append(f"SOLVER.MAX_EPOCH {now} instead of {old}, on which {schedule} depends")
        if fixed:
            raise InputError(
                f"the configuration of the run in {folder} to resume it",
                "; ".join(fixed),
                "use the old values, set another OUTPUT_DIR, or start anew with --archive, which "
                "moves the old run to a folder of its own",
            )
        return changes

    def state_dict(self) -> dict[str, Any]:
        """Return plain types."""
        return {"version": _VERSION, "digest": self.digest, "identity": asdict(self)}

    @classmethod
    def from_state(cls, state: Any, where: Path | str) -> "RunIdentity":
        """Return the identity that ``state_dict`` returned.

        Raises:
            InputError: it is of another version, or damaged.
        """
        try:
            if state["version"] != _VERSION:
                raise ValueError(f"version {state['version']}")
            identity = cls(**state["identity"])
            if identity.digest != state["digest"]:
                raise ValueError("another digest than its own")
        except (KeyError, TypeError, ValueError) as error:
            raise InputError(
                f"a run's identity of version {_VERSION} in {where}",
                f"something else ({error})",
                "start anew with --archive, or use the release of cmemd that made it",
            ) from None
        return identity


@dataclass
class RunLog:
    """What ``run.json`` holds: the identity, and each start of the run.

    Attributes:
        identity: of the run.
        starts: of each start its time, the iteration that it went on from, the number of
            processes, the commit of cmemd and the free keys that changed.
        changes: free keys that have changed since the last start.
    """

    identity: RunIdentity
    starts: list[dict[str, Any]] = field(default_factory=list)
    changes: Mapping[str, Any] = field(default_factory=dict)

    def add_start(self, iteration: int, processes: int, changes: Mapping[str, Any]) -> None:
        """Record that the run starts or goes on now."""
        now = datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds")
        self.starts.append(
            {
                "time": now,
                "iteration": iteration,
                "processes": processes,
                "commit": versions()["commit"],
                "changed": {key: list(values) for key, values in changes.items()},
            }
        )

    @property
    def interruptions(self) -> Sequence[Mapping[str, Any]]:
        """Every start but the first."""
        return self.starts[1:]

    def write(self, folder: Path) -> None:
        """Write ``run.json``, whole or not at all."""
        document = {
            "schema": _SCHEMA,
            **self.identity.state_dict(),
            "starts": self.starts,
        }
        write_whole(folder / RUN_FILE, (json.dumps(document, indent=2) + "\n").encode())


def read_run(folder: Path) -> RunLog | None:
    """Return what a folder's ``run.json`` holds; None where there is none.

    Raises:
        InputError: the file is damaged or of another version.
    """
    path = folder / RUN_FILE
    if not path.is_file():
        return None
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
        starts = list(document["starts"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(
            f"a run's record in {path}",
            f"something else ({error})",
            "restore the file, or start anew with --archive",
        ) from None
    return RunLog(RunIdentity.from_state(document, path), starts)


def flat_config(cfg: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Return each key of a configuration, as in "SOLVER.BASE_LR" -> its value as JSON holds it.

    Args:
        cfg: fast-reid's ``CfgNode``, or what its yaml holds.
        prefix: of every key.
    """
    flat: dict[str, Any] = {}
    for name, value in cfg.items():
        key = prefix + name
        if isinstance(value, Mapping):
            flat |= flat_config(value, f"{key}.")
        else:
            flat[key] = json.loads(json.dumps(value))
    return flat


def _free(key: str) -> bool:
    return any(fnmatchcase(key, pattern) for pattern in FREE_KEYS)

"""Checkpoints: written whole, with a checksum, and known to fit a network before they are used.

Beside ``x.pth`` lies ``x.pth.sha256``, which ``sha256sum --check`` reads; every load compares it.
"""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cmemd.compat  # noqa: F401  before fastreid

import torch
from fastreid.utils.checkpoint import Checkpointer
from torch import Tensor, nn

from cmemd.engine.averaging import EMA
from cmemd.engine.identity import IDENTITY, RunIdentity
from cmemd.engine.record import RECORD, TrainingRecord
from cmemd.errors import InputError, reason
from cmemd.files import file_sha256, load_tensors, whole_file, write_whole

__all__ = [
    "BEST",
    "FINAL",
    "WITHIN_EPOCH",
    "Checkpoint",
    "WholeCheckpointer",
    "check_weights",
    "last_checkpoint",
    "load_weights",
    "read_checkpoint",
]

logger = logging.getLogger(__name__)

BEST, FINAL = "model_best", "model_final"
_CLASSIFIER = ".classifier"  # its size is the training set's, and no embedding depends on it
WITHIN_EPOCH = "model_iter_"  # checkpoints between epochs; the next checkpoint replaces them


@dataclass(frozen=True, eq=False)
class Checkpoint:
    """The content of a checkpoint file, read once.

    Attributes:
        path: the file.
        model: the network's tensors by name, as they are tested and served: the EMA weights where
            the run has them.
        trained: the tensors that a resumed run trains on; the same ones without EMA weights.
        ema: the decay of the EMA weights; None without them.
        record: the training record; None where the file has none.
        identity: the run's; None where the file has none.
        entries: whatever else was saved, by name.
        sha256: of the file, in hex.
    """

    path: Path
    model: Mapping[str, Tensor]
    trained: Mapping[str, Tensor]
    ema: float | None
    record: TrainingRecord | None
    identity: RunIdentity | None
    entries: Mapping[str, Any]
    sha256: str

    @property
    def epoch(self) -> int | None:
        """Number of finished epochs; None where the file does not say."""
        epoch = self.entries.get("epoch")  # fast-reid's start at 0
        return None if epoch is None else epoch + 1

    @property
    def iteration(self) -> int:
        """Number of finished iterations; -1 where the file does not say."""
        return self.entries.get("iteration", -1)


class WholeCheckpointer(Checkpointer):
    """Write checkpoints whole; an interrupted fast-reid may leave half a file."""

    def save(self, name: str, **kwargs: object) -> None:
        """Write a checkpoint and its checksum; mark all but the best one as the last one.

        A kill at any moment leaves the checkpoint that was marked before, whole.

        Args:
            name: of the file, without ".pth".
            kwargs: what to save beside the model and the checkpointables.

        Raises:
            InputError: a parameter is not finite, or the folder cannot be written to.
        """
        if not self.save_dir or not self.save_to_disk:
            return
        path = Path(self.save_dir, f"{name}.pth")
        state = self.model.state_dict()
        states = {key: kept.state_dict() for key, kept in self.checkpointables.items()}
        averaged = states[EMA]["model"] if EMA in states else {}
        tensors = [*state.items(), *averaged.items()]
        bad = [key for key, tensor in tensors if not torch.isfinite(tensor).all()]
        if bad:
            raise InputError(
                "finite parameters to save",
                f"NaN or infinity in {len(bad)} tensors, such as {bad[0]}",
                "training has diverged: lower SOLVER.BASE_LR, or raise SOLVER.WARMUP_ITERS",
            )
        self.logger.info("Saving checkpoint to %s", path)
        try:
            with whole_file(path) as unfinished:
                torch.save({"model": state, **states, **kwargs}, unfinished)
                digest = file_sha256(unfinished)
                # Until the file is in its place, the old one's checksum stays good too.
                _write_checksums(path, [digest, *_checksums(path)])
            _write_checksums(path, [digest])
            if name != BEST:
                write_whole(Path(self.save_dir, "last_checkpoint"), path.name.encode())
        except (OSError, RuntimeError) as error:
            # A full disk is an error of PyTorch's own writer; its others are defects.
            if isinstance(error, RuntimeError) and "PytorchStreamWriter" not in str(error):
                raise
            raise InputError(
                f"to write {path}",
                reason(error) if isinstance(error, OSError) else f"a full disk ({reason(error)})",
                "free the disk, then go on with --resume",
            ) from error

    def remove_within_epoch(self) -> None:
        """Remove checkpoints between epochs, all but the last one saved."""
        if not self.save_dir or not self.save_to_disk:
            return
        last = Path(self.get_checkpoint_file()).name
        for path in Path(self.save_dir).glob(f"{WITHIN_EPOCH}{'[0-9]' * 8}.pth"):
            if path.name != last:
                path.unlink()
                _checksum_file(path).unlink(missing_ok=True)


def last_checkpoint(folder: Path) -> Checkpoint | None:
    """Return a folder's newest whole checkpoint; None where it has no checkpoint.

    ``last_checkpoint``, fast-reid's mark, may be missing, empty or stale: it is not read.

    Raises:
        InputError: there are checkpoints, and none of them is whole.
    """
    paths = [path for path in folder.glob("model_*.pth") if path.stem != BEST]
    paths.sort(key=lambda path: (path.stem == FINAL, path.stat().st_mtime_ns, path.name))
    problem = None
    for path in reversed(paths):
        try:
            return read_checkpoint(path, named_by="the run's folder")
        except InputError as error:
            problem = error
            logger.warning("Passed over a damaged checkpoint: %s", error)
    if problem is None:
        return None
    raise InputError(
        f"a whole checkpoint in {folder} to resume from",
        f"{len(paths)} damaged ones ({problem})",
        "restore one, or start anew with --archive",
    )


def read_checkpoint(path: str | Path, *, named_by: str = "MODEL.WEIGHTS") -> Checkpoint:
    """Read a fast-reid checkpoint.

    Args:
        path: the file.
        named_by: the key or option that names it, for messages.

    Raises:
        InputError: the file is missing, truncated or not a checkpoint; its checksum is another; its
            training record or the run's identity is of another version or malformed.
    """
    path = Path(path)
    what, remedy = "a fast-reid checkpoint", f"name a checkpoint file in {named_by}"
    if not path.is_file():
        raise InputError(f"{what} at {path}", "no file", remedy)
    sha256, checksums = file_sha256(path), _checksums(path)
    if checksums and sha256 not in checksums:
        raise InputError(
            f"{path} with the checksum in {_checksum_file(path).name}",
            f"another one, {sha256[:16]}...",
            "the file has changed since it was written: restore it from a copy",
        )
    entries = load_tensors(path, what, remedy)
    if not isinstance(entries, dict) or not isinstance(entries.get("model"), dict):
        raise InputError(f"{what} at {path}", 'a file without tensors under "model"', remedy)
    entries = dict(entries)
    trained = {name.removeprefix("module."): t for name, t in entries.pop("model").items()}
    average = entries.get(EMA, {"model": trained, "decay": None})
    record = TrainingRecord.from_state(entries[RECORD]) if RECORD in entries else None
    identity = None
    if IDENTITY in entries:
        identity = RunIdentity.from_state(entries[IDENTITY], path)
    return Checkpoint(
        path, average["model"], trained, average["decay"], record, identity, entries, sha256
    )


def check_weights(model: nn.Module, state: Mapping[str, Tensor], path: str | Path) -> None:
    """Compare a checkpoint's tensors with a network's, all but the classifiers.

    fast-reid's Checkpointer loads what fits and only logs the rest, so that a checkpoint of another
    architecture would score as a random network.

    Args:
        model: the network.
        state: the checkpoint's tensors by name.
        path: its file, for the message.

    Raises:
        InputError: the checkpoint is of another architecture.
    """
    expected = model.state_dict()
    wrong = [
        name
        for name in expected.keys() | state.keys()
        if not name.endswith(_CLASSIFIER)
        and (name not in state or name not in expected or state[name].shape != expected[name].shape)
    ]
    if wrong:
        raise InputError(
            f"weights of the configured architecture in {path}",
            f"another architecture: {len(wrong)} of {len(expected)} tensors are missing, unknown "
            f"or of another shape, such as {min(wrong)}",
            "use the config that they were trained with",
        )


def load_weights(
    model: nn.Module, checkpoint: Checkpoint, *, trained: bool = False, classifiers: bool = True
) -> None:
    """Copy a checkpoint's tensors into a network; classifiers of another size stay as they are.

    Args:
        model: the network.
        checkpoint: EMA weights come first where it has them.
        trained: whether to take the trained weights all the same, to go on with the training.
        classifiers: False to leave all classifiers as they are: theirs are of other people.

    Raises:
        InputError: the checkpoint is of another architecture.
    """
    state = checkpoint.trained if trained else checkpoint.model
    check_weights(model, state, checkpoint.path)
    own = model.state_dict()
    fitting = {
        name: tensor
        for name, tensor in state.items()
        if name in own
        and own[name].shape == tensor.shape
        and (classifiers or not name.endswith(_CLASSIFIER))
    }
    model.load_state_dict(fitting, strict=False)
    kept = len(own) - len(fitting)
    logger.info(
        "Loaded %s%s",
        checkpoint.path,
        f"; {kept} classifiers of other identities start afresh" if kept else "",
    )


def _checksum_file(path: Path) -> Path:
    return path.with_name(f"{path.name}.sha256")


def _checksums(path: Path) -> list[str]:
    """Return each SHA-256 that the file may have; an empty list where none is stored."""
    file = _checksum_file(path)
    return [line.split()[0] for line in file.read_text().splitlines()] if file.is_file() else []


def _write_checksums(path: Path, digests: Sequence[str]) -> None:
    lines = "".join(f"{digest}  {path.name}\n" for digest in digests)
    write_whole(_checksum_file(path), lines.encode())

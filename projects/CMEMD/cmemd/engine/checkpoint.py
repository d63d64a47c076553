"""Checkpoints: written whole, and known to fit a network before they are used."""

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import cmemd.compat  # noqa: F401  before fastreid

import torch
from fastreid.utils.checkpoint import Checkpointer
from torch import Tensor, nn

from cmemd.engine.record import RECORD, TrainingRecord
from cmemd.errors import InputError
from cmemd.files import file_sha256, load_tensors, whole_file

__all__ = ["Checkpoint", "WholeCheckpointer", "check_weights", "load_weights", "read_checkpoint"]

logger = logging.getLogger(__name__)

_CLASSIFIER = ".classifier"  # its size is the training set's, and no embedding depends on it


@dataclass(frozen=True, eq=False)
class Checkpoint:
    """The content of a checkpoint file, read once.

    Attributes:
        path: the file.
        model: the network's tensors by name.
        record: the training record; None where the file has none.
        entries: whatever else was saved, by name.
    """

    path: Path
    model: Mapping[str, Tensor]
    record: TrainingRecord | None
    entries: Mapping[str, Any]

    @property
    def epoch(self) -> int | None:
        """Number of finished epochs; None where the file does not say."""
        epoch = self.entries.get("epoch")  # fast-reid's start at 0
        return None if epoch is None else epoch + 1

    @cached_property
    def sha256(self) -> str:
        """SHA-256 of the file in hex."""
        return file_sha256(self.path)


class WholeCheckpointer(Checkpointer):
    """Write checkpoints whole; an interrupted fast-reid may leave half a file."""

    def save(self, name: str, **kwargs: object) -> None:
        """Write a checkpoint beside its place, move it there and mark it as the last one.

        Args:
            name: of the file, without ".pth".
            kwargs: what to save beside the model and the checkpointables.
        """
        if not self.save_dir or not self.save_to_disk:
            return
        path = Path(self.save_dir, f"{name}.pth")
        self.logger.info("Saving checkpoint to %s", path)
        states = {key: kept.state_dict() for key, kept in self.checkpointables.items()}
        with whole_file(path) as unfinished:
            torch.save({"model": self.model.state_dict(), **states, **kwargs}, unfinished)
        self.tag_last_checkpoint(path.name)


def read_checkpoint(path: str | Path, *, named_by: str = "MODEL.WEIGHTS") -> Checkpoint:
    """Read a fast-reid checkpoint.

    Args:
        path: the file.
        named_by: the key or option that names it, for messages.

    Raises:
        InputError: the file is missing, truncated or not a checkpoint; its training record is of
            another version or malformed.
    """
    path = Path(path)
    what, remedy = "a fast-reid checkpoint", f"name a checkpoint file in {named_by}"
    entries = load_tensors(path, what, remedy)
    if not isinstance(entries, dict) or not isinstance(entries.get("model"), dict):
        raise InputError(f"{what} at {path}", 'a file without tensors under "model"', remedy)
    entries = dict(entries)
    model = {name.removeprefix("module."): t for name, t in entries.pop("model").items()}
    record = TrainingRecord.from_state(entries[RECORD]) if RECORD in entries else None
    return Checkpoint(path, model, record, entries)


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


def load_weights(model: nn.Module, checkpoint: Checkpoint) -> None:
    """Copy a checkpoint's tensors into a network; classifiers of another size stay as they are.

    Raises:
        InputError: the checkpoint is of another architecture.
    """
    check_weights(model, checkpoint.model, checkpoint.path)
    own = model.state_dict()
    fitting = {
        name: tensor
        for name, tensor in checkpoint.model.items()
        if name in own and own[name].shape == tensor.shape
    }
    model.load_state_dict(fitting, strict=False)
    kept = len(own) - len(fitting)
    logger.info(
        "Loaded %s%s",
        checkpoint.path,
        f"; {kept} classifiers of another size start afresh" if kept else "",
    )

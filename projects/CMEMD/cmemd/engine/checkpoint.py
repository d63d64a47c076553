"""Checkpoints: written whole, and known to fit a network before they are used."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import cmemd.compat  # noqa: F401  before fastreid

import torch
from fastreid.utils.checkpoint import Checkpointer
from torch import Tensor, nn

from cmemd.engine.record import RECORD, TrainingRecord
from cmemd.errors import InputError

__all__ = ["WholeCheckpointer", "check_weights", "read_checkpoint", "read_record"]

_CLASSIFIER = ".classifier"  # its size is the training set's, and no embedding depends on it


class WholeCheckpointer(Checkpointer):
    """fast-reid's, whose interruption may leave half a file under the name of a good one."""

    def save(self, name: str, **kwargs: object) -> None:
        """Writes a checkpoint beside its place, then moves it there and marks it as the last.

        Args:
            name: of the file, without ".pth".
            kwargs: what to save beside the model and the checkpointables.
        """
        if not self.save_dir or not self.save_to_disk:
            return
        path = Path(self.save_dir, f"{name}.pth")
        self.logger.info("Saving checkpoint to %s", path)
        states = {key: kept.state_dict() for key, kept in self.checkpointables.items()}
        unfinished = path.with_suffix(".unfinished")
        torch.save({"model": self.model.state_dict(), **states, **kwargs}, unfinished)
        os.replace(unfinished, path)
        self.tag_last_checkpoint(path.name)


def check_weights(model: nn.Module, state: Mapping[str, Tensor], path: str | Path) -> None:
    """Compares a checkpoint's tensors with a network's, all but the classifiers.

    fast-reid's Checkpointer loads what fits and only logs the rest, so that a checkpoint of another
    architecture would score as a random network.

    Args:
        model: the network.
        state: the checkpoint's tensors by name.
        path: its file, for the message.

    Raises:
        InputError: if the checkpoint is of another architecture.
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
            f"the weights in {path} are of another architecture: {len(wrong)} of {len(expected)} "
            f"tensors are missing, unknown or of another shape, such as {min(wrong)}: use the "
            "config that they were trained with"
        )


def read_checkpoint(path: str | Path) -> dict[str, Any]:
    """A fast-reid checkpoint: "model", the tensors by name, and whatever else was saved.

    Raises:
        InputError: if the file is missing, truncated or no checkpoint.
    """
    path = Path(path)
    if not path.is_file():
        raise InputError(f"no weights at {path}: MODEL.WEIGHTS names a checkpoint file")
    try:
        checkpoint = torch.load(path, map_location="cpu", weights_only=True)
        model = {name.removeprefix("module."): t for name, t in checkpoint["model"].items()}
        return {**checkpoint, "model": model}
    except Exception as error:  # noqa: BLE001  unpickling fails in many ways; all mean bad bytes
        raise InputError(
            f"cannot read weights from {path} ({type(error).__name__}): the file is truncated or "
            "not a fast-reid checkpoint"
        ) from None


def read_record(checkpoint: Mapping[str, Any]) -> TrainingRecord | None:
    """The training record in a checkpoint; None where it has none.

    Raises:
        InputError: if it is of another version or malformed.
    """
    return TrainingRecord.from_state(checkpoint[RECORD]) if RECORD in checkpoint else None

"""Whether a checkpoint fits a network, found out before it is used."""

from pathlib import Path

import torch
from torch import Tensor, nn

from cmemd.errors import InputError

__all__ = ["check_weights", "read_weights"]

_CLASSIFIER = ".classifier"  # its size is the training set's, and no embedding depends on it


def check_weights(model: nn.Module, path: str | Path) -> None:
    """Compares a checkpoint with a network, all but the classifiers.

    fast-reid's Checkpointer loads what fits and only logs the rest, so that a checkpoint of another
    architecture would score as a random network.

    Raises:
        InputError: if the file is missing, truncated, no checkpoint, or of another architecture.
    """
    state = read_weights(path)
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


def read_weights(path: str | Path) -> dict[str, Tensor]:
    """The network's tensors in a fast-reid checkpoint, by name.

    Raises:
        InputError: if the file is missing, truncated or no checkpoint.
    """
    path = Path(path)
    if not path.is_file():
        raise InputError(f"no weights at {path}: MODEL.WEIGHTS names a checkpoint file")
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)["model"]
        return {name.removeprefix("module."): tensor for name, tensor in state.items()}
    except Exception as error:  # noqa: BLE001  unpickling fails in many ways; all mean bad bytes
        raise InputError(
            f"cannot read weights from {path} ({type(error).__name__}): the file is truncated or "
            "not a fast-reid checkpoint"
        ) from None

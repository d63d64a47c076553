"""ImageNet start-up weights, from a file or by name."""

import logging
from pathlib import Path

import cmemd.compat  # noqa: F401  before torchvision

import torch
from torch import Tensor, nn
from torchvision.models import get_weight

from cmemd.errors import InputError

__all__ = ["load_imagenet_weights"]

logger = logging.getLogger(__name__)

_DEFAULT_WEIGHTS = {
    "18x": "ResNet18_Weights.IMAGENET1K_V1",
    "34x": "ResNet34_Weights.IMAGENET1K_V1",
    "50x": "ResNet50_Weights.IMAGENET1K_V1",
    "101x": "ResNet101_Weights.IMAGENET1K_V1",
}
_KEY = "MODEL.BACKBONE.PRETRAIN_PATH"


def load_imagenet_weights(resnet: nn.Module, source: str, depth: str) -> None:
    """Loads ImageNet weights into a fast-reid ResNet, all but the classifier.

    Args:
        resnet: its parameters and buffers are overwritten.
        source: a file, or a name of torchvision's weight registry such as
            "ResNet50_Weights.IMAGENET1K_V1", or "" for that name at this depth.
        depth: fast-reid's name of the depth, such as "50x".

    Raises:
        InputError: if the weights cannot be had or are of another architecture.
    """
    source = source or _DEFAULT_WEIGHTS[depth]
    by_name = "_Weights." in source and not Path(source).exists()
    state = _by_name(source) if by_name else _from_file(Path(source))
    state = {k: v for k, v in state.items() if not k.startswith("fc.")}
    try:
        keys = resnet.load_state_dict(state, strict=False)
    except RuntimeError:
        raise InputError(_wrong_architecture(source, depth)) from None
    # Non-local layers are no part of ImageNet networks and start afresh.
    missing = [k for k in keys.missing_keys if not k.startswith("NL_")]
    if missing or keys.unexpected_keys:
        raise InputError(_wrong_architecture(source, depth))
    logger.info("Loaded ImageNet weights %s into both stems and both streams", source)


def _wrong_architecture(source: str, depth: str) -> str:
    return (
        f"expected ImageNet weights of a ResNet of depth {depth} in {source}, got weights of "
        f"another architecture: set {_KEY} or MODEL.BACKBONE.DEPTH and WITH_IBN to match"
    )


def _by_name(name: str) -> dict[str, Tensor]:
    try:
        weight = get_weight(name)
    except (ValueError, AttributeError, KeyError):
        raise InputError(
            f"torchvision knows no weights named {name!r}: set {_KEY} to a name such as "
            f"{_DEFAULT_WEIGHTS['50x']!r} or to a file"
        ) from None
    try:
        return weight.get_state_dict(progress=False, check_hash=True)
    except Exception as error:  # noqa: BLE001  the network, the hash or bad bytes in its cache
        file = Path(torch.hub.get_dir(), "checkpoints", Path(weight.url).name)
        raise InputError(
            f"could not download {name} to {file}, or read it there ({error}): put the file there, "
            f"or set {_KEY} to a copy of it, or MODEL.BACKBONE.PRETRAIN False to start from random "
            "weights"
        ) from None


def _from_file(path: Path) -> dict[str, Tensor]:
    if not path.is_file():
        raise InputError(f"no ImageNet weights at {path}: set {_KEY} to an existing file")
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # noqa: BLE001  unpickling fails in many ways; all mean bad bytes
        raise InputError(
            f"cannot read ImageNet weights from {path} ({type(error).__name__}): the file that "
            f"{_KEY} names is truncated or not a PyTorch state dict"
        ) from None
    state = state.get("state_dict", state) if isinstance(state, dict) else state
    if not isinstance(state, dict) or not all(isinstance(v, Tensor) for v in state.values()):
        raise InputError(f"expected a state dict in {path}, named by {_KEY}, got {type(state)}")
    return {k.removeprefix("module."): v for k, v in state.items()}

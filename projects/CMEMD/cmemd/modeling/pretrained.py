"""ImageNet weights to start from, by file or by name."""

import logging
from pathlib import Path

import torch
from torch import Tensor, nn

from cmemd.errors import InputError, reason
from cmemd.files import load_tensors

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
    """Load ImageNet weights into a fast-reid ResNet, all but the classifier.

    Args:
        resnet: gets the weights, in place.
        source: a file, a name in torchvision's weight registry such as
            "ResNet50_Weights.IMAGENET1K_V1", or "" for that name at this depth.
        depth: fast-reid's name of the depth, such as "50x".

    Raises:
        InputError: weights that cannot be loaded, or are of another architecture.
    """
    source = source or _DEFAULT_WEIGHTS[depth]
    by_name = "_Weights." in source and not Path(source).exists()
    state = _by_name(source) if by_name else _from_file(Path(source))
    state = {k: v for k, v in state.items() if not k.startswith("fc.")}
    try:
        keys = resnet.load_state_dict(state, strict=False)
    except RuntimeError:
        raise _wrong_architecture(source, depth) from None
    # ImageNet networks have no non-local layers: these keep their initial weights.
    missing = [k for k in keys.missing_keys if not k.startswith("NL_")]
    if missing or keys.unexpected_keys:
        raise _wrong_architecture(source, depth)
    logger.info("Loaded ImageNet weights %s into both stems and both streams", source)


def _wrong_architecture(source: str, depth: str) -> InputError:
    return InputError(
        f"ImageNet weights of a ResNet of depth {depth} in {source}",
        "weights of another architecture",
        f"set {_KEY}, or MODEL.BACKBONE.DEPTH and WITH_IBN, to match",
    )


def _by_name(name: str) -> dict[str, Tensor]:
    from torchvision.models import get_weight  # fast-reid's ResNet came with its adaptations

    try:
        weight = get_weight(name)
    except (ValueError, AttributeError, KeyError):
        raise InputError(
            "a name in torchvision's weight registry",
            repr(name),
            f"set {_KEY} to a name such as {_DEFAULT_WEIGHTS['50x']!r} or to a file",
        ) from None
    try:
        return weight.get_state_dict(progress=False, check_hash=True)
    except Exception as error:  # noqa: BLE001  the network, the hash or bad bytes in its cache
        file = Path(torch.hub.get_dir(), "checkpoints", Path(weight.url).name)
        raise InputError(
            f"{name} in {file}, or a download of it",
            reason(error),
            f"put the file there, set {_KEY} to a copy of it, or start from random weights with "
            "MODEL.BACKBONE.PRETRAIN False",
        ) from None


def _from_file(path: Path) -> dict[str, Tensor]:
    remedy = f"set {_KEY} to a PyTorch file of ImageNet weights"
    state = load_tensors(path, "ImageNet weights", remedy)
    state = state.get("state_dict", state) if isinstance(state, dict) else state
    if not isinstance(state, dict) or not all(isinstance(v, Tensor) for v in state.values()):
        raise InputError(f"a state dict of tensors in {path}", type(state).__name__, remedy)
    return {k.removeprefix("module."): v for k, v in state.items()}

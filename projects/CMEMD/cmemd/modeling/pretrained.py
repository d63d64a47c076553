"""ImageNet weights to start from, by file or by name."""

import logging
from pathlib import Path

import torch
from torch import Tensor, nn

from cmemd.errors import InputError, MissingDependencyError, exhausted, reason
from cmemd.files import load_tensors
from cmemd.paths import check_input

__all__ = ["load_imagenet_weights", "read_state"]

logger = logging.getLogger(__name__)

_DEFAULT_WEIGHTS = {
    "18x": "ResNet18_Weights.IMAGENET1K_V1",
    "34x": "ResNet34_Weights.IMAGENET1K_V1",
    "50x": "ResNet50_Weights.IMAGENET1K_V1",
    "101x": "ResNet101_Weights.IMAGENET1K_V1",
}
_KEY = "MODEL.BACKBONE.PRETRAIN_PATH"
_FILE = f"set {_KEY} to a PyTorch or safetensors file of ImageNet weights"


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
    state = _by_name(source) if by_name else read_state(Path(source), "ImageNet weights", _FILE)
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


def read_state(path: Path, what: str, remedy: str) -> dict[str, Tensor]:
    """Return the tensors of a file by name; of PyTorch's format, or of safetensors by its name.

    Args:
        path: the file. Tensors may lie under "state_dict", and names may start with "module.".
        what: what the file should hold, for messages: "ImageNet weights".
        remedy: what the user can do, for messages.

    Raises:
        InputError: the file is missing or damaged, or holds something else.
        MissingDependencyError: safetensors is not installed.
    """
    if path.suffix == ".safetensors":
        return _load_safetensors(path, what, remedy)
    state = load_tensors(path, what, remedy)
    state = state.get("state_dict", state) if isinstance(state, dict) else state
    if not isinstance(state, dict) or not all(isinstance(v, Tensor) for v in state.values()):
        raise InputError(f"a state dict of tensors in {path}", type(state).__name__, remedy)
    return {k.removeprefix("module."): v for k, v in state.items()}


def _load_safetensors(path: Path, what: str, remedy: str) -> dict[str, Tensor]:
    """Return the tensors of a safetensors file; see ``read_state``."""
    try:
        from safetensors.torch import load_file
    except ImportError:
        raise MissingDependencyError(
            f"expected safetensors to read {path}, got an installation without it: "
            "pip install 'cmemd[export]'"
        ) from None
    if not path.exists():
        raise InputError(f"{what} at {path}", "no file", remedy)
    check_input(path, what, remedy)
    try:
        return load_file(path)
    except Exception as error:  # the format's own errors share no class
        if exhausted(error):
            raise
        got = f"a truncated or other file ({type(error).__name__})"
        raise InputError(f"{what} at {path}", got, remedy) from None

"""Networks for inference: from a checkpoint, or from what a model folder holds."""

from collections.abc import Callable, Mapping
from pathlib import Path

import cmemd.plugin  # noqa: F401  before fastreid

import yaml
from fastreid.config import CfgNode, get_cfg
from fastreid.modeling.meta_arch import build_model
from torch import Tensor, nn

from cmemd.config import add_cmemd_config
from cmemd.engine.checkpoint import check_weights
from cmemd.engine.provenance import Weights
from cmemd.errors import InputError
from cmemd.export.agw import AGW, convert_agw, pool_as_agw, read_agw
from cmemd.export.wrapper import is_exported
from cmemd.modeling.cmemd_net import CMEMDNet

__all__ = ["CMEMD", "exported_state", "inference_config", "load_network", "read_network"]

CMEMD = "CMEMDNet"
_ARCHITECTURES: dict[str, Callable[[CMEMDNet], CMEMDNet]] = {
    CMEMD: lambda network: network,
    AGW: pool_as_agw,
}


def inference_config(cfg: CfgNode) -> CfgNode:
    """The part of a configuration that an embedding depends on; paths and classes left out.

    Raises:
        InputError: unless it is of a ``CMEMDNet`` whose images are only resized, to one size.
    """
    if cfg.MODEL.META_ARCHITECTURE != CMEMD:
        raise InputError(
            f"expected MODEL.META_ARCHITECTURE {CMEMD}, got {cfg.MODEL.META_ARCHITECTURE}: "
            "--config-file names the yaml that the weights were trained with"
        )
    if len(cfg.INPUT.SIZE_TEST) != 2 or min(cfg.INPUT.SIZE_TEST) < 1 or cfg.INPUT.CROP.ENABLED:
        raise InputError(
            "expected INPUT.SIZE_TEST [height, width] and INPUT.CROP.ENABLED False, since an "
            f"exported model's images are only resized; got {list(cfg.INPUT.SIZE_TEST)} and "
            f"{cfg.INPUT.CROP.ENABLED}"
        )
    cfg = cfg.clone()
    cfg.defrost()
    cfg.MODEL.DEVICE = "cpu"
    cfg.MODEL.WEIGHTS = cfg.OUTPUT_DIR = cfg.MODEL.BACKBONE.PRETRAIN_PATH = ""
    cfg.MODEL.BACKBONE.PRETRAIN = False  # about to be overwritten
    cfg.MODEL.HEADS.NUM_CLASSES = 0
    cfg.freeze()
    return cfg


def read_network(cfg: CfgNode, weights: Weights, architecture: str = CMEMD) -> CMEMDNet:
    """Return a network with a checkpoint's weights, in evaluation mode.

    Args:
        cfg: of ``inference_config``.
        weights: of a fast-reid checkpoint; for ``AGW`` the file of one of the released AGW code.
        architecture: ``CMEMD`` or ``AGW``.

    Raises:
        InputError: if the weights cannot be read or are of another architecture.
    """
    network = _build(cfg, architecture)
    if architecture == AGW:
        state = convert_agw(read_agw(weights.file), network.state_dict(), weights.file)
    else:
        state = weights.checkpoint.model
    _load(network, state, weights.file)
    return network


def load_network(
    architecture: Mapping[str, str], state: Mapping[str, Tensor], path: Path | str
) -> CMEMDNet:
    """The network of a model folder, in evaluation mode.

    Args:
        architecture: of the folder's document: its name, and its configuration as yaml.
        state: tensors of its ``weights.safetensors``.
        path: of the folder, for messages.

    Raises:
        InputError: for an unknown architecture, a configuration of another version, or weights
            that do not fit.
    """
    name = architecture["name"]
    if name not in _ARCHITECTURES:
        raise InputError(
            f"expected an architecture out of {', '.join(_ARCHITECTURES)} in {path}, got {name!r}: "
            "use the version of cmemd that exported it"
        )
    cfg = get_cfg()
    add_cmemd_config(cfg)
    try:
        cfg.merge_from_other_cfg(CfgNode(yaml.safe_load(architecture["config"])))
    except (KeyError, ValueError, TypeError, AttributeError, AssertionError, yaml.YAMLError) as bad:
        raise InputError(
            f"cannot read the configuration of the model in {path} ({' '.join(str(bad).split())}): "
            "use the version of cmemd that exported it"
        ) from None
    network = _build(inference_config(cfg), name)
    _load(network, state, path)
    return network


def exported_state(network: CMEMDNet) -> dict[str, Tensor]:
    """The tensors that an embedding depends on, by name."""
    return {name: t for name, t in network.state_dict().items() if is_exported(name)}


def _build(cfg: CfgNode, architecture: str) -> CMEMDNet:
    return _ARCHITECTURES[architecture](build_model(cfg)).eval().requires_grad_(False)


def _load(network: nn.Module, state: Mapping[str, Tensor], path: Path | str) -> None:
    """Overwrites all that is exported, whatever the classifiers' sizes."""
    counters = {name: t for name, t in network.state_dict().items() if not is_exported(name)}
    state = {**counters, **{name: t for name, t in state.items() if is_exported(name)}}
    check_weights(network, state, path)
    network.load_state_dict(state)

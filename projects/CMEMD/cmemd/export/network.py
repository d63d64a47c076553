"""Build networks for inference from a checkpoint or from a model folder."""

from collections.abc import Callable, Mapping
from pathlib import Path

import cmemd.plugin  # noqa: F401  before fastreid

import yaml
from fastreid.config import CfgNode, get_cfg
from fastreid.modeling.meta_arch import build_model
from torch import Tensor, nn

from cmemd.config import add_cmemd_config
from cmemd.data.resizing import DEFAULT_RESIZE
from cmemd.engine.checkpoint import check_weights
from cmemd.engine.provenance import Weights
from cmemd.errors import InputError
from cmemd.export.agw import AGW, convert_agw, pool_as_agw, read_agw
from cmemd.export.wrapper import BACKBONE_PARTS, is_exported
from cmemd.modeling.cmemd_net import CMEMDNet

__all__ = ["CMEMD", "exported_state", "inference_config", "load_network", "read_network"]

CMEMD = "CMEMDNet"
_VERSION = "use the version of cmemd that exported the model"
_ARCHITECTURES: dict[str, Callable[[CMEMDNet], CMEMDNet]] = {
    CMEMD: lambda network: network,
    AGW: pool_as_agw,
}


def inference_config(cfg: CfgNode) -> CfgNode:
    """Return a configuration without what no embedding depends on: paths and classes.

    Raises:
        InputError: it describes no ``CMEMDNet`` whose images are only resized, to one size and by
            Pillow.
    """
    if cfg.MODEL.META_ARCHITECTURE != CMEMD:
        raise InputError(
            f"MODEL.META_ARCHITECTURE {CMEMD}",
            cfg.MODEL.META_ARCHITECTURE,
            "give as --config-file the yaml with which the weights were trained",
        )
    if len(cfg.INPUT.SIZE_TEST) != 2 or min(cfg.INPUT.SIZE_TEST) < 1 or cfg.INPUT.CROP.ENABLED:
        raise InputError(
            "INPUT.SIZE_TEST [height, width] and INPUT.CROP.ENABLED False",
            f"{list(cfg.INPUT.SIZE_TEST)} and {cfg.INPUT.CROP.ENABLED}",
            "set them so, because an exported model's images are only resized",
        )
    if cfg.INPUT.RESIZE != DEFAULT_RESIZE:
        raise InputError(
            f"INPUT.RESIZE {DEFAULT_RESIZE}, with which users of an exported model resize",
            repr(cfg.INPUT.RESIZE),
            f"train with {DEFAULT_RESIZE}; or append it to this command, and accept slightly other "
            "pixels than in training",
        )
    cfg = cfg.clone()
    cfg.defrost()
    cfg.MODEL.DEVICE = "cpu"
    cfg.MODEL.WEIGHTS = cfg.OUTPUT_DIR = cfg.MODEL.BACKBONE.PRETRAIN_PATH = ""
    cfg.MODEL.BACKBONE.PRETRAIN = False  # a checkpoint overwrites it
    cfg.MODEL.HEADS.NUM_CLASSES = 0
    cfg.MODEL.CHANNELS_LAST = False  # safetensors stores dense tensors alone
    cfg.freeze()
    return cfg


def read_network(cfg: CfgNode, weights: Weights, architecture: str = CMEMD) -> CMEMDNet:
    """Return a network with a checkpoint's weights, in evaluation mode.

    Args:
        cfg: of ``inference_config``.
        weights: of a fast-reid checkpoint; for ``AGW`` the file of one of the released AGW code.
        architecture: ``CMEMD`` or ``AGW``.

    Raises:
        InputError: the weights cannot be read or are of another architecture.
    """
    network = _build(cfg, architecture)
    assert weights.file is not None, "they were read"
    state: Mapping[str, Tensor]
    if architecture == AGW:
        state = convert_agw(read_agw(weights.file), network.state_dict(), weights.file)
    else:
        assert weights.checkpoint is not None, "it was read"
        state = weights.checkpoint.model
    _load(network, state, weights.file)
    return network


def load_network(
    architecture: Mapping[str, str], state: Mapping[str, Tensor], path: Path | str
) -> CMEMDNet:
    """Return the network of a model folder, in evaluation mode.

    Args:
        architecture: name and configuration (yaml), from the folder's document.
        state: tensors of its ``weights.safetensors``.
        path: the folder, for messages.

    Raises:
        InputError: the architecture is unknown, the configuration has another version, or the
            weights do not fit.
    """
    name = architecture["name"]
    if name not in _ARCHITECTURES:
        raise InputError(
            f"an architecture out of {', '.join(_ARCHITECTURES)} in {path}", repr(name), _VERSION
        )
    cfg = get_cfg()
    add_cmemd_config(cfg)
    try:
        cfg.merge_from_other_cfg(CfgNode(yaml.safe_load(architecture["config"])))
    except (KeyError, ValueError, TypeError, AttributeError, AssertionError, yaml.YAMLError) as bad:
        raise InputError(
            f"a configuration of this version of cmemd in {path}",
            " ".join(str(bad).split()),
            _VERSION,
        ) from None
    network = _build(inference_config(cfg), name)
    _load(network, state, path)
    return network


def exported_state(network: CMEMDNet) -> dict[str, Tensor]:
    """Return the tensors on which an embedding depends, by name."""
    return {name: t for name, t in network.state_dict().items() if is_exported(name)}


def _build(cfg: CfgNode, architecture: str) -> CMEMDNet:
    """Return a new network in evaluation mode, without gradients.

    Raises:
        InputError: its backbone lacks a part that an exported model has.
    """
    network = build_model(cfg)
    missing = [part for part in BACKBONE_PARTS if not hasattr(network.backbone, part)]
    if missing:
        raise InputError(
            f"a MODEL.BACKBONE.NAME with {', '.join(BACKBONE_PARTS)}",
            f"{cfg.MODEL.BACKBONE.NAME}, without {', '.join(missing)}",
            "give your backbone these parts, as two_stream.py has them",
        )
    return _ARCHITECTURES[architecture](network).eval().requires_grad_(False)


def _load(network: nn.Module, state: Mapping[str, Tensor], path: Path | str) -> None:
    """Overwrite all exported tensors in place; the classifiers' sizes do not matter."""
    counters = {name: t for name, t in network.state_dict().items() if not is_exported(name)}
    state = {**counters, **{name: t for name, t in state.items() if is_exported(name)}}
    check_weights(network, state, path)
    network.load_state_dict(state)

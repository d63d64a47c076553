"""Weights of the released AGW code (Ye et al., TPAMI 2021, arXiv 2001.04193) in this network.

That network has one conv1 and bn1 per modality and shares layer1 to layer4; here layer1 and layer2
belong to the stems as well, so that both stems get copies of the shared ones.

How that network pools is its ``gm_pool``: off with ``--method base``, the average; on, the mean of
cubes. A checkpoint does not say which, and the wrong one embeds without an error.
"""

import re
from collections.abc import Mapping
from pathlib import Path

import cmemd.compat  # noqa: F401  before torch

import torch
from fastreid.config import CfgNode
from torch import Tensor, nn

from cmemd.errors import InputError
from cmemd.export.wrapper import is_exported
from cmemd.modeling.cmemd_net import CMEMDNet

__all__ = ["AGW", "AGW_POOLINGS", "agw_config", "convert_agw", "pool_as_agw", "read_agw"]

AGW = "AGW"
AGW_POOLINGS = {"average": "GlobalAvgPool", "gem": "GeneralizedMeanPooling"}

# A tensor of this network -> the one it is taken from there, by the first pattern that fits.
_SOURCES = (
    (r"backbone\.stems\.0\.0\.", "visible_module.visible.conv1."),
    (r"backbone\.stems\.0\.1\.", "visible_module.visible.bn1."),
    (r"backbone\.stems\.1\.0\.", "thermal_module.thermal.conv1."),
    (r"backbone\.stems\.1\.1\.", "thermal_module.thermal.bn1."),
    (r"backbone\.stems\.\d\.4\.", "base_resnet.base.layer1."),
    (r"backbone\.stems\.\d\.5\.", "base_resnet.base.layer2."),
    (r"backbone\.global_stream\.0\.", "base_resnet.base.layer3."),
    (r"backbone\.global_stream\.1\.", "base_resnet.base.layer4."),
    (r"heads\.granularities\.global\.bottleneck\.", "bottleneck."),
)
# Each module there is a whole ResNet, of which it runs a part.
_UNUSED = re.compile(
    r"(visible_module\.visible|thermal_module\.thermal)\.(layer\d|fc)\."
    r"|base_resnet\.base\.(conv1|bn1|fc)\."
    r"|classifier\."
    r"|.*\.num_batches_tracked$"
)
_NON_LOCAL = re.compile(r"NL_\d\.")
_GLOBAL_ONLY = "projects/CMEMD/configs/ablations/agw_global.yml"


def agw_config(cfg: CfgNode, pooling: str) -> CfgNode:
    """The configuration with one of ``AGW_POOLINGS``.

    Raises:
        InputError: for another pooling.
    """
    if pooling not in AGW_POOLINGS:
        raise InputError(
            f"expected --agw out of {', '.join(AGW_POOLINGS)}, got {pooling}: average for weights "
            "of the AGW code's --method base, gem for those trained with its gm_pool on"
        )
    cfg = cfg.clone()
    cfg.defrost()
    cfg.MODEL.HEADS.POOL_LAYER = AGW_POOLINGS[pooling]
    cfg.freeze()
    return cfg


def read_agw(path: Path | str) -> dict[str, Tensor]:
    """The tensors by name of a checkpoint of the released code: bare, or under "net".

    Raises:
        InputError: if the file is missing, truncated or no such checkpoint.
    """
    path = Path(path)
    if not path.is_file():
        raise InputError(f"no weights at {path}: --weights names a checkpoint file")
    try:
        stored = torch.load(path, map_location="cpu", weights_only=True)
        state = stored.get("net", stored)
        return {name.removeprefix("module."): t.detach() for name, t in state.items()}
    except Exception as error:  # noqa: BLE001  unpickling fails in many ways; all mean bad bytes
        raise InputError(
            f"cannot read weights from {path} ({type(error).__name__}): the file is truncated or "
            'not a checkpoint of the AGW code, which holds tensors under "net"'
        ) from None


def convert_agw(
    state: Mapping[str, Tensor], expected: Mapping[str, Tensor], path: Path | str
) -> dict[str, Tensor]:
    """Tensors of the AGW code under this network's names.

    The network's stems must pool like AGW's, see ``pool_as_agw``. A channel that is 0 all over an
    image has a mean of cubes whose root is 1e-6 here and 1e-4 there; nothing else differs.

    Args:
        state: of ``read_agw``.
        expected: this network's tensors, with a global feature only.
        path: the checkpoint, for messages.

    Returns:
        All of ``expected`` but what no embedding depends on.

    Raises:
        InputError: for non-local blocks, a network with more than a global feature, tensors that
            are missing, left over or of another shape.
    """
    if any(_NON_LOCAL.match(name) for name in state):
        raise InputError(
            f"the weights in {path} have non-local blocks, which this network has not: train with "
            "them off (the AGW code's --method base, which is --agw average here)"
        )
    sources = {name: _source(name) for name in expected if is_exported(name)}
    foreign = [name for name, source in sources.items() if source is None]
    if foreign:
        raise InputError(
            f"expected a network with AGW's global feature only, got one with {min(foreign)}: use "
            f"{_GLOBAL_ONLY}"
        )
    used = set(sources.values())
    left = [name for name in state if name not in used and not _UNUSED.match(name)]
    wrong = [
        source
        for name, source in sources.items()
        if source not in state or state[source].shape != expected[name].shape
    ]
    if wrong or left:
        raise InputError(
            f"the weights in {path} are of another architecture: {len(set(wrong))} of {len(used)} "
            f"tensors are missing or of another shape and {len(left)} left over, such as "
            f"{min(wrong or left)}: --agw takes a ResNet of MODEL.BACKBONE.DEPTH"
        )
    return {name: state[source] for name, source in sources.items()}


def pool_as_agw(network: CMEMDNet) -> CMEMDNet:
    """Gives the stems torchvision's pooling, as AGW has it, in place of fast-reid's; in place.

    fast-reid's ResNet pools windows that start at 0, torchvision's windows that start at -1: with
    the other one, weights see a map that is shifted by half a window.
    """
    for stem in network.backbone.stems:
        stem[3] = nn.MaxPool2d(kernel_size=3, stride=2, padding=1)
    return network


def _source(name: str) -> str | None:
    for pattern, there in _SOURCES:
        if match := re.match(pattern, name):
            return there + name[match.end() :]
    return None

"""Load weights of the released AGW code (Ye et al., TPAMI 2021, arXiv 2001.04193).

AGW's network has one conv1 and bn1 per modality and shares layer1 to layer4. This network's stems
also hold layer1 and layer2, so both stems get copies of the shared ones.

AGW's ``gm_pool`` sets how it pools: off (``--method base``) takes the mean, on the mean of cubes. A
checkpoint does not say which, and the wrong one embeds without an error.
"""

import re
from collections.abc import Mapping
from pathlib import Path

import cmemd.compat  # noqa: F401  before torch

from fastreid.config import CfgNode
from torch import Tensor, nn

from cmemd.errors import InputError
from cmemd.export.wrapper import is_exported
from cmemd.files import load_tensors
from cmemd.modeling.cmemd_net import CMEMDNet

__all__ = ["AGW", "AGW_POOLINGS", "agw_config", "convert_agw", "pool_as_agw", "read_agw"]

AGW = "AGW"
AGW_POOLINGS = {"average": "GlobalAvgPool", "gem": "GeneralizedMeanPooling"}

# A tensor of this network -> its source in AGW's network; the first pattern that fits counts.
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
# Each of AGW's modules is a whole ResNet, of which AGW runs a part.
_UNUSED = re.compile(
    r"(visible_module\.visible|thermal_module\.thermal)\.(layer\d|fc)\."
    r"|base_resnet\.base\.(conv1|bn1|fc)\."
    r"|classifier\."
    r"|.*\.num_batches_tracked$"
)
_NON_LOCAL = re.compile(r"NL_\d\.")
_GLOBAL_ONLY = "projects/CMEMD/configs/ablations/agw_global.yml"
_REMEDY = "--agw takes a checkpoint of the AGW code, tensors bare or under 'net'; name one"


def agw_config(cfg: CfgNode, pooling: str) -> CfgNode:
    """Return a copy of a configuration with one of ``AGW_POOLINGS``.

    Raises:
        InputError: an unknown pooling.
    """
    if pooling not in AGW_POOLINGS:
        raise InputError(
            f"--agw out of {', '.join(AGW_POOLINGS)}",
            pooling,
            "name average for weights of the AGW code's --method base, gem for weights trained "
            "with its gm_pool on",
        )
    cfg = cfg.clone()
    cfg.defrost()
    cfg.MODEL.HEADS.POOL_LAYER = AGW_POOLINGS[pooling]
    cfg.freeze()
    return cfg


def read_agw(path: Path | str) -> dict[str, Tensor]:
    """Return the tensors of a checkpoint of the released code, by name.

    The file holds them bare or under "net".

    Raises:
        InputError: the file is missing, truncated or another kind of file.
    """
    stored = load_tensors(path, "weights of the AGW code", _REMEDY)
    state = stored.get("net", stored) if isinstance(stored, Mapping) else None
    if not isinstance(state, Mapping) or not all(isinstance(t, Tensor) for t in state.values()):
        raise InputError(f"weights of the AGW code at {path}", "something else", _REMEDY)
    return {name.removeprefix("module."): tensor.detach() for name, tensor in state.items()}


def convert_agw(
    state: Mapping[str, Tensor], expected: Mapping[str, Tensor], path: Path | str
) -> dict[str, Tensor]:
    """Return tensors of the AGW code under this network's names.

    The network's stems must pool like AGW's, see ``pool_as_agw``. For a channel that is 0 over a
    whole image, the root of the mean of cubes is 1e-6 here and 1e-4 in AGW; nothing else differs.

    Args:
        state: of ``read_agw``.
        expected: this network's tensors, with a global feature only.
        path: the checkpoint, for messages.

    Returns:
        The tensors of ``expected`` on which an embedding depends.

    Raises:
        InputError: the weights have non-local blocks; the network has more than a global feature;
            or a tensor is missing, left over or of another shape.
    """
    if any(_NON_LOCAL.match(name) for name in state):
        raise InputError(
            f"weights without non-local blocks in {path}",
            "weights with non-local blocks, which this network does not have",
            "train without them (the AGW code's --method base, which is --agw average here)",
        )
    exported = [name for name in expected if is_exported(name)]
    sources = {name: source for name in exported if (source := _source(name)) is not None}
    foreign = [name for name in exported if name not in sources]
    if foreign:
        raise InputError(
            "a network with AGW's global feature only",
            f"one with {min(foreign)}",
            f"use {_GLOBAL_ONLY}",
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
            f"weights of a ResNet of MODEL.BACKBONE.DEPTH in {path}",
            f"another architecture ({len(set(wrong))} of {len(used)} tensors missing or of another "
            f"shape and {len(left)} left over, such as {min(wrong or left)})",
            "set MODEL.BACKBONE.DEPTH to that of the weights",
        )
    return {name: state[source] for name, source in sources.items()}


def pool_as_agw(network: CMEMDNet) -> CMEMDNet:
    """Replace the stems' fast-reid pooling by torchvision's, which AGW uses; in place.

    fast-reid's ResNet pools windows that start at 0, torchvision's start at -1. With the other
    pooling, the weights see a map that is shifted by half a window.
    """
    for stem in network.backbone.stems:
        assert isinstance(stem, nn.Sequential)
        stem[3] = nn.MaxPool2d(kernel_size=3, stride=2, padding=1)
    return network


def _source(name: str) -> str | None:
    for pattern, there in _SOURCES:
        if match := re.match(pattern, name):
            return there + name[match.end() :]
    return None

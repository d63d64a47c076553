"""Registers everything with fast-reid; importing it does so, any number of times."""

from collections.abc import Callable

import cmemd.compat  # noqa: F401  before fastreid

from fastreid.data.datasets import DATASET_REGISTRY
from fastreid.modeling.backbones import BACKBONE_REGISTRY
from fastreid.modeling.heads.build import REID_HEADS_REGISTRY
from fastreid.modeling.meta_arch.build import META_ARCH_REGISTRY
from fastreid.utils.registry import Registry

from cmemd.data.llcm import LLCM
from cmemd.data.own import Own
from cmemd.data.regdb import RegDB
from cmemd.data.sysu_mm01 import SYSUMM01
from cmemd.modeling.cmemd_net import CMEMDNet
from cmemd.modeling.multi_granularity import MultiGranularityHead
from cmemd.modeling.two_stream_resnet import build_two_stream_resnet_backbone
from cmemd.modeling.two_stream_timm import build_two_stream_timm_backbone

__all__ = ["register"]

_REGISTERED: tuple[tuple[Registry, Callable[..., object]], ...] = (
    (META_ARCH_REGISTRY, CMEMDNet),
    (BACKBONE_REGISTRY, build_two_stream_resnet_backbone),
    (BACKBONE_REGISTRY, build_two_stream_timm_backbone),
    (REID_HEADS_REGISTRY, MultiGranularityHead),
    (DATASET_REGISTRY, SYSUMM01),
    (DATASET_REGISTRY, RegDB),
    (DATASET_REGISTRY, LLCM),
    (DATASET_REGISTRY, Own),
)


def register() -> None:
    """Add what is not there yet; fast-reid's registries refuse a name twice."""
    for registry, entry in _REGISTERED:
        try:
            registry.get(entry.__name__)
        except KeyError:
            registry.register(entry)


register()

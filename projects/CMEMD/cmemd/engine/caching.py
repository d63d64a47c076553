"""The cache of resized training images that ``DATALOADER.CACHE`` asks for."""

from collections.abc import Sequence

import cmemd.compat  # noqa: F401  before fastreid

from fastreid.config import CfgNode
from fastreid.utils import comm

from cmemd.data.items import ImageItem
from cmemd.data.modality import Modality
from cmemd.data.pixel_cache import CachePlan, PixelCache, build_cache
from cmemd.data.transform import build_sensor
from cmemd.engine.ranks import wait_for_main

__all__ = ["open_cache", "plan_cache"]


def plan_cache(cfg: CfgNode, items: Sequence[ImageItem]) -> CachePlan | None:
    """Return the plan of the cache of training images; None without ``DATALOADER.CACHE``."""
    if not cfg.DATALOADER.CACHE:
        return None
    height, width = cfg.INPUT.SIZE_TRAIN
    return CachePlan.of(
        cfg.DATALOADER.CACHE,
        [item.key for item in items],
        height,
        width,
        cfg.INPUT.RESIZE,
        build_sensor(cfg),
        [item.modality is Modality.THERMAL for item in items],
    )


def open_cache(cfg: CfgNode, items: Sequence[ImageItem]) -> PixelCache | None:
    """Return the cache of training images, built where it is missing; all processes call it.

    One process of each machine builds it, one after the other: machines that share a disk then find
    it built.

    Raises:
        InputError: it cannot be built.
    """
    plan = plan_cache(cfg, items)
    if plan is None:
        return None
    for turn in range(comm.get_world_size()):
        if comm.get_rank() == turn and comm.get_local_rank() == 0:
            build_cache(plan)
        # The wait for the main process has no limit, as a large cache takes long.
        wait_for_main() if turn == 0 else comm.synchronize()
    return PixelCache(plan)

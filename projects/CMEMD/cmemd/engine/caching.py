"""Caches of a training: resized images, and the features of a frozen backbone."""

import hashlib
from collections.abc import Callable, Iterator, Sequence
from functools import partial

import cmemd.compat  # noqa: F401  before fastreid

import numpy as np
import torch
from fastreid.config import CfgNode
from fastreid.utils import comm
from torch.utils.data import BatchSampler

from cmemd.data.dataset import VisibleThermalDataset
from cmemd.data.items import ImageItem
from cmemd.data.loader import build_loader
from cmemd.data.modality import Modality
from cmemd.data.pixel_cache import CachePlan, PixelCache, build_cache
from cmemd.data.pooled_features import BLOCK, FeaturePlan, PooledFeatures, build_features
from cmemd.data.transform import Transform, build_sensor
from cmemd.engine.ranks import wait_for_main
from cmemd.modeling.cmemd_net import CMEMDNet

__all__ = ["open_cache", "open_features", "plan_cache"]


def plan_cache(cfg: CfgNode, items: Sequence[ImageItem]) -> CachePlan | None:
    """Return the plan of the cache of training images; None without ``DATALOADER.CACHE``."""
    return _plan(cfg, items, cfg.DATALOADER.CACHE) if cfg.DATALOADER.CACHE else None


def _plan(cfg: CfgNode, items: Sequence[ImageItem], root: str) -> CachePlan:
    height, width = cfg.INPUT.SIZE_TRAIN
    return CachePlan.of(
        root,
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
    _in_turn(partial(build_cache, plan))
    return PixelCache(plan)


def _in_turn(build: Callable[[], None]) -> None:
    """Build in one process of each machine, one after the other."""
    for turn in range(comm.get_world_size()):
        if comm.get_rank() == turn and comm.get_local_rank() == 0:
            build()
        # The wait for the main process has no limit, as a large cache takes long.
        wait_for_main() if turn == 0 else comm.synchronize()


def open_features(cfg: CfgNode, items: Sequence[ImageItem], network: CMEMDNet) -> PooledFeatures:
    """Return what a frozen network pools of each training image, computed where it is missing.

    All processes call it.

    Args:
        cfg: the configuration.
        items: the images.
        network: with the weights that it is trained on from now on.

    Raises:
        InputError: they cannot be written.
    """
    root = cfg.DATALOADER.CACHE or cfg.OUTPUT_DIR
    flip = cfg.INPUT.FLIP.PROB if cfg.INPUT.FLIP.ENABLED else 0.0
    views = 2 if flip > 0 else 1
    heads = network.heads
    plan = FeaturePlan(
        _plan(cfg, items, root),
        weights=_digest(network),
        views=views,
        channels=cfg.MODEL.BACKBONE.FEAT_DIM,
        features=1 + (cfg.MODEL.HEADS.STRIPES if heads.stripe_pool is not None else 0),
    )

    def compute(first: int) -> Iterator[np.ndarray]:
        dataset = VisibleThermalDataset(
            items,
            Transform(*cfg.INPUT.SIZE_TRAIN, kernel=cfg.INPUT.RESIZE),
            relabel=True,
            cache=pixels,
            sensor=build_sensor(cfg),
        )
        blocks = BatchSampler(range(first * BLOCK, len(items)), BLOCK, drop_last=False)
        for batch in build_loader(
            dataset, blocks, cfg.DATALOADER.NUM_WORKERS, device=cfg.MODEL.DEVICE
        ):
            images = batch["images"]
            seen = [network.pool({**batch, "images": images})]
            if views == 2:
                seen.append(network.pool({**batch, "images": images.flip(3)}))
            yield torch.stack(seen, 1).cpu().numpy()

    pixels = open_cache(cfg, items)
    _in_turn(partial(build_features, plan, compute, alone=not cfg.DATALOADER.CACHE))
    return PooledFeatures(plan, flip)


def _digest(network: CMEMDNet) -> str:
    """Return the SHA-256 of all numbers that make features of pixels, and of their settings."""
    digest = hashlib.sha256(repr(network.heads.stripe_pool).encode())
    parts = (network.backbone, network.heads.global_pool, network.heads.stripe_pool)
    numbers = [pair for part in parts if part is not None for pair in part.state_dict().items()]
    numbers += [("mean", network.pixel_mean), ("std", network.pixel_std)]
    for name, tensor in numbers:
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()

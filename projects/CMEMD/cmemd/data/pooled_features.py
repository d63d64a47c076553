"""Pooled features of the training images on disk, of a backbone that does not change.

They lie in a folder of their own, ``cmemd-pooled-<digest>``. The digest covers the images, as that
of ``cmemd.data.pixel_cache`` does, and the weights. So other weights have other features. The
folder holds

============= ======================================================================
plan.json     what the features are of
features.bin  (images, views, C, F) float32; the second view is the mirrored image
sums.bin      the CRC-32 of each block of ``BLOCK`` images, as 4 bytes
============= ======================================================================

A block's sum is written after the block, so that a build that was killed goes on where it was.

Shape legend: C channels, F features of an image: the global one, then those of the stripes.
"""

import hashlib
import json
import logging
import os
import shutil
import zlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from cmemd.data.pixel_cache import CachePlan
from cmemd.data.random_state import Draws
from cmemd.errors import InputError
from cmemd.files import one_writer, shown_bytes, write_whole

__all__ = ["BLOCK", "FeaturePlan", "PooledFeatures", "build_features"]

BLOCK = 64  # images that the network sees at once [C]

_PREFIX, _SCHEMA, _VERSION = "cmemd-pooled-", "cmemd-pooled", 1
_PLAN, _FEATURES, _SUMS, _SUM_BYTES = "plan.json", "features.bin", "sums.bin", 4

_logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class FeaturePlan:
    """What pooled features are of.

    Attributes:
        pixels: the images; its root is the folder in which that of the features lies.
        weights: digest of all that makes features of pixels.
        views: 2 with mirrored images, otherwise 1.
        channels: C.
        features: F.
    """

    pixels: CachePlan
    weights: str
    views: int
    channels: int
    features: int

    @cached_property
    def folder(self) -> Path:
        """The folder of these features."""
        text = json.dumps(self.document, sort_keys=True)
        return self.pixels.root / f"{_PREFIX}{hashlib.sha256(text.encode()).hexdigest()[:32]}"

    @cached_property
    def document(self) -> dict[str, Any]:
        """What ``plan.json`` holds."""
        return {
            "schema": _SCHEMA,
            "version": _VERSION,
            "images": self.pixels.document,
            "weights": self.weights,
            "shape": list(self.shape),
        }

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """Images, views, C and F."""
        return len(self.pixels.files), self.views, self.channels, self.features

    @property
    def bytes(self) -> int:
        """Bytes of all features."""
        return 4 * int(np.prod(self.shape, dtype=np.int64))

    @property
    def blocks(self) -> int:
        """Number of blocks; the last one may be shorter."""
        return -(-len(self.pixels.files) // BLOCK)

    def good_blocks(self) -> int:
        """Return how many blocks, from the first one on, are as they were written."""
        size = BLOCK * self.bytes // len(self.pixels.files)
        try:
            sums = np.frombuffer(_whole_sums((self.folder / _SUMS).read_bytes()), "<u4")
            with open(self.folder / _FEATURES, "rb") as file:
                for block in range(min(len(sums), self.blocks)):
                    content = file.read(min(size, self.bytes - block * size))
                    if zlib.crc32(content) != sums[block]:
                        return block
        except FileNotFoundError:
            return 0
        return min(len(sums), self.blocks)


class PooledFeatures:
    """The features of a plan whose blocks have all been written.

    Args:
        plan: what they are of.
        mirrored: probability with which an image gives the features of its mirrored view.
    """

    def __init__(self, plan: FeaturePlan, mirrored: float = 0.0) -> None:
        self._plan = plan
        self._mirrored = mirrored

    def __len__(self) -> int:
        """Return the number of images."""
        return len(self._plan.pixels.files)

    def __getstate__(self) -> dict[str, Any]:
        """Return what another process needs; it maps the file by itself."""
        return {"_plan": self._plan, "_mirrored": self._mirrored}

    def draw(self, index: int, draws: Draws | None) -> Tensor:
        """Return the features (C, F) of an image, or of its mirrored view.

        Args:
            index: of the image.
            draws: its random numbers, of which ``cmemd.data.augmentation.flip`` takes the same one;
                without them the image is not mirrored.
        """
        mirror = draws is not None and bool(
            torch.rand(1, generator=draws.torch) < self._mirrored and self._plan.views == 2
        )
        return torch.from_numpy(np.array(self._features[index, int(mirror)]))

    @cached_property
    def _features(self) -> np.ndarray:
        path = self._plan.folder / _FEATURES
        return np.asarray(np.memmap(path, np.float32, "r", shape=self._plan.shape))


def build_features(
    plan: FeaturePlan, compute: Callable[[int], Iterable[np.ndarray]], *, alone: bool
) -> None:
    """Write the features that are missing; leave those alone that are whole.

    Args:
        plan: what they are of.
        compute: takes the number of the first block, and yields that block and all further ones,
            (BLOCK, views, C, F) float32.
        alone: whether no other run has features in the plan's root, so that those of other weights
            can be removed.

    Raises:
        InputError: another process writes them, or the disk is too small.
    """
    if plan.good_blocks() == plan.blocks:
        return
    try:
        plan.folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(
            f"a folder for features that can be written, {plan.folder}",
            error.strerror,
            "set DATALOADER.CACHE or OUTPUT_DIR to a folder of yours",
        ) from None
    with one_writer(plan.folder):
        done = plan.good_blocks()  # after the process that had the lock
        if done == plan.blocks:
            return
        if alone:
            _remove_others(plan)
        size = BLOCK * plan.bytes // len(plan.pixels.files)
        _check_room(plan, plan.bytes - done * size)
        shown = shown_bytes(plan.bytes)
        _logger.info(
            "Computing pooled features of %d images, %s, in %s",
            len(plan.pixels.files),
            shown,
            plan.folder,
        )
        write_whole(plan.folder / _PLAN, json.dumps(plan.document).encode())
        with open(plan.folder / _FEATURES, "ab") as file, open(plan.folder / _SUMS, "ab") as sums:
            file.truncate(done * size)
            sums.truncate(done * _SUM_BYTES)
            blocks = tqdm(
                compute(done), "Computing features", plan.blocks, initial=done, disable=None
            )
            for block in blocks:
                content = np.ascontiguousarray(block, np.float32).tobytes()
                _write(file, content)
                _write(sums, zlib.crc32(content).to_bytes(_SUM_BYTES, "little"))


def _write(file: Any, content: bytes) -> None:
    """Write to the disk, so that a sum never lies there without its block."""
    file.write(content)
    file.flush()
    os.fsync(file.fileno())


def _whole_sums(content: bytes) -> bytes:
    return content[: len(content) // _SUM_BYTES * _SUM_BYTES]


def _check_room(plan: FeaturePlan, need: int) -> None:
    free = shutil.disk_usage(plan.folder).free
    if need > free:
        raise InputError(
            f"{shown_bytes(need)} of free disk at {plan.folder} for MODEL.BACKBONE.FROZEN",
            shown_bytes(free),
            "free the disk, or set DATALOADER.CACHE to a folder on another one",
        )


def _remove_others(plan: FeaturePlan) -> None:
    """Remove features of other weights or images: our own files alone, and folders empty then."""
    for folder in plan.pixels.root.glob(f"{_PREFIX}*"):
        if folder == plan.folder or not (folder / _PLAN).is_file():
            continue
        with one_writer(folder):
            for name in (_PLAN, _FEATURES, _SUMS):
                (folder / name).unlink(missing_ok=True)
        (folder / ".lock").unlink(missing_ok=True)
        if not any(folder.iterdir()):
            folder.rmdir()
        _logger.info("Removed the features in %s, of other weights or images", folder)

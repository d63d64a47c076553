"""A network tried before a run starts: its outline without numbers, and one step on noise."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, NamedTuple

import cmemd.plugin  # noqa: F401  before fastreid

import numpy as np
import torch
from fastreid.config import CfgNode
from fastreid.modeling import build_model
from fastreid.utils import comm
from fastreid.utils.events import EventStorage
from torch import nn
from torch.autograd.graph import saved_tensors_hooks
from torch.multiprocessing.reductions import StorageWeakRef

from cmemd.data.collate import collate_with_rows
from cmemd.data.modality import Modality
from cmemd.data.random_state import Draws
from cmemd.data.transform import build_transform, build_views
from cmemd.errors import InputError, MissingDependencyError

__all__ = ["Rehearsal", "kept_bytes", "outline", "rehearse"]


class Rehearsal(NamedTuple):
    """What a rehearsal tells of a network.

    Attributes:
        size: numbers in an embedding.
        kept: bytes that the forward pass of a training keeps of an image for its backward pass, in
            float32; 0 where that was not counted.
    """

    size: int
    kept: int


def outline(cfg: CfgNode, classes: int = 2) -> nn.Module:
    """Return the network without numbers: its layers and shapes, in a tenth of a second.

    Args:
        cfg: the configuration.
        classes: of the classifiers where ``MODEL.HEADS.NUM_CLASSES`` is 0.

    Raises:
        InputError: the network cannot be built.
        MissingDependencyError: a package that it needs is not installed.
    """
    for device in ("meta", "cpu"):  # a network of a user's own may need numbers to be built
        bare = cfg.clone()
        bare.defrost()
        bare.MODEL.BACKBONE.PRETRAIN = False
        bare.MODEL.DEVICE = device
        bare.MODEL.HEADS.NUM_CLASSES = cfg.MODEL.HEADS.NUM_CLASSES or classes
        bare.freeze()
        try:
            with torch.device(device):
                return build_model(bare)
        except (InputError, MissingDependencyError):
            raise
        except Exception as error:  # noqa: BLE001  layers refuse sizes in many ways
            problem = " ".join(str(error).split())[:200] or type(error).__name__
    raise InputError(
        f"a network of MODEL.META_ARCHITECTURE {cfg.MODEL.META_ARCHITECTURE} that can be built",
        problem,
        "change the keys of MODEL.BACKBONE and MODEL.HEADS",
    )


def rehearse(cfg: CfgNode, *, training: bool, pretrained: bool) -> Rehearsal:
    """Send four images of noise, in all their views, through network and losses, on the CPU.

    Args:
        cfg: the configuration, whose outline can be built.
        training: whether the run trains.
        pretrained: whether the network starts from ImageNet weights, if it has any.

    Raises:
        InputError: the ImageNet weights cannot be loaded, memory is too small, or the network does
            not take the images or answers with numbers that are not finite.
    """
    bare = cfg.clone()
    bare.defrost()
    bare.MODEL.DEVICE = "cpu"
    bare.MODEL.BACKBONE.PRETRAIN = cfg.MODEL.BACKBONE.PRETRAIN and pretrained
    bare.MODEL.HEADS.NUM_CLASSES = cfg.MODEL.HEADS.NUM_CLASSES or 2
    bare.freeze()
    synchronised = "syncBN" in (cfg.MODEL.BACKBONE.NORM, cfg.MODEL.HEADS.NORM)
    network = build_model(bare)  # raises for a file of weights
    network.epoch_length = 1
    try:
        with EventStorage(0):
            with torch.no_grad():
                embeddings = network.eval()(_noise(cfg, training=False))
            _check_finite({"embeddings": embeddings})
            kept = 0
            if training and not synchronised:  # which trains on CUDA alone
                batch = _noise(cfg, training=True)
                if comm.get_world_size() > 1:  # losses would wait for the other processes
                    batch["targets"] = torch.full_like(batch["targets"], -1)
                with kept_bytes(network) as counted:
                    _check_finite(network.train()(batch))
                kept = sum(counted.values()) // len(batch["images"])
            return Rehearsal(embeddings.shape[1], kept)
    except InputError:
        raise
    except Exception as error:  # noqa: BLE001  layers refuse sizes in many ways
        raise InputError(
            "a network that takes images of INPUT.SIZE_TRAIN and SIZE_TEST",
            " ".join(str(error).split())[:200] or type(error).__name__,
            "change those, or the keys of MODEL.BACKBONE and MODEL.HEADS",
        ) from None


@contextmanager
def kept_bytes(network: nn.Module) -> Iterator[dict[object, int]]:
    """Yield storage -> bytes of all that autograd keeps inside the context, without keeping it.

    There is no backward pass after it. Parameters and buffers, which exist anyway, are left out.
    """
    own = {x.untyped_storage()._cdata for x in (*network.parameters(), *network.buffers())}
    kept: dict[object, int] = {}

    def count(tensor: torch.Tensor) -> None:
        storage = tensor.untyped_storage()
        if storage._cdata not in own:
            # A weak reference: the address of a storage that is gone would be used again.
            kept[StorageWeakRef(storage)] = storage.nbytes()

    with saved_tensors_hooks(count, lambda nothing: nothing):
        yield kept


def _noise(cfg: CfgNode, *, training: bool) -> dict[str, Any]:
    """Return two identities with an image of each modality, in all their views."""
    if training:
        transforms = build_views(cfg)
    else:
        alone = build_transform(cfg, training=False)
        transforms = dict.fromkeys(Modality, (alone,))
    generator = np.random.default_rng(0)
    samples = []
    for place, modality in enumerate([*Modality] * 2):
        image = generator.integers(0, 256, (128, 64, 3), np.uint8)
        seen = [
            transform(image, Draws(0, place, view))
            for view, transform in enumerate(transforms[modality], 1)
        ]
        sample = {
            "images": seen[0],
            "targets": place // 2,
            "camids": 0,
            "modalities": int(modality),
        }
        samples.append({**sample, "views": seen} if len(seen) > 1 else sample)
    batch = collate_with_rows(samples)
    del batch["rows"]  # the network finds them, and takes labels of -1 for none
    return batch


def _check_finite(values: Mapping[str, torch.Tensor]) -> None:
    bad = [name for name, value in values.items() if not torch.isfinite(value).all()]
    if bad:
        raise InputError(
            f"finite values of {', '.join(bad)} before training",
            "NaN or infinity",
            "change MODEL.PIXEL_STD, or the weights and options of MODEL.LOSSES",
        )

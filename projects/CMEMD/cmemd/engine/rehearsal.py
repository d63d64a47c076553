"""A network tried before a run starts: its outline without numbers, and one step on noise."""

from collections.abc import Mapping

import cmemd.plugin  # noqa: F401  before fastreid

import numpy as np
import torch
from fastreid.config import CfgNode
from fastreid.modeling import build_model
from fastreid.utils import comm
from fastreid.utils.events import EventStorage
from torch import nn

from cmemd.data.collate import collate_images
from cmemd.data.modality import Modality
from cmemd.data.random_state import Draws
from cmemd.data.transform import build_transform
from cmemd.errors import InputError, MissingDependencyError

__all__ = ["outline", "rehearse"]


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


def rehearse(cfg: CfgNode, *, training: bool, pretrained: bool) -> int:
    """Send four images of noise through the network and its losses, on the CPU.

    Args:
        cfg: the configuration, whose outline can be built.
        training: whether the run trains.
        pretrained: whether the network starts from ImageNet weights, if it has any.

    Returns:
        The size of an embedding.

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
    try:
        with torch.no_grad(), EventStorage(0):
            embeddings = network.eval()(_noise(cfg, training=False))
            _check_finite({"embeddings": embeddings})
            if training and not synchronised:  # which trains on CUDA alone
                batch = _noise(cfg, training=True)
                if comm.get_world_size() > 1:  # losses would wait for the other processes
                    batch["targets"] = torch.full((4,), -1)
                _check_finite(network.train()(batch))
            return embeddings.shape[1]
    except InputError:
        raise
    except Exception as error:  # noqa: BLE001  layers refuse sizes in many ways
        raise InputError(
            "a network that takes images of INPUT.SIZE_TRAIN and SIZE_TEST",
            " ".join(str(error).split())[:200] or type(error).__name__,
            "change those, or the keys of MODEL.BACKBONE and MODEL.HEADS",
        ) from None


def _noise(cfg: CfgNode, *, training: bool) -> dict[str, torch.Tensor]:
    """Return two identities with an image of each modality."""
    transform = build_transform(cfg, training=training)
    generator = np.random.default_rng(0)
    images = [generator.integers(0, 256, (128, 64, 3), np.uint8) for _ in range(4)]
    seen = [transform(image, Draws(0, place)) for place, image in enumerate(images)]
    return {
        "images": collate_images(seen),
        "targets": torch.tensor([0, 0, 1, 1]),
        "camids": torch.zeros(4, dtype=torch.int64),
        "modalities": torch.tensor([*Modality] * 2),
    }


def _check_finite(values: Mapping[str, torch.Tensor]) -> None:
    bad = [name for name, value in values.items() if not torch.isfinite(value).all()]
    if bad:
        raise InputError(
            f"finite values of {', '.join(bad)} before training",
            "NaN or infinity",
            "change MODEL.PIXEL_STD, or the weights and options of MODEL.LOSSES",
        )

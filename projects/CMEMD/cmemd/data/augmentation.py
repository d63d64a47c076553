"""The augmentations of training images: one table, and a function for each row.

A function takes an image (H, W, 3) uint8, the random numbers of that image and its own options, and
returns an image; it leaves its input as it is. Those of fast-reid draw in the order of fast-reid's
transforms, so that equal random states give equal pixels. The others are in
``cmemd.data.channels``.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import cmemd.compat  # noqa: F401  before fastreid

import numpy as np
import torch
from fastreid.config import CfgNode
from fastreid.data.transforms.autoaugment import AutoAugment
from fastreid.data.transforms.transforms import AugMix
from PIL import Image
from torchvision import transforms

from cmemd.data.channels import (
    cut_channels,
    erase_channels,
    erase_linearly,
    exchange_channels,
    jitter_spectrum,
    mix_channels,
    step_channels,
    to_grey,
)
from cmemd.data.modality import IMAGE_KINDS, Modality
from cmemd.data.random_state import Draws

__all__ = [
    "AUGMENTATIONS",
    "Augment",
    "Augmentation",
    "auto_augment",
    "build_augmentations",
    "erase",
    "flip",
    "jitter_colours",
    "mix_augmentations",
    "move_affinely",
    "pad_and_crop",
    "resize_crop",
]

Augment = Callable[[np.ndarray, Draws], np.ndarray]

# Of the erased rectangle, as torchvision has them; the logarithms are float32's, as its are.
_ERASED_AREA, _ERASING_TRIALS = (0.02, 0.33), 10
_LOG_RATIO = torch.log(torch.tensor((0.3, 3.3))).tolist()


def auto_augment(image: np.ndarray, draws: Draws, *, prob: float) -> np.ndarray:
    """Return an image after AutoAugment's policy for ImageNet, by fast-reid."""
    return _by_pillow(transforms.RandomApply([AutoAugment()], p=prob), image, draws)


def resize_crop(
    image: np.ndarray,
    draws: Draws,
    *,
    size: Sequence[int],
    scale: Sequence[float],
    ratio: Sequence[float],
) -> np.ndarray:
    """Return a random part of an image, resized to ``size``, (height, width), by Pillow."""
    crop = transforms.RandomResizedCrop(
        tuple(size), scale, ratio, transforms.InterpolationMode.BICUBIC
    )
    return _by_pillow(crop, image, draws)


def pad_and_crop(
    image: np.ndarray, draws: Draws, *, pad: int, mode: str, height: int, width: int
) -> np.ndarray:
    """Return a random part, ``height`` x ``width``, of an image with ``pad`` pixels around it.

    Args:
        image: to be padded.
        draws: its random numbers.
        pad: on each side.
        mode: "constant" pads with black; others are those of ``numpy.pad``.
        height: of the result.
        width: of the result.

    Raises:
        ValueError: the padded image is smaller than the result.
    """
    h, w = image.shape[0] + 2 * pad, image.shape[1] + 2 * pad
    if h < height or w < width:
        raise ValueError(f"a crop of {height} x {width} out of a padded image of {h} x {w}")
    top = left = 0
    if (h, w) != (height, width):
        top, left = _below(h - height + 1, draws), _below(w - width + 1, draws)
    if mode != "constant":
        widths = ((pad, pad), (pad, pad), (0, 0))
        padded: np.ndarray = np.pad(image, widths, mode)  # type: ignore[call-overload]  # not a str
        return padded[top : top + height, left : left + width]
    result = np.zeros((height, width, 3), np.uint8)
    rows, columns = _overlap(top, height, pad, h), _overlap(left, width, pad, w)
    result[rows[1], columns[1]] = image[rows[0], columns[0]]
    return result


def flip(image: np.ndarray, draws: Draws, *, prob: float) -> np.ndarray:
    """Return an image, mirrored left to right with probability ``prob``."""
    if not torch.rand(1, generator=draws.torch) < prob:
        return image
    writable = image if image.flags.writeable else image.copy()  # or PyTorch warns
    return torch.from_numpy(writable).flip(1).numpy()  # image[:, ::-1] takes long to copy


def jitter_colours(image: np.ndarray, draws: Draws, *, prob: float, **ranges: float) -> np.ndarray:
    """Return an image with other colours with probability ``prob``, by torchvision.

    Args:
        image: to be changed.
        draws: its random numbers.
        prob: share of images.
        ranges: ``brightness``, ``contrast``, ``saturation`` and ``hue`` of ``ColorJitter``.
    """
    return _by_pillow(
        transforms.RandomApply([transforms.ColorJitter(**ranges)], p=prob), image, draws
    )


def move_affinely(image: np.ndarray, draws: Draws) -> np.ndarray:
    """Return an image turned, scaled and sheared a little, with black around it.

    The numbers are fast-reid's: up to 10 degrees, scales 0.9 to 1.1, shear up to 0.1 degrees,
    nearest pixels. Today's torchvision refuses its own call.
    """
    affine = transforms.RandomAffine(degrees=10, scale=(0.9, 1.1), shear=0.1)
    return _by_pillow(affine, image, draws)


def mix_augmentations(image: np.ndarray, draws: Draws, *, prob: float) -> np.ndarray:
    """Return an image mixed with changed copies of it with probability ``prob``, by fast-reid."""
    return _by_pillow(AugMix(prob=prob), image, draws)


def erase(image: np.ndarray, draws: Draws, *, prob: float, value: Sequence[float]) -> np.ndarray:
    """Return an image with one rectangle erased, with probability ``prob``.

    Args:
        image: to be changed.
        draws: its random numbers.
        prob: share of images.
        value: grey level of each channel in the rectangle, rounded: an image holds bytes.
    """
    generator = draws.torch
    if not torch.rand(1, generator=generator) < prob:
        return image
    height, width = image.shape[:2]
    for _ in range(_ERASING_TRIALS):
        share = torch.empty(1).uniform_(*_ERASED_AREA, generator=generator).item()
        area = height * width * share
        ratio = torch.exp(torch.empty(1).uniform_(*_LOG_RATIO, generator=generator)).item()
        h, w = round(math.sqrt(area * ratio)), round(math.sqrt(area / ratio))
        if h < height and w < width:
            top, left = _below(height - h + 1, draws), _below(width - w + 1, draws)
            erased = image.copy()
            line = np.tile(np.rint(value).astype(np.uint8), w)  # longer than a pixel: copied faster
            erased.reshape(height, -1)[top : top + h, 3 * left : 3 * (left + w)] = line
            return erased
    return image


def _below(number: int, draws: Draws) -> int:
    """Return a random whole number from 0 to below ``number``."""
    return int(torch.randint(0, number, size=(1,), generator=draws.torch).item())


def _overlap(start: int, length: int, pad: int, padded: int) -> tuple[slice, slice]:
    """Return where a crop of a padded line meets the line: in the line, and in the crop."""
    first, last = max(start, pad), min(start + length, padded - pad)
    last = max(first, last)
    return slice(first - pad, last - pad), slice(first - start, last - start)


def _by_pillow(
    transform: Callable[[Image.Image], Any], image: np.ndarray, draws: Draws
) -> np.ndarray:
    """Return the pixels that a transform of Pillow images gives with these random numbers."""
    with draws.as_global():
        return np.asarray(transform(Image.fromarray(image)))


# ---- The table ------------------------------------------------------------------------------


@dataclass(frozen=True)
class Augmentation:
    """A row of the table.

    Attributes:
        function: of an image, its random numbers and options.
        options: reads the options from a configuration.
        before_resize: whether it works on the image as it was read.
    """

    function: Callable[..., np.ndarray]
    options: Callable[[CfgNode], Mapping[str, Any]] = lambda cfg: {}
    before_resize: bool = False


def _options(name: str, *words: str) -> Callable[[CfgNode], Mapping[str, Any]]:
    """Return a reader of some keys of ``cfg.INPUT.<name>``, which are options in lower case."""
    return lambda cfg: {word.lower(): cfg.INPUT[name][word] for word in words}


def _normalisation(cfg: CfgNode) -> dict[str, Any]:
    return {"mean": tuple(cfg.MODEL.PIXEL_MEAN), "std": tuple(cfg.MODEL.PIXEL_STD)}


# Name -> row, in the order in which they are applied. fast-reid's keep its order; ours stand where
# their authors have them: colours before a rectangle is erased, channels of it after.
# INPUT.<name>.ENABLED switches one on. A new one takes its function, a row here and its keys in
# cmemd.config.
AUGMENTATIONS: dict[str, Augmentation] = {
    "AUTOAUG": Augmentation(auto_augment, _options("AUTOAUG", "PROB"), before_resize=True),
    "CROP": Augmentation(resize_crop, _options("CROP", "SIZE", "SCALE", "RATIO")),
    "PADDING": Augmentation(
        pad_and_crop,
        lambda cfg: {
            "pad": cfg.INPUT.PADDING.SIZE,
            "mode": cfg.INPUT.PADDING.MODE,
            "height": cfg.INPUT.SIZE_TRAIN[0],
            "width": cfg.INPUT.SIZE_TRAIN[1],
        },
    ),
    "FLIP": Augmentation(flip, _options("FLIP", "PROB")),
    "CJ": Augmentation(
        jitter_colours,
        _options("CJ", "PROB", "BRIGHTNESS", "CONTRAST", "SATURATION", "HUE"),
    ),
    "AFFINE": Augmentation(move_affinely),
    "AUGMIX": Augmentation(mix_augmentations, _options("AUGMIX", "PROB")),
    "GREY": Augmentation(to_grey, _options("GREY", "PROB")),
    "LINEAR_GREY": Augmentation(mix_channels, _options("LINEAR_GREY", "PROB", "BETA")),
    "CHANNEL_CUTMIX": Augmentation(cut_channels, _options("CHANNEL_CUTMIX", "PROB")),
    "SPECTRUM_JITTER": Augmentation(jitter_spectrum, _options("SPECTRUM_JITTER", "PROB")),
    "LINEAR_ERASING": Augmentation(erase_linearly, _options("LINEAR_ERASING", "PROB", "BETA")),
    "REA": Augmentation(erase, _options("REA", "PROB", "VALUE")),
    "CHANNEL_ERASING": Augmentation(erase_channels, _options("CHANNEL_ERASING", "PROB", "VALUE")),
    "CHANNEL_EXCHANGE": Augmentation(
        exchange_channels,
        lambda cfg: {"prob": cfg.INPUT.CHANNEL_EXCHANGE.PROB, **_normalisation(cfg)},
    ),
    "CHANNEL_STEP": Augmentation(
        step_channels, lambda cfg: {"luma": cfg.INPUT.CHANNEL_STEP.LUMA, **_normalisation(cfg)}
    ),
}


def build_augmentations(
    cfg: CfgNode, *, before_resize: bool, modality: Modality = Modality.VISIBLE, view: int = 1
) -> list[Augment]:
    """Return the augmentations that are switched on for a kind of images, in their order.

    Of those that ``INPUT.ONE_OF`` names, an image takes one, in the place of the first.

    Args:
        cfg: the configuration.
        before_resize: return those of images as they were read, or those of resized ones.
        modality: of the images.
        view: 1 or 2.
    """
    augments: list[Augment] = []
    choice: list[Augment] = []
    for name, row in AUGMENTATIONS.items():
        keys = cfg.INPUT[name]
        if row.before_resize != before_resize or not keys.ENABLED:
            continue
        if not IMAGE_KINDS[keys.get("IMAGES", "all")](modality, view):
            continue
        augment = partial(row.function, **row.options(cfg))
        if name not in cfg.INPUT.ONE_OF:
            augments.append(augment)
            continue
        if not choice:
            augments.append(partial(_one_of, choice=choice))
        choice.append(augment)
    return augments


def _one_of(image: np.ndarray, draws: Draws, *, choice: Sequence[Augment]) -> np.ndarray:
    """Return an image after one of some augmentations, each as often."""
    return choice[draws.python.randrange(len(choice))](image, draws)

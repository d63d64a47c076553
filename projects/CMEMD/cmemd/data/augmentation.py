"""The augmentations of training images: one table, and a function for each row.

A function takes an image (H, W, 3) uint8, the random numbers of that image and its own options, and
returns an image; it leaves its input as it is. It draws in the order of fast-reid's transforms, so
that equal random states give equal pixels.
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

from cmemd.data.random_state import Draws

__all__ = [
    "AUGMENTATIONS",
    "Augment",
    "Augmentation",
    "auto_augment",
    "build_augmentations",
    "erase",
    "flip",
    "grey",
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
        padded = np.pad(image, ((pad, pad), (pad, pad), (0, 0)), mode)
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


def grey(image: np.ndarray) -> np.ndarray:
    """Return an image (H, W, 3) whose three channels are its luma, by Pillow."""
    return np.asarray(Image.fromarray(image).convert("L").convert("RGB"))


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
    return torch.randint(0, number, size=(1,), generator=draws.torch).item()


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
        options: reads the options from ``cfg.INPUT``.
        before_resize: whether it works on the image as it was read.
    """

    function: Callable[..., np.ndarray]
    options: Callable[[CfgNode], Mapping[str, Any]] = lambda keys: {}
    before_resize: bool = False


# Name -> row, in the order in which they are applied, which is fast-reid's. INPUT.<name>.ENABLED
# switches one on. A new one takes its function, a row here and its keys in cmemd.config.
AUGMENTATIONS: dict[str, Augmentation] = {
    "AUTOAUG": Augmentation(
        auto_augment, lambda keys: {"prob": keys.AUTOAUG.PROB}, before_resize=True
    ),
    "CROP": Augmentation(
        resize_crop,
        lambda keys: {
            "size": keys.CROP.SIZE,
            "scale": keys.CROP.SCALE,
            "ratio": keys.CROP.RATIO,
        },
    ),
    "PADDING": Augmentation(
        pad_and_crop,
        lambda keys: {
            "pad": keys.PADDING.SIZE,
            "mode": keys.PADDING.MODE,
            "height": keys.SIZE_TRAIN[0],
            "width": keys.SIZE_TRAIN[1],
        },
    ),
    "FLIP": Augmentation(flip, lambda keys: {"prob": keys.FLIP.PROB}),
    "CJ": Augmentation(
        jitter_colours,
        lambda keys: {
            "prob": keys.CJ.PROB,
            "brightness": keys.CJ.BRIGHTNESS,
            "contrast": keys.CJ.CONTRAST,
            "saturation": keys.CJ.SATURATION,
            "hue": keys.CJ.HUE,
        },
    ),
    "AFFINE": Augmentation(move_affinely),
    "AUGMIX": Augmentation(mix_augmentations, lambda keys: {"prob": keys.AUGMIX.PROB}),
    "REA": Augmentation(erase, lambda keys: {"prob": keys.REA.PROB, "value": keys.REA.VALUE}),
}


def build_augmentations(keys: CfgNode, *, before_resize: bool) -> list[Augment]:
    """Return the augmentations that are switched on, in their order.

    Args:
        keys: ``cfg.INPUT``.
        before_resize: return those of images as they were read, or those of resized ones.
    """
    return [
        partial(row.function, **row.options(keys))
        for name, row in AUGMENTATIONS.items()
        if row.before_resize == before_resize and keys[name].ENABLED
    ]

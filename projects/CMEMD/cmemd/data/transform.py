"""From the pixels of a file to what a batch holds: resize, and for training augment."""

from collections.abc import Sequence

import cmemd.compat  # noqa: F401  before fastreid

import numpy as np
import torch
from fastreid.config import CfgNode
from PIL import Image
from torchvision.transforms import functional

from cmemd.data.augmentation import Augment, build_augmentations
from cmemd.data.random_state import Draws
from cmemd.data.resizing import DEFAULT_RESIZE, resize
from cmemd.data.sensors import Sensor

__all__ = ["Transform", "build_sensor", "build_transform", "image_sizes"]


class Transform:
    """Resize images, and augment them before and after.

    Args:
        height: of resized images.
        width: of resized images.
        kernel: a key of ``cmemd.data.resizing.RESIZES``.
        before: augmentations of images as they were read.
        after: augmentations of resized images.
        crop: (height, width) of a last crop around the centre; None for no crop.
    """

    def __init__(
        self,
        height: int,
        width: int,
        *,
        kernel: str = DEFAULT_RESIZE,
        before: Sequence[Augment] = (),
        after: Sequence[Augment] = (),
        crop: Sequence[int] | None = None,
    ) -> None:
        self.height, self.width, self.kernel = height, width, kernel
        self._before, self._after, self._crop = tuple(before), tuple(after), crop

    def __call__(self, pixels: np.ndarray, draws: Draws | None = None) -> np.ndarray:
        """Return what a batch holds of an image.

        Args:
            pixels: (h, w, 3) uint8, as they were read.
            draws: random numbers of the image; without them PyTorch's global generator gives some.

        Returns:
            (H, W, 3) uint8, which may be a view with any strides.
        """
        if draws is None and (self._before or self._after):
            draws = Draws(torch.randint(2**63 - 1, ()).item(), 0)
        for augment in self._before:
            pixels = augment(pixels, draws)
        return self.finish(self.resize(pixels), draws)

    def resize(self, pixels: np.ndarray) -> np.ndarray:
        """Return pixels at the transform's size."""
        return resize(pixels, self.height, self.width, self.kernel)

    def finish(self, pixels: np.ndarray, draws: Draws | None) -> np.ndarray:
        """Return what a batch holds of a resized image; a cache of such images calls this alone."""
        for augment in self._after:
            pixels = augment(pixels, draws)
        return pixels if self._crop is None else _centre(pixels, *self._crop)


def build_transform(cfg: CfgNode, *, training: bool) -> Transform:
    """Return the transform of ``cfg.INPUT``, whose steps and pixels are fast-reid's.

    With ``INPUT.CROP`` test images are cut to ``INPUT.CROP.SIZE`` around their centre.
    """
    keys = cfg.INPUT
    if training:
        return Transform(
            *keys.SIZE_TRAIN,
            kernel=keys.RESIZE,
            before=build_augmentations(keys, before_resize=True),
            after=build_augmentations(keys, before_resize=False),
        )
    crop = keys.CROP.SIZE if keys.CROP.ENABLED else None
    return Transform(*keys.SIZE_TEST, kernel=keys.RESIZE, crop=crop)


def build_sensor(cfg: CfgNode) -> Sensor:
    """Return the thermal sensor of ``cfg.INPUT``.

    Raises:
        InputError: a value of its keys is invalid.
    """
    keys = cfg.INPUT
    return Sensor(keys.THERMAL_RANGE, keys.THERMAL_PALETTE, keys.THERMAL_POLARITY)


def image_sizes(keys: CfgNode) -> tuple[Sequence[int], Sequence[int]]:
    """Return height and width of the images of a batch, in training and in a test.

    Args:
        keys: ``cfg.INPUT``.
    """
    crop = keys.CROP.SIZE if keys.CROP.ENABLED else None
    train = keys.SIZE_TRAIN if keys.PADDING.ENABLED else crop or keys.SIZE_TRAIN
    return train, crop or keys.SIZE_TEST


def _centre(pixels: np.ndarray, height: int, width: int) -> np.ndarray:
    """Return the middle of an image, by torchvision; a smaller image gets black borders."""
    return np.asarray(functional.center_crop(Image.fromarray(pixels), [height, width]))

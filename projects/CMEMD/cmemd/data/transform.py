"""From the pixels of a file to what a batch holds: resize, and for training augment."""

from collections.abc import Sequence

import cmemd.compat  # noqa: F401  before fastreid

import numpy as np
import torch
from fastreid.config import CfgNode
from PIL import Image
from torchvision.transforms import functional

from cmemd.data.augmentation import Augment, build_augmentations
from cmemd.data.modality import Modality
from cmemd.data.random_state import Draws
from cmemd.data.resizing import DEFAULT_RESIZE, resize
from cmemd.data.sensors import Sensor

__all__ = ["Transform", "build_sensor", "build_transform", "build_views", "image_sizes"]


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
            draws = Draws(int(torch.randint(2**63 - 1, ()).item()), 0)
        for augment in self._before:
            assert draws is not None
            pixels = augment(pixels, draws)
        return self.finish(self.resize(pixels), draws)

    def resize(self, pixels: np.ndarray) -> np.ndarray:
        """Return pixels at the transform's size."""
        return resize(pixels, self.height, self.width, self.kernel)

    def finish(self, pixels: np.ndarray, draws: Draws | None) -> np.ndarray:
        """Return what a batch holds of a resized image; a cache of such images calls this alone."""
        for augment in self._after:
            assert draws is not None, "a transform that augments is given random numbers"
            pixels = augment(pixels, draws)
        return pixels if self._crop is None else _centre(pixels, *self._crop)


def build_transform(
    cfg: CfgNode, *, training: bool, modality: Modality = Modality.VISIBLE, view: int = 1
) -> Transform:
    """Return the transform of ``cfg.INPUT`` for a kind of images.

    Its steps and pixels are fast-reid's; ours are off by default. With ``INPUT.CROP`` test images
    are cut to ``INPUT.CROP.SIZE`` around their centre.

    Args:
        cfg: the configuration.
        training: whether to augment.
        modality: of the images; it matters in training alone, as ``view`` does.
        view: 1, or 2 for the second view of a visible image.
    """
    keys = cfg.INPUT
    if training:
        before, after = (
            build_augmentations(cfg, before_resize=first, modality=modality, view=view)
            for first in (True, False)
        )
        return Transform(*keys.SIZE_TRAIN, kernel=keys.RESIZE, before=before, after=after)
    crop = keys.CROP.SIZE if keys.CROP.ENABLED else None
    return Transform(*keys.SIZE_TEST, kernel=keys.RESIZE, crop=crop)


def build_views(cfg: CfgNode) -> dict[Modality, tuple[Transform, ...]]:
    """Return the training transform of each view of the images of each modality.

    A thermal image has one view, and a visible one as many as ``DATALOADER.VISIBLE_VIEWS`` says.
    """
    views = {Modality.VISIBLE: cfg.DATALOADER.VISIBLE_VIEWS, Modality.THERMAL: 1}
    return {
        modality: tuple(
            build_transform(cfg, training=True, modality=modality, view=view)
            for view in range(1, count + 1)
        )
        for modality, count in views.items()
    }


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

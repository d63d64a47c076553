"""A data set's images with their modality, as fast-reid's loaders read them."""

from collections.abc import Callable, Sequence
from contextlib import nullcontext

import cmemd.compat  # noqa: F401  before fastreid

from fastreid.data import CommDataset
from PIL import Image

from cmemd.data.augmentation import grey
from cmemd.data.images import crop, read_pixels, read_rgb
from cmemd.data.items import ImageItem
from cmemd.data.modality import Modality
from cmemd.data.pixel_cache import PixelCache
from cmemd.data.random_state import Draws
from cmemd.data.sensors import PLAIN, Sensor
from cmemd.data.transform import Transform

__all__ = ["VisibleThermalDataset"]


class VisibleThermalDataset(CommDataset):
    """fast-reid's data set, with "modalities" in each item beside its own keys.

    Args:
        items: images of both modalities.
        transform: gives what the batch holds of an image; or any function of an RGB Pillow image,
            such as fast-reid's transforms, which draws from the global generators.
        relabel: number identities and cameras from 0, as training needs.
        seed: of the augmentation; see ``cmemd.data.places``.
        cache: the resized images, in the order of ``items``; without it files are read.
        sensor: of the thermal images.
        grey_until: place in the stream of a training before which visible images are grey.
    """

    def __init__(
        self,
        items: Sequence[ImageItem],
        transform: Transform | Callable[[Image.Image], object],
        relabel: bool,
        seed: int | None = None,
        cache: PixelCache | None = None,
        sensor: Sensor = PLAIN,
        grey_until: int = 0,
    ) -> None:
        super().__init__(items, transform, relabel)
        self._seed = seed
        self._cache = cache
        self._sensor = sensor
        self._grey_until = grey_until

    def __getitem__(self, key: int | tuple[int, int]) -> dict[str, object]:
        """Return one image with its labels.

        Args:
            key: number of the image; or that and its place in the stream of a training, on which
                its augmentation then depends.

        Raises:
            InputError: the file is truncated or no image, or its pixels in the cache are damaged.
        """
        index, place = key if isinstance(key, tuple) else (key, None)
        item = self.img_items[index]
        draws = None if place is None else Draws(self._seed, place)
        if self._cache is not None:
            image = self.transform.finish(self._cache[index], draws)
        elif isinstance(self.transform, Transform):
            pixels = read_pixels(item.path, sensor=self._sensor.of(item.modality))
            image = self.transform(crop(pixels, item.box), draws)
        else:
            with nullcontext() if draws is None else draws.as_global():
                sensor = self._sensor.of(item.modality)
                image = self.transform(read_rgb(item.path, box=item.box, sensor=sensor))
        if place is not None and place < self._grey_until and item.modality is Modality.VISIBLE:
            image = grey(image)
        return {
            "images": image,
            "targets": self.pid_dict[item.pid] if self.relabel else item.pid,
            "camids": self.cam_dict[item.camid] if self.relabel else item.camid,
            "modalities": int(item.modality),
            "img_paths": item.key,
        }

"""A data set's images with their modality, as fast-reid's loaders read them."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from typing import Any

import cmemd.compat  # noqa: F401  before fastreid

from fastreid.data import CommDataset
from PIL import Image

from cmemd.data.channels import grey
from cmemd.data.images import crop, read_pixels, read_rgb
from cmemd.data.items import ImageItem
from cmemd.data.modality import Modality
from cmemd.data.pixel_cache import PixelCache
from cmemd.data.pooled_features import PooledFeatures
from cmemd.data.random_state import Draws
from cmemd.data.sensors import PLAIN, Sensor
from cmemd.data.transform import Transform

__all__ = ["VisibleThermalDataset"]


class VisibleThermalDataset(CommDataset):
    """fast-reid's data set, with "modalities" in each item beside its own keys.

    Args:
        items: images of both modalities.
        transform: gives what the batch holds of an image; or modality -> one for each view of its
            images; or any function of an RGB Pillow image, such as fast-reid's transforms, which
            draws from the global generators.
        relabel: number identities and cameras from 0, as training needs.
        seed: of the augmentation; see ``cmemd.data.places``.
        cache: the resized images, in the order of ``items``; without it files are read.
        sensor: of the thermal images.
        grey_until: place in the stream of a training before which visible images are grey.

    Attributes:
        features: what a frozen backbone gives for the images, which then are not read; or None.
    """

    def __init__(
        self,
        items: Sequence[ImageItem],
        transform: Transform
        | Mapping[Modality, Sequence[Transform]]
        | Callable[[Image.Image], object],
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
        self.features: PooledFeatures | None = None

    def __getitem__(self, key: int | tuple[int, int]) -> dict[str, object]:
        """Return one image with its labels.

        Args:
            key: number of the image; or that and its place in the stream of a training, on which
                its augmentation then depends.

        Returns:
            "images", or "pooled" where there are features, "targets", "camids", "modalities" and
            "img_paths"; for an image of several views also "views", whose pixels (H, W, 3)
            ``cmemd.data.collate`` makes samples of.

        Raises:
            InputError: the file is truncated or no image, or its pixels in the cache are damaged.
        """
        index, place = key if isinstance(key, tuple) else (key, None)
        item = self.img_items[index]
        if self.features is not None:
            pooled = self.features.draw(index, self._draws(place))
            return {"pooled": pooled, **self._labels(item)}
        views = self._views(index, item, place)
        if place is not None and place < self._grey_until and item.modality is Modality.VISIBLE:
            views = [grey(view) for view in views]
        first, *others = views
        sample = {"images": first, **self._labels(item)}
        return {**sample, "views": [first, *others]} if others else sample

    def _labels(self, item: ImageItem) -> dict[str, object]:
        return {
            "targets": self.pid_dict[item.pid] if self.relabel else item.pid,
            "camids": self.cam_dict[item.camid] if self.relabel else item.camid,
            "modalities": int(item.modality),
            "img_paths": item.key,
        }

    def _views(self, index: int, item: ImageItem, place: int | None) -> list[Any]:
        """Return each view of an image; the file is read once."""
        transforms = self.transform
        if isinstance(transforms, Mapping):
            transforms = transforms[item.modality]
        elif isinstance(transforms, Transform):
            transforms = (transforms,)
        else:
            return [self._by_function(item, place)]
        draws = [self._draws(place, view) for view in range(1, len(transforms) + 1)]
        pairs = list(zip(transforms, draws, strict=True))
        if self._cache is not None:
            resized = self._cache[index]
            return [transform.finish(resized, own) for transform, own in pairs]
        pixels = crop(read_pixels(item.path, sensor=self._sensor.of(item.modality)), item.box)
        return [transform(pixels, own) for transform, own in pairs]

    def _by_function(self, item: ImageItem, place: int | None) -> object:
        """Return what a function of Pillow images gives."""
        sensor = self._sensor.of(item.modality)
        draws = self._draws(place)
        with nullcontext() if draws is None else draws.as_global():
            return self.transform(read_rgb(item.path, box=item.box, sensor=sensor))

    def _draws(self, place: int | None, view: int = 1) -> Draws | None:
        if place is None:
            return None
        assert self._seed is not None, "places go with a seed"
        return Draws(self._seed, place, view)

"""A data set's images with their modality, as fast-reid's loaders read them."""

from collections.abc import Callable, Sequence
from contextlib import nullcontext

import cmemd.compat  # noqa: F401  before fastreid

from fastreid.data import CommDataset
from PIL import Image

from cmemd.data.images import crop, read_rgb
from cmemd.data.items import ImageItem
from cmemd.data.random_state import seeded

__all__ = ["VisibleThermalDataset"]


class VisibleThermalDataset(CommDataset):
    """fast-reid's data set, with "modalities" in each item beside its own keys.

    Args:
        items: images of both modalities.
        transform: turns an RGB image into what the batch holds.
        relabel: number identities and cameras from 0, as training needs.
        seed: of the augmentation; see ``cmemd.data.places``.
    """

    def __init__(
        self,
        items: Sequence[ImageItem],
        transform: Callable[[Image.Image], object],
        relabel: bool,
        seed: int | None = None,
    ) -> None:
        super().__init__(items, transform, relabel)
        self._seed = seed

    def __getitem__(self, key: int | tuple[int, int]) -> dict[str, object]:
        """Return one image with its labels.

        Args:
            key: number of the image; or that and its place in the stream of a training, on which
                its augmentation then depends.

        Raises:
            InputError: the file is truncated or no image.
        """
        index, place = key if isinstance(key, tuple) else (key, None)
        item = self.img_items[index]
        image = crop(read_rgb(item.path), item.box)
        with nullcontext() if place is None else seeded(self._seed, place):
            image = self.transform(image)
        return {
            "images": image,
            "targets": self.pid_dict[item.pid] if self.relabel else item.pid,
            "camids": self.cam_dict[item.camid] if self.relabel else item.camid,
            "modalities": int(item.modality),
            "img_paths": item.key,
        }

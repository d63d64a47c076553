"""A data set's images with their modality, as fast-reid's loaders read them."""

from collections.abc import Callable, Sequence

import cmemd.compat  # noqa: F401  before fastreid

from fastreid.data import CommDataset
from PIL import Image

from cmemd.data.images import read_rgb
from cmemd.data.items import ImageItem

__all__ = ["VisibleThermalDataset"]


class VisibleThermalDataset(CommDataset):
    """fast-reid's data set, with "modalities" in each item beside its own keys.

    Args:
        items: images of both modalities.
        transform: turns an RGB image into what the batch holds.
        relabel: number identities and cameras from 0, as training needs.
    """

    def __init__(
        self, items: Sequence[ImageItem], transform: Callable[[Image.Image], object], relabel: bool
    ) -> None:
        super().__init__(items, transform, relabel)

    def __getitem__(self, index: int) -> dict[str, object]:
        """Return one image with its labels.

        Raises:
            InputError: for a file that is truncated or no image.
        """
        item = self.img_items[index]
        return {
            "images": self.transform(read_rgb(item.path)),
            "targets": self.pid_dict[item.pid] if self.relabel else item.pid,
            "camids": self.cam_dict[item.camid] if self.relabel else item.camid,
            "modalities": int(item.modality),
            "img_paths": item.path,
        }

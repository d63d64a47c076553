"""The two modalities."""

from collections.abc import Callable
from enum import IntEnum

__all__ = ["IMAGE_KINDS", "Modality"]


class Modality(IntEnum):
    """How an image was taken. The values are stored in batches and saved features."""

    VISIBLE = 0
    THERMAL = 1


# Kinds of training images, as the keys IMAGES name them: name -> whether an image of a modality and
# a view is one. A visible image has a second view where DATALOADER.VISIBLE_VIEWS is 2.
IMAGE_KINDS: dict[str, Callable[[Modality, int], bool]] = {
    "all": lambda modality, view: True,
    "visible": lambda modality, view: modality is Modality.VISIBLE,
    "thermal": lambda modality, view: modality is Modality.THERMAL,
    "first": lambda modality, view: modality is Modality.VISIBLE and view == 1,
    "second": lambda modality, view: modality is Modality.VISIBLE and view == 2,
}

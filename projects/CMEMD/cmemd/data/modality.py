"""The two modalities."""

from enum import IntEnum

__all__ = ["Modality"]


class Modality(IntEnum):
    """How an image was taken. The values are stored in batches and saved features."""

    VISIBLE = 0
    THERMAL = 1

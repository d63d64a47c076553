"""One image of a data set."""

from typing import NamedTuple

from cmemd.data.modality import Modality

__all__ = ["ImageItem"]


class ImageItem(NamedTuple):
    """fast-reid's (path, pid, camid), and the modality.

    fast-reid renumbers cameras for training, so the camera does not tell the modality later.
    """

    path: str
    pid: int
    camid: int
    modality: Modality

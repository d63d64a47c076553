"""One image of a data set, as every builder lists it."""

from typing import NamedTuple

from cmemd.data.modality import Modality

__all__ = ["ImageItem"]


class ImageItem(NamedTuple):
    """fast-reid's (path, pid, camid), and the modality, which its loaders would lose.

    fast-reid renumbers cameras for training, so modality cannot be told from the camera later.
    """

    path: str
    pid: int
    camid: int
    modality: Modality

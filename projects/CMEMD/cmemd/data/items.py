"""One image of a data set."""

from typing import NamedTuple

from cmemd.data.boxes import Box, image_key
from cmemd.data.modality import Modality

__all__ = ["GALLERY", "QUERY", "TEST", "ImageItem"]

# What a test image may be; in published data sets the protocol alone decides.
QUERY, GALLERY, TEST = "query", "gallery", "test"


class ImageItem(NamedTuple):
    """fast-reid's (path, pid, camid), the modality, and what a list of one's own may add.

    fast-reid renumbers cameras for training, so the camera does not tell the modality later.

    Attributes:
        path: of the file.
        pid: number of the identity in its data set.
        camid: number of the camera in its data set.
        modality: how the image was taken.
        box: the part of the file that is the image; None for the whole file.
        frame: number of the frame, or None.
        time: seconds, from any start that the data set's images share; or None.
        tracklet: of the person under the camera; "" for none.
        role: of a test image: ``QUERY``, ``GALLERY`` or ``TEST``, which is both.
        source: the list and row that name the image, for messages.
    """

    path: str
    pid: int
    camid: int
    modality: Modality
    box: Box | None = None
    frame: int | None = None
    time: float | None = None
    tracklet: str = ""
    role: str = TEST
    source: str = ""

    @property
    def key(self) -> str:
        """Path + box (+ frame), see ``cmemd.data.boxes``."""
        return image_key(self.path, self.box, self.frame)

"""Turn an image file or an array into what the graphs take: uint8 RGB at the model's size.

The bytes equal those of evaluation's transform: RGB by Pillow, the sensor's range and palette, then
Pillow's bicubic resize, which ignores the aspect ratio. As in evaluation, alpha is dropped and an
EXIF orientation is applied.
"""

import os
from pathlib import Path

import numpy as np
from PIL import Image

from cmemd.data.boxes import located
from cmemd.data.image_files import Tally
from cmemd.data.images import read_rgb
from cmemd.data.sensors import PLAIN, Sensor
from cmemd.errors import InputError

__all__ = ["UnusableImageError", "from_array", "read_image"]

_COUNTS = (np.uint16, np.int32, np.float32, np.float64)  # what counts and temperatures come in


class UnusableImageError(InputError):
    """This image cannot be embedded; other images can."""


def read_image(
    path: Path | str,
    height: int,
    width: int,
    tally: Tally | None = None,
    sensor: Sensor = PLAIN,
) -> np.ndarray:
    """Read an image file at the model's size.

    Args:
        path: a JPEG, PNG, BMP, GIF, TIFF, WebP or PGM file; of several frames, the first. Or the
            key of a box in one, see ``cmemd.data.boxes``.
        height: of the model's input, in pixels.
        width: of the model's input, in pixels.
        tally: takes what is ignored of an image, see ``cmemd.data.images``.
        sensor: of the image's modality.

    Returns:
        ``(height, width, 3)`` uint8 RGB.

    Raises:
        UnusableImageError: the file is missing, damaged, not an image, or has too many pixels, or
            more than 8 bits a channel without a range.
    """
    try:
        file, box, _ = located(os.fspath(path))
        image = read_rgb(file, Tally() if tally is None else tally, box, sensor)
        return _fit(image, height, width)
    except InputError as error:
        raise UnusableImageError(str(error)) from None


def from_array(
    array: np.ndarray, bgr: bool | None, height: int, width: int, sensor: Sensor = PLAIN
) -> np.ndarray:
    """Bring an image in memory to the model's size.

    Args:
        array: ``(h, w, 3)`` uint8, or ``(h, w)`` for a grey image; ``(h, w)`` uint16 or float
            counts, where the sensor has a range.
        bgr: whether the channels are blue, green, red (OpenCV) rather than RGB.
        height: of the model's input, in pixels.
        width: of the model's input, in pixels.
        sensor: of the image's modality.

    Returns:
        ``(height, width, 3)`` uint8 RGB.

    Raises:
        InputError: the array has another shape or type, or ``bgr`` is not a bool.
        UnusableImageError: the array has no pixel.
    """
    if not isinstance(bgr, bool):
        raise InputError(
            "bgr=True (OpenCV's channel order) or bgr=False (RGB) with arrays",
            repr(bgr),
            "say which order they have",
        )
    if sensor.range and array.ndim == 2 and array.dtype in _COUNTS and array.size:
        array = sensor.grey_levels(array)
    if array.dtype != np.uint8 or array.ndim not in (2, 3) or array.shape[2:] not in ((), (3,)):
        raise InputError(
            "an image of (height, width, 3) or (height, width) uint8",
            f"{array.dtype} of shape {array.shape}",
            "convert it to grey levels 0 to 255, channels last; or set a range for thermal counts",
        )
    if not array.size:
        raise UnusableImageError(
            "an image of at least one pixel", f"shape {array.shape}", "leave it out"
        )
    if bgr and array.ndim == 3:
        array = array[..., ::-1]
    image = Image.fromarray(np.ascontiguousarray(array)).convert("RGB")
    if sensor != PLAIN:
        try:
            image = Image.fromarray(sensor.finish(np.asarray(image)))
        except InputError as error:
            raise UnusableImageError(str(error)) from None
    return _fit(image, height, width)


def _fit(image: Image.Image, height: int, width: int) -> np.ndarray:
    return np.asarray(image.resize((width, height), Image.Resampling.BICUBIC))

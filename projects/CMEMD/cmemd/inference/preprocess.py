"""From an image file or an array to what the graphs take: uint8 RGB at the model's size.

The same bytes as evaluation's transform: RGB by Pillow, then Pillow's bicubic resize, which
ignores the aspect ratio. As in evaluation, alpha is dropped and an EXIF orientation is not
followed: surveillance crops have none, and a turned person is none that the network knows. Rotate
such photographs first.
"""

from pathlib import Path

import numpy as np
from PIL import Image

from cmemd.data.images import read_rgb
from cmemd.errors import InputError

__all__ = ["UnusableImageError", "from_array", "read_image"]


class UnusableImageError(InputError):
    """One image cannot be embedded; others can."""


def read_image(path: Path | str, height: int, width: int) -> np.ndarray:
    """Read an image file.

    Args:
        path: Any file that Pillow reads; of several frames, the first.
        height: Of the model's input, in pixels.
        width: Likewise.

    Returns:
        ``(height, width, 3)`` uint8 RGB.

    Raises:
        UnusableImageError: The file is missing, truncated, no image, or of more than 8 bits in a
            single channel.
    """
    try:
        return _fit(read_rgb(path), height, width)
    except InputError as error:
        raise UnusableImageError(str(error)) from None


def from_array(array: np.ndarray, bgr: bool, height: int, width: int) -> np.ndarray:
    """Take an image that is in memory already.

    Args:
        array: ``(h, w, 3)`` uint8, or ``(h, w)`` for a grey image.
        bgr: Whether the channels are blue, green, red (OpenCV) rather than RGB.
        height: Of the model's input, in pixels.
        width: Likewise.

    Returns:
        ``(height, width, 3)`` uint8 RGB.

    Raises:
        InputError: The array is of another shape or type, or ``bgr`` does not say.
        UnusableImageError: It has no pixel.
    """
    if not isinstance(bgr, bool):
        raise InputError(
            f"expected bgr=True (OpenCV's channel order) or bgr=False (RGB) with arrays; got "
            f"{bgr!r}; say which they are"
        )
    if array.dtype != np.uint8 or array.ndim not in (2, 3) or array.shape[2:] not in ((), (3,)):
        raise InputError(
            f"expected an image of (height, width, 3) or (height, width) uint8; got {array.dtype} "
            f"of shape {array.shape}; convert it to grey levels 0 to 255, channels last"
        )
    if not array.size:
        raise UnusableImageError(
            f"expected an image of at least one pixel; got shape {array.shape}; leave it out"
        )
    if bgr and array.ndim == 3:
        array = array[..., ::-1]
    return _fit(Image.fromarray(np.ascontiguousarray(array)).convert("RGB"), height, width)


def _fit(image: Image.Image, height: int, width: int) -> np.ndarray:
    return np.asarray(image.resize((width, height), Image.Resampling.BICUBIC))

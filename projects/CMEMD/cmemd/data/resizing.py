"""Resize pixels: one function for training, evaluation, export and inference.

An image always takes the whole of its new size, whatever its shape was.
"""

import importlib.util
from collections.abc import Callable

import numpy as np
from PIL import Image

from cmemd.errors import InputError

__all__ = ["DEFAULT_RESIZE", "RESIZES", "check_resize", "resize"]


def _pillow(pixels: np.ndarray, height: int, width: int) -> np.ndarray:
    """Return what fast-reid's transforms give: bicubic, which averages where it shrinks.

    Of three equal channels, as thermal images have, one is resized: Pillow treats each by itself.
    """
    grey = _only_channel(pixels)
    image = Image.fromarray(pixels if grey is None else grey)
    resized = np.asarray(image.resize((width, height), Image.Resampling.BICUBIC))
    if grey is None:
        return resized
    result = np.empty((height, width, 3), np.uint8)
    for channel in range(3):  # half the time of numpy.repeat
        result[..., channel] = resized
    return result


def _only_channel(pixels: np.ndarray) -> np.ndarray | None:
    """Return one of three equal channels; None of other pixels, mostly after a look at a row."""
    for part in (pixels[:1], pixels):
        red = np.ascontiguousarray(part[..., 0])
        if not ((red == part[..., 1]).all() and (red == part[..., 2]).all()):
            return None
    return red


def _opencv(pixels: np.ndarray, height: int, width: int) -> np.ndarray:
    """Return OpenCV's bicubic, which looks at 4 x 4 pixels: shrinking by far may alias."""
    import cv2  # an extra, and slow to import

    cv2.setNumThreads(0)  # workers share the cores already; its threads do not survive a fork
    return cv2.resize(pixels, (width, height), interpolation=cv2.INTER_CUBIC)


# INPUT.RESIZE -> function of pixels (h, w, 3) uint8, height and width.
RESIZES: dict[str, Callable[[np.ndarray, int, int], np.ndarray]] = {
    "pillow": _pillow,
    "opencv": _opencv,
}
DEFAULT_RESIZE = "pillow"


def resize(pixels: np.ndarray, height: int, width: int, kernel: str) -> np.ndarray:
    """Return pixels (h, w, 3) uint8 at another size, (height, width, 3).

    Args:
        pixels: of an image.
        height: the new one.
        width: the new one.
        kernel: a key of ``RESIZES``.
    """
    return RESIZES[kernel](pixels, height, width)


def check_resize(kernel: str) -> None:
    """Raise unless this machine has the library of a kernel.

    Raises:
        InputError: OpenCV is not installed.
    """
    if kernel == "opencv" and importlib.util.find_spec("cv2") is None:
        raise InputError(
            "OpenCV for INPUT.RESIZE opencv",
            "no package cv2",
            "run `pip install opencv-python-headless`, or leave the key out",
        )

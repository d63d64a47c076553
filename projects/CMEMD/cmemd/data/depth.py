"""Find how many bits a channel of an image has, and read counts of more than 8.

Pillow opens some such images as if they had 8 bits: of three channels of 16 bits it keeps the high
byte, and it stretches the counts of a PGM file. So the depth is read from the file's own header.
"""

import re
from pathlib import Path

import numpy as np
from PIL import Image
from PIL.TiffImagePlugin import TiffImageFile

from cmemd.errors import InputError

__all__ = ["bits_of", "pnm_header", "read_counts"]

# Magic number, width, height and most count of a binary PGM or PPM; comments run to a line's end.
_GAP = rb"(?:\s|#[^\r\n]*[\r\n])+"
_PNM = re.compile(rb"(P[2356])" + _GAP + rb"(\d+)" + _GAP + rb"(\d+)" + _GAP + rb"(\d+)(?=\s)")
_HEADER = 4096  # bytes in which the header of a PGM ends [C]
_PNG_DEPTH = 24  # place of the depth in a PNG
_BITS_PER_SAMPLE, _ORIENTATION = 258, 274  # tags of TIFF


def bits_of(data: bytes, image: Image.Image) -> int:
    """Return the bits of a channel of an opened image, as its file has them.

    Args:
        data: content of the file.
        image: what Pillow opened of it.
    """
    if image.format == "PNG":
        return data[_PNG_DEPTH]
    if isinstance(image, TiffImageFile):
        bits: tuple[int, ...] = image.tag_v2.get(_BITS_PER_SAMPLE, (1,))
        return max(bits)
    if image.format == "PPM" and (header := pnm_header(data)) is not None:
        return header[3].bit_length()
    return 32 if image.mode.startswith(("I", "F")) else 8


def pnm_header(data: bytes) -> tuple[bytes, int, int, int, int] | None:
    """Return magic number, width, height, most count and place of the pixels of a PGM or PPM."""
    found = _PNM.match(data[:_HEADER])
    if found is None:
        return None
    width, height, most = (int(number) for number in found.groups()[1:])
    return found[1], width, height, most, found.end() + 1


def read_counts(data: bytes, image: Image.Image, path: Path | str) -> np.ndarray:
    """Return the counts of an image of more than 8 bits, (H, W), as the file has them.

    Args:
        data: content of the file.
        image: what Pillow opened of it, of checked size.
        path: for messages.

    Raises:
        InputError: its channels differ, its kind cannot be read here, or OpenCV is missing.
    """
    if image.format == "PPM" and image.mode != "F":
        counts = _pnm_counts(data, path)
    elif image.mode.startswith(("I", "F")):
        counts = np.asarray(image)
    else:
        counts = _by_opencv(data, path)
    if counts.ndim == 2:
        return counts
    grey, *others = np.moveaxis(counts, -1, 0)[:3]  # a fourth is alpha
    if any((grey != other).any() for other in others):
        raise InputError(
            f"a thermal image of one channel, or of equal ones, in {path}",
            f"{counts.shape[-1]} different channels of more than 8 bits",
            "save the camera's counts as one channel",
        )
    return np.ascontiguousarray(grey)


def _pnm_counts(data: bytes, path: Path | str) -> np.ndarray:
    header = pnm_header(data)
    if header is None or header[0] not in (b"P5", b"P6"):
        raise InputError(
            f"a binary PGM (P5) of more than 8 bits in {path}",
            "another kind of PGM or PPM",
            "save it as P5, PNG or TIFF",
        )
    magic, width, height, _, start = header
    channels = 1 if magic == b"P5" else 3
    number = width * height * channels
    if len(data) - start < 2 * number:
        raise ValueError(f"{len(data) - start} bytes of pixels instead of {2 * number}")
    counts = np.frombuffer(data, ">u2", number, start).astype(np.uint16)
    return counts.reshape(height, width, *([] if channels == 1 else [channels]))


def _by_opencv(data: bytes, path: Path | str) -> np.ndarray:
    """Return counts of several channels, which Pillow cannot give."""
    try:
        import cv2  # an extra, and slow to import
    except ImportError:
        raise InputError(
            f"OpenCV, to read the channels of more than 8 bits in {path}",
            "no package cv2",
            "run `pip install opencv-python-headless`, or save the counts as one channel",
        ) from None
    counts = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    if counts is None:
        raise ValueError("several channels of more than 8 bits, which OpenCV cannot decode")
    return counts

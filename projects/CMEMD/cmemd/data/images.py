"""Image files: list them, check that they are whole, read one, and measure its chroma."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

import numpy as np
from PIL import Image

from cmemd.errors import InputError

__all__ = ["check_images", "chroma", "has_jpeg_end", "list_images", "read_rgb"]

_SUFFIXES = {".jpg", ".jpeg", ".png", ".bmp"}
_JPEG_SCAN, _JPEG_END = b"\xff\xda", b"\xff\xd9"
# There is no agreed way from more than 8 bits down to 8: Pillow clips 16-bit grey at 255, and each
# data set maps a thermal camera's counts to grey levels in its own way.
_DEEP_MODES = ("I", "F")
_RESTORE = "restore it, or leave it out"


def list_images(folder: Path) -> list[Path]:
    """Return a folder's image files, sorted by name; skip hidden and other files (Thumbs.db)."""
    return sorted(
        path
        for path in folder.iterdir()
        if path.suffix.lower() in _SUFFIXES and not path.name.startswith(".")
    )


def check_images(paths: Iterable[Path | str]) -> None:
    """Raise unless every file is a whole image of 8 bits; whole JPEGs are not decoded.

    Raises:
        InputError: names the first file that is no image, cut short or too deep.
    """
    for path in paths:
        with _naming(path), open(path, "rb") as file, Image.open(file) as image:
            _check_depth(path, image)
            if image.format != "JPEG":
                image.load()
            elif not has_jpeg_end(file):
                raise InputError(f"an image in {path}", "a JPEG whose end is missing", _RESTORE)


def read_rgb(path: Path | str) -> Image.Image:
    """Return an image in RGB; a grey or thermal image gets three equal channels.

    Raises:
        InputError: names a file that is missing, truncated, no image, or has more than 8 bits in a
            single channel.
    """
    with _naming(path), Image.open(path) as image:
        _check_depth(path, image)
        return image.convert("RGB")


def chroma(image: np.ndarray) -> float:
    """Return how far an image's channels differ: mean over pixels of the largest minus the least.

    Args:
        image: ``(H, W, 3)`` uint8.

    Returns:
        Grey levels, 0 for a grey image to 255.
    """
    red, green, blue = np.moveaxis(image, -1, 0)
    # Twenty times as fast as max(axis=-1): rows of three are no work for a vector unit.
    highest = np.maximum(np.maximum(red, green), blue)
    return float((highest - np.minimum(np.minimum(red, green), blue)).mean())


def has_jpeg_end(file: BinaryIO) -> bool:
    """Return whether a JPEG has an end marker after its last start of scan.

    A file that was cut has none, even if its missing end was filled with other bytes. A thumbnail's
    end marker comes before the scan, and padding may follow the end.
    """
    file.seek(0)
    data = file.read()
    return data.rfind(_JPEG_END) > data.rfind(_JPEG_SCAN)


@contextmanager
def _naming(path: Path | str) -> Iterator[None]:
    """Turn any failure of a decoder into an error that names the file."""
    try:
        yield
    except InputError:
        raise
    except Exception as error:  # noqa: BLE001  decoders fail in many ways; all mean bad bytes
        reason = " ".join(str(error).split())[:120]
        raise InputError(
            f"an image in {path}",
            f"a file that is truncated, missing or no image ({reason})",
            _RESTORE,
        ) from None


def _check_depth(path: Path | str, image: Image.Image) -> None:
    if image.mode.startswith(_DEEP_MODES):
        raise InputError(
            f"8 bits a channel in {path}",
            f"mode {image.mode}",
            "convert it to grey levels 0 to 255, like the images that the model was trained on",
        )

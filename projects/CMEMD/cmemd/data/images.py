"""Image files: which there are, whether they are whole, and reading one."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from PIL import Image

from cmemd.errors import InputError

__all__ = ["check_images", "list_images", "read_rgb"]

_SUFFIXES = {".jpg", ".jpeg", ".png", ".bmp"}
_JPEG_END = b"\xff\xd9"
# Beyond 8 bits there is no agreed way down: Pillow clips 16-bit grey at 255, and how a thermal
# camera's counts become grey levels is a choice of whoever made the data set.
_DEEP_MODES = ("I", "F")
_TAIL = 64  # bytes in which a whole JPEG ends; some cameras pad behind the marker


def list_images(folder: Path) -> list[Path]:
    """Image files of a folder, sorted by name; hidden files and others (Thumbs.db) left out."""
    return sorted(
        path
        for path in folder.iterdir()
        if path.suffix.lower() in _SUFFIXES and not path.name.startswith(".")
    )


def check_images(paths: Iterable[Path | str]) -> None:
    """Finds files that are no image, cut short or too deep, without decoding the whole ones.

    Raises:
        InputError: names the first such file.
    """
    for path in paths:
        with _naming(path), open(path, "rb") as file, Image.open(file) as image:
            _check_depth(path, image)
            if image.format != "JPEG" or not _ends_like_a_jpeg(file):
                image.load()


def read_rgb(path: Path | str) -> Image.Image:
    """An image in RGB; the three channels of a grey or thermal one are equal.

    Raises:
        InputError: if the file is missing, truncated, no image, or of more than 8 bits in a single
            channel; names it.
    """
    with _naming(path), Image.open(path) as image:
        _check_depth(path, image)
        return image.convert("RGB")


@contextmanager
def _naming(path: Path | str) -> Iterator[None]:
    """Any failure of a decoder as an error that names the file."""
    try:
        yield
    except InputError:
        raise
    except Exception as error:  # noqa: BLE001  decoders fail in many ways; all mean bad bytes
        raise InputError(
            f"expected an image in {path}, got a file that is truncated, missing or no image "
            f"({' '.join(str(error).split())[:120]}): restore it, or leave it out"
        ) from None


def _check_depth(path: Path | str, image: Image.Image) -> None:
    if image.mode.startswith(_DEEP_MODES):
        raise InputError(
            f"expected 8 bits a channel in {path}, got mode {image.mode}: convert it to grey "
            "levels 0 to 255, as all images of the model's training"
        )


def _ends_like_a_jpeg(file) -> bool:
    """Whether the end-of-image marker is in the file's last bytes; leaves the position alone."""
    position = file.tell()
    file.seek(0, 2)
    file.seek(max(0, file.tell() - _TAIL))
    tail = file.read()
    file.seek(position)
    return _JPEG_END in tail

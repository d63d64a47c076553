"""Read an image, check that it is whole, and measure its chroma.

What only the content of a file shows, beside the rules of ``cmemd.data.image_files``:

==================================== =========================== ===============================
an image with                        training, evaluation,       embedding and searching
                                     export and ``doctor``
==================================== =========================== ===============================
no decodable content                 refused                     skipped and counted
more than 50 megapixels or 256 MiB   refused, never decoded      skipped and counted, as before
more than 8 bits a channel           refused                     skipped and counted
several frames                       refused                     the first is used; counted
an EXIF orientation                  ignored; counted            ignored; counted
==================================== =========================== ===============================

``CMEMD_MAX_MEGAPIXELS`` sets another limit than 50. A header says how large an image is, so nothing
is decoded to know that.
"""

import io
import logging
import os
import stat
import struct
import zlib
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import simplejpeg
from PIL import Image, TiffImagePlugin, UnidentifiedImageError, WebPImagePlugin  # noqa: F401

from cmemd.data.boxes import Box, outside
from cmemd.data.image_files import Reason, Tally, find_images, list_images
from cmemd.data.items import ImageItem
from cmemd.errors import InputError, exhausted

__all__ = [
    "check_images",
    "check_items",
    "chroma",
    "crop",
    "damage",
    "decode_pixels",
    "find_images",
    "has_jpeg_end",
    "is_doubtful",
    "list_images",
    "max_pixels",
    "open_image",
    "peculiarities",
    "read_bytes",
    "read_pixels",
    "read_rgb",
]

# Formats that are read, whatever the file's extension says. Pillow knows more, some of which run
# other programs.
_FORMATS = ("JPEG", "PNG", "BMP", "GIF", "TIFF", "WEBP")
_MEGAPIXELS = 50
_MAX_BYTES = 2**28  # 50 megapixels of 32 bits fit
_JPEG_START, _JPEG_SCAN, _JPEG_END = b"\xff\xd8\xff", b"\xff\xda", b"\xff\xd9"
# Colours and subsamplings that a test compares with Pillow.
_USUAL = {("YCbCr", name) for name in ("444", "422", "420", "440")} | {("Gray", "Gray")}
_PROGRESSIVE, _SCAN = 0xC2, 0xDA
_NO_SEGMENT = frozenset((0x00, 0x01, 0xFF, *range(0xD0, 0xDA)))
_PNG_START = b"\x89PNG\r\n\x1a\n"
_ORIENTATION = 0x0112
# There is no agreed way from more than 8 bits down to 8: Pillow clips 16-bit grey at 255, and each
# data set maps a thermal camera's counts to grey levels in its own way.
_DEEP_MODES = ("I", "F")
_RESTORE = "restore it, or leave it out"
# libjpeg-turbo's words for what it cannot decode, although other decoders can.
_UNSUPPORTED = ("Unsupported color", "Could not determine subsampling", "Sorry")

_logger = logging.getLogger(__name__)

Image.preinit()


def check_items(items: Iterable[ImageItem]) -> None:
    """Raise unless ``check_images`` accepts every file, and every box lies in its frame.

    A file is read once, however many boxes it has.

    Raises:
        InputError: see ``check_images``; or names the first box outside, with its list and row.
    """
    by_path: dict[str, list[ImageItem]] = defaultdict(list)
    for item in items:
        by_path[item.path].append(item)

    def check_boxes(path: Path | str, width: int, height: int) -> None:
        for item in by_path[path]:
            if item.box is not None and outside(item.box, width, height):
                raise InputError(
                    f"a box in the {width} x {height} pixels of {path} ({item.source})",
                    f"x, y, w, h {item.box}",
                    "clip it to the frame, or remove the row",
                )

    check_images(by_path, check_boxes)


def check_images(
    paths: Iterable[Path | str], on_size: Callable[[Path | str, int, int], None] | None = None
) -> None:
    """Raise unless every file is a whole image of 8 bits and one frame; log what is ignored.

    Fast enough for the start of a training: a JPEG's header and end are read, and it is not
    decoded. So bytes that changed in the middle of a JPEG are not found; ``cmemd doctor`` finds
    some of these, and with ``--sums`` all of them.

    Args:
        paths: of the files.
        on_size: takes each file, its width and its height.

    Raises:
        InputError: names the first file that is no image, cut short, too large or too deep, or has
            several frames.
    """
    tally = Tally()
    for path in paths:
        with _naming(path):
            data = read_bytes(path)
            image = open_image(data, path)
            if on_size is not None:
                on_size(path, *image.size)
            for reason in peculiarities(image):
                if reason is Reason.FRAMES:
                    raise InputError(
                        f"one frame in {path}", "several", "save the one that counts by itself"
                    )
                tally.add(reason, path)
            if image.format != "JPEG":
                image.load()
                problem = damage(data, image.format)
            elif has_jpeg_end(data):
                problem = None
            else:  # or a camera's own data follows, which looks like the start of another scan
                problem = damage(data, "JPEG") and "a JPEG whose end is missing"
            if problem:
                raise InputError(f"an image in {path}", problem, _RESTORE)
    for line in tally.lines():
        _logger.warning(line)


def read_rgb(path: Path | str, tally: Tally | None = None, box: Box | None = None) -> Image.Image:
    """Return an image, or the part of it in a box, in RGB, as ``read_pixels`` and ``crop`` do."""
    return Image.fromarray(crop(read_pixels(path, tally), box))


def read_pixels(path: Path | str, tally: Tally | None = None) -> np.ndarray:
    """Return the pixels of an image in RGB; a grey or thermal image gets three equal channels.

    The bytes are Pillow's. A JPEG of a usual kind is decoded by simplejpeg, which gives the same
    ones faster.

    Args:
        path: of the file; of several frames, the first is read.
        tally: takes what is peculiar. With a tally, a damaged image raises; without, an image is
            returned wherever Pillow decodes one, because whole data was checked before.

    Returns:
        (H, W, 3) uint8, which may not be writable.

    Raises:
        InputError: names a file that is missing, truncated, no image, or has too many pixels or
            more than 8 bits in a single channel.
    """
    with _naming(path):
        return _pixels(read_bytes(path), path, tally)


def decode_pixels(
    data: bytes, name: str, tally: Tally | None = None, most: int | None = None
) -> np.ndarray:
    """Return the pixels of an image in memory, as ``read_pixels`` does of a file.

    Args:
        data: content of an image file.
        name: of the image, for messages.
        tally: as of ``read_pixels``.
        most: a lower limit of pixels than ``max_pixels``; nothing is decoded above it.

    Returns:
        (H, W, 3) uint8, which may not be writable.

    Raises:
        InputError: as ``read_pixels``.
    """
    with _naming(name):
        if most is not None:
            image = open_image(data, name)
            if image.width * image.height > most:
                raise InputError(
                    f"at most {most:,} pixels in {name}",
                    f"{image.width} x {image.height}",
                    "reduce it, or cut out the person",
                )
        return _pixels(data, name, tally)


def crop(pixels: np.ndarray, box: Box | None) -> np.ndarray:
    """Return the part of a frame that a box holds; the frame itself without a box.

    Args:
        pixels: ``(H, W, 3)``.
        box: in the frame, or None.

    Raises:
        InputError: the box leaves the frame.
    """
    if box is None:
        return pixels
    height, width = pixels.shape[:2]
    if outside(box, width, height):
        raise InputError(f"a box in {width} x {height} pixels", f"x, y, w, h {box}", "clip it")
    part = pixels[box.y : box.y + box.height, box.x : box.x + box.width]
    return np.ascontiguousarray(part)  # decoders and resizers want whole rows


def read_bytes(path: Path | str) -> bytes:
    """Return the content of an image file; never wait for a pipe, and read a bounded number.

    Raises:
        InputError: it is no regular file, or longer than any image of ``max_pixels`` is.
        OSError: it cannot be read.
    """
    status = os.stat(path)
    if not stat.S_ISREG(status.st_mode):
        raise InputError(
            f"an image in {path}", "a folder (directory), pipe, socket or device", "leave it out"
        )
    if status.st_size > _MAX_BYTES:
        raise InputError(
            f"at most {_MAX_BYTES:,} bytes in {path}", f"{status.st_size:,}", "leave it out"
        )
    with open(path, "rb") as file:
        return file.read(status.st_size)  # memory for as many bytes is taken at once


def open_image(data: bytes, path: Path | str) -> Image.Image:
    """Return an image of checked size and depth, not decoded yet.

    Pillow's own limit only warns, and this one raises: so its checks are passed over.

    Args:
        data: content of the file.
        path: for messages.

    Raises:
        InputError: too many pixels, or more than 8 bits in a single channel.
        Exception: what Pillow raises for bad bytes.
    """
    for name in _FORMATS:
        factory, accept = Image.OPEN[name]
        if accept is not None and accept(data[:16]) is True:
            image = factory(io.BytesIO(data), os.fspath(path))
            break
    else:
        raise UnidentifiedImageError("no JPEG, PNG, BMP, GIF, TIFF or WebP")
    if image.width * image.height > max_pixels():
        raise InputError(
            f"at most {max_pixels():,} pixels in {path}",
            f"{image.width} x {image.height}",
            "reduce it, leave it out, or set CMEMD_MAX_MEGAPIXELS",
        )
    if image.mode.startswith(_DEEP_MODES):
        raise InputError(
            f"8 bits a channel in {path}",
            f"mode {image.mode}",
            "convert it to grey levels 0 to 255, like the images that the model was trained on",
        )
    return image


def max_pixels() -> int:
    """Return the most pixels of an image that is decoded.

    Raises:
        InputError: ``CMEMD_MAX_MEGAPIXELS`` is no positive number.
    """
    text = os.getenv("CMEMD_MAX_MEGAPIXELS", str(_MEGAPIXELS))
    if not text.isdecimal() or not 0 < int(text) <= 10**6:
        raise InputError("CMEMD_MAX_MEGAPIXELS from 1 to 1000000", repr(text), "correct it")
    return int(text) * 10**6


def peculiarities(image: Image.Image) -> list[Reason]:
    """Return what is ignored of an opened image: frames after the first, and an orientation."""
    found = []
    if getattr(image, "is_animated", False):
        found.append(Reason.FRAMES)
    if _orientation(image) in range(2, 9):
        found.append(Reason.ROTATED)
    return found


def damage(data: bytes, form: str | None) -> str | None:
    """Return what a strict decoder objects to in a JPEG or the checksums of a PNG, or None.

    A JPEG holds no checksum. Found are a missing end, also one that was filled or closed with an
    end marker, and changed bytes after which the data no longer adds up. Changed bytes after which
    it still does give another picture, and cannot be told from the right one.

    Args:
        data: content of the file.
        form: Pillow's name of the format.
    """
    if form in ("JPEG", "MPO"):
        return _jpeg_damage(data)
    return _png_damage(data) if form == "PNG" else None


def is_doubtful(problem: str) -> bool:
    """Return whether a whole JPEG may show this problem: bytes that belong to nothing.

    Many cameras write a few before the end; where data was damaged, some are left over as well.
    """
    return "extraneous" in problem


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


def has_jpeg_end(data: bytes) -> bool:
    """Return whether a JPEG has an end marker after its last start of scan.

    A file that was cut has none, even if its missing end was filled with other bytes. A thumbnail's
    end marker comes before the scan, and padding may follow the end.
    """
    return 0 <= data.rfind(_JPEG_SCAN) < data.rfind(_JPEG_END)


@contextmanager
def _naming(path: Path | str) -> Iterator[None]:
    """Turn any failure of a decoder into an error that names the file."""
    try:
        yield
    except InputError:
        raise
    except Exception as error:  # decoders fail in many ways; nearly all mean bad bytes
        if exhausted(error):
            raise
        reason = " ".join(str(error).split())[:120]
        raise InputError(
            f"an image in {path}",
            f"a file that is truncated, missing or no image ({reason})",
            _RESTORE,
        ) from None


def _pixels(data: bytes, name: Path | str, tally: Tally | None) -> np.ndarray:
    pixels = _usual_jpeg(data)
    if pixels is not None and tally is None:
        return pixels
    image = open_image(data, name)
    whole = pixels is not None and _has_all_scans(data)
    if pixels is None:
        pixels = np.asarray(image.convert("RGB"))
    if tally is not None:
        _inspect(name, data, image, tally, whole)
    return pixels


def _usual_jpeg(data: bytes) -> np.ndarray | None:
    """Return the RGB pixels of a JPEG that simplejpeg decodes as Pillow does; None of any other.

    Other kinds are left to Pillow: CMYK and RGB JPEGs, rare subsamplings, whatever a strict decoder
    objects to, and images of too many pixels, about which ``open_image`` raises.
    """
    if not data.startswith(_JPEG_START):
        return None
    try:
        height, width, colours, subsampling = simplejpeg.decode_jpeg_header(data)
        if (colours, subsampling) in _USUAL and height * width <= max_pixels():
            return simplejpeg.decode_jpeg(data, "RGB", strict=True)
    except ValueError:
        pass
    return None


def _inspect(path: Path | str, data: bytes, image: Image.Image, tally: Tally, whole: bool) -> None:
    """Count an image's peculiarities; raise if it is damaged and not known to be whole."""
    for reason in peculiarities(image):
        tally.add(reason, path)
    problem = None if whole else damage(data, image.format)
    if problem and is_doubtful(problem):
        tally.add(Reason.DOUBTFUL, path)
    elif problem:
        raise InputError(f"an image in {path}", f"a damaged one ({problem})", _RESTORE)


def _jpeg_damage(data: bytes) -> str | None:
    try:
        # An eighth of the size reads all of the data, in less time.
        simplejpeg.decode_jpeg(data, "RGB", min_height=1, min_width=1, min_factor=8, strict=True)
    except ValueError as error:
        if not any(words in str(error) for words in _UNSUPPORTED):
            return str(error)
        return None if has_jpeg_end(data) else "the end of the JPEG is missing"
    return None if _has_all_scans(data) else "the last scans of a progressive JPEG are missing"


def _has_all_scans(data: bytes) -> bool:
    """Return whether a JPEG's scans bring every coefficient to its full precision.

    A progressive JPEG that was cut between two scans is a valid, blurred one. Other JPEGs have a
    scan for all at once.
    """
    missing: dict[int, set[int]] = {}  # component -> coefficients that are not exact yet
    at = 2
    while at + 4 <= len(data) and data[at : at + 2] != _JPEG_END:
        if data[at] != 0xFF or data[at + 1] in _NO_SEGMENT:  # pixel data, or padding
            at = data.find(b"\xff", at + 1)
            if at < 0:
                break
            continue
        marker, (length,) = data[at + 1], struct.unpack(">H", data[at + 2 : at + 4])
        segment = data[at + 4 : at + 2 + length]
        if marker == _PROGRESSIVE:
            missing = {segment[6 + 3 * n]: set(range(64)) for n in range(segment[5])}
        elif marker == _SCAN:
            if not missing:
                return True
            count = segment[0]
            first, last, precision = segment[1 + 2 * count : 4 + 2 * count]
            if precision & 15 == 0:
                for n in range(count):
                    missing[segment[1 + 2 * n]] -= set(range(first, last + 1))
        at += 2 + length
    return not any(missing.values())


def _png_damage(data: bytes) -> str | None:
    """Return the first fault in a PNG's chunks; Pillow passes over the checksums of the pixels."""
    at = len(_PNG_START)
    while at + 12 <= len(data):
        length, kind = struct.unpack(">I4s", data[at : at + 8])
        end = at + 8 + length
        if data[end : end + 4] != struct.pack(">I", zlib.crc32(data[at + 4 : end])):
            return f"a wrong checksum of PNG chunk {kind.decode('ascii', 'replace')}"
        if kind == b"IEND":
            return None
        at = end + 4
    return "the end of the PNG is missing"


def _orientation(image: Image.Image) -> int:
    """Return the EXIF orientation, 1 if there is none that can be read.

    Pillow's own reader warns of each oddity in other fields. It turns a TIFF itself.
    """
    exif = image.info.get("exif") or b""
    exif = exif.removeprefix(b"Exif\0\0")
    order = {b"II": "<", b"MM": ">"}.get(exif[:2])
    if order is None:
        return 1
    try:
        (first,) = struct.unpack_from(f"{order}I", exif, 4)
        (fields,) = struct.unpack_from(f"{order}H", exif, first)
        for number in range(fields):
            tag, _, _, value = struct.unpack_from(f"{order}HHIH", exif, first + 2 + 12 * number)
            if tag == _ORIENTATION:
                return value
    except struct.error:
        pass
    return 1

"""Read an image, check that it is whole, and measure its chroma.

What only the content of a file shows, beside the rules of ``cmemd.data.image_files``:

==================================== =========================== ===============================
an image with                        training, evaluation,       embedding and searching
                                     export and ``doctor``
==================================== =========================== ===============================
no decodable content                 refused                     skipped and counted
more than 50 megapixels or 256 MiB   refused, never decoded      skipped and counted, as before
more than 8 bits a channel, visible  refused                     skipped and counted
more than 8 bits a channel, thermal  refused without a range     skipped and counted without one
several frames                       refused                     the first is used; counted
an EXIF orientation                  applied; counted            applied; counted
FLIR's radiometric data in a JPEG    8-bit picture used; counted 8-bit picture used; counted
that, and a range is set             refused                     skipped and counted
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
from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import simplejpeg
from PIL import (
    Image,
    PpmImagePlugin,  # noqa: F401
    TiffImagePlugin,  # noqa: F401
    UnidentifiedImageError,
    WebPImagePlugin,  # noqa: F401
)
from PIL.TiffImagePlugin import TiffImageFile

from cmemd.data.boxes import Box, outside
from cmemd.data.depth import bits_of, read_counts
from cmemd.data.image_files import Reason, Tally, find_images, list_images
from cmemd.data.items import ImageItem
from cmemd.data.sensors import PLAIN, Sensor
from cmemd.errors import InputError, exhausted

__all__ = [
    "check_images",
    "check_items",
    "chroma",
    "crop",
    "damage",
    "decode",
    "decode_pixels",
    "find_images",
    "has_jpeg_end",
    "is_doubtful",
    "is_wide",
    "list_images",
    "max_pixels",
    "note_wide",
    "open_image",
    "orientation_of",
    "peculiarities",
    "read_bytes",
    "read_pixels",
    "read_rgb",
    "seen_size",
    "turned",
]

# Formats that are read, whatever the file's extension says. Pillow knows more, some of which run
# other programs.
_FORMATS = ("JPEG", "PNG", "BMP", "GIF", "TIFF", "WEBP", "PPM")
_PORTABLE = (b"P1", b"P2", b"P3", b"P4", b"P5", b"P6", b"Pf")  # Pillow's PPM takes others, too
_MEGAPIXELS = 50
_MAX_BYTES = 2**28  # 50 megapixels of 32 bits fit
_JPEG_START, _JPEG_SCAN, _JPEG_END = b"\xff\xd8\xff", b"\xff\xda", b"\xff\xd9"
# Colours and subsamplings that a test compares with Pillow.
_USUAL = {("YCbCr", name) for name in ("444", "422", "420", "440")} | {("Gray", "Gray")}
_PROGRESSIVE, _SCAN = 0xC2, 0xDA
_NO_SEGMENT = frozenset((0x00, 0x01, 0xFF, *range(0xD0, 0xDA)))
_SEVERAL = b"MPF\0"  # names the other pictures of a JPEG of several
_PNG_START = b"\x89PNG\r\n\x1a\n"
_PNG_EXIF = b"eXIf"
_STRIPS = (273, 279)  # starts and lengths of a TIFF's parts
_CONVERTED, _EVERY = 1000, 64  # images that a start converts as a sample [C]
_APP1 = 0xE1  # the JPEG segment of EXIF and of FLIR
_EXIF, _FLIR = b"Exif\0\0", b"FLIR\0"
_ORIENTATION = 0x0112
_ASIDE = range(5, 9)  # orientations that exchange width and height
_TURNS: dict[int, Callable[[np.ndarray], np.ndarray]] = {
    2: lambda pixels: pixels[:, ::-1],
    3: lambda pixels: pixels[::-1, ::-1],
    4: lambda pixels: pixels[::-1],
    5: lambda pixels: pixels.swapaxes(0, 1),
    6: lambda pixels: pixels[::-1].swapaxes(0, 1),
    7: lambda pixels: pixels[::-1, ::-1].swapaxes(0, 1),
    8: lambda pixels: pixels[:, ::-1].swapaxes(0, 1),
}
# An image wider than this, by its height, is no person but a frame: resizing would squeeze it [C].
_WIDEST = 1.2
_RESTORE = "restore it, or leave it out"
# libjpeg-turbo's words for what it cannot decode, although other decoders can.
_UNSUPPORTED = ("Unsupported color", "Could not determine subsampling", "Sorry")

_logger = logging.getLogger(__name__)

Image.preinit()


def check_items(items: Iterable[ImageItem], sensor: Sensor = PLAIN) -> None:
    """Raise unless ``check_images`` accepts every file, and every box lies in its frame.

    A file is read once, however many boxes it has. Images wider than a person are logged.

    Args:
        items: of both modalities.
        sensor: of the thermal ones.

    Raises:
        InputError: see ``check_images``; or names the first box outside, with its list and row.
    """
    by_path: dict[str, list[ImageItem]] = defaultdict(list)
    for item in items:
        by_path[item.path].append(item)
    tally = Tally()

    def check_boxes(path: Path | str, width: int, height: int) -> None:
        for item in by_path[str(path)]:
            note_wide(width, height, item.box, path, tally)
            if item.box is not None and outside(item.box, width, height):
                raise InputError(
                    f"a box in the {width} x {height} pixels of {path} ({item.source})",
                    f"x, y, w, h {item.box}",
                    "clip it to the frame, or remove the row",
                )

    check_images(
        by_path, check_boxes, lambda path: sensor.of(by_path[str(path)][0].modality), tally
    )


def check_images(
    paths: Iterable[Path | str],
    on_size: Callable[[Path | str, int, int], None] | None = None,
    sensor_of: Callable[[Path | str], Sensor] = lambda path: PLAIN,
    tally: Tally | None = None,
) -> None:
    """Raise unless every file is a whole image of one frame and a known range; log oddities.

    Fast enough for the start of a training: an image's header and end are read, and it is decoded
    only if these leave a doubt. So bytes that changed in the middle are not found here, save in a
    PNG, which has checksums. ``cmemd doctor`` finds some of these, and with ``--sums`` all of them.

    Counts and colours that a sensor must convert are decoded as a sample: the first 1,000 images of
    them, and every 64th after. Reading one refuses it in any case, see ``read_pixels``.

    Args:
        paths: of the files.
        on_size: takes each file, its width and its height as they are seen.
        sensor_of: returns the sensor of a file.
        tally: takes what is logged, beside what it holds.

    Raises:
        InputError: names the first file that is no image, cut short, too large or too deep, or has
            several frames, or is not of its sensor.
    """
    tally = Tally() if tally is None else tally
    converted = 0
    for path in paths:
        with _naming(path):
            data, sensor = read_bytes(path), sensor_of(path)
            image, seen = None, _whole_jpeg(data)
            if seen is None:
                image = open_image(data, path, sensor)
                _check_whole(data, image, path)
                seen = seen_size(data, image), peculiarities(data, image)
            size, reasons = seen
            if on_size is not None:
                on_size(path, *size)
            for reason in reasons:
                if reason is Reason.FRAMES:
                    raise InputError(
                        f"one frame in {path}", "several", "save the one that counts by itself"
                    )
                tally.add(reason, path)
            if _is_converted(data, image, sensor, reasons):
                converted += 1
                if converted <= _CONVERTED or converted % _EVERY == 0:
                    decode(data, image or open_image(data, path, sensor), path, sensor)
    for line in tally.lines():
        _logger.warning(line)


def _whole_jpeg(data: bytes) -> tuple[tuple[int, int], list[Reason]] | None:
    """Return seen size and peculiarities of a usual JPEG that has its end; None of any other."""
    if not data.startswith(_JPEG_START):
        return None
    scan = data.rfind(_JPEG_SCAN)
    head = data[:scan]  # a search in all of the data would take longest
    if scan < 0 or data.rfind(_JPEG_END, scan) < 0 or _SEVERAL in head:
        return None
    try:
        height, width, colours, subsampling = simplejpeg.decode_jpeg_header(data)
    except ValueError:
        return None
    if (colours, subsampling) not in _USUAL or not 0 < height * width <= max_pixels():
        return None
    turned_aside = _jpeg_orientation(head) in _ASIDE
    return (height, width) if turned_aside else (width, height), _jpeg_peculiarities(head)


def _check_whole(data: bytes, image: Image.Image, path: Path | str) -> None:
    """Raise unless an opened image is whole by its checksums or its length, or else decodes."""
    if image.format == "JPEG":
        problem = None
        if not has_jpeg_end(data):
            # or a camera's own data follows, which looks like the start of another scan
            problem = damage(data, "JPEG") and "a JPEG whose end is missing"
    else:
        problem = damage(data, image.format)
        # The orientation of a PNG may follow its pixels.
        if not problem and (_PNG_EXIF in data or not _has_its_length(data, image)):
            image.load()
    if problem:
        raise InputError(f"an image in {path}", problem, _RESTORE)


def _has_its_length(data: bytes, image: Image.Image) -> bool:
    """Return whether a file of no JPEG surely is as long as its own header says."""
    if image.format == "PNG":
        return True  # ``damage`` reads to the end
    if image.format in ("BMP", "WEBP"):
        at, more = (2, 0) if image.format == "BMP" else (4, 8)
        return 0 < struct.unpack_from("<I", data, at)[0] + more <= len(data)
    if isinstance(image, TiffImageFile):
        starts, lengths = (image.tag_v2.get(tag, ()) for tag in _STRIPS)
        return 0 < len(starts) == len(lengths) and all(
            0 < length and start + length <= len(data)
            for start, length in zip(starts, lengths, strict=True)
        )
    return False


def _is_converted(
    data: bytes, image: Image.Image | None, sensor: Sensor, reasons: Collection[Reason]
) -> bool:
    """Return whether a sensor converts an image, which may fail: counts, or false colours."""
    if sensor == PLAIN:
        return False
    deep = image is not None and bits_of(data, image) > 8
    counts = bool(sensor.range) and Reason.RADIOMETRIC in reasons
    return deep or counts or sensor.palette != PLAIN.palette


def read_rgb(
    path: Path | str,
    tally: Tally | None = None,
    box: Box | None = None,
    sensor: Sensor = PLAIN,
) -> Image.Image:
    """Return an image, or the part of it in a box, in RGB, as ``read_pixels`` and ``crop`` do."""
    pixels = crop(read_pixels(path, tally, sensor), box)
    if tally is not None:
        note_wide(pixels.shape[1], pixels.shape[0], None, path, tally)
    return Image.fromarray(pixels)


def read_pixels(path: Path | str, tally: Tally | None = None, sensor: Sensor = PLAIN) -> np.ndarray:
    """Return the pixels of an image in RGB; a grey or thermal image gets three equal channels.

    Without a sensor the bytes are Pillow's, turned as EXIF says. A JPEG of a usual kind is decoded
    by simplejpeg, which gives the same ones faster.

    Args:
        path: of the file; of several frames, the first is read.
        tally: takes what is peculiar. With a tally, a damaged image raises; without, an image is
            returned wherever Pillow decodes one, because whole data was checked before.
        sensor: of the image's modality.

    Returns:
        (H, W, 3) uint8, which may not be writable.

    Raises:
        InputError: names a file that is missing, truncated, no image, or has too many pixels, or
            more than 8 bits a channel without a range, or colours of no palette.
    """
    with _naming(path):
        return _pixels(read_bytes(path), path, tally, sensor)


def decode_pixels(
    data: bytes,
    name: str,
    tally: Tally | None = None,
    sensor: Sensor = PLAIN,
    most: int | None = None,
) -> np.ndarray:
    """Return the pixels of an image in memory, as ``read_pixels`` does of a file.

    Args:
        data: content of an image file.
        name: of the image, for messages.
        tally: as of ``read_pixels``.
        sensor: as of ``read_pixels``.
        most: a lower limit of pixels than ``max_pixels``; nothing is decoded above it.

    Returns:
        (H, W, 3) uint8, which may not be writable.

    Raises:
        InputError: as ``read_pixels``.
    """
    with _naming(name):
        if most is not None:
            image = open_image(data, name, sensor)
            if image.width * image.height > most:
                raise InputError(
                    f"at most {most:,} pixels in {name}",
                    f"{image.width} x {image.height}",
                    "reduce it, or cut out the person",
                )
        return _pixels(data, name, tally, sensor)


def decode(data: bytes, image: Image.Image, path: Path | str, sensor: Sensor = PLAIN) -> np.ndarray:
    """Return the pixels of an opened image as they are seen: (H, W, 3) uint8 RGB.

    Args:
        data: content of the file.
        image: of ``open_image`` with the same sensor.
        path: for messages.
        sensor: of the image's modality.

    Raises:
        InputError: its counts or colours are not those of the sensor.
        Exception: what a decoder raises for bad bytes.
    """
    if bits_of(data, image) <= 8:
        pixels = np.asarray(image.convert("RGB"))
        return _finished(turned(pixels, orientation_of(data, image)), data, path, sensor)
    counts = read_counts(data, image, path)
    grey = turned(sensor.grey_levels(counts), orientation_of(data, image))
    return _finished(np.repeat(grey[..., None], 3, axis=2), data, path, sensor)


def _finished(pixels: np.ndarray, data: bytes, path: Path | str, sensor: Sensor) -> np.ndarray:
    """Return pixels as ``Sensor.finish`` does; name the file where it raises."""
    if sensor == PLAIN:
        return pixels
    if sensor.range and _is_radiometric(data):
        raise InputError(
            f"counts of more than 8 bits in {path}, since a range is set",
            "a JPEG of 8 bits with FLIR's counts beside it",
            "save its counts as a 16-bit TIFF or PNG with the camera's software or exiftool "
            "(-RawThermalImage), or set no range",
        )
    return sensor.finish(pixels, f" in {path}")


def note_wide(width: int, height: int, box: Box | None, name: Path | str, tally: Tally) -> None:
    """Count an image, or the part of it in a box, that is wider than any person stands."""
    if box is not None:
        _, _, width, height = box
    if is_wide(width, height):
        tally.add(Reason.WIDE, name)


def is_wide(width: int, height: int) -> bool:
    """Return whether an image is wider than any person who stands or walks."""
    return width > _WIDEST * height


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


def open_image(data: bytes, path: Path | str, sensor: Sensor = PLAIN) -> Image.Image:
    """Return an image of checked size and depth, not decoded yet.

    Pillow's own limit only warns, and this one raises: so its checks are passed over.

    Args:
        data: content of the file.
        path: for messages.
        sensor: of the image's modality.

    Raises:
        InputError: too many pixels, or more than 8 bits a channel without a range.
        Exception: what Pillow raises for bad bytes.
    """
    for name in _FORMATS:
        factory, accept = Image.OPEN[name]
        if name == "PPM" and data[:2] not in _PORTABLE:
            continue
        if accept is not None and accept(data[:16]) is True:
            image = factory(io.BytesIO(data), os.fspath(path))
            break
    else:
        raise UnidentifiedImageError("no JPEG, PNG, BMP, GIF, TIFF, WebP, PGM or PPM")
    if image.width * image.height > max_pixels():
        raise InputError(
            f"at most {max_pixels():,} pixels in {path}",
            f"{image.width} x {image.height}",
            "reduce it, leave it out, or set CMEMD_MAX_MEGAPIXELS",
        )
    bits = 8 if sensor.range else bits_of(data, image)
    if bits > 8:
        raise InputError(
            f"8 bits a channel in {path}",
            f"{bits} bits",
            "say how a thermal camera's counts become grey levels, by INPUT.THERMAL_RANGE or "
            "--range (LOW:HIGH, percentile:1,99 or agc), or save grey levels 0 to 255",
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


def peculiarities(data: bytes, image: Image.Image) -> list[Reason]:
    """Return what is worth knowing of an opened image: frames, orientation, radiometric data.

    Args:
        data: content of the file.
        image: what ``open_image`` returned of it; of a PNG, loaded.
    """
    found = []
    if getattr(image, "is_animated", False):
        found.append(Reason.FRAMES)
    if image.format in ("JPEG", "MPO"):
        return found + _jpeg_peculiarities(data)
    if _tiff_orientation(image) in _TURNS or orientation_of(data, image) in _TURNS:
        found.append(Reason.ROTATED)
    return found


def _jpeg_peculiarities(data: bytes) -> list[Reason]:
    """Return the same of a JPEG, which needs no opening; its frames aside."""
    rotated = [Reason.ROTATED] * (_jpeg_orientation(data) in _TURNS)
    return rotated + [Reason.RADIOMETRIC] * _is_radiometric(data)


def seen_size(data: bytes, image: Image.Image) -> tuple[int, int]:
    """Return width and height of an opened image after its orientation is applied."""
    width, height = image.size
    return (height, width) if orientation_of(data, image) in _ASIDE else (width, height)


def turned(pixels: np.ndarray, orientation: int) -> np.ndarray:
    """Return pixels as an EXIF orientation says that they are seen; most are as they are.

    Args:
        pixels: (H, W) or (H, W, 3).
        orientation: 1 to 8; other values change nothing.
    """
    turn = _TURNS.get(orientation)
    return pixels if turn is None else np.ascontiguousarray(turn(pixels))


def orientation_of(data: bytes, image: Image.Image) -> int:
    """Return the EXIF orientation that is still to be applied; 1 if there is none.

    Pillow turns a TIFF by itself. OpenCV, which reads its counts of several channels, does not.
    """
    if image.format in ("JPEG", "MPO"):
        return _jpeg_orientation(data)
    if image.format == "TIFF":
        by_opencv = bits_of(data, image) > 8 and not image.mode.startswith(("I", "F"))
        return _tiff_orientation(image) if by_opencv else 1
    return _exif_orientation(image.info.get("exif") or b"")


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


def _pixels(data: bytes, path: Path | str, tally: Tally | None, sensor: Sensor) -> np.ndarray:
    pixels = _usual_jpeg(data)
    if pixels is not None and tally is None:
        return _finished(turned(pixels, _jpeg_orientation(data)), data, path, sensor)
    image = open_image(data, path, sensor)
    if pixels is None:
        whole, pixels = False, decode(data, image, path, sensor)
    else:
        whole = _has_all_scans(data)
        pixels = _finished(turned(pixels, _jpeg_orientation(data)), data, path, sensor)
    if tally is not None:
        _inspect(path, data, image, tally, whole)
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
            pixels: np.ndarray = simplejpeg.decode_jpeg(data, "RGB", strict=True)
            return pixels
    except ValueError:
        pass
    return None


def _inspect(path: Path | str, data: bytes, image: Image.Image, tally: Tally, whole: bool) -> None:
    """Count an image's peculiarities; raise if it is damaged and not known to be whole."""
    for reason in peculiarities(data, image):
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


def _tiff_orientation(image: Image.Image) -> int:
    return image.tag_v2.get(_ORIENTATION, 1) if isinstance(image, TiffImageFile) else 1


def _jpeg_orientation(data: bytes) -> int:
    """Return the orientation of a JPEG; fast where there is no EXIF."""
    if _EXIF not in data:
        return 1
    for marker, segment in _jpeg_segments(data):
        if marker == _APP1 and segment.startswith(_EXIF):
            return _exif_orientation(segment)
    return 1


def _is_radiometric(data: bytes) -> bool:
    """Return whether a JPEG holds a FLIR camera's counts beside its picture."""
    return (
        data.startswith(_JPEG_START)
        and _FLIR in data
        and any(m == _APP1 and s.startswith(_FLIR) for m, s in _jpeg_segments(data))
    )


def _jpeg_segments(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Yield marker and content of a JPEG's segments before its pixels."""
    at = 2
    while at + 4 <= len(data) and data[at] == 0xFF and data[at + 1] != _SCAN:
        if data[at + 1] == 0xFF:  # padding
            at += 1
            continue
        (length,) = struct.unpack(">H", data[at + 2 : at + 4])
        yield data[at + 1], data[at + 4 : at + 2 + length]
        at += 2 + length


def _exif_orientation(exif: bytes) -> int:
    """Return the orientation in EXIF data, 1 if there is none that can be read.

    Pillow's own reader warns of each oddity in other fields.
    """
    exif = exif.removeprefix(_EXIF)
    order = {b"II": "<", b"MM": ">"}.get(exif[:2])
    if order is None:
        return 1
    try:
        (first,) = struct.unpack_from(f"{order}I", exif, 4)
        (fields,) = struct.unpack_from(f"{order}H", exif, first)
        for number in range(fields):
            tag, _, _, value = struct.unpack_from(f"{order}HHIH", exif, first + 2 + 12 * number)
            if tag == _ORIENTATION:
                return int(value)
    except struct.error:
        pass
    return 1

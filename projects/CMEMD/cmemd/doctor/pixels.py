"""Decode every image: find damage, images of the other modality, and sizes."""

import statistics
from collections import defaultdict
from collections.abc import Sequence
from multiprocessing import Pool
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image, UnidentifiedImageError
from tqdm import tqdm

from cmemd.data.images import chroma, has_jpeg_end
from cmemd.data.modality import Modality
from cmemd.doctor.report import Fault, Report, Severity
from cmemd.doctor.tree import ImageFile

__all__ = [
    "COLOURED",
    "COLOURLESS",
    "GREY",
    "SWAPPED",
    "Decoded",
    "decode",
    "report_decoded",
    "report_pixels",
]

# In grey levels of chroma. Grey images that went through JPEG's colour conversion stay below 2;
# photographs lie above 8. These four numbers are chosen [C].
COLOURED = 8.0
GREY = 2.0
# Share of a thermal camera's images that are coloured: from here on it is taken for a visible one.
SWAPPED = 0.5
# Share of a visible camera's images that are grey: from here on it looks like a thermal one.
COLOURLESS = 0.9

_CHUNK = 64  # images a process takes at a time

UNREADABLE = Fault(Severity.ERROR, "damaged or unreadable images", "restore them from the data set")
COLOURED_THERMAL = Fault(
    Severity.WARNING,
    "coloured images where thermal ones belong",
    "look at them: are they visible images in the wrong folder?",
)
SWAPPED_CAMERA = Fault(
    Severity.ERROR,
    "thermal cameras whose images are mostly coloured",
    "exchange the visible and thermal folders: every modality label would be wrong",
)
COLOURLESS_CAMERA = Fault(
    Severity.WARNING,
    "visible cameras whose images are nearly all grey",
    "look at them: are they thermal images, or was the copy converted to grey?",
)
GREY_VISIBLE = Fault(
    Severity.NOTE,
    "grey images where visible ones belong",
    "nothing, if they were taken in the dark",
)


class Decoded(NamedTuple):
    """What decoding an image shows; the numbers are 0 if there is a ``problem``."""

    height: int
    width: int
    chroma: float
    problem: str | None


def decode(path: Path) -> Decoded:
    """Decode one image whole.

    A JPEG is decoded to an eighth of its size, which still reads all of its data. Found: files that
    Pillow cannot decode, cut files, and JPEGs whose missing end was filled with other bytes. Not
    found: wrong bytes in the middle of a JPEG, which decode to some picture.
    """
    try:
        with path.open("rb") as file, Image.open(file) as image:
            width, height = image.size
            image.draft(None, (1, 1))
            pixels = np.asarray(image.convert("RGB"))
            if image.format == "JPEG" and not has_jpeg_end(file):
                return Decoded(0, 0, 0.0, "the end of the JPEG is missing")
    except UnidentifiedImageError:
        return Decoded(0, 0, 0.0, "no image")
    except Exception as error:  # noqa: BLE001 - Pillow raises many kinds for damaged files
        return Decoded(0, 0, 0.0, str(error) or type(error).__name__)
    return Decoded(height, width, chroma(pixels), None)


def report_pixels(root: Path, files: Sequence[ImageFile], report: Report) -> None:
    """Decode all images in parallel, with a progress bar on terminals; report on them."""
    with Pool() as pool:
        decoded = list(
            tqdm(
                pool.imap(decode, (root / file.path for file in files), chunksize=_CHUNK),
                total=len(files),
                desc="images",
                disable=None,
            )
        )
    report_decoded(files, decoded, report)


def report_decoded(files: Sequence[ImageFile], decoded: Sequence[Decoded], report: Report) -> None:
    """Report damage, colour, and the sizes of each modality as rows (height x width)."""
    report.add(
        UNREADABLE,
        (f"{file.path}: {x.problem}" for file, x in zip(files, decoded, strict=True) if x.problem),
    )
    cameras: dict[tuple[str, Modality], list[tuple[ImageFile, Decoded]]] = defaultdict(list)
    sizes: dict[Modality, list[Decoded]] = defaultdict(list)
    for file, seen in zip(files, decoded, strict=True):
        if not seen.problem:
            cameras[file.camera, file.modality].append((file, seen))
            sizes[file.modality].append(seen)
    for (camera, modality), images in cameras.items():
        judge = _judge_thermal if modality is Modality.THERMAL else _judge_visible
        judge(camera, images, report)
    for modality, seen in sorted(sizes.items()):
        name = modality.name.lower()
        report.row(f"{name} height x width: median", _size(seen, statistics.median_low))
        report.row(
            f"{name} height x width: least and most", f"{_size(seen, min)} {_size(seen, max)}"
        )


def _judge_thermal(camera: str, images: list[tuple[ImageFile, Decoded]], report: Report) -> None:
    odd = [f"{file.path}: chroma {x.chroma:.1f}" for file, x in images if x.chroma >= COLOURED]
    if len(odd) >= SWAPPED * len(images):
        report.add(SWAPPED_CAMERA, [f"{camera}: {len(odd):,} of {len(images):,} images"])
    else:
        report.add(COLOURED_THERMAL, odd)


def _judge_visible(camera: str, images: list[tuple[ImageFile, Decoded]], report: Report) -> None:
    odd = [f"{file.path}: chroma {x.chroma:.1f}" for file, x in images if x.chroma < GREY]
    if len(odd) >= COLOURLESS * len(images):
        report.add(COLOURLESS_CAMERA, [f"{camera}: {len(odd):,} of {len(images):,} images"])
    else:
        report.add(GREY_VISIBLE, odd)


def _size(decoded: list[Decoded], pick) -> str:
    return f"{pick(x.height for x in decoded)}x{pick(x.width for x in decoded)}"

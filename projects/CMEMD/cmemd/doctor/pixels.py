"""Decodes every image: which are damaged, which are not of their camera's modality, how large."""

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
from cmemd.doctor.shots import Shot

__all__ = ["Look", "look", "report_pixels"]

# Chroma: mean over pixels of (largest - least channel), in grey levels of 255. All four chosen.
# Grey images that went through JPEG's colour conversion stay below 2; photographs lie above 8.
COLOURED = 8.0
GREY = 2.0
SWAPPED = (
    0.5  # share of a thermal camera's images that are coloured, from which it is no thermal one
)
COLOURLESS = 0.9  # share of a visible camera's images that are grey, from which it looks thermal

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
    "put visible and thermal folders in their places: every label of modality would be wrong",
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


class Look(NamedTuple):
    """What decoding an image tells; zeros where there is a ``problem``."""

    height: int
    width: int
    chroma: float
    problem: str | None


def look(path: Path) -> Look:
    """Decodes one image whole.

    A JPEG is decoded to an eighth of its size: all of its data is read all the same. Found: what
    Pillow cannot decode, files cut anywhere, and JPEGs whose missing end was filled up with other
    bytes. Not found: other bytes in the middle of a JPEG, which decode to some picture.
    """
    try:
        with path.open("rb") as file, Image.open(file) as image:
            width, height = image.size
            image.draft(None, (1, 1))
            pixels = np.asarray(image.convert("RGB"))
            if image.format == "JPEG" and not has_jpeg_end(file):
                return Look(0, 0, 0.0, "the end of the JPEG is missing")
    except UnidentifiedImageError:
        return Look(0, 0, 0.0, "no image")
    except Exception as error:  # noqa: BLE001 - Pillow raises many kinds for damaged files
        return Look(0, 0, 0.0, str(error) or type(error).__name__)
    return Look(height, width, chroma(pixels), None)


def report_pixels(root: Path, shots: Sequence[Shot], report: Report) -> None:
    """Looks at all images, in parallel, with a progress bar on terminals; reports on them."""
    with Pool() as pool:
        looks = list(
            tqdm(
                pool.imap(look, (root / shot.path for shot in shots), chunksize=_CHUNK),
                total=len(shots),
                desc="images",
                disable=None,
            )
        )
    report_looks(shots, looks, report)


def report_looks(shots: Sequence[Shot], looks: Sequence[Look], report: Report) -> None:
    """Reports damage and colour, and the sizes of each modality as rows (height x width)."""
    report.add(
        UNREADABLE,
        (f"{s.path}: {x.problem}" for s, x in zip(shots, looks, strict=True) if x.problem),
    )
    cameras: dict[tuple[str, Modality], list[tuple[Shot, Look]]] = defaultdict(list)
    sizes: dict[Modality, list[Look]] = defaultdict(list)
    for shot, seen in zip(shots, looks, strict=True):
        if not seen.problem:
            cameras[shot.camera, shot.modality].append((shot, seen))
            sizes[shot.modality].append(seen)
    for (camera, modality), images in cameras.items():
        judge = _judge_thermal if modality is Modality.THERMAL else _judge_visible
        judge(camera, images, report)
    for modality, seen in sorted(sizes.items()):
        name = modality.name.lower()
        report.row(f"{name} height x width: median", _size(seen, statistics.median_low))
        report.row(
            f"{name} height x width: least and most", f"{_size(seen, min)} {_size(seen, max)}"
        )


def _judge_thermal(camera: str, images: list[tuple[Shot, Look]], report: Report) -> None:
    odd = [f"{shot.path}: chroma {x.chroma:.1f}" for shot, x in images if x.chroma >= COLOURED]
    if len(odd) >= SWAPPED * len(images):
        report.add(SWAPPED_CAMERA, [f"{camera}: {len(odd):,} of {len(images):,} images"])
    else:
        report.add(COLOURED_THERMAL, odd)


def _judge_visible(camera: str, images: list[tuple[Shot, Look]], report: Report) -> None:
    odd = [f"{shot.path}: chroma {x.chroma:.1f}" for shot, x in images if x.chroma < GREY]
    if len(odd) >= COLOURLESS * len(images):
        report.add(COLOURLESS_CAMERA, [f"{camera}: {len(odd):,} of {len(images):,} images"])
    else:
        report.add(GREY_VISIBLE, odd)


def _size(looks: list[Look], pick) -> str:
    return f"{pick(x.height for x in looks)}x{pick(x.width for x in looks)}"

"""Decode every image: find damage, images of the other modality, and sizes."""

import hashlib
import os
import statistics
from collections import defaultdict, deque
from collections.abc import Callable, Generator, Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import NamedTuple, TypeVar

import numpy as np
from PIL import UnidentifiedImageError
from tqdm import tqdm

from cmemd.data.image_files import Reason
from cmemd.data.images import (
    chroma,
    damage,
    is_doubtful,
    is_wide,
    open_image,
    peculiarities,
    read_bytes,
    seen_size,
)
from cmemd.data.modality import Modality
from cmemd.data.palettes import recognise
from cmemd.doctor.report import Fault, Report, Severity
from cmemd.doctor.tree import ImageFile
from cmemd.errors import exhausted

__all__ = [
    "COLOURED",
    "COLOURLESS",
    "GREY",
    "SWAPPED",
    "Decoded",
    "decode",
    "map_images",
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

# Share, and least number, of images with stray bytes from which on they are the camera's habit and
# no damage [C].
_HABIT, _HABIT_IMAGES = 0.9, 100

Job = TypeVar("Job")
Seen = TypeVar("Seen")
_AHEAD = 8  # images that wait for each thread

UNREADABLE = Fault(Severity.ERROR, "damaged or unreadable images", "restore them from the data set")
STRAY_BYTES = Fault(
    Severity.WARNING,
    "nearly all images hold stray bytes",
    "nothing, if the camera writes them: but damage that leaves bytes over cannot be told then",
)
FRAMES = Fault(
    Severity.ERROR,
    "images of several frames",
    "save the one that counts by itself: training refuses them",
)
ROTATED = Fault(
    Severity.NOTE,
    "images with an EXIF orientation, which is applied",
    "nothing, if a viewer shows them upright; boxes are in the pixels as they are shown",
)
RADIOMETRIC = Fault(
    Severity.WARNING,
    "radiometric JPEGs of FLIR, of which the 8-bit picture counts",
    "save their counts as 16-bit TIFF or PNG and set a range, or save white-hot grey pictures",
)
WIDE = Fault(
    Severity.WARNING,
    "images wider than a person",
    "give boxes (x, y, w, h) if they are whole frames: a person would be squeezed",
)
FALSE_COLOURS = Fault(
    Severity.WARNING,
    "thermal images in false colours",
    "save white-hot grey images; or set INPUT.THERMAL_PALETTE and --palette to the palette",
)
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
    notes: tuple[Reason, ...] = ()
    sha256: str = ""
    palette: str | None = None


def decode(path: Path) -> Decoded:
    """Decode one image whole, and hash its file.

    A JPEG is decoded to an eighth of its size, which still reads all of its data. See
    ``cmemd.data.images.damage`` for what is found and what cannot be.
    """
    digest = ""
    try:
        data = read_bytes(path)
        digest = hashlib.sha256(data).hexdigest()
        image = open_image(data, path)
        if image.format != "JPEG":
            image.load()  # the orientation of a PNG may follow its pixels
        width, height = seen_size(data, image)
        image.draft(None, (1, 1))
        pixels = np.asarray(image.convert("RGB"))
        palette = recognise(pixels)
        problem = damage(data, image.format)
        notes = tuple(peculiarities(data, image))
        if problem and is_doubtful(problem):
            problem, notes = None, (*notes, Reason.DOUBTFUL)
    except UnidentifiedImageError:
        problem = "no image"
    except Exception as error:  # Pillow raises many kinds for damaged files
        if exhausted(error):
            raise
        problem = str(error) or type(error).__name__
    if problem:
        return Decoded(0, 0, 0.0, " ".join(problem.split()), sha256=digest)
    return Decoded(height, width, chroma(pixels), None, notes, digest, palette)


def report_pixels(root: Path, files: Sequence[ImageFile], report: Report) -> None:
    """Decode all images in parallel, with a progress bar on terminals; report on them."""
    paths = [root / file.path for file in files]
    with closing(_decode_all(paths)) as found:  # its threads end before an error is shown
        decoded = list(tqdm(found, total=len(files), desc="images", disable=None))
    report_decoded(files, decoded, report)


def _decode_all(paths: Sequence[Path]) -> Generator[Decoded, None, None]:
    return map_images(decode, paths)


def map_images(look: Callable[[Job], Seen], jobs: Sequence[Job]) -> Generator[Seen, None, None]:
    """Yield what looking at images shows, in order; only a few images are in memory.

    Threads decode, because decoders release the interpreter: so no process is left behind, or
    waited for, when this one is interrupted or killed.
    """
    threads = os.cpu_count() or 1
    waiting: deque[Future[Seen]] = deque()
    with ThreadPoolExecutor(threads) as pool:
        try:
            for job in jobs:
                waiting.append(pool.submit(look, job))
                if len(waiting) > _AHEAD * threads:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            for future in waiting:
                future.cancel()


def report_decoded(files: Sequence[ImageFile], decoded: Sequence[Decoded], report: Report) -> None:
    """Report damage, colour, and the sizes of each modality as rows (height x width)."""
    report.add(
        UNREADABLE,
        (f"{file.path}: {x.problem}" for file, x in zip(files, decoded, strict=True) if x.problem),
    )
    doubtful = [
        file.path
        for file, seen in zip(files, decoded, strict=True)
        if Reason.DOUBTFUL in seen.notes
    ]
    if len(doubtful) >= max(_HABIT_IMAGES, _HABIT * len(files)):
        report.add(STRAY_BYTES, [f"{len(doubtful):,} of {len(files):,} images"])
    else:
        report.add(UNREADABLE, (f"{path}: {Reason.DOUBTFUL.words}" for path in doubtful))
    for reason, fault in (
        (Reason.FRAMES, FRAMES),
        (Reason.ROTATED, ROTATED),
        (Reason.RADIOMETRIC, RADIOMETRIC),
    ):
        found = zip(files, decoded, strict=True)
        report.add(fault, (file.path for file, seen in found if reason in seen.notes))
    report.add(
        WIDE,
        (
            f"{file.path} ({seen.width} x {seen.height})"
            for file, seen in zip(files, decoded, strict=True)
            if is_wide(seen.width, seen.height)
        ),
    )
    report.add(
        FALSE_COLOURS,
        (
            f"{file.path} ({seen.palette})"
            for file, seen in zip(files, decoded, strict=True)
            if seen.palette and file.modality is Modality.THERMAL
        ),
    )
    report.digests.update(
        (file.path, seen.sha256) for file, seen in zip(files, decoded, strict=True) if seen.sha256
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
    for modality, sized in sorted(sizes.items()):
        name = modality.name.lower()
        report.row(f"{name} height x width: median", _size(sized, statistics.median_low))
        report.row(
            f"{name} height x width: least and most", f"{_size(sized, min)} {_size(sized, max)}"
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


def _size(decoded: list[Decoded], pick: Callable[[Iterable[int]], int]) -> str:
    return f"{pick(x.height for x in decoded)}x{pick(x.width for x in decoded)}"

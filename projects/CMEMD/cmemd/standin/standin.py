"""What the stand-ins of all layouts share: bounds, image after image, and all or nothing."""

import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
from tqdm import tqdm

from cmemd.data.modality import Modality
from cmemd.errors import InputError
from cmemd.standin.figure import Figure
from cmemd.standin.image import render
from cmemd.standin.person import draw_person
from cmemd.standin.shot import draw_shot
from cmemd.version import __version__

__all__ = ["LISTS", "SEEN", "Drawn", "Layout", "Sight", "draw_standin"]

_SIZE_SPREAD = 0.2
_SMALLEST = (32, 16)
# Streams of random numbers below the seed: who somebody is, where they were seen, each image, and
# the lists.
_PERSON, SEEN, _IMAGE, LISTS = range(4)


class Sight(NamedTuple):
    """A camera that saw a person.

    Attributes:
        camera: its number.
        modality: of the images it took.
        lens: its number again, but another for either modality of a camera that has both.
    """

    camera: int
    modality: Modality
    lens: int


class Drawn(NamedTuple):
    """An image that was drawn; ``path`` is relative, with forward slashes."""

    path: str
    pid: int
    camera: int
    modality: Modality


@dataclass(frozen=True)
class Layout:
    """How a genuine data set arranges its images and lists.

    Attributes:
        name: of the genuine data set.
        sights: from a person to who saw them, in either modality.
        path: from a person, a sight, the image's number from 1 and its view to the file's path.
        write_lists: writes what is not an image, given the folder and all images.
    """

    name: str
    sights: Callable[[int], list[Sight]]
    path: Callable[[int, Sight, int, str], str]
    write_lists: Callable[[Path, list[Drawn]], None]


def draw_standin(
    lay_out: Callable[[int, int], Layout],
    root: str | os.PathLike,
    *,
    ids: int,
    per_camera: int,
    size: tuple[int, int],
    seed: int,
) -> None:
    """Draws images and lists, and ``meta.jsonl``; the same arguments give the same bytes.

    ``meta.jsonl`` says what was drawn, then has a line on each image's view and pose. All or
    nothing is written.

    Args:
        lay_out: from the number of people and the seed to the folders and files.
        root: the data set's own folder; must not exist, or be empty.
        ids: number of people, 5 to 9999.
        per_camera: images of a person under a camera that saw them, up to 9999.
        size: mean height and width in pixels; each image's are up to 20 % off.
        seed: a nonnegative integer.

    Raises:
        InputError: for numbers outside these, a folder in use, or one that cannot be written.
    """
    root = Path(root)
    _check(root, ids, per_camera, size, seed)
    layout = lay_out(ids, seed)
    header = {"standin": layout.name, "drawn_by": f"cmemd {__version__}"}
    header |= {"ids": ids, "per_camera": per_camera, "size": list(size), "seed": seed}
    try:
        root.parent.mkdir(parents=True, exist_ok=True)
        unfinished = Path(tempfile.mkdtemp(prefix=f".{root.name}-", dir=root.parent))
        try:
            drawn = []
            with (unfinished / "meta.jsonl").open("w") as meta:
                meta.write(json.dumps(header) + "\n")
                for pid in tqdm(range(1, ids + 1), desc="people", disable=None):
                    for image, line in _draw_images(
                        unfinished, layout, pid, per_camera, size, seed
                    ):
                        drawn.append(image)
                        meta.write(json.dumps(line) + "\n")
            layout.write_lists(unfinished, drawn)
            unfinished.chmod(0o755)  # mkdtemp's is private
            unfinished.replace(root)
        finally:  # where it was renamed, there is nothing left to remove
            shutil.rmtree(unfinished, ignore_errors=True)
    except OSError as error:
        raise InputError(
            f"cannot write {root} ({error.strerror}): choose a --root in a folder of yours, with "
            "room enough"
        ) from None


def _check(root: Path, ids: int, per_camera: int, size: tuple[int, int], seed: int) -> None:
    if ids < 5 or per_camera < 1 or seed < 0:
        raise InputError(
            "expected at least 5 --ids, 1 --per-camera and a --seed of at least 0, got "
            f"{ids}, {per_camera} and {seed}"
        )
    if ids > 9999 or per_camera > 9999:
        raise InputError(
            f"file names have four digits: expected at most 9999 --ids and --per-camera, got {ids} "
            f"and {per_camera}"
        )
    if any(got < least for got, least in zip(size, _SMALLEST, strict=True)):
        raise InputError(
            f"expected a --size of at least {_SMALLEST[0]}x{_SMALLEST[1]} (height x width), got "
            f"{size[0]}x{size[1]}"
        )
    if root.exists() and (not root.is_dir() or any(root.iterdir())):
        raise InputError(
            f"expected a new or empty folder, got {root}, which is in use: remove it, or choose "
            "another --root"
        )


def _draw_images(
    root: Path, layout: Layout, pid: int, per_camera: int, size: tuple[int, int], seed: int
) -> Iterator[tuple[Drawn, dict[str, object]]]:
    """Writes a person's images; yields each with its line of ``meta.jsonl``."""
    person = draw_person(np.random.default_rng([seed, _PERSON, pid]))
    figures = {modality: Figure(person, person.tones(modality)) for modality in Modality}
    for sight in layout.sights(pid):
        camera, modality, lens = sight
        for n in range(1, per_camera + 1):
            rng = np.random.default_rng([seed, _IMAGE, pid, lens, n])
            shot = draw_shot(rng)
            height, width = (
                max(least, round(mean * rng.uniform(1 - _SIZE_SPREAD, 1 + _SIZE_SPREAD)))
                for mean, least in zip(size, _SMALLEST, strict=True)
            )
            image = render(
                figures[modality],
                shot,
                camera=camera,
                modality=modality,
                size=(height, width),
                rng=rng,
            )
            drawn = Drawn(layout.path(pid, sight, n, shot.view), pid, camera, modality)
            path = root / drawn.path
            path.parent.mkdir(parents=True, exist_ok=True)
            # Not imwrite: on a full disk it fails in silence.
            path.write_bytes(cv2.imencode(path.suffix, image)[1].tobytes())
            yield (
                drawn,
                {
                    "path": drawn.path,
                    "id": pid,
                    "camera": camera,
                    "modality": modality.name.lower(),
                    "view": shot.view,
                    "pose": shot.pose,
                },
            )

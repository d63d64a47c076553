"""Draw any stand-in: check the numbers, then write images and lists, all or nothing."""

import json
import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
from tqdm import tqdm

from cmemd.data.layouts import Layout
from cmemd.data.modality import Modality
from cmemd.errors import InputError, reason
from cmemd.files import whole_folder
from cmemd.standin.figure import Figure
from cmemd.standin.image import render
from cmemd.standin.person import draw_person
from cmemd.standin.shot import draw_shot
from cmemd.standin.sides import Look, draw_sides, hour_of, vary_shot
from cmemd.version import __version__

__all__ = ["LISTS", "SEEN", "Drawn", "Recipe", "Sight", "draw_standin", "write_index"]

_SIZE_SPREAD = 0.2
_SMALLEST, _LARGEST = (32, 16), (2048, 2048)
_FEWEST, _MOST = 5, 9999  # file names have four digits
# Streams of random numbers below the seed: a person's looks, the cameras that saw a person, each
# image, the lists, what differs between a person's sides, and what that changes in each image.
_PERSON, SEEN, _IMAGE, LISTS, _SIDES, _VARIED = range(6)


class Sight(NamedTuple):
    """A camera that saw a person.

    Attributes:
        camera: its number.
        modality: of the images it took.
        lens: number of the camera in this modality; unlike any other sight's of a person.
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
class Recipe:
    """How one stand-in fills the folders and files of a data set.

    Attributes:
        layout: the data set's.
        sights: takes a person; returns the cameras that saw the person.
        path: takes a person, a sight, the image's number from 1 and its view; returns the file's
            path.
        write_lists: takes the folder and all images; writes the lists.
    """

    layout: Layout
    sights: Callable[[int], list[Sight]]
    path: Callable[[int, Sight, int, str], str]
    write_lists: Callable[[Path, list[Drawn]], None]


def draw_standin(
    make_recipe: Callable[[int, int], Recipe],
    root: str | os.PathLike[str],
    *,
    ids: int,
    per_camera: int,
    size: tuple[int, int],
    seed: int,
    view_variation: float = 0.0,
) -> None:
    """Draw images, lists and ``meta.jsonl``; the same arguments give the same bytes.

    ``meta.jsonl`` says what was drawn, then has a line on each image's view and pose. If drawing
    fails, nothing is left.

    Args:
        make_recipe: takes the number of people and the seed.
        root: the data set's own folder; must not exist, or be empty.
        ids: number of people, 5 to 9999.
        per_camera: images of a person under a camera that saw the person, 1 to 9999.
        size: mean height and width in pixels; each image's differ by up to 20 %.
        seed: a non-negative integer.
        view_variation: how much the four sides of a person differ, 0 to 1, see ``sides``.

    Raises:
        InputError: numbers outside these, a folder in use, or one that cannot be written.
    """
    root = Path(root)
    _check_numbers(ids, per_camera, size, seed, view_variation)
    recipe = make_recipe(ids, seed)
    header: dict[str, object] = {
        "standin": recipe.layout.title,
        "drawn_by": f"cmemd {__version__}",
    }
    header |= {"ids": ids, "per_camera": per_camera, "size": list(size), "seed": seed}
    if view_variation:
        header["view_variation"] = view_variation
    try:
        _check_unused(root)
        with whole_folder(root.absolute()) as unfinished:
            drawn = []
            with (unfinished / "meta.jsonl").open("w") as meta:
                meta.write(json.dumps(header) + "\n")
                for pid in tqdm(range(1, ids + 1), desc="people", disable=None):
                    for image, line in _draw_images(
                        unfinished, recipe, pid, per_camera, size, seed, view_variation
                    ):
                        drawn.append(image)
                        meta.write(json.dumps(line) + "\n")
            recipe.write_lists(unfinished, drawn)
    except OSError as error:
        raise InputError(
            f"to write {root}", reason(error), "choose a --root that is yours, with enough space"
        ) from error


def write_index(file: Path, images: Iterable[Drawn]) -> None:
    """Write an index file, a line ``path label`` per image; labels number identities from 0."""
    images = sorted(images, key=lambda image: (image.pid, image.path))
    labels = {pid: label for label, pid in enumerate(sorted({image.pid for image in images}))}
    file.write_text("".join(f"{image.path} {labels[image.pid]}\n" for image in images))


def _check_numbers(
    ids: int, per_camera: int, size: tuple[int, int], seed: int, view_variation: float
) -> None:
    if not (_FEWEST <= ids <= _MOST and 1 <= per_camera <= _MOST and seed >= 0):
        raise InputError(
            f"{_FEWEST} to {_MOST} --ids, 1 to {_MOST} --per-camera and a --seed of at least 0",
            f"{ids}, {per_camera} and {seed}",
            "choose numbers in these ranges",
        )
    bounds = zip(_SMALLEST, size, _LARGEST, strict=True)
    if not all(least <= got <= most for least, got, most in bounds):
        raise InputError(
            f"a --size of at least {_SMALLEST[0]}x{_SMALLEST[1]} (height x width), and at most "
            f"{_LARGEST[0]}x{_LARGEST[1]}",
            f"{size[0]}x{size[1]}",
            "choose a size between these",
        )

    if not 0 <= view_variation <= 1:  # NaN too
        raise InputError("a --view-variation from 0 to 1", view_variation, "leave it out for 0")


def _check_unused(root: Path) -> None:
    if root.exists() and (not root.is_dir() or any(root.iterdir())):
        raise InputError(
            "a new or empty folder",
            f"{root}, which is in use",
            "remove it, or choose another --root",
        )


def _draw_images(
    root: Path,
    recipe: Recipe,
    pid: int,
    per_camera: int,
    size: tuple[int, int],
    seed: int,
    amount: float,
) -> Iterator[tuple[Drawn, dict[str, object]]]:
    """Write a person's images; yield each with its line of ``meta.jsonl``."""
    person = draw_person(np.random.default_rng([seed, _PERSON, pid]))
    sides = draw_sides(np.random.default_rng([seed, _SIDES, pid])) if amount else None
    figures = {
        modality: Figure(
            person,
            person.tones(modality),
            Look(sides, modality, amount) if sides is not None else None,
        )
        for modality in Modality
    }
    for sight in recipe.sights(pid):
        camera, modality, lens = sight
        for n in range(1, per_camera + 1):
            rng = np.random.default_rng([seed, _IMAGE, pid, lens, n])
            shot = draw_shot(rng)
            height, width = (
                max(least, round(mean * rng.uniform(1 - _SIZE_SPREAD, 1 + _SIZE_SPREAD)))
                for mean, least in zip(size, _SMALLEST, strict=True)
            )
            hour = 0.0
            if sides:
                varied = np.random.default_rng([seed, _VARIED, pid, lens, n])
                shot = vary_shot(shot, amount, varied)
                hour = hour_of(sides, shot, modality, amount, varied)
            image = render(
                figures[modality],
                shot,
                camera=camera,
                modality=modality,
                size=(height, width),
                rng=rng,
                hour=hour,
            )
            drawn = Drawn(recipe.path(pid, sight, n, shot.view), pid, camera, modality)
            path = root / drawn.path
            path.parent.mkdir(parents=True, exist_ok=True)
            # Not imwrite, which reports no error on a full disk.
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

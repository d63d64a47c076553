"""Draws people into the folders and files of LLCM."""

import os
from collections.abc import Set
from functools import partial
from pathlib import Path

import numpy as np

from cmemd.data.modality import LLCM_CAMERAS, Modality
from cmemd.standin.index_lists import write_index
from cmemd.standin.standin import LISTS, SEEN, Drawn, Layout, Sight, draw_standin

__all__ = ["draw_llcm"]

_SHORT = {Modality.VISIBLE: "vis", Modality.THERMAL: "nir"}
_TRAIN = 2 / 3  # of the identities, as in the genuine set; the rest are for testing
# Two cameras at least in either modality: an image of the query's own camera is no match.
_SHARE, _FEWEST = 0.6, 2
_LENSES = 100  # above all camera numbers


def draw_llcm(
    root: str | os.PathLike, *, ids: int, per_camera: int, size: tuple[int, int], seed: int
) -> None:
    """Draws a stand-in for LLCM; the same arguments give the same bytes.

    Writes training images to ``{vis,nir}/{id:04d}/``, test images to
    ``test_{vis,nir}/cam{1..9}/{id:04d}/``, all named
    ``{id:04d}_c{camera:02d}_s000000_f{n:04d}_{vis,nir}.jpg`` (thermal images have three equal
    channels), ``idx/train_{vis,nir}.txt``, ``idx/test_id.txt`` and ``meta.jsonl``. Most people
    are absent from some cameras, and the third has no thermal images; everybody is seen by two or
    more in either modality. All or nothing is written.

    Args:
        root: the data set's own folder; must not exist, or be empty.
        ids: number of people, 5 to 9999; 2/3 of them for training.
        per_camera: images of a person in a modality under a camera that saw them so, up to 9999.
        size: mean height and width in pixels; each image's are up to 20 % off.
        seed: a nonnegative integer.

    Raises:
        InputError: for numbers outside these, a folder in use, or one that cannot be written.
    """
    draw_standin(_lay_out, root, ids=ids, per_camera=per_camera, size=size, seed=seed)


def _lay_out(ids: int, seed: int) -> Layout:
    shuffled = 1 + np.random.default_rng([seed, LISTS]).permutation(ids)
    test = set(shuffled[round(_TRAIN * ids) :].tolist())
    return Layout(
        "LLCM",
        sights=partial(_sights, seed),
        path=partial(_path, test),
        write_lists=partial(_write_lists, test),
    )


def _sights(seed: int, pid: int) -> list[Sight]:
    """Cameras that saw a person, visible ones first."""
    rng = np.random.default_rng([seed, SEEN, pid])
    sights = []
    for modality, cameras in LLCM_CAMERAS.items():
        seen: list[int] = []
        while len(seen) < _FEWEST:
            seen = [camera for camera in cameras if rng.random() < _SHARE]
        sights += [Sight(camera, modality, camera + _LENSES * modality) for camera in seen]
    return sights


def _path(test: Set[int], pid: int, sight: Sight, n: int, view: str) -> str:
    short = _SHORT[sight.modality]
    folder = f"test_{short}/cam{sight.camera}" if pid in test else short
    return f"{folder}/{pid:04d}/{pid:04d}_c{sight.camera:02d}_s000000_f{n:04d}_{short}.jpg"


def _write_lists(test: Set[int], root: Path, drawn: list[Drawn]) -> None:
    (root / "idx").mkdir()
    (root / "idx/test_id.txt").write_text(",".join(map(str, sorted(test))) + "\n")
    for modality, short in _SHORT.items():
        images = (i for i in drawn if i.modality is modality and i.pid not in test)
        write_index(root / f"idx/train_{short}.txt", images)

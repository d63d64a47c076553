"""Draw people into the folders and files of LLCM."""

import os
from collections.abc import Set
from functools import partial
from pathlib import Path

import numpy as np

from cmemd.data.layouts import llcm
from cmemd.data.modality import Modality
from cmemd.standin.standin import LISTS, SEEN, Drawn, Recipe, Sight, draw_standin, write_index

__all__ = ["draw_llcm"]

_TRAIN = 2 / 3  # of the identities, as in the genuine set; the rest are for testing
# At least two cameras in each modality: an image of the query's own camera does not count.
_SHARE, _FEWEST = 0.6, 2
_LENSES = 100  # above all camera numbers


def draw_llcm(
    root: str | os.PathLike[str],
    *,
    ids: int,
    per_camera: int,
    size: tuple[int, int],
    seed: int,
    view_variation: float = 0.0,
) -> None:
    """Draw a stand-in for LLCM; for arguments and errors see ``draw_standin``.

    It has training images in ``{vis,nir}/{id:04d}/`` and test images in
    ``test_{vis,nir}/cam{1..9}/{id:04d}/``, all named
    ``{id:04d}_c{camera:02d}_s000000_f{n:04d}_{vis,nir}.jpg`` (thermal images have three equal
    channels), ``idx/train_{vis,nir}.txt``, ``idx/test_id.txt`` and ``meta.jsonl``. Two thirds of
    the people are for training. Most people are absent from some cameras, and the third camera has
    no thermal images; every person is seen by two or more cameras in each modality.
    """
    draw_standin(
        _recipe,
        root,
        ids=ids,
        per_camera=per_camera,
        size=size,
        seed=seed,
        view_variation=view_variation,
    )


def _recipe(ids: int, seed: int) -> Recipe:
    shuffled = 1 + np.random.default_rng([seed, LISTS]).permutation(ids)
    test = set(shuffled[round(_TRAIN * ids) :].tolist())
    return Recipe(
        llcm.LAYOUT,
        sights=partial(_sights, seed),
        path=partial(_path, test),
        write_lists=partial(_write_lists, test),
    )


def _sights(seed: int, pid: int) -> list[Sight]:
    """Return the cameras that saw a person, visible ones first."""
    rng = np.random.default_rng([seed, SEEN, pid])
    sights = []
    for modality, cameras in llcm.LAYOUT.cameras.items():
        seen: list[int] = []
        while len(seen) < _FEWEST:
            seen = [camera for camera in cameras if rng.random() < _SHARE]
        sights += [Sight(camera, modality, camera + _LENSES * modality) for camera in seen]
    return sights


def _path(test: Set[int], pid: int, sight: Sight, n: int, view: str) -> str:
    short = llcm.SHORT[sight.modality]
    folder = llcm.camera_folder(sight.modality, sight.camera) if pid in test else short
    return f"{folder}/{pid:04d}/{pid:04d}_c{sight.camera:02d}_s000000_f{n:04d}_{short}.jpg"


def _write_lists(test: Set[int], root: Path, drawn: list[Drawn]) -> None:
    lists = root / llcm.LAYOUT.list_folder
    lists.mkdir()
    (lists / "test_id.txt").write_text(",".join(map(str, sorted(test))) + "\n")
    for modality in Modality:
        images = (i for i in drawn if i.modality is modality and i.pid not in test)
        write_index(root / llcm.train_list(modality), images)

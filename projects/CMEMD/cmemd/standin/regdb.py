"""Draws people into the folders and files of RegDB."""

import os
from functools import partial
from pathlib import Path

import numpy as np

from cmemd.data.modality import REGDB_CAMERAS, Modality
from cmemd.standin.index_lists import write_index
from cmemd.standin.standin import LISTS, Drawn, Layout, Sight, draw_standin

__all__ = ["draw_regdb"]

_TRIALS = 10
_FOLDERS = {Modality.VISIBLE: "Visible", Modality.THERMAL: "Thermal"}


def draw_regdb(
    root: str | os.PathLike, *, ids: int, per_camera: int, size: tuple[int, int], seed: int
) -> None:
    """Draws a stand-in for RegDB; the same arguments give the same bytes.

    Writes ``{Visible,Thermal}/{id}/{view}_{v,t}_{n:05d}_{id}.bmp`` (thermal images have three equal
    channels), the ten splits ``idx/{train,test}_{visible,thermal}_{1..10}.txt``, each with half of
    the people for training, and ``meta.jsonl``. Everybody is seen in both modalities. All or
    nothing is written.

    Args:
        root: the data set's own folder; must not exist, or be empty.
        ids: number of people, 5 to 9999.
        per_camera: images of a person in each modality, up to 9999.
        size: mean height and width in pixels; each image's are up to 20 % off.
        seed: a nonnegative integer.

    Raises:
        InputError: for numbers outside these, a folder in use, or one that cannot be written.
    """
    draw_standin(_lay_out, root, ids=ids, per_camera=per_camera, size=size, seed=seed)


def _lay_out(ids: int, seed: int) -> Layout:
    return Layout("RegDB", sights=_sights, path=_path, write_lists=partial(_write_lists, ids, seed))


def _sights(pid: int) -> list[Sight]:
    return [Sight(camera, modality, camera) for camera, modality in REGDB_CAMERAS.items()]


def _path(pid: int, sight: Sight, n: int, view: str) -> str:
    folder = _FOLDERS[sight.modality]
    return f"{folder}/{pid}/{view}_{folder[0].lower()}_{n:05d}_{pid}.bmp"


def _write_lists(ids: int, seed: int, root: Path, drawn: list[Drawn]) -> None:
    (root / "idx").mkdir()
    for trial in range(1, _TRIALS + 1):
        shuffled = 1 + np.random.default_rng([seed, LISTS, trial]).permutation(ids)
        train = set(shuffled[: ids // 2].tolist())
        for modality in Modality:
            images = [image for image in drawn if image.modality is modality]
            ending = f"{modality.name.lower()}_{trial}.txt"
            write_index(root / f"idx/train_{ending}", (i for i in images if i.pid in train))
            write_index(root / f"idx/test_{ending}", (i for i in images if i.pid not in train))

"""Draw people into the folders and files of RegDB."""

import os
from functools import partial
from pathlib import Path

import numpy as np

from cmemd.data.layouts import regdb
from cmemd.data.modality import Modality
from cmemd.standin.standin import LISTS, Drawn, Recipe, Sight, draw_standin, write_index

__all__ = ["draw_regdb"]


def draw_regdb(
    root: str | os.PathLike[str],
    *,
    ids: int,
    per_camera: int,
    size: tuple[int, int],
    seed: int,
    view_variation: float = 0.0,
) -> None:
    """Draw a stand-in for RegDB; for arguments and errors see ``draw_standin``.

    It has ``{Visible,Thermal}/{id}/{view}_{v,t}_{n:05d}_{id}.bmp`` (thermal images have three equal
    channels), the ten splits ``idx/{train,test}_{visible,thermal}_{1..10}.txt``, each with half of
    the people for training, and ``meta.jsonl``. Every person is seen in both modalities, with
    ``per_camera`` images in each.
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
    write_lists = partial(_write_lists, ids, seed)
    return Recipe(regdb.LAYOUT, sights=_sights, path=_path, write_lists=write_lists)


def _sights(pid: int) -> list[Sight]:
    return [Sight(camera, m, camera) for m, (camera,) in regdb.LAYOUT.cameras.items()]


def _path(pid: int, sight: Sight, n: int, view: str) -> str:
    folder = regdb.FOLDERS[sight.modality]
    return f"{folder}/{pid}/{view}_{folder[0].lower()}_{n:05d}_{pid}.bmp"


def _write_lists(ids: int, seed: int, root: Path, drawn: list[Drawn]) -> None:
    (root / regdb.LAYOUT.list_folder).mkdir()
    for trial in regdb.SPLITS:
        shuffled = 1 + np.random.default_rng([seed, LISTS, trial]).permutation(ids)
        train = set(shuffled[: ids // 2].tolist())
        for modality in Modality:
            images = [image for image in drawn if image.modality is modality]
            for part, wanted in (("train", True), ("test", False)):
                write_index(
                    root / regdb.split_list(part, modality, trial),
                    (image for image in images if (image.pid in train) is wanted),
                )

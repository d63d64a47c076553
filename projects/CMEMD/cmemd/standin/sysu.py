"""Draw people into the folders and files of SYSU-MM01."""

import os
from collections import Counter
from functools import partial
from pathlib import Path

import numpy as np

from cmemd.data.layouts import sysu
from cmemd.data.modality import Modality
from cmemd.standin.standin import LISTS, SEEN, Drawn, Recipe, Sight, draw_standin

__all__ = ["draw_sysu"]

_SHARES = {"train": 0.6, "val": 0.2}  # of the identities; the rest are for testing
# In the genuine set cameras 1 and 2, the indoor pair, saw the same people, about 60 %; each other
# camera saw nearly all.
_INDOOR_PAIR, _INDOOR_SHARE, _SHARE = (1, 2), 0.6, 0.97


def draw_sysu(
    root: str | os.PathLike[str],
    *,
    ids: int,
    per_camera: int,
    size: tuple[int, int],
    seed: int,
    view_variation: float = 0.0,
) -> None:
    """Draw a stand-in for SYSU-MM01; for arguments and errors see ``draw_standin``.

    It has ``cam{1..6}/{id:04d}/{n:04d}.jpg`` (thermal images have three equal channels),
    ``exp/{train,val,test,available}_id.txt``, ``exp/rand_perm_cam.mat`` and ``meta.jsonl``. Of the
    people 60 / 20 / 20 % are for training, validation and test. Some people are absent from some
    cameras; every person is seen in both modalities.
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
    return Recipe(
        sysu.LAYOUT,
        sights=partial(_sights, seed),
        path=_path,
        write_lists=partial(_write_lists, ids, seed),
    )


def _sights(seed: int, pid: int) -> list[Sight]:
    """Return the cameras that saw a person, at least one of each modality."""
    rng = np.random.default_rng([seed, SEEN, pid])
    while True:
        indoors = rng.random() < _INDOOR_SHARE
        cameras = [
            camera
            for camera in sorted(sysu.CAMERAS)
            if rng.random() < _SHARE and (indoors or camera not in _INDOOR_PAIR)
        ]
        if {sysu.CAMERAS[camera] for camera in cameras} == set(Modality):
            return [Sight(camera, sysu.CAMERAS[camera], camera) for camera in cameras]


def _path(pid: int, sight: Sight, n: int, view: str) -> str:
    return sysu.image_path(sight.camera, pid, n)


def _write_lists(ids: int, seed: int, root: Path, drawn: list[Drawn]) -> None:
    exp = root / sysu.LAYOUT.list_folder
    exp.mkdir()
    rng = np.random.default_rng([seed, LISTS])
    shuffled = (1 + rng.permutation(ids)).tolist()
    first = round(_SHARES["train"] * ids)
    second = first + round(_SHARES["val"] * ids)
    lists = {
        "train": shuffled[:first],
        "val": shuffled[first:second],
        "test": shuffled[second:],
        "available": shuffled,
    }
    for name, numbers in lists.items():
        (exp / f"{name}_id.txt").write_text(",".join(map(str, sorted(numbers))) + "\n")
    counts = Counter((image.camera, image.pid) for image in drawn)
    _write_permutations(exp / sysu.PERMUTATIONS, counts, rng)


def _write_permutations(
    path: Path, counts: Counter[tuple[int, int]], rng: np.random.Generator
) -> None:
    """Write ``rand_perm_cam``, nested like the genuine one: 6 x 1 cells of ids x 1 of 10 x n.

    A camera's cell ends with the last person it saw, so the cells differ in length.

    Args:
        path: of the file.
        counts: (camera, identity) -> images.
        rng: shuffles them.
    """
    from scipy.io import savemat

    cameras = np.empty((len(sysu.CAMERAS), 1), object)
    for row, camera in enumerate(sorted(sysu.CAMERAS)):
        last = max((pid for seen, pid in counts if seen == camera), default=0)
        people = np.empty((last, 1), object)
        for pid in range(1, last + 1):
            count = counts[camera, pid]
            dtype = np.uint8 if count < 256 else np.uint16
            rows = [1 + rng.permutation(count) for _ in range(sysu.LAYOUT.trials)]
            people[pid - 1, 0] = np.array(rows, dtype).reshape(sysu.LAYOUT.trials, count)
        cameras[row, 0] = people
    with path.open("wb") as file:
        savemat(file, {"rand_perm_cam": cameras}, do_compression=True)
    # SciPy writes the time into the header's text, the first 116 bytes, which no reader uses.
    with path.open("r+b") as file:
        file.write(b"MATLAB 5.0 MAT-file".ljust(116))

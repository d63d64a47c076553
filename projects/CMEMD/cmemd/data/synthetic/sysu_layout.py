"""Draws people into the folders and files of SYSU-MM01."""

import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
from tqdm import tqdm

from cmemd import __version__
from cmemd.data.modality import SYSU_CAMERAS, Modality
from cmemd.data.synthetic.figure import Figure
from cmemd.data.synthetic.person import Person, draw_person
from cmemd.data.synthetic.render import render
from cmemd.data.synthetic.shot import draw_shot
from cmemd.errors import InputError

__all__ = ["draw_sysu"]

_TRIALS = 10
_SHARES = {"train": 0.6, "val": 0.2}  # of the identities; the rest are for testing
# The genuine set: cameras 1 and 2, the indoor pair, saw the same 60 % or so of its people; each
# other camera saw nearly all.
_INDOOR_PAIR, _INDOOR_SHARE, _SHARE = (1, 2), 0.6, 0.97
_SIZE_SPREAD = 0.2
_SMALLEST = (32, 16)
# Streams of random numbers below the seed: who somebody is, where they were seen, each image.
_PERSON, _SEEN, _IMAGE, _LISTS = range(4)


def draw_sysu(
    root: str | os.PathLike, *, ids: int, per_camera: int, size: tuple[int, int], seed: int
) -> None:
    """Draws a stand-in for SYSU-MM01; the same arguments give the same bytes.

    Writes ``cam{1..6}/{id:04d}/{n:04d}.jpg`` (thermal images have three equal channels),
    ``exp/{train,val,test,available}_id.txt``, ``exp/rand_perm_cam.mat`` and ``meta.jsonl``: what
    was drawn, then a line on each image's view and pose. Some people are absent from some cameras;
    everybody is seen in both modalities. All or nothing is written.

    Args:
        root: the data set's own folder; must not exist, or be empty.
        ids: number of people, at least 5; 60 / 20 / 20 % for training, validation and test.
        per_camera: images of a person under a camera that saw them.
        size: mean height and width in pixels; each image's are up to 20 % off.
        seed: a nonnegative integer.

    Raises:
        InputError: for numbers outside these, a folder in use, or one that cannot be written.
    """
    root = Path(root)
    _check(root, ids, per_camera, size, seed)
    arguments = {"ids": ids, "per_camera": per_camera, "size": list(size), "seed": seed}
    try:
        root.parent.mkdir(parents=True, exist_ok=True)
        unfinished = Path(tempfile.mkdtemp(prefix=f".{root.name}-", dir=root.parent))
        try:
            _draw(unfinished, **arguments)
            unfinished.chmod(0o755)  # mkdtemp's is private
            unfinished.replace(root)
        finally:  # where it was renamed, there is nothing left to remove
            shutil.rmtree(unfinished, ignore_errors=True)
    except OSError as error:
        raise InputError(
            f"cannot write {root} ({error.strerror}): choose a --root in a folder of yours, with "
            "room enough"
        ) from None


def _draw(root: Path, *, ids: int, per_camera: int, size: list[int], seed: int) -> None:
    seen = {pid: _cameras_of(pid, seed) for pid in range(1, ids + 1)}
    _write_lists(root / "exp", ids, per_camera, seen, seed)
    with (root / "meta.jsonl").open("w") as meta:
        header = {"standin": "SYSU-MM01", "drawn_by": f"cmemd {__version__}"}
        header |= {"ids": ids, "per_camera": per_camera, "size": size, "seed": seed}
        meta.write(json.dumps(header) + "\n")
        for pid in tqdm(seen, desc="people", disable=None):
            for line in _draw_images(root, pid, seen[pid], per_camera, size, seed):
                meta.write(json.dumps(line) + "\n")


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


def _cameras_of(pid: int, seed: int) -> list[int]:
    """Cameras that saw a person: at least one of each modality."""
    rng = np.random.default_rng([seed, _SEEN, pid])
    while True:
        indoors = rng.random() < _INDOOR_SHARE
        cameras = [
            camera
            for camera in sorted(SYSU_CAMERAS)
            if rng.random() < _SHARE and (indoors or camera not in _INDOOR_PAIR)
        ]
        if {SYSU_CAMERAS[camera] for camera in cameras} == set(Modality):
            return cameras


def _draw_images(
    root: Path, pid: int, cameras: list[int], per_camera: int, size: list[int], seed: int
) -> Iterator[dict[str, object]]:
    person: Person = draw_person(np.random.default_rng([seed, _PERSON, pid]))
    figures = {modality: Figure(person, person.tones(modality)) for modality in Modality}
    for camera in cameras:
        modality = SYSU_CAMERAS[camera]
        folder = root / f"cam{camera}" / f"{pid:04d}"
        folder.mkdir(parents=True)
        for n in range(1, per_camera + 1):
            rng = np.random.default_rng([seed, _IMAGE, pid, camera, n])
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
            path = folder / f"{n:04d}.jpg"
            # Not imwrite: on a full disk it fails in silence.
            path.write_bytes(cv2.imencode(".jpg", image)[1].tobytes())
            yield {
                "path": path.relative_to(root).as_posix(),
                "id": pid,
                "camera": camera,
                "modality": modality.name.lower(),
                "view": shot.view,
                "pose": shot.pose,
            }


def _write_lists(
    exp: Path, ids: int, per_camera: int, seen: dict[int, list[int]], seed: int
) -> None:
    exp.mkdir()
    rng = np.random.default_rng([seed, _LISTS])
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
    _write_permutations(exp / "rand_perm_cam.mat", per_camera, seen, rng)


def _write_permutations(
    path: Path, per_camera: int, seen: dict[int, list[int]], rng: np.random.Generator
) -> None:
    """``rand_perm_cam``, nested as the genuine one: a 6 x 1 cell of ids x 1 cells of 10 x n.

    A camera's cell ends with the last person it saw, so that the cells differ in length.
    """
    from scipy.io import savemat

    cameras = np.empty((len(SYSU_CAMERAS), 1), object)
    for row, camera in enumerate(sorted(SYSU_CAMERAS)):
        last = max((pid for pid in seen if camera in seen[pid]), default=0)
        people = np.empty((last, 1), object)
        for pid in range(1, last + 1):
            count = per_camera if camera in seen[pid] else 0
            dtype = np.uint8 if count < 256 else np.uint16
            rows = [1 + rng.permutation(count) for _ in range(_TRIALS)]
            people[pid - 1, 0] = np.array(rows, dtype).reshape(_TRIALS, count)
        cameras[row, 0] = people
    with path.open("wb") as file:
        savemat(file, {"rand_perm_cam": cameras}, do_compression=True)
    # SciPy stamps the time into the header's text, the first 116 bytes, which nothing reads.
    with path.open("r+b") as file:
        file.write(b"MATLAB 5.0 MAT-file".ljust(116))

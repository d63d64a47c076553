"""SYSU-MM01's official gallery permutations, ``exp/rand_perm_cam.mat``.

Shape legend: ``T`` = 10 trials, ``n`` = images of one identity under one camera.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from cmemd.data.layouts import sysu
from cmemd.data.layouts.identity_lists import read_matlab_variable
from cmemd.errors import InputError

__all__ = ["RandPermCam", "read_rand_perm_cam"]

_TRIALS = sysu.LAYOUT.trials


@dataclass(frozen=True, eq=False)
class RandPermCam:
    """The official gallery permutations: one ``(T, n)`` array per camera and identity.

    Attributes:
        cells: ``cells[camera - 1][identity - 1]`` is a ``(T, n)`` array of image numbers from 1.
            The cameras' lists differ in length: in the official file cameras 1, 2 and 6 hold 333
            identities, cameras 3, 4 and 5 hold 533.
    """

    cells: Sequence[Sequence[np.ndarray]]

    def permutations(self, camera: int, pid: int) -> np.ndarray:
        """Return the permutations of one identity's images under one camera.

        Args:
            camera: genuine camera number, from 1.
            pid: genuine identity number, from 1.

        Returns:
            ``(T, n)`` image numbers from 1, one row per trial; ``(T, 0)`` if the camera did not see
            the identity or the identity lies beyond the camera's list.
        """
        if 1 <= camera <= len(self.cells) and 1 <= pid <= len(self.cells[camera - 1]):
            return self.cells[camera - 1][pid - 1]
        return np.empty((_TRIALS, 0), dtype=np.int64)


def read_rand_perm_cam(path: Path | str) -> RandPermCam:
    """Read the official gallery permutations; check that each is one of ``1..n``.

    Args:
        path: ``rand_perm_cam.mat``, which comes with SYSU-MM01's evaluation code.

    Raises:
        InputError: a missing file, one that is no MATLAB file, or another structure.
    """
    path = Path(path)
    if not path.is_file():
        raise InputError(
            f"{sysu.PERMUTATIONS} at {path}",
            "no file",
            "take it from SYSU-MM01's official evaluation code, or set the draw to python",
        )
    cameras = read_matlab_variable(path, "rand_perm_cam")
    if cameras.dtype != object or cameras.size != len(sysu.CAMERAS):
        raise _not_official(
            path, f"{len(sysu.CAMERAS)} cells", f"a {cameras.dtype} array of {cameras.size}"
        )
    return RandPermCam(
        tuple(_camera_cells(cells, camera, path) for camera, cells in enumerate(cameras.flat, 1))
    )


def _camera_cells(cells: Any, camera: int, path: Path) -> tuple[np.ndarray, ...]:
    if not isinstance(cells, np.ndarray) or cells.dtype != object:
        raise _not_official(path, f"a cell per identity of camera {camera}", "no cells")
    return tuple(_permutations(cell, camera, pid, path) for pid, cell in enumerate(cells.flat, 1))


def _permutations(cell: Any, camera: int, pid: int, path: Path) -> np.ndarray:
    if not isinstance(cell, np.ndarray) or (cell.size and cell.dtype.kind not in "uif"):
        raise _not_official(path, f"numbers for camera {camera}, id {pid}", "other data")
    if cell.size == 0:  # an absent pair is written as (10, 0) or as (0, 0)
        return np.empty((_TRIALS, 0), dtype=np.int64)
    images = np.arange(1, cell.shape[-1] + 1)
    if cell.shape != (_TRIALS, len(images)) or not np.array_equal(
        np.sort(cell, axis=1), np.broadcast_to(images, cell.shape)
    ):
        raise _not_official(
            path,
            f"{_TRIALS} permutations of 1..n for camera {camera}, id {pid}",
            f"other numbers in an array of shape {cell.shape}",
        )
    return cell.astype(np.int64)


def _not_official(path: Path, expected: str, got: str) -> InputError:
    return InputError(f"{expected} in {path}", got, "take the official file again")

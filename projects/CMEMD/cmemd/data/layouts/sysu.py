"""SYSU-MM01's ``exp/`` files: identity lists and the official gallery permutations.

Shape legend: ``T`` = 10 trials, ``n`` = images of one identity under one camera.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from cmemd.errors import InputError

ID_LISTS = ("train_id", "val_id", "test_id", "available_id")
TRIALS = 10
CAMERAS = 6


@dataclass(frozen=True, eq=False)
class RandPermCam:
    """The official gallery permutations: one ``(T, n)`` array per camera and identity.

    Attributes:
        cells: ``cells[camera - 1][identity - 1]`` is a ``(T, n)`` array of 1-based image numbers.
            The cameras' lists differ in length: in the official file cameras 1, 2 and 6 hold 333
            identities, cameras 3, 4 and 5 hold 533.
    """

    cells: Sequence[Sequence[np.ndarray]]

    def permutations(self, camera: int, pid: int) -> np.ndarray:
        """Permutations of one identity's images under one camera.

        Args:
            camera: Genuine camera number, from 1.
            pid: Genuine identity number, from 1.

        Returns:
            ``(T, n)`` 1-based image numbers, one row per trial; ``(T, 0)`` where the identity
            was not seen under the camera or lies beyond the camera's list.
        """
        if 1 <= camera <= len(self.cells) and 1 <= pid <= len(self.cells[camera - 1]):
            return self.cells[camera - 1][pid - 1]
        return np.empty((TRIALS, 0), dtype=np.int64)


def read_ids(exp_dir: Path | str, name: str) -> list[int]:
    """Read one list of identities, from ``<name>.txt`` or else from ``<name>.mat``.

    The text file is one line of comma-separated integers; the MATLAB file holds them in the
    variable ``id``.

    Args:
        exp_dir: SYSU-MM01's ``exp`` folder, or another of such lists.
        name: One of ``ID_LISTS``.

    Returns:
        The identities in the file's order.

    Raises:
        InputError: Unknown name; neither file there; malformed, empty or repeating list.
    """
    if name not in ID_LISTS:
        raise InputError(f"expected an identity list out of {', '.join(ID_LISTS)}; got {name!r}")
    text, matlab = (Path(exp_dir) / f"{name}{suffix}" for suffix in (".txt", ".mat"))
    if text.is_file():
        return _checked_ids(_ids_from_text(text), text)
    if matlab.is_file():
        return _checked_ids(_ids_from_matlab(matlab), matlab)
    raise InputError(
        f"expected {text} or {matlab.name} beside it; found neither; "
        f"copy the data set's {text.parent.name} folder whole"
    )


def read_rand_perm_cam(path: Path | str) -> RandPermCam:
    """Read the official gallery permutations.

    Args:
        path: ``rand_perm_cam.mat``, which comes with SYSU-MM01's evaluation code.

    Returns:
        The permutations, each checked to be one of ``1..n``.

    Raises:
        InputError: No such file, not a MATLAB file, or not of the official structure.
    """
    path = Path(path)
    if not path.is_file():
        raise InputError(
            f"expected rand_perm_cam.mat at {path}; found no file; take it from SYSU-MM01's "
            "official evaluation code, or use the python draw"
        )
    cameras = _matlab_variable(path, "rand_perm_cam")
    if cameras.dtype != object or cameras.size != CAMERAS:
        raise _not_official(
            path, f"expected {CAMERAS} cells", f"a {cameras.dtype} array of {cameras.size}"
        )
    return RandPermCam(
        tuple(_camera_cells(cells, camera, path) for camera, cells in enumerate(cameras.flat, 1))
    )


def _ids_from_text(path: Path) -> list[int]:
    lines = path.read_text(encoding="utf-8-sig", errors="replace").split("\n")
    lines = [line for line in lines if line.strip()]
    if len(lines) != 1:
        raise InputError(
            f"expected one line of comma-separated integers in {path}; got {len(lines)} lines; "
            "take the file from the data set again"
        )
    fields = [field.strip() for field in lines[0].split(",")]
    for field in fields:
        if not re.fullmatch(r"[0-9]+", field):
            raise InputError(
                f"expected comma-separated integers in {path}; got {field[:40]!r}; "
                "take the file from the data set again"
            )
    return [int(field) for field in fields]


def _ids_from_matlab(path: Path) -> list[int]:
    ids = _matlab_variable(path, "id")
    if ids.dtype.kind not in "uif" or np.any(ids != np.floor(ids)):
        raise InputError(
            f"expected integers in variable 'id' of {path}; got {ids.dtype} values; "
            "take the file from the data set again"
        )
    return [int(number) for number in ids.flat]


def _checked_ids(ids: list[int], path: Path) -> list[int]:
    if not ids or min(ids) < 1 or len(set(ids)) != len(ids):
        raise InputError(
            f"expected different identities, each at least 1, in {path}; got {len(ids)} numbers, "
            f"{len(set(ids))} different, the least {min(ids, default='none')}; "
            "take the file from the data set again"
        )
    return ids


def _matlab_variable(path: Path, name: str) -> Any:
    from scipy.io import loadmat  # text files are read without SciPy's half second

    try:
        content = loadmat(path)
    except Exception as error:  # SciPy raises half a dozen kinds for damaged files
        raise InputError(
            f"expected a MATLAB file (version 7.2 or older) at {path}; got: "
            f"{str(error).splitlines()[0] if str(error) else type(error).__name__}; "
            "take the file from its source again"
        ) from error
    if name not in content:
        found = ", ".join(key for key in content if not key.startswith("__")) or "none"
        raise InputError(
            f"expected variable {name!r} in {path}; got {found}; is it the right file?"
        )
    return content[name]


def _camera_cells(cells: Any, camera: int, path: Path) -> tuple[np.ndarray, ...]:
    if not isinstance(cells, np.ndarray) or cells.dtype != object:
        raise _not_official(path, f"expected a cell per identity of camera {camera}", "no cells")
    return tuple(_permutations(cell, camera, pid, path) for pid, cell in enumerate(cells.flat, 1))


def _permutations(cell: Any, camera: int, pid: int, path: Path) -> np.ndarray:
    if not isinstance(cell, np.ndarray) or (cell.size and cell.dtype.kind not in "uif"):
        raise _not_official(path, f"expected numbers for camera {camera}, id {pid}", "other data")
    if cell.size == 0:  # an absent pair is written as (10, 0) or as (0, 0)
        return np.empty((TRIALS, 0), dtype=np.int64)
    images = np.arange(1, cell.shape[-1] + 1)
    if cell.shape != (TRIALS, len(images)) or not np.array_equal(
        np.sort(cell, axis=1), np.broadcast_to(images, cell.shape)
    ):
        raise _not_official(
            path,
            f"expected {TRIALS} permutations of 1..n for camera {camera}, id {pid}",
            f"an array of shape {cell.shape} holding others",
        )
    return cell.astype(np.int64)


def _not_official(path: Path, expected: str, came: str) -> InputError:
    return InputError(f"{expected} in {path}; got {came}; take the official file again")

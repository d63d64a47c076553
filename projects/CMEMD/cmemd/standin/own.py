"""Draw people into the folders and the list of a data set of one's own."""

import os
from pathlib import Path

from cmemd.data.layouts import own
from cmemd.data.modality import Modality
from cmemd.standin.standin import Drawn, Recipe, Sight, draw_standin

__all__ = ["LIST", "draw_own"]

LIST = "people.csv"
# Two visible cameras and two thermal ones [C].
_CAMERAS = {Modality.VISIBLE: (1, 2), Modality.THERMAL: (3, 4)}


def draw_own(
    root: str | os.PathLike[str],
    *,
    ids: int,
    per_camera: int,
    size: tuple[int, int],
    seed: int,
    view_variation: float = 0.0,
) -> None:
    """Draw a stand-in for one's own data; for arguments and errors see ``draw_standin``.

    It has ``{visible,thermal}/p{id:04d}/cam{1..4}_{n:04d}.jpg`` (thermal images have three equal
    channels), the list ``people.csv`` without splits, and ``meta.jsonl``. Every camera saw every
    person. Folders and list say the same.
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
    return Recipe(own.LAYOUT, sights=_sights, path=_path, write_lists=_write_lists)


def _sights(pid: int) -> list[Sight]:
    return [Sight(camera, m, camera) for m, cameras in _CAMERAS.items() for camera in cameras]


def _path(pid: int, sight: Sight, n: int, view: str) -> str:
    return f"{sight.modality.name.lower()}/p{pid:04d}/cam{sight.camera}_{n:04d}.jpg"


def _write_lists(root: Path, drawn: list[Drawn]) -> None:
    listed, _ = own.read_folder(root)
    inside = f"{listed.folder}{os.sep}"
    text = own.write_list(listed, lambda path: path.removeprefix(inside).replace(os.sep, "/"))
    (root / LIST).write_text(text, encoding="utf-8")

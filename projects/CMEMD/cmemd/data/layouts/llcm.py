"""LLCM: Zhang and Wang, CVPR 2023.

``idx/train_{vis,nir}.txt`` list the training images, a line ``relative/path label`` each; genuine
paths are as ``vis/0001/0001_c01_s185535_f7010_vis.jpg``. ``idx/test_id.txt`` lists the test
identities; their images are in ``test_vis/cam{1..9}/{id:04d}/`` and
``test_nir/cam{1,2,4..9}/{id:04d}/``. Thermal images are near-infrared ones. The nine cameras take
both modalities; the third takes visible images only.
"""

import re
from collections.abc import Callable
from pathlib import Path, PurePosixPath

from cmemd.data.layouts.index_files import IndexEntry, IndexFault, raise_fault, read_index
from cmemd.data.layouts.layout import Layout
from cmemd.data.modality import Modality

__all__ = [
    "IDENTITIES",
    "IMAGES",
    "LAYOUT",
    "SHORT",
    "TEST_FOLDERS",
    "TEST_IDENTITIES",
    "TRAINING_IDENTITIES",
    "camera_folder",
    "identity",
    "labels_of",
    "read_train_list",
    "train_list",
    "training_camera",
]

LAYOUT = Layout(
    name="llcm",
    title="LLCM",
    dataset="LLCM",
    folder="LLCM",
    list_folder="idx",
    cameras={
        Modality.VISIBLE: (1, 2, 3, 4, 5, 6, 7, 8, 9),
        Modality.THERMAL: (1, 2, 4, 5, 6, 7, 8, 9),
    },
    identity_folder=re.compile("(?!0000)[0-9]{4}"),
    trials=10,
    splits=1,
    arrays=("feats", "paths"),
    licence="LLCM's agreement with its authors: research only",
)
SHORT = {Modality.VISIBLE: "vis", Modality.THERMAL: "nir"}
TEST_FOLDERS = {modality: f"test_{short}" for modality, short in SHORT.items()}

# Published counts.
IDENTITIES = 1064
TRAINING_IDENTITIES, TEST_IDENTITIES = 713, 351
IMAGES = 46_767


def train_list(modality: Modality) -> str:
    """Return the path of the index file of a modality's training images."""
    return f"{LAYOUT.list_folder}/train_{SHORT[modality]}.txt"


def read_train_list(
    root: Path, modality: Modality, on_fault: Callable[[IndexFault], None] = raise_fault
) -> list[IndexEntry]:
    """Read an index file of training images, see ``read_index``."""
    pattern = "<folder>/<identity>/<image>"
    return read_index(root, train_list(modality), identity, pattern, on_fault)


def identity(parts: tuple[str, ...]) -> int | None:
    """Return a training image's identity, or None: its last folder that is named by a number."""
    numbers = [int(part) for part in parts[:-1] if re.fullmatch("[0-9]{1,9}", part)]
    return numbers[-1] or None if numbers else None


def training_camera(parts: tuple[str, ...]) -> int:
    """Return a training image's camera: folder ``cam<digit>``, else the file name's, else 0."""
    for part in parts[:-1]:
        if folder := re.fullmatch("cam([0-9])", part):
            return int(folder[1])
    name = re.match("[0-9]+_c([0-9]{1,2})_", parts[-1])
    return int(name[1]) if name else 0


def camera_folder(modality: Modality, camera: int) -> str:
    """Return the folder of a camera's test images of a modality."""
    return f"{TEST_FOLDERS[modality]}/cam{camera}"


def labels_of(path: str) -> tuple[Modality, int, int] | None:
    """Return modality, camera and identity of a test image, or None if its path does not tell.

    Args:
        path: its last three folders count; the camera may be one that LLCM does not have.
    """
    *_, half, camera, pid, _ = ("", "", "", *PurePosixPath(path.replace("\\", "/")).parts)
    found = re.fullmatch("cam([0-9]+)", camera)
    modality = next((m for m, folder in TEST_FOLDERS.items() if folder == half), None)
    if modality is None or found is None or not re.fullmatch("[0-9]+", pid):
        return None
    return modality, int(found[1]), int(pid)

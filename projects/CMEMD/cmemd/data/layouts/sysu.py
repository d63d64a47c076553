"""SYSU-MM01: Wu et al., ICCV 2017.

Images are ``cam{1..6}/{id:04d}/{n:04d}.jpg``. ``exp/`` holds the identity lists
``{train,val,test,available}_id.{txt,mat}`` and the official gallery permutations,
``rand_perm_cam.mat``.
"""

import re

from cmemd.data.layouts.layout import Layout
from cmemd.data.modality import Modality

__all__ = [
    "CAMERAS",
    "IDENTITIES",
    "IMAGES",
    "LAYOUT",
    "PERMUTATIONS",
    "SPLIT_IDENTITIES",
    "TEST_IDENTITIES",
    "TEST_IMAGES",
    "TRAINING_IMAGES",
    "camera_folder",
    "image_folder",
    "image_path",
]

LAYOUT = Layout(
    name="sysu",
    title="SYSU-MM01",
    dataset="SYSUMM01",
    folder="SYSU-MM01",
    list_folder="exp",
    cameras={Modality.VISIBLE: (1, 2, 4, 5), Modality.THERMAL: (3, 6)},
    identity_folder=re.compile("(?!0000)[0-9]{4}"),
    trials=10,
    splits=1,
    arrays=("feats", "pids", "camids", "frames"),
    licence="SYSU-MM01's agreement with its authors: research only",
    numbered=True,
    official_permutations=True,
)
CAMERAS = {camera: m for m, cameras in LAYOUT.cameras.items() for camera in cameras}
PERMUTATIONS = "rand_perm_cam.mat"

# Published counts.
IDENTITIES = 491
SPLIT_IDENTITIES = {"train": 296, "val": 99, "test": 96}
IMAGES = {Modality.VISIBLE: 30_071, Modality.THERMAL: 15_792}
TRAINING_IMAGES = {Modality.VISIBLE: 22_258, Modality.THERMAL: 11_909}  # train + val
TEST_IMAGES = {1: 1374, 2: 1565, 3: 1883, 4: 1918, 5: 1918, 6: 1920}  # by camera
TEST_IDENTITIES = {1: 56, 2: 56, 4: 94, 5: 95}  # by visible camera


def camera_folder(camera: int) -> str:
    """Return the folder of a camera's images."""
    return f"cam{camera}"


def image_folder(camera: int, pid: int) -> str:
    """Return the folder of an identity's images under a camera."""
    return f"{camera_folder(camera)}/{pid:04d}"


def image_path(camera: int, pid: int, number: int) -> str:
    """Return an image's path; ``number`` counts an identity's images under a camera from 1."""
    return f"{image_folder(camera, pid)}/{number:04d}.jpg"

"""LLCM: training images by lists, test images in ``test_{vis,nir}/cam{1..9}/{id:04d}/``."""

import os
import re
from collections import Counter
from pathlib import Path

from cmemd.data.images import list_images
from cmemd.data.layouts.index_files import llcm_identity
from cmemd.data.layouts.sysu import read_ids
from cmemd.data.modality import LLCM_CAMERAS, Modality
from cmemd.doctor.lists import NO_INDEX, read_index, report_overlap
from cmemd.doctor.report import Fault, Report, Severity
from cmemd.doctor.shots import (
    FOREIGN,
    Shot,
    identity_folders,
    pids,
    report_foreign,
    report_lacking,
)
from cmemd.errors import InputError

__all__ = ["examine_llcm"]

IDENTITIES = 1064
IMAGES = 46_767
TRAINING_IDENTITIES, TEST_IDENTITIES = 713, 351

BAD_LIST = Fault(
    Severity.ERROR, "idx/test_id.txt cannot be read", "take it from the data set again"
)
ABSENT = Fault(
    Severity.WARNING, "test identities without any image", "complete the copy, or mend the list"
)
NOT_TESTED = Fault(
    Severity.NOTE,
    "identities with test images, but not in idx/test_id.txt",
    "nothing: their images are never used",
)
BOTH_LISTS = Fault(
    Severity.ERROR,
    "images listed as visible and as thermal",
    "take the lists from the data set again",
)
NOT_LISTED = Fault(
    Severity.NOTE,
    "images outside the test folders and in no training list",
    "nothing: they are never used",
)
NIR_CAMERA_3 = Fault(
    Severity.WARNING,
    "a near-infrared camera 3, which the genuine data set has not",
    "look at its images: are they visible ones in the wrong place? They are never used there",
)

_TRAIN_LISTS = {
    Modality.VISIBLE: "idx/train_vis.txt",
    Modality.THERMAL: "idx/train_nir.txt",
}
_TEST_FOLDERS = {Modality.VISIBLE: "test_vis", Modality.THERMAL: "test_nir"}
_IDENTITY = re.compile("(?!0000)[0-9]{4}")
# The genuine idx folder has lists of the test images too, which nobody reads.
_IDX = ("train_vis.txt", "train_nir.txt", "test_id.txt", "test_vis.txt", "test_nir.txt")


def examine_llcm(root: Path, report: Report) -> list[Shot]:
    """Reports on folders and lists; the images, for a look at each."""
    report_foreign(root / "idx", _IDX, report, "idx/")
    outside = _images_outside_test(root, report)
    train = _examine_training(root, outside, report)
    test_ids = _read_test_ids(root, report)
    test = _test_images(root, report)
    report.add(ABSENT, (f"identity {pid}" for pid in sorted(test_ids - pids(test))))
    if test_ids:
        report.add(NOT_TESTED, (f"identity {pid}" for pid in sorted(pids(test) - test_ids)))
    report_overlap(pids(train), test_ids, "idx", report)
    report_lacking("training", train, report)
    report_lacking("test", (shot for shot in test if shot.pid in test_ids), report)
    report.row("identities", len(pids(train) | test_ids), IDENTITIES)
    report.row("training identities", len(pids(train)), TRAINING_IDENTITIES)
    report.row("test identities", len(test_ids), TEST_IDENTITIES)
    report.row("images", len(train) + len(test), IMAGES)
    for camera, number in Counter(shot.camera for shot in train + test).items():
        report.row(f"{camera}: images", number)
    return train + test


def _examine_training(root: Path, outside: set[str], report: Report) -> list[Shot]:
    """The listed training images that are there."""
    shots: dict[str, Shot] = {}
    for modality, name in _TRAIN_LISTS.items():
        for entry in read_index(root, name, llcm_identity, report):
            if entry.path in shots and shots[entry.path].modality is not modality:
                report.add(BOTH_LISTS, [f"{entry.where}: {entry.path}"])
            elif (root / entry.path).is_file():
                camera = name.removeprefix("idx/").removesuffix(".txt")
                shots[entry.path] = Shot(entry.path, camera, entry.pid, modality)
    report.add(NOT_LISTED, sorted(outside - shots.keys()))
    return list(shots.values())


def _test_images(root: Path, report: Report) -> list[Shot]:
    shots = []
    for modality, folder in _TEST_FOLDERS.items():
        every = [f"cam{camera}" for camera in LLCM_CAMERAS[Modality.VISIBLE]]
        report_foreign(root / folder, every, report, f"{folder}/")
        for camera in LLCM_CAMERAS[modality]:
            shots += identity_folders(root, f"{folder}/cam{camera}", modality, _IDENTITY, report)
    report.add(NIR_CAMERA_3, (x for x in ["test_nir/cam3"] if (root / x).is_dir()))
    return shots


def _images_outside_test(root: Path, report: Report) -> set[str]:
    """Paths of the images that training lists may name."""
    found = set()
    skipped = [root / "idx", *(root / folder for folder in _TEST_FOLDERS.values())]
    for name, subfolders, files in os.walk(root):
        folder = Path(name)
        images = {path.name for path in list_images(folder)}
        prefix = folder.relative_to(root)
        found |= {(prefix / image).as_posix() for image in images}
        hidden = {x for x in subfolders if x.startswith(".")}
        others = sorted((set(files) - images - {"meta.jsonl"}) | hidden)
        report.add(FOREIGN, ((prefix / x).as_posix() for x in others))
        subfolders[:] = sorted(
            x for x in subfolders if folder / x not in skipped and x not in hidden
        )
    return found


def _read_test_ids(root: Path, report: Report) -> set[int]:
    """The test identities; none where they cannot be read."""
    name = "idx/test_id.txt"
    if not (root / name).is_file():
        report.add(NO_INDEX, [name])
        return set()
    try:
        return set(read_ids(root / "idx", "test_id"))
    except InputError as error:
        report.add(BAD_LIST, [error])
        return set()

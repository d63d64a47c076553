"""Examine LLCM: training images by lists, test images by folders."""

from collections import Counter
from functools import partial
from pathlib import Path, PurePosixPath

from cmemd.data.image_files import find_images, why_left_out
from cmemd.data.layouts import llcm
from cmemd.data.layouts.identity_lists import read_ids
from cmemd.data.modality import Modality
from cmemd.doctor.lists import NO_INDEX, path_of, read_to_the_end, report_overlap
from cmemd.doctor.report import Fault, Report, Severity
from cmemd.doctor.tree import (
    ImageFile,
    identity_folders,
    pids,
    report_foreign,
    report_lacking,
)
from cmemd.errors import InputError

__all__ = ["examine_llcm"]

BAD_LIST = Fault(Severity.ERROR, "an unreadable idx/test_id.txt", "take it from the data set again")
ABSENT = Fault(
    Severity.WARNING,
    "test identities without any image",
    "complete the copy, or correct the list",
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
    "a near-infrared camera 3, which the genuine data set does not have",
    "look at its images: are they visible ones in the wrong place? They are never used there",
)

_LISTS = llcm.LAYOUT.list_folder
_TEST_IDS = f"{_LISTS}/test_id.txt"
_TRAIN_LISTS = {modality: llcm.train_list(modality) for modality in Modality}
# The genuine folder has lists of the test images too, which are never read.
_KNOWN_LISTS = (
    *(PurePosixPath(name).name for name in (*_TRAIN_LISTS.values(), _TEST_IDS)),
    *(f"{folder}.txt" for folder in llcm.TEST_FOLDERS.values()),
)


def examine_llcm(root: Path, report: Report) -> list[ImageFile]:
    """Report on folders and lists; return the images, whose content is examined next."""
    report_foreign(root / _LISTS, _KNOWN_LISTS, report, f"{_LISTS}/")
    outside = _images_outside_test(root, report)
    train = _examine_training(root, outside, report)
    test_ids = _read_test_ids(root, report)
    test = _test_images(root, report)
    report.add(ABSENT, (f"identity {pid}" for pid in sorted(test_ids - pids(test))))
    if test_ids:
        report.add(NOT_TESTED, (f"identity {pid}" for pid in sorted(pids(test) - test_ids)))
    report_overlap(pids(train), test_ids, _LISTS, report)
    report_lacking("training", train, report)
    report_lacking("test", (file for file in test if file.pid in test_ids), report)
    report.row("identities", len(pids(train) | test_ids), llcm.IDENTITIES)
    report.row("training identities", len(pids(train)), llcm.TRAINING_IDENTITIES)
    report.row("test identities", len(test_ids), llcm.TEST_IDENTITIES)
    report.row("images", len(train) + len(test), llcm.IMAGES)
    for camera, number in Counter(file.camera for file in train + test).items():
        report.row(f"{camera}: images", number)
    return train + test


def _examine_training(root: Path, outside: set[str], report: Report) -> list[ImageFile]:
    """Return the listed training images that exist."""
    files: dict[str, ImageFile] = {}
    for modality, name in _TRAIN_LISTS.items():
        read = partial(llcm.read_train_list, root, modality)
        for entry in read_to_the_end(name, read, report):
            path = path_of(entry)
            if path in files and files[path].modality is not modality:
                report.add(BOTH_LISTS, [f"{name}:{entry.line}: {path}"])
            elif why_left_out(entry.path) is None:
                files[path] = ImageFile(path, PurePosixPath(name).stem, entry.pid, modality)
    report.add(NOT_LISTED, sorted(outside - files.keys()))
    return list(files.values())


def _test_images(root: Path, report: Report) -> list[ImageFile]:
    files = []
    numbers = llcm.LAYOUT.cameras[Modality.VISIBLE]
    for modality, folder in llcm.TEST_FOLDERS.items():
        known = [PurePosixPath(llcm.camera_folder(modality, camera)).name for camera in numbers]
        report_foreign(root / folder, known, report, f"{folder}/")
        for camera in llcm.LAYOUT.cameras[modality]:
            where = llcm.camera_folder(modality, camera)
            files += identity_folders(root, where, modality, llcm.LAYOUT, report)
    third = llcm.camera_folder(Modality.THERMAL, 3)
    report.add(NIR_CAMERA_3, [third] if (root / third).is_dir() else [])
    return files


def _images_outside_test(root: Path, report: Report) -> set[str]:
    """Return the paths of the images that training lists may name."""
    skip = [root / _LISTS, *(root / folder for folder in llcm.TEST_FOLDERS.values())]
    found = find_images(root, report.tally, skip)
    return {path.relative_to(root).as_posix() for path in found}


def _read_test_ids(root: Path, report: Report) -> set[int]:
    """Return the test identities; none if they cannot be read."""
    if not (root / _TEST_IDS).is_file():
        report.add(NO_INDEX, [_TEST_IDS])
        return set()
    try:
        return set(read_ids(root / _LISTS, "test_id"))
    except InputError as error:
        report.add(BAD_LIST, [error])
        return set()

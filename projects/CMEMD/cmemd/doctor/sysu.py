"""Examine SYSU-MM01: six camera folders, identity lists and the official permutations."""

from collections.abc import Iterable
from itertools import combinations
from pathlib import Path

from cmemd.data.layouts import sysu
from cmemd.data.layouts.identity_lists import ID_LISTS, read_ids
from cmemd.data.layouts.permutations import RandPermCam, read_rand_perm_cam
from cmemd.data.modality import Modality
from cmemd.doctor.report import Fault, Report, Severity
from cmemd.doctor.tree import (
    META,
    ImageFile,
    identity_folders,
    pids,
    report_foreign,
    report_lacking,
)
from cmemd.errors import InputError

__all__ = ["examine_sysu"]

BAD_LIST = Fault(Severity.ERROR, "unreadable identity lists", "take them from the data set again")
OVERLAP = Fault(
    Severity.ERROR,
    "identities in two lists",
    "take the lists from the data set again: train, val and test must not share an identity",
)
ABSENT = Fault(
    Severity.WARNING,
    "listed identities without any image",
    "complete the copy, or correct the list",
)
UNLISTED = Fault(
    Severity.NOTE,
    "identities with images, but in no list",
    "nothing: their images are never used (the genuine data set has some)",
)
NOT_NUMBERED = Fault(
    Severity.ERROR,
    "test images whose file names are no number",
    "remove files of other origin: the evaluation reads image numbers from names as in 0001.jpg",
)
GAPS = Fault(
    Severity.NOTE,
    "identity folders whose images are not numbered 1 to n without a gap",
    "complete the copy if images are missing; training does not need the numbers",
)
NO_PERMUTATIONS = Fault(
    Severity.WARNING,
    "no exp/rand_perm_cam.mat",
    "take it from the official evaluation code: without it, only the python gallery sampling is "
    "possible",
)
BAD_PERMUTATIONS = Fault(
    Severity.ERROR,
    "an unreadable exp/rand_perm_cam.mat",
    "take it from the official evaluation code again, or remove it to sample galleries with python",
)
GALLERY_DIFFERS = Fault(
    Severity.ERROR,
    "test identities whose visible images are not those of rand_perm_cam.mat",
    "complete the copy, or remove rand_perm_cam.mat: the official gallery sampling refuses them",
)
FOLDER_DIFFERS = Fault(
    Severity.WARNING,
    "other folders whose images are not those of rand_perm_cam.mat",
    "complete or clean the copy: the official gallery sampling does not use these images",
)

_EXP = sysu.LAYOUT.list_folder
_CAMERAS = sorted(sysu.CAMERAS)


def examine_sysu(root: Path, report: Report) -> list[ImageFile]:
    """Report on folders and lists; return the images, whose content is examined next."""
    exp = root / _EXP
    report_foreign(root, [*map(sysu.camera_folder, _CAMERAS), _EXP, META], report)
    known = [f"{name}{suffix}" for name in ID_LISTS for suffix in (".txt", ".mat")]
    report_foreign(exp, [*known, sysu.PERMUTATIONS], report, f"{_EXP}/")
    by_camera = {
        camera: identity_folders(root, sysu.camera_folder(camera), modality, sysu.LAYOUT, report)
        for camera, modality in sysu.CAMERAS.items()
    }
    by_camera = dict(sorted(by_camera.items()))
    files = [file for files in by_camera.values() for file in files]
    lists = _read_lists(exp, report)
    _examine_lists(lists, files, report)
    _count(lists, by_camera, report)
    _examine_numbers(by_camera, lists["test"], _read_permutations(exp, report), report)
    return files


def _read_lists(exp: Path, report: Report) -> dict[str, set[int]]:
    """Return the identities of each list; none if it cannot be read."""
    lists = {}
    for name in sysu.SPLIT_IDENTITIES:
        try:
            lists[name] = set(read_ids(exp, f"{name}_id"))
        except InputError as error:
            lists[name] = set()
            report.add(BAD_LIST, [error])
    return lists


def _examine_lists(lists: dict[str, set[int]], files: list[ImageFile], report: Report) -> None:
    for one, other in combinations(lists, 2):
        shared = sorted(lists[one] & lists[other])
        report.add(OVERLAP, (f"identity {pid} in {one}_id and {other}_id" for pid in shared))
    present = pids(files)
    for name, ids in lists.items():
        report.add(ABSENT, (f"identity {pid} in {name}_id" for pid in sorted(ids - present)))
    if all(lists.values()):
        unlisted = sorted(present - set().union(*lists.values()))
        report.add(UNLISTED, (f"identity {pid}" for pid in unlisted))
    for use, ids in (("training", lists["train"] | lists["val"]), ("test", lists["test"])):
        report_lacking(use, (file for file in files if file.pid in ids), report)


def _count(
    lists: dict[str, set[int]], by_camera: dict[int, list[ImageFile]], report: Report
) -> None:
    files = [file for files in by_camera.values() for file in files]
    report.row("identities in the lists", len(set().union(*lists.values())), sysu.IDENTITIES)
    for name, ids in lists.items():
        report.row(f"{name} identities", len(ids), sysu.SPLIT_IDENTITIES[name])
    for modality, expected in sysu.IMAGES.items():
        report.row(f"{modality.name.lower()} images", _number(files, modality), expected)
    training = [file for file in files if file.pid in lists["train"] | lists["val"]]
    for modality, expected in sysu.TRAINING_IMAGES.items():
        subject = f"{modality.name.lower()} images, train + val"
        report.row(subject, _number(training, modality), expected)
    for camera in _CAMERAS:
        subject = f"{sysu.camera_folder(camera)} ({sysu.CAMERAS[camera].name.lower()})"
        seen = by_camera[camera]
        test = [file for file in seen if file.pid in lists["test"]]
        report.row(f"{subject}: identities", len(pids(seen)))
        report.row(f"{subject}: images", len(seen))
        identities = sysu.TEST_IDENTITIES.get(camera)
        report.row(f"{subject}: test identities", len(pids(test)), identities)
        report.row(f"{subject}: test images", len(test), sysu.TEST_IMAGES[camera])


def _examine_numbers(
    by_camera: dict[int, list[ImageFile]],
    test: set[int],
    perm: RandPermCam | None,
    report: Report,
) -> None:
    """Compare image numbers with 1..n, and with the official permutations if there are any."""
    for camera, files in by_camera.items():
        folders: dict[int, list[Path]] = {}
        for file in files:
            folders.setdefault(file.pid, []).append(Path(file.path))
        listed = () if perm is None else range(1, len(perm.cells[camera - 1]) + 1)
        for pid in sorted(folders.keys() | set(listed)):
            paths = folders.get(pid, [])
            numbers = sorted(int(path.stem) for path in paths if path.stem.isdecimal())
            if pid in test:
                report.add(NOT_NUMBERED, (path for path in paths if not path.stem.isdecimal()))
            where = f"{sysu.image_folder(camera, pid)}: {len(paths)} images"
            if numbers != list(range(1, len(paths) + 1)):
                report.add(GAPS, [f"{where}, the last {paths[-1].name}"])
            if perm is None:
                continue
            expected = perm.permutations(camera, pid).shape[1]
            if numbers != list(range(1, expected + 1)):
                gallery = pid in test and sysu.CAMERAS[camera] is Modality.VISIBLE
                fault = GALLERY_DIFFERS if gallery else FOLDER_DIFFERS
                report.add(fault, [f"{where}, 1 to {expected} in {sysu.PERMUTATIONS}"])


def _read_permutations(exp: Path, report: Report) -> RandPermCam | None:
    path = exp / sysu.PERMUTATIONS
    if not path.is_file():
        report.add(NO_PERMUTATIONS, [path.name])
        return None
    try:
        return read_rand_perm_cam(path)
    except InputError as error:
        report.add(BAD_PERMUTATIONS, [error])
        return None


def _number(files: Iterable[ImageFile], modality: Modality) -> int:
    return sum(file.modality is modality for file in files)

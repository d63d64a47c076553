"""SYSU-MM01: ``cam{1..6}/{id:04d}/{n:04d}.jpg`` and ``exp/``."""

import re
from collections.abc import Iterable
from itertools import combinations
from pathlib import Path

from cmemd.data.layouts.sysu import ID_LISTS, RandPermCam, read_ids, read_rand_perm_cam
from cmemd.data.modality import SYSU_CAMERAS, SYSU_VISIBLE_CAMERAS, Modality
from cmemd.doctor.report import Fault, Report, Severity
from cmemd.doctor.shots import Shot, identity_folders, pids, report_foreign, report_lacking
from cmemd.errors import InputError

__all__ = ["examine_sysu"]

IDENTITIES = 491
SPLITS = {"train": 296, "val": 99, "test": 96}
IMAGES = {Modality.VISIBLE: 30_071, Modality.THERMAL: 15_792}
TRAINING_IMAGES = {Modality.VISIBLE: 22_258, Modality.THERMAL: 11_909}  # train + val
TEST_IMAGES = {1: 1374, 2: 1565, 3: 1883, 4: 1918, 5: 1918, 6: 1920}
TEST_IDENTITIES = {1: 56, 2: 56, 4: 94, 5: 95}

BAD_LIST = Fault(
    Severity.ERROR, "identity lists that cannot be read", "take them from the data set again"
)
OVERLAP = Fault(
    Severity.ERROR,
    "identities in two lists",
    "take the lists from the data set again: nobody may be in two of train, val and test",
)
ABSENT = Fault(
    Severity.WARNING, "listed identities without any image", "complete the copy, or mend the list"
)
UNLISTED = Fault(
    Severity.NOTE,
    "identities with images, but in no list",
    "nothing: their images are never used (the genuine data set has some)",
)
NOT_NUMBERED = Fault(
    Severity.ERROR,
    "test images whose file names are no number",
    "take foreign files out: the evaluation takes image numbers from the names, as in 0001.jpg",
)
GAPS = Fault(
    Severity.NOTE,
    "identity folders whose images are not numbered 1 to n without a gap",
    "complete the copy if images are missing; training does not mind",
)
NO_PERMUTATIONS = Fault(
    Severity.WARNING,
    "exp/rand_perm_cam.mat is not there",
    "take it from the official evaluation code: without it galleries are the python draw's",
)
BAD_PERMUTATIONS = Fault(
    Severity.ERROR,
    "exp/rand_perm_cam.mat cannot be read",
    "take it from the official evaluation code again, or remove it and use the python draw",
)
GALLERY_DIFFERS = Fault(
    Severity.ERROR,
    "test identities whose visible images are not those of rand_perm_cam.mat",
    "complete the copy, or remove rand_perm_cam.mat: the official draw would refuse them",
)
FOLDER_DIFFERS = Fault(
    Severity.WARNING,
    "other folders whose images are not those of rand_perm_cam.mat",
    "complete or clean the copy: the official gallery draw does not use these images",
)

_IDENTITY = re.compile("(?!0000)[0-9]{4}")


def examine_sysu(root: Path, report: Report) -> list[Shot]:
    """Reports on folders and lists; the images, for a look at each."""
    exp = root / "exp"
    report_foreign(root, [*(f"cam{c}" for c in SYSU_CAMERAS), "exp", "meta.jsonl"], report)
    known = [f"{name}{suffix}" for name in ID_LISTS for suffix in (".txt", ".mat")]
    report_foreign(exp, [*known, "rand_perm_cam.mat"], report, "exp/")
    by_camera = {
        camera: identity_folders(root, f"cam{camera}", modality, _IDENTITY, report)
        for camera, modality in SYSU_CAMERAS.items()
    }
    by_camera = dict(sorted(by_camera.items()))
    shots = [shot for shots in by_camera.values() for shot in shots]
    lists = _read_lists(exp, report)
    _examine_lists(lists, shots, report)
    _count(lists, by_camera, report)
    _examine_numbers(by_camera, lists["test"], _read_permutations(exp, report), report)
    return shots


def _read_lists(exp: Path, report: Report) -> dict[str, set[int]]:
    """The identities of each list; none where it cannot be read."""
    lists = {}
    for name in SPLITS:
        try:
            lists[name] = set(read_ids(exp, f"{name}_id"))
        except InputError as error:
            lists[name] = set()
            report.add(BAD_LIST, [error])
    return lists


def _examine_lists(lists: dict[str, set[int]], shots: list[Shot], report: Report) -> None:
    for one, other in combinations(lists, 2):
        shared = sorted(lists[one] & lists[other])
        report.add(OVERLAP, (f"identity {pid} in {one}_id and {other}_id" for pid in shared))
    present = pids(shots)
    for name, ids in lists.items():
        report.add(ABSENT, (f"identity {pid} in {name}_id" for pid in sorted(ids - present)))
    if all(lists.values()):
        unlisted = sorted(present - set().union(*lists.values()))
        report.add(UNLISTED, (f"identity {pid}" for pid in unlisted))
    for use, ids in (("training", lists["train"] | lists["val"]), ("test", lists["test"])):
        report_lacking(use, (shot for shot in shots if shot.pid in ids), report)


def _count(lists: dict[str, set[int]], by_camera: dict[int, list[Shot]], report: Report) -> None:
    shots = [shot for shots in by_camera.values() for shot in shots]
    report.row("identities in the lists", len(set().union(*lists.values())), IDENTITIES)
    for name, ids in lists.items():
        report.row(f"{name} identities", len(ids), SPLITS[name])
    for modality, expected in IMAGES.items():
        report.row(f"{modality.name.lower()} images", _number(shots, modality), expected)
    training = [shot for shot in shots if shot.pid in lists["train"] | lists["val"]]
    for modality, expected in TRAINING_IMAGES.items():
        subject = f"{modality.name.lower()} images, train + val"
        report.row(subject, _number(training, modality), expected)
    for camera, modality in sorted(SYSU_CAMERAS.items()):
        cam, name = f"cam{camera}", modality.name.lower()
        seen = by_camera[camera]
        test = [shot for shot in seen if shot.pid in lists["test"]]
        report.row(f"{cam} ({name}): identities", len(pids(seen)))
        report.row(f"{cam} ({name}): images", len(seen))
        report.row(f"{cam} ({name}): test identities", len(pids(test)), TEST_IDENTITIES.get(camera))
        report.row(f"{cam} ({name}): test images", len(test), TEST_IMAGES[camera])


def _examine_numbers(
    by_camera: dict[int, list[Shot]], test: set[int], perm: RandPermCam | None, report: Report
) -> None:
    """Image numbers against 1..n, and against the official permutations where there are some."""
    for camera, shots in by_camera.items():
        folders: dict[int, list[Path]] = {}
        for shot in shots:
            folders.setdefault(shot.pid, []).append(Path(shot.path))
        listed = () if perm is None else range(1, len(perm.cells[camera - 1]) + 1)
        for pid in sorted(folders.keys() | set(listed)):
            paths = folders.get(pid, [])
            numbers = sorted(int(path.stem) for path in paths if path.stem.isdecimal())
            if pid in test:
                report.add(NOT_NUMBERED, (path for path in paths if not path.stem.isdecimal()))
            where = f"cam{camera}/{pid:04d}: {len(paths)} images"
            if numbers != list(range(1, len(paths) + 1)):
                report.add(GAPS, [f"{where}, the last {paths[-1].name}"])
            if perm is None:
                continue
            expected = perm.permutations(camera, pid).shape[1]
            if numbers != list(range(1, expected + 1)):
                gallery = pid in test and camera in SYSU_VISIBLE_CAMERAS
                fault = GALLERY_DIFFERS if gallery else FOLDER_DIFFERS
                report.add(fault, [f"{where}, 1 to {expected} in rand_perm_cam.mat"])


def _read_permutations(exp: Path, report: Report) -> RandPermCam | None:
    path = exp / "rand_perm_cam.mat"
    if not path.is_file():
        report.add(NO_PERMUTATIONS, [path.name])
        return None
    try:
        return read_rand_perm_cam(path)
    except InputError as error:
        report.add(BAD_PERMUTATIONS, [error])
        return None


def _number(shots: Iterable[Shot], modality: Modality) -> int:
    return sum(shot.modality is modality for shot in shots)

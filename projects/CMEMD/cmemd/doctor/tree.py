"""The image files in a data set's folders, and the files and folders that do not belong there."""

import os
from collections.abc import Collection, Iterable
from pathlib import Path
from typing import NamedTuple

from cmemd.data.image_files import Reason, list_images
from cmemd.data.layouts import Layout
from cmemd.data.modality import Modality
from cmemd.doctor.report import Fault, Report, Severity

__all__ = [
    "FOREIGN",
    "META",
    "SAME_FILE",
    "ImageFile",
    "identity_folders",
    "pids",
    "report_foreign",
    "report_lacking",
    "report_left_out",
]

META = "meta.jsonl"  # a stand-in's own file

FOREIGN = Fault(
    Severity.NOTE,
    "files and folders that are not part of the data set",
    "nothing: they are skipped",
)
MISNAMED = Fault(
    Severity.WARNING,
    "folders whose names are no identity",
    "rename or remove them: their images are never used",
)
EMPTY = Fault(Severity.NOTE, "identity folders without images", "nothing: they are skipped")
NO_FILE = Fault(
    Severity.WARNING,
    "image names that are no readable file",
    "restore these images, or remove the names: they are never used",
)
LOCKED = Fault(Severity.ERROR, "folders that may not be read", "change their permissions")
SAME_FILE = Fault(
    Severity.WARNING,
    "images that are one file under two names",
    "remove one of the names: the image counts twice",
)
NO_FOLDER = Fault(
    Severity.WARNING,
    "missing folders",
    "complete the copy, or give --root the data set's own folder",
)

NO_IMAGES = Fault(
    Severity.ERROR,
    "splits without images of a modality",
    "complete the copy: training and scoring need both modalities",
)

_LEFT_OUT = {
    Reason.EXTENSION: FOREIGN,
    Reason.HIDDEN: FOREIGN,
    Reason.SUBFOLDER: FOREIGN,
    Reason.MISSING: NO_FILE,
    Reason.NOT_REGULAR: NO_FILE,
    Reason.NOT_UTF8: NO_FILE,
    Reason.LOCKED_FOLDER: LOCKED,
    Reason.SAME_FILE: SAME_FILE,
}


class ImageFile(NamedTuple):
    """An image file and what its place says about it.

    Attributes:
        path: relative to the data set's folder, with forward slashes.
        camera: the folder that stands for its camera or modality, as in cam1.
        pid: identity.
        modality: how the image should have been taken.
    """

    path: str
    camera: str
    pid: int
    modality: Modality


def identity_folders(
    root: Path, camera: str, modality: Modality, layout: Layout, report: Report
) -> list[ImageFile]:
    """Return the images in ``root/camera/<identity>/``, sorted; report what is odd.

    Args:
        root: the data set's folder.
        camera: folder below it, with forward slashes.
        modality: of all its images.
        layout: says how identity folders are named.
        report: takes the findings.
    """
    folder = root / camera
    if not folder.is_dir():
        report.add(NO_FOLDER, [camera])
        return []
    files: list[ImageFile] = []
    for entry in sorted(folder.iterdir()):
        where = f"{camera}/{entry.name}"
        if entry.name.startswith(".") or not entry.is_dir():
            report.add(FOREIGN, [where])
            continue
        if not layout.identity_folder.fullmatch(entry.name):
            report.add(MISNAMED, [where])
            continue
        images = list_images(entry, report.tally)
        files += (
            ImageFile(f"{where}/{image.name}", camera, int(entry.name), modality)
            for image in images
        )
        if not images:
            report.add(EMPTY, [where])
    return files


def report_foreign(folder: Path, known: Collection[str], report: Report, prefix: str = "") -> None:
    """Report what lies directly in a folder beside the ``known`` names."""
    if folder.is_dir():
        report.add(FOREIGN, (prefix + x for x in sorted(set(os.listdir(folder)) - set(known))))


def report_left_out(root: Path, report: Report) -> None:
    """Report, below the folder, what the search for images left out and what has two names."""
    for reason, fault in _LEFT_OUT.items():
        names = (name.replace(f"{root}{os.sep}", "") for name in report.tally.names(reason))
        report.add(fault, (f"{name} ({reason.words})" for name in names if name != META))


def report_lacking(use: str, files: Iterable[ImageFile], report: Report) -> None:
    """Report each modality that a split has no image of."""
    lacking = set(Modality) - {file.modality for file in files}
    report.add(NO_IMAGES, (f"no {m.name.lower()} {use} images" for m in sorted(lacking)))


def pids(files: Iterable[ImageFile]) -> set[int]:
    """Return the identities of the images."""
    return {file.pid for file in files}

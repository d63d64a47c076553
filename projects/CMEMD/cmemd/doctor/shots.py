"""The image files of a tree, with what their folders say of them, and whatever else lies there."""

import os
import re
from collections.abc import Collection, Iterable
from pathlib import Path
from typing import NamedTuple

from cmemd.data.images import list_images
from cmemd.data.modality import Modality
from cmemd.doctor.report import Fault, Report, Severity

__all__ = ["Shot", "identity_folders", "pids", "report_foreign", "report_lacking"]

FOREIGN = Fault(
    Severity.NOTE, "files and folders that are no part of the data set", "nothing: they are skipped"
)
MISNAMED = Fault(
    Severity.WARNING,
    "folders whose names are no identity",
    "rename or remove them: no image in them is ever used",
)
EMPTY = Fault(Severity.NOTE, "identity folders without images", "nothing: they are skipped")
NO_FOLDER = Fault(
    Severity.WARNING,
    "expected folders that are not there",
    "complete the copy, or give --root the data set's own folder",
)

NO_IMAGES = Fault(
    Severity.ERROR,
    "splits without images of a modality",
    "complete the copy: training and scoring need both modalities",
)


class Shot(NamedTuple):
    """An image file.

    Attributes:
        path: relative to the data set's folder, with forward slashes.
        camera: the folder that stands for its camera or modality, as in cam1.
        pid: identity.
        modality: how its place says it was taken.
    """

    path: str
    camera: str
    pid: int
    modality: Modality


def identity_folders(
    root: Path, camera: str, modality: Modality, name: re.Pattern[str], report: Report
) -> list[Shot]:
    """Images in ``root/camera/<identity>/``, sorted; oddities go into the report.

    Args:
        root: the data set's folder.
        camera: folder below it, with forward slashes.
        modality: of all its images.
        name: what a whole identity folder's name matches.
        report: takes the findings.
    """
    folder = root / camera
    if not folder.is_dir():
        report.add(NO_FOLDER, [camera])
        return []
    shots: list[Shot] = []
    for entry in sorted(folder.iterdir()):
        if entry.name.startswith(".") or not entry.is_dir():
            report.add(FOREIGN, [f"{camera}/{entry.name}"])
            continue
        if not name.fullmatch(entry.name):
            report.add(MISNAMED, [f"{camera}/{entry.name}"])
            continue
        images = {path.name for path in list_images(entry)}
        where = f"{camera}/{entry.name}"
        shots += (
            Shot(f"{where}/{image}", camera, int(entry.name), modality) for image in sorted(images)
        )
        report.add(FOREIGN, (f"{where}/{x}" for x in sorted(set(os.listdir(entry)) - images)))
        if not images:
            report.add(EMPTY, [where])
    return shots


def report_foreign(folder: Path, known: Collection[str], report: Report, prefix: str = "") -> None:
    """Reports what lies directly in a folder beside the ``known`` names."""
    if folder.is_dir():
        report.add(FOREIGN, (prefix + x for x in sorted(set(os.listdir(folder)) - set(known))))


def report_lacking(use: str, shots: Iterable[Shot], report: Report) -> None:
    """Reports each modality that a split has no image of."""
    lacking = set(Modality) - {shot.modality for shot in shots}
    report.add(NO_IMAGES, (f"no {m.name.lower()} {use} images" for m in sorted(lacking)))


def pids(shots: Iterable[Shot]) -> set[int]:
    """Their identities."""
    return {shot.pid for shot in shots}

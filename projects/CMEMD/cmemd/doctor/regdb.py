"""Examine RegDB: its two image folders and ten splits."""

from functools import partial
from pathlib import Path, PurePosixPath

from cmemd.data.layouts import regdb
from cmemd.data.modality import Modality
from cmemd.doctor.lists import UNLISTED, path_of, read_to_the_end, report_overlap
from cmemd.doctor.report import Fault, Report, Severity
from cmemd.doctor.tree import META, ImageFile, identity_folders, pids, report_foreign

__all__ = ["examine_regdb"]

ONE_MODALITY = Fault(
    Severity.WARNING,
    "identities with images of one modality only",
    "complete the copy: these identities can be neither trained on nor found",
)
UNEQUAL = Fault(
    Severity.ERROR,
    "splits whose visible and thermal lists name different identities",
    "take both files from the data set again",
)

_PARTS = ("train", "test")
_LISTS = regdb.LAYOUT.list_folder


def examine_regdb(root: Path, report: Report) -> list[ImageFile]:
    """Report on folders and lists; return the images, whose content is examined next."""
    report_foreign(root, [*regdb.FOLDERS.values(), _LISTS, META], report)
    lists = [regdb.split_list(p, m, k) for k in regdb.SPLITS for p in _PARTS for m in Modality]
    names = [PurePosixPath(name).name for name in lists]
    report_foreign(root / _LISTS, names, report, f"{_LISTS}/")
    files = []
    for modality, folder in regdb.FOLDERS.items():
        seen = identity_folders(root, folder, modality, regdb.LAYOUT, report)
        report.row(f"{modality.name.lower()} identities", len(pids(seen)), regdb.IDENTITIES)
        report.row(f"{modality.name.lower()} images", len(seen), regdb.IMAGES)
        files += seen
    by_modality = [pids(file for file in files if file.modality is m) for m in Modality]
    lonely = sorted(by_modality[0] ^ by_modality[1])
    report.add(ONE_MODALITY, (f"identity {pid}" for pid in lonely))
    _examine_splits(root, {file.path for file in files}, report)
    return files


def _examine_splits(root: Path, present: set[str], report: Report) -> None:
    unlisted = set(present)
    for trial in regdb.SPLITS:
        identities: dict[str, set[int]] = {}
        test_images = []
        for part in _PARTS:
            by_modality = []
            for modality in Modality:
                entries = read_to_the_end(
                    regdb.split_list(part, modality, trial),
                    partial(regdb.read_split, root, part, modality, trial),
                    report,
                )
                unlisted -= {path_of(entry) for entry in entries}
                by_modality.append({entry.pid for entry in entries})
                if part == "test":
                    test_images.append(len(entries))
            if by_modality[0] != by_modality[1] and all(by_modality):
                differing = sorted(by_modality[0] ^ by_modality[1])
                where = f"{_LISTS}/{part}_*_{trial}.txt"
                report.add(UNEQUAL, (f"{where}: identity {pid}" for pid in differing))
            identities[part] = set().union(*by_modality)
        report_overlap(identities["train"], identities["test"], f"split {trial}", report)
        report.row(
            f"split {trial}: training and test identities",
            f"{len(identities['train'])} {len(identities['test'])}",
            f"{regdb.SPLIT_IDENTITIES} {regdb.SPLIT_IDENTITIES}",
        )
        report.row(
            f"split {trial}: visible and thermal test images",
            " ".join(map(str, test_images)),
            f"{regdb.SPLIT_IMAGES} {regdb.SPLIT_IMAGES}",
        )
    report.add(UNLISTED, sorted(unlisted))

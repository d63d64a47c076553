"""RegDB: ``Visible/<n>/*.bmp``, ``Thermal/<n>/*.bmp`` and ten splits in ``idx/``."""

import re
from functools import partial
from pathlib import Path

from cmemd.data.layouts.index_files import regdb_identity
from cmemd.data.modality import Modality
from cmemd.doctor.lists import UNLISTED, read_index, report_overlap
from cmemd.doctor.report import Fault, Report, Severity
from cmemd.doctor.shots import Shot, identity_folders, pids, report_foreign

__all__ = ["examine_regdb"]

TRIALS = 10
IDENTITIES = 412
IMAGES = 4120  # of each modality
SPLIT_IDENTITIES = 206  # training ones; as many for testing
SPLIT_IMAGES = 2060  # test images of each modality

ONE_MODALITY = Fault(
    Severity.WARNING,
    "identities with images of one modality only",
    "complete the copy: they cannot be trained on or found",
)
UNEQUAL = Fault(
    Severity.ERROR,
    "splits whose visible and thermal lists name different identities",
    "take both files from the data set again",
)

_FOLDERS = {Modality.VISIBLE: "Visible", Modality.THERMAL: "Thermal"}
_IDENTITY = re.compile("[1-9][0-9]{0,8}")


def examine_regdb(root: Path, report: Report) -> list[Shot]:
    """Reports on folders and lists; the images, for a look at each."""
    report_foreign(root, [*_FOLDERS.values(), "idx", "meta.jsonl"], report)
    files = [_index(part, m, k) for k in _trials() for part in ("train", "test") for m in Modality]
    report_foreign(root / "idx", [Path(file).name for file in files], report, "idx/")
    shots = []
    for modality, folder in _FOLDERS.items():
        seen = identity_folders(root, folder, modality, _IDENTITY, report)
        report.row(f"{modality.name.lower()} identities", len(pids(seen)), IDENTITIES)
        report.row(f"{modality.name.lower()} images", len(seen), IMAGES)
        shots += seen
    by_modality = [pids(s for s in shots if s.modality is m) for m in Modality]
    lonely = sorted(by_modality[0] ^ by_modality[1])
    report.add(ONE_MODALITY, (f"identity {pid}" for pid in lonely))
    _examine_splits(root, {shot.path for shot in shots}, report)
    return shots


def _examine_splits(root: Path, present: set[str], report: Report) -> None:
    unlisted = set(present)
    for trial in _trials():
        identities: dict[str, set[int]] = {}
        test_images = []
        for part in ("train", "test"):
            by_modality = []
            for modality, folder in _FOLDERS.items():
                name = _index(part, modality, trial)
                entries = read_index(root, name, partial(regdb_identity, folder=folder), report)
                unlisted -= {entry.path for entry in entries}
                by_modality.append({entry.pid for entry in entries})
                if part == "test":
                    test_images.append(len(entries))
            if by_modality[0] != by_modality[1] and all(by_modality):
                differing = sorted(by_modality[0] ^ by_modality[1])
                where = f"idx/{part}_*_{trial}.txt"
                report.add(UNEQUAL, (f"{where}: identity {pid}" for pid in differing))
            identities[part] = set().union(*by_modality)
        report_overlap(identities["train"], identities["test"], f"split {trial}", report)
        report.row(
            f"split {trial}: training and test identities",
            f"{len(identities['train'])} {len(identities['test'])}",
            f"{SPLIT_IDENTITIES} {SPLIT_IDENTITIES}",
        )
        report.row(
            f"split {trial}: visible and thermal test images",
            " ".join(map(str, test_images)),
            f"{SPLIT_IMAGES} {SPLIT_IMAGES}",
        )
    report.add(UNLISTED, sorted(unlisted))


def _index(part: str, modality: Modality, trial: int) -> str:
    return f"idx/{part}_{modality.name.lower()}_{trial}.txt"


def _trials() -> range:
    return range(1, TRIALS + 1)

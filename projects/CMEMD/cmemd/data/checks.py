"""Check a copy of a data set, and hold identities out for validation; used by every builder."""

import hashlib
import logging
import os
from collections.abc import Iterable, Sequence
from pathlib import Path

from cmemd.data.image_files import Reason, Tally
from cmemd.data.items import ImageItem
from cmemd.data.layouts.index_files import IndexEntry
from cmemd.data.modality import Modality
from cmemd.errors import InputError

__all__ = [
    "check_both_modalities",
    "check_disjoint",
    "find_folder",
    "hold_out",
    "log_left_out",
    "once_each",
]

_logger = logging.getLogger(__name__)


def find_folder(name: str, root: str | os.PathLike[str], folder: str, combineall: bool) -> Path:
    """Return the data set's own folder.

    Args:
        name: of the data set in the configuration.
        root: folder of all data sets.
        folder: the data set's folder in it.
        combineall: fast-reid's COMBINEALL; must be False.

    Raises:
        InputError: a missing or empty folder, or a true ``combineall``.
    """
    if combineall:
        raise InputError(
            "DATASETS.COMBINEALL False",
            combineall,
            f"leave it False: it would train on {name}'s test identities",
        )
    path = Path(root, folder)
    try:
        empty = not path.is_dir() or not any(path.iterdir())
    except PermissionError as error:
        raise InputError(f"{name} in a readable folder", error, "change its permissions") from None
    if empty:
        raise InputError(
            f"{name} in {path}",
            f"{'an empty' if path.is_dir() else 'no such'} folder",
            f"put the data set there, or set FASTREID_DATASETS or DATASETS.{name.upper()}.FOLDER "
            "(datasets/README.md)",
        )
    return path


def check_disjoint(one: Iterable[int], other: Iterable[int], uses: str, where: Path | str) -> None:
    """Raise if an identity has two uses.

    Args:
        one: identities of one use.
        other: identities of the other.
        uses: both, as in "training and test".
        where: the lists that name them.

    Raises:
        InputError: an identity in both.
    """
    shared = sorted(set(one) & set(other))
    if shared:
        raise InputError(
            f"different {uses} identities in {where}",
            f"{shared[:5]} in both ({len(shared)} in all)",
            "take the lists from the data set again",
        )


def check_both_modalities(items: Sequence[ImageItem], use: str, folder: Path) -> None:
    """Raise unless both modalities have an image.

    Args:
        items: images of one use.
        use: as in "training".
        folder: the data set's.

    Raises:
        InputError: a modality without images.
    """
    for modality in Modality:
        if not any(item.modality is modality for item in items):
            raise InputError(
                f"{modality.name.lower()} {use} images in {folder}",
                "none",
                "complete the copy: both modalities are needed",
            )


def once_each(entries: Iterable[IndexEntry], name: str, tally: Tally) -> list[IndexEntry]:
    """Return the entries of an index file without repeated lines, which would count twice.

    Args:
        entries: in the file's order.
        name: of the file, for reports.
        tally: takes the repeated lines, and images that are one file under two names.
    """
    kept: dict[Path, IndexEntry] = {}
    for entry in entries:
        if entry.path in kept:
            tally.add(Reason.REPEATED, f"{entry.path} ({name}, line {entry.line})")
        elif tally.admit(entry.path):
            kept[entry.path] = entry
    return list(kept.values())


def log_left_out(dataset: str, tally: Tally) -> None:
    """Log, as warnings, which files of a data set are left out, or are one file twice."""
    for line in tally.lines():
        _logger.warning("%s: %s", dataset, line)


def hold_out(items: Sequence[ImageItem], share: float) -> tuple[list[ImageItem], list[ImageItem]]:
    """Split training images into images to train on and images of held-out identities.

    The choice depends on the identities and the share alone, not on the order of the images, a seed
    or a library's generator. A larger share holds out the same identities and more.

    Args:
        items: training images.
        share: of the identities, 0 to below 1. A positive share holds out at least one identity and
            leaves at least one.

    Returns:
        Images to train on and images held out, each in the given order; a share of 0 holds out
        none.

    Raises:
        InputError: an invalid share, or a single identity.
    """
    if not 0 <= share < 1:
        raise InputError(
            "a VALIDATION_SHARE of 0 to below 1 of the training identities",
            share,
            "choose a share such as 0.1",
        )
    if share == 0:
        return list(items), []
    pids = sorted({item.pid for item in items}, key=_digest)
    if len(pids) < 2:
        raise InputError(
            "2 training identities or more to hold some out",
            len(pids),
            "set VALIDATION_SHARE 0, or complete the data set",
        )
    held = set(pids[: min(max(1, round(share * len(pids))), len(pids) - 1)])
    train = [item for item in items if item.pid not in held]
    return train, [item for item in items if item.pid in held]


def _digest(pid: int) -> bytes:
    return hashlib.sha256(str(pid).encode()).digest()

"""What every data set builder asks of a copy, and the identities it holds out of training."""

import hashlib
import os
from collections.abc import Iterable, Sequence
from pathlib import Path

from cmemd.data.items import ImageItem
from cmemd.data.modality import Modality
from cmemd.errors import InputError

__all__ = ["check_both_modalities", "check_disjoint", "find_folder", "hold_out"]


def find_folder(name: str, root: str | os.PathLike, folder: str, combineall: bool) -> Path:
    """The data set's own folder.

    Args:
        name: as the data set is called in the configuration.
        root: folder of all data sets.
        folder: the data set's in it.
        combineall: fast-reid's wish to train on the test set too.

    Raises:
        InputError: if the folder is missing or empty, or ``combineall`` is set.
    """
    if combineall:
        raise InputError(
            f"DATASETS.COMBINEALL would train {name} on its test identities: leave it False"
        )
    path = Path(root, folder)
    if not path.is_dir() or not any(path.iterdir()):
        raise InputError(
            f"expected {name} in {path}, got {'an empty' if path.is_dir() else 'no such'} folder: "
            f"put the data set there, or set FASTREID_DATASETS or DATASETS.{name.upper()}.FOLDER "
            "(datasets/README.md)"
        )
    return path


def check_disjoint(one: Iterable[int], other: Iterable[int], uses: str, where: Path | str) -> None:
    """Refuses identities with two uses.

    Args:
        one: identities.
        other: identities.
        uses: what they are for, as in "training and test".
        where: the lists that say so.

    Raises:
        InputError: if an identity is in both.
    """
    shared = sorted(set(one) & set(other))
    if shared:
        raise InputError(
            f"expected different {uses} identities in {where}, got {shared[:5]} in both "
            f"({len(shared)} in all): take the lists from the data set again"
        )


def check_both_modalities(items: Sequence[ImageItem], use: str, folder: Path) -> None:
    """Refuses images of one modality only.

    Args:
        items: images.
        use: what they are for, as in "training".
        folder: the data set's.

    Raises:
        InputError: if a modality has no image.
    """
    for modality in Modality:
        if not any(item.modality is modality for item in items):
            raise InputError(
                f"expected {modality.name.lower()} {use} images in {folder}, got none: "
                "complete the copy; both modalities are needed"
            )


def hold_out(items: Sequence[ImageItem], share: float) -> tuple[list[ImageItem], list[ImageItem]]:
    """Splits training images into those to train on and those of identities held out.

    Who is held out depends on the identities and the share alone, never on the order of the
    images, a seed or a library's generator; a larger share holds out the same identities and more.

    Args:
        items: training images.
        share: of the identities, 0 to below 1; of a positive share at least one identity is held
            out, and at least one is left.

    Returns:
        Images to train on and images held out, each in the order given; none for a share of 0.

    Raises:
        InputError: for another share, or a single identity.
    """
    if not 0 <= share < 1:
        raise InputError(
            f"expected a VALIDATION_SHARE of 0 to below 1 of the training identities, got {share}"
        )
    if share == 0:
        return list(items), []
    pids = sorted({item.pid for item in items}, key=_digest)
    if len(pids) < 2:
        raise InputError(
            f"expected 2 training identities or more to hold some out, got {len(pids)}: set "
            "VALIDATION_SHARE 0, or complete the data set"
        )
    held = set(pids[: min(max(1, round(share * len(pids))), len(pids) - 1)])
    train = [item for item in items if item.pid not in held]
    return train, [item for item in items if item.pid in held]


def _digest(pid: int) -> bytes:
    return hashlib.sha256(str(pid).encode()).digest()

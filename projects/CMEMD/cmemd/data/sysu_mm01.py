"""SYSU-MM01, in its genuine layout, as a fast-reid data set."""

from pathlib import Path

import cmemd.compat  # noqa: F401  before fastreid

from fastreid.data.datasets.bases import ImageDataset

from cmemd.data.checks import (
    check_both_modalities,
    check_disjoint,
    find_folder,
    log_left_out,
)
from cmemd.data.image_files import Tally, list_images
from cmemd.data.items import ImageItem
from cmemd.data.layouts import sysu
from cmemd.data.layouts.identity_lists import read_ids
from cmemd.data.modality import Modality

__all__ = ["SYSUMM01"]


_LAYOUT = sysu.LAYOUT


class SYSUMM01(ImageDataset):
    """SYSU-MM01: Wu et al., ICCV 2017. For folders and files see ``cmemd.data.layouts.sysu``.

    Visible cameras 1, 2, 4, 5; thermal (near-infrared) cameras 3, 6. Not every identity was seen
    by every camera.

    Statistics: 491 identities, 30,071 visible and 15,792 thermal images; 296 train, 99 val and 96
    test identities. Train + val: 395 identities, 22,258 visible and 11,909 thermal images. Test:
    3803 queries (cameras 3, 6), 6775 visible images to sample galleries from.

    Query: all thermal images of the test identities. Gallery: all their visible images; protocols
    sample from it.

    Args:
        root: folder that holds the data set's.
        folder: the data set's folder in it.
        train_with_val: train on the validation identities too, as the field does; otherwise hold
            them out, as ``validation``.
        combineall: fast-reid's COMBINEALL; must be False.

    Raises:
        InputError: a missing or empty folder or list, overlapping lists, or a use without
            images of one modality.
    """

    dataset_name = _LAYOUT.dataset_name
    layout = _LAYOUT.name  # of its protocols
    trial: int | None = None

    def __init__(
        self,
        root: str = "datasets",
        folder: str = _LAYOUT.folder,
        train_with_val: bool = True,
        combineall: bool = False,
        **kwargs: object,
    ) -> None:
        self.folder = find_folder(_LAYOUT.dataset, root, folder, combineall)
        self._tally = Tally()
        ids = {name: read_ids(self.exp_dir, f"{name}_id") for name in sysu.SPLIT_IDENTITIES}
        check_disjoint(ids["train"], ids["val"], "training and validation", self.exp_dir)
        check_disjoint(ids["train"] + ids["val"], ids["test"], "training and test", self.exp_dir)
        train = self._items(ids["train"] + (ids["val"] if train_with_val else []), "training")
        test = self._items(ids["test"], "test")
        self.validation = [] if train_with_val else self._items(ids["val"], "validation")
        log_left_out(_LAYOUT.dataset, self._tally)
        super().__init__(
            train,
            query=[item for item in test if item.modality == Modality.THERMAL],
            gallery=[item for item in test if item.modality == Modality.VISIBLE],
            **kwargs,
        )

    @property
    def exp_dir(self) -> Path:
        """Folder of the identity lists."""
        return self.folder / _LAYOUT.list_folder

    @property
    def rand_perm_cam(self) -> Path | None:
        """File of the official gallery permutations; None if the user does not have it."""
        path = self.exp_dir / sysu.PERMUTATIONS
        return path if path.is_file() else None

    def _items(self, ids: list[int], use: str) -> list[ImageItem]:
        items = [
            ImageItem(str(path), pid, camera, modality)
            for camera, modality in sysu.CAMERAS.items()
            for pid in sorted(ids)
            for folder in [self.folder / sysu.image_folder(camera, pid)]
            if folder.is_dir()
            for path in list_images(folder, self._tally)
        ]
        check_both_modalities(items, use, self.folder)
        return items

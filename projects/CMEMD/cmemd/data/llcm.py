"""LLCM, in its genuine layout, as a fast-reid data set."""

from pathlib import Path

import cmemd.compat  # noqa: F401  before fastreid

from fastreid.data.datasets.bases import ImageDataset

from cmemd.data.checks import (
    check_both_modalities,
    check_disjoint,
    find_folder,
    hold_out,
    log_left_out,
    once_each,
)
from cmemd.data.image_files import Tally, list_images
from cmemd.data.items import ImageItem
from cmemd.data.layouts import llcm
from cmemd.data.layouts.identity_lists import read_ids
from cmemd.data.modality import Modality
from cmemd.errors import InputError

__all__ = ["LLCM"]

_LAYOUT = llcm.LAYOUT


class LLCM(ImageDataset):
    """LLCM: Zhang and Wang, CVPR 2023. For folders and files see ``cmemd.data.layouts.llcm``.

    Visible and thermal (near-infrared) images come from the same nine cameras. A training image's
    camera is 0, unknown, if neither its folders nor its file name tell it.

    Statistics: 1064 identities and 46,767 images. Training: 713 identities, 16,946 visible and
    13,975 thermal images. Test: 351 identities, 8,680 visible and 7,166 thermal images.

    Query: all visible test images. Gallery: all thermal ones; protocols exchange them and sample
    from them.

    Args:
        root: folder that holds the data set's.
        folder: the data set's folder in it.
        validation_share: share of the training identities to hold out. The protocols remove images
            of the query's own camera, so scoring them needs known cameras.
        combineall: fast-reid's COMBINEALL; must be False.

    Raises:
        InputError: a missing folder, list or listed image, a malformed list, training and test
            lists that share an identity, a use without images of one modality, or an invalid
            share.
    """

    dataset_name = _LAYOUT.dataset_name
    layout = _LAYOUT.name  # of its protocols
    rand_perm_cam: Path | None = None
    trial: int | None = None

    def __init__(
        self,
        root: str = "datasets",
        folder: str = _LAYOUT.folder,
        validation_share: float = 0.0,
        combineall: bool = False,
        **kwargs: object,
    ) -> None:
        self.folder = find_folder(_LAYOUT.dataset, root, folder, combineall)
        self._tally = Tally()
        lists = self.folder / _LAYOUT.list_folder
        train, test_ids = self._training_items(), read_ids(lists, "test_id")
        check_disjoint({item.pid for item in train}, test_ids, "training and test", lists)
        train, self.validation = hold_out(train, validation_share)
        test = self._test_items(test_ids)
        for use, items in (("training", train), ("test", test)):
            check_both_modalities(items, use, self.folder)
        if self.validation:
            check_both_modalities(self.validation, "validation", self.folder)
        log_left_out(_LAYOUT.dataset, self._tally)
        super().__init__(
            train,
            query=[item for item in test if item.modality is Modality.VISIBLE],
            gallery=[item for item in test if item.modality is Modality.THERMAL],
            **kwargs,
        )

    def _training_items(self) -> list[ImageItem]:
        items = [
            ImageItem(str(entry.path), entry.pid, llcm.training_camera(entry.parts), modality)
            for modality in Modality
            for entry in once_each(
                llcm.read_train_list(self.folder, modality), llcm.train_list(modality), self._tally
            )
        ]
        visible, thermal = ({x.path for x in items if x.modality is m} for m in Modality)
        if both := sorted(visible & thermal):
            raise InputError(
                f"images of one modality each in the lists of {self.folder}",
                f"{both[0]} in both ({len(both)} in all)",
                "take the lists from the data set again",
            )
        return items

    def _test_items(self, ids: list[int]) -> list[ImageItem]:
        return [
            ImageItem(str(path), pid, camera, modality)
            for modality, cameras in _LAYOUT.cameras.items()
            for camera in cameras
            for pid in sorted(ids)
            for folder in [self.folder / llcm.camera_folder(modality, camera) / f"{pid:04d}"]
            if folder.is_dir()
            for path in list_images(folder, self._tally)
        ]

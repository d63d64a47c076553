"""LLCM, in its genuine layout, as a fast-reid data set."""

import re
from pathlib import Path

import cmemd.compat  # noqa: F401  before fastreid

from fastreid.data.datasets.bases import ImageDataset

from cmemd.data.checks import check_both_modalities, check_disjoint, find_folder, hold_out
from cmemd.data.images import list_images
from cmemd.data.items import ImageItem
from cmemd.data.layouts.index_files import llcm_identity, read_index
from cmemd.data.layouts.sysu import read_ids
from cmemd.data.modality import LLCM_CAMERAS, Modality

__all__ = ["LLCM"]

_SHORT = {Modality.VISIBLE: "vis", Modality.THERMAL: "nir"}


class LLCM(ImageDataset):
    """LLCM: Zhang and Wang, CVPR 2023.

    Layout: training images wherever ``idx/train_{vis,nir}.txt`` say, with a line
    ``relative/path label`` per image; test images of the identities in ``idx/test_id.txt`` (one
    line, separated by commas) in ``test_vis/cam{1..9}/{id:04d}/`` and, without a third camera,
    ``test_nir/cam{1,2,4..9}/{id:04d}/``. Visible and thermal (near-infrared) images come from the
    same nine cameras.

    A training image's identity is the last of its folders that is named by a number, as in
    ``vis/0001/0001_c01_s185535_f7010_vis.jpg``. Its camera is the folder ``cam<digit>``; or else,
    as there, what its file name says after the identity; or else 0, unknown. Its modality is the
    list's.

    Statistics: 1064 identities and 46,767 images. Training: 713 identities, 16,946 visible and
    13,975 thermal images. Test: 351 identities, 8,680 visible and 7,166 thermal images.

    Query: all visible test images. Gallery: all thermal ones; protocols turn this round and draw
    from it by themselves.

    Args:
        root: folder that holds the data set's.
        folder: the data set's folder in it.
        validation_share: share of the training identities to hold out. The protocols remove images
            of the query's own camera, so scoring them needs known cameras.
        combineall: fast-reid's wish to train on the test set too; refused.

    Raises:
        InputError: if a folder, list or listed image is missing, or a list malformed; if training
            and test lists share an identity, or one modality has no image for a use; for another
            share.
    """

    dataset_name = "llcm"
    layout = "llcm"  # whose protocols are for it
    rand_perm_cam: Path | None = None
    trial: int | None = None

    def __init__(
        self,
        root: str = "datasets",
        folder: str = "LLCM",
        validation_share: float = 0.0,
        combineall: bool = False,
        **kwargs: object,
    ) -> None:
        self.folder = find_folder("LLCM", root, folder, combineall)
        train, test_ids = self._training_items(), read_ids(self.folder / "idx", "test_id")
        check_disjoint(
            {item.pid for item in train}, test_ids, "training and test", self.folder / "idx"
        )
        train, self.validation = hold_out(train, validation_share)
        test = self._test_items(test_ids)
        for use, items in (("training", train), ("test", test)):
            check_both_modalities(items, use, self.folder)
        if self.validation:
            check_both_modalities(self.validation, "validation", self.folder)
        super().__init__(
            train,
            query=[item for item in test if item.modality is Modality.VISIBLE],
            gallery=[item for item in test if item.modality is Modality.THERMAL],
            **kwargs,
        )

    def _training_items(self) -> list[ImageItem]:
        return [
            ImageItem(str(entry.path), entry.pid, _camera_of(entry.parts), modality)
            for modality, short in _SHORT.items()
            for entry in read_index(
                self.folder, f"idx/train_{short}.txt", llcm_identity, "<folder>/<identity>/<image>"
            )
        ]

    def _test_items(self, ids: list[int]) -> list[ImageItem]:
        return [
            ImageItem(str(path), pid, camera, modality)
            for modality, cameras in LLCM_CAMERAS.items()
            for camera in cameras
            for pid in sorted(ids)
            for folder in [self.folder / f"test_{_SHORT[modality]}/cam{camera}/{pid:04d}"]
            if folder.is_dir()
            for path in list_images(folder)
        ]


def _camera_of(parts: tuple[str, ...]) -> int:
    """The folder ``cam<digit>``, or else ``_c<digits>_`` in the file's name, or else 0."""
    for part in parts[:-1]:
        if folder := re.fullmatch("cam([0-9])", part):
            return int(folder[1])
    name = re.match("[0-9]+_c([0-9]{1,2})_", parts[-1])
    return int(name[1]) if name else 0
